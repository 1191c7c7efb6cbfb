#!/usr/bin/env python3
"""The keyed sum on a cluster: events a second, and CPU nanoseconds an event of the whole worker.

    cargo build --release -p streamctl -p streamd-daemon -p bench --features bench/rocksdb
    examples/bench/keyed_sum.py [keys=10000000] [events=20000000] [parallelism=1] [backend=rocksdb] [memory=256mb] [runs=3]

`memory` is that of a slot for state on RocksDB. Both numbers are taken over the last 80 % of the events, by the application itself; keys
come at random, so that in a short run many are new.
"""

import json

from cluster import Cluster, options, say

OPTIONS = options("keys events parallelism backend memory set dir keep runs")
KEYS, EVENTS = int(OPTIONS.get("keys", 10_000_000)), int(OPTIONS.get("events", 20_000_000))
PARALLELISM, BACKEND = OPTIONS.get("parallelism", "1"), OPTIONS.get("backend", "rocksdb")
MEMORY = OPTIONS.get("memory", "256mb")


def run(cluster):
    settings = (f"state.backend.type={BACKEND}", f"state.backend.rocksdb.memory.fixed-per-slot={MEMORY}", *OPTIONS.get("set", "").split())
    [measured] = cluster.measured("keyed-sum", f"keys={KEYS}", f"events={EVENTS}", parallelism=PARALLELISM, settings=settings)
    say(f"keyed-sum, {KEYS} keys, {BACKEND}, {MEMORY}, parallelism {PARALLELISM}", json.dumps(measured))


with Cluster(PARALLELISM, OPTIONS.get("dir"), "keep" in OPTIONS) as cluster:
    for _ in range(int(OPTIONS.get("runs", 3))):
        run(cluster)

#!/usr/bin/env python3
"""How long a fork of a retained checkpoint takes to its first record, by the store that the checkpoint is in.

    cargo build --release -p streamctl -p streamd-daemon -p bench --features bench/rocksdb
    examples/bench/fork.py [keys=10000000] [bytes=100] [times=3] [backend=rocksdb]
    examples/bench/fork.py … store=s3://BUCKET/FOLDER endpoint=HOST:PORT [rate=125e6 delay=0.02]

Without `store` the checkpoint is on the local disk. With it, an S3 server has to be there, with the bucket; its keys are AWS_ACCESS_KEY_ID and
AWS_SECRET_ACCESS_KEY. `rate` puts a link before it that carries so many bytes a second in all, `delay` seconds late each.

The state is loaded and checkpointed; then 20,000 keys a second at random are touched by a fork, so many times one after the other. Told of
each: seconds from the command to its first record and to its first complete checkpoint, and when it had caught up with its source. The job
writes a line every 50 ms while records flow, so that up to 50 ms are of the measurement.
"""

import os, pathlib, subprocess, sys, time

from cluster import Cluster, free_port, options, say, timeline, wait_for

OPTIONS = options("keys bytes times backend store endpoint rate delay")
KEYS, BYTES, TIMES = int(OPTIONS.get("keys", 10_000_000)), int(OPTIONS.get("bytes", 100)), int(OPTIONS.get("times", 3))
# Events a second of the case after its load.
PACE = 20_000


def settings(endpoint):
    lines = [f"state.backend.type: {OPTIONS.get('backend', 'rocksdb')}", "execution.checkpointing.interval: 5 s"]
    lines += ["execution.checkpointing.incremental: true"]
    if endpoint:
        keys = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
        lines += [f"s3.endpoint: http://{endpoint}", f"s3.access-key: {keys[0]}", f"s3.secret-key: {keys[1]}"]
    return "\n".join(lines) + "\n"


def submit(cluster, name, *more):
    """The case, with a timeline of its own. Where that is, and the id of the job."""
    file = cluster.place / name
    place = [f"state.checkpoints.dir={OPTIONS['store']}"] if "store" in OPTIONS else []
    arguments = f"keys={KEYS}", f"bytes={BYTES}", "random=1", f"timeline={file}"
    return file, cluster.submit("bigstate", *arguments, settings=place, options=more)


def last_checkpoint(cluster, job):
    return cluster.status(job)["last_checkpoint"]


def load(cluster):
    """The URI of a checkpoint of all keys."""
    file, job = submit(cluster, "load")
    wait_for("all keys are there", lambda: any(sample[1] >= KEYS for sample in timeline(file)))
    before = last_checkpoint(cluster, job)
    wait_for("two more checkpoints", lambda: (last_checkpoint(cluster, job) or {"id": 0})["id"] >= (before or {"id": 0})["id"] + 2)
    cluster.cancel(job)
    return last_checkpoint(cluster, job)["uri"]


def caught_up(samples, first):
    """When the job has worked off what came due since its first record; `None` if it has not."""
    base = samples[0][1] if samples else 0
    return next((at for at, records, *_ in samples if at > first + 0.1 and records - base >= PACE * (at - first) * 0.98), None)


def fork(cluster, checkpoint, number):
    began = time.time()
    file, job = submit(cluster, f"fork-{number}", "-s", checkpoint)
    first = wait_for("a record", lambda: next((sample[0] for sample in timeline(file) if sample[0] > began), None))
    wait_for("a checkpoint", lambda: last_checkpoint(cluster, job) and cluster.status(job)["checkpoints"]["completed"])
    complete = time.time()
    even = wait_for("the job catches up", lambda: caught_up(timeline(file), first))
    cluster.cancel(job)
    say(f"fork {number + 1}", f"{first - began:.2f} s", f"caught up after {even - began:.1f} s, first checkpoint after {complete - began:.1f} s")


def main():
    # Only the daemons' user may read a configuration with keys.
    os.umask(0o077)
    endpoint, link = OPTIONS.get("endpoint"), None
    if "rate" in OPTIONS:
        port = free_port()
        script = pathlib.Path(__file__).with_name("slow_link.py")
        link = subprocess.Popen([sys.executable, script, str(port), endpoint, OPTIONS["rate"], OPTIONS.get("delay", "0.02")])
        endpoint = f"127.0.0.1:{port}"
    try:
        with Cluster(1, settings=settings(endpoint)) as cluster:
            checkpoint = load(cluster)
            for number in range(TIMES):
                fork(cluster, checkpoint, number)
    finally:
        if link:
            link.terminate()
            link.wait()


main()

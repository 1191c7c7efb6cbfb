#!/usr/bin/env python3
"""The figures of large state: load, checkpoint, savepoint, restore, increments, pauses, memory.

    cargo build --release -p streamctl -p streamd-daemon -p bench
    examples/bench/bigstate.py [keys=10000000] [bytes=100] [parallelism=1] [backend=hashmap]

Starts a cluster of its own under a temporary directory, and prints a line for each figure. Everything is measured from outside:
sizes are those of files, times those of commands and of the first record behind the state.
"""

import json, os, pathlib, shutil, time

from cluster import Cluster, options, say, timeline, wait_for
from process import memory

OPTIONS = options()
KEYS, BYTES = int(OPTIONS.get("keys", 10_000_000)), int(OPTIONS.get("bytes", 100))
PARALLELISM, BACKEND = OPTIONS.get("parallelism", "1"), OPTIONS.get("backend", "hashmap")
RAW = KEYS * (8 + BYTES)
CLUSTER = Cluster(PARALLELISM, OPTIONS.get("dir"), "keep" in OPTIONS)
PLACE, streamctl, status = CLUSTER.place, CLUSTER.streamctl, CLUSTER.status
TIMELINE = PLACE / "timeline"


def samples():
    return timeline(TIMELINE)


def submit(*options, rate=20_000, random=0):
    TIMELINE.unlink(missing_ok=True)
    case = "bigstate", f"keys={KEYS}", f"bytes={BYTES}", f"rate={rate}", f"random={random}", f"timeline={TIMELINE}"
    return CLUSTER.submit(*case, parallelism=PARALLELISM, settings=[f"state.backend.type={BACKEND}"], options=options)


def loaded():
    return [sample for sample in samples() if sample[1] >= KEYS]


def size(folder):
    return sum(path.stat().st_size for path in pathlib.Path(folder).rglob("*") if path.is_file())


def disk_seconds(count):
    """The time that this disk needs to take so many bytes, written by 1 MiB and synchronised."""
    block, path = os.urandom(1 << 20), PLACE / "disk"
    began = time.monotonic()
    with open(path, "wb", buffering=0) as file:
        for _ in range(count >> 20):
            file.write(block)
        os.fsync(file.fileno())
    seconds = time.monotonic() - began
    path.unlink()
    return seconds


def rate(points, begin, end):
    inside = [point for point in points if begin <= point[0] <= end]
    if len(inside) < 2:
        return 0.0
    return (inside[-1][1] - inside[0][1]) / (inside[-1][0] - inside[0][0])


def savepoint_and_restore():
    began = time.time()
    job = submit("-D", "execution.checkpointing.interval=1 h")
    wait_for("all keys are there", loaded)
    say("load", f"{loaded()[0][0] - began:.1f} s")
    time.sleep(2)
    resident = memory(CLUSTER.workers(job)[0])
    say("memory of the worker / raw state", f"{resident / 1e9:.2f} GB, {resident / RAW:.2f} x", "1.6 x")
    before = time.time()
    output = json.loads(streamctl("savepoint", job, "--output", "json").splitlines()[-1])
    taken = time.time() - before
    path = output["savepoint_path"].removeprefix("file://")
    written = size(path)
    disk = disk_seconds(written)
    say("savepoint", f"{taken:.2f} s, {written / 1e9:.3f} GB", "2 x the disk")
    say("  the disk takes as many bytes in", f"{disk:.2f} s: {taken / disk:.1f} x")
    gaps = [sample[3] / 1000 for sample in samples() if before <= sample[0] <= before + taken]
    say("  longest pauses of the processing thread, by 50 ms", " ".join(f"{gap:.1f}" for gap in sorted(gaps)[-5:]) + " ms", "5 ms")
    streamctl("cancel", job)
    for _ in range(3):
        restore("savepoint restored, to the first record", path, "5 s")
    return path


def restore(what, path, aim, *options):
    began = time.time()
    job = submit("-s", path, "-D", "execution.checkpointing.interval=1 h", *options)
    first = wait_for("a first record", samples)[0][0]
    say(what, f"{first - began:.2f} s", aim)
    CLUSTER.cancel(job)


def completed(job):
    return status(job)["checkpoints"]["completed"]


def checkpoints(savepoint, incremental):
    job = submit(
        "-s", savepoint, "-D", "execution.checkpointing.interval=5 s", "-D", f"execution.checkpointing.incremental={incremental}",
        "-D", "execution.checkpointing.num-retained=100",
    )
    wait_for("three checkpoints", lambda: completed(job) >= 3)
    CLUSTER.cancel(job)
    folder = PLACE / "checkpoints" / job
    sizes = {int(chk.name[4:]): size(chk) for chk in folder.glob("chk-*")}
    kind = "incremental" if incremental == "true" else "full"
    ordered = [sizes[number] for number in sorted(sizes)]
    say(f"{kind} checkpoints, bytes", " ".join(f"{count / 1e6:.1f}" for count in ordered) + " MB")
    if incremental == "true":
        say("  after 1 % of the keys were touched / full", f"{100 * ordered[-1] / ordered[0]:.1f} %", "5 % (rocksdb: 2 %)")
    for _ in range(3):
        restore(f"{kind} checkpoint restored, to the first record", folder / f"chk-{max(sizes)}", "3 s")
    shutil.rmtree(folder)


def dip(savepoint):
    job = submit("-s", savepoint, "-D", "execution.checkpointing.interval=1 h", rate=0, random=1)
    wait_for("records", samples)
    time.sleep(6)
    before = time.time()
    streamctl("savepoint", job)
    during = time.time()
    time.sleep(6)
    points = samples()
    calm, busy = rate(points, before - 5, before), rate(points, before, during)
    say("events/s flat out before / during a savepoint", f"{calm / 1e6:.2f} / {busy / 1e6:.2f} M: {100 * busy / calm:.0f} %", "80 %")
    CLUSTER.cancel(job)


def main():
    say(f"{KEYS} keys x {BYTES} bytes, {BACKEND}, parallelism {PARALLELISM}", f"raw {RAW / 1e9:.2f} GB", "aim")
    with CLUSTER:
        savepoint = savepoint_and_restore()
        checkpoints(savepoint, "false")
        checkpoints(savepoint, "true")
        dip(savepoint)


main()

#!/usr/bin/env python3
"""The figures of large state beside their aims: load, memory, snapshots, restores, increments, pauses, and what a snapshot costs the stream.

    bin/bench bigstate [keys=10000000] [bytes=100] [parallelism=1] [backend=hashmap] [runs=3] [rates=20000,450000,0] [out=FOLDER]

Starts a cluster of its own under a temporary directory (`dir=`), which takes about four times the state on the disk and twice in memory.
Everything is measured from outside: sizes are those of files, times those of commands and of the first record behind the state.

* **during / before**: events a second while a snapshot is taken, of those in the five seconds before; once every key is there, with events
  for keys at random, so many a second as `rates` says (0: as many as can be). For 20,000 a second, the same 1 % of the keys again and again.
* **pauses**: the job tells the longest time between two batches of each 50 ms. Batches come about every millisecond, so 95 of 100 such
  times are below what 999 of 1,000 pauses are below. While a snapshot is taken, at the first of `rates`; the limit is that of the five
  seconds before, which have none.

The first snapshot of a job is not counted: it waits for the state that comes out of the one before. With `out`, the table goes into the
page `bigstate.md`.
"""

import json, os, pathlib, shutil, sys, time

from cluster import Cluster, options, timeline, wait_for
from process import memory
from table import Figure, insert, markdown

OPTIONS = options("keys bytes parallelism backend runs rates dir out")
KEYS, BYTES = int(OPTIONS.get("keys", 10_000_000)), int(OPTIONS.get("bytes", 100))
PARALLELISM, BACKEND, RUNS = OPTIONS.get("parallelism", "1"), OPTIONS.get("backend", "hashmap"), int(OPTIONS.get("runs", 3))
RATES = [int(rate) for rate in OPTIONS.get("rates", "20000,450000,0").split(",")]
RAW = KEYS * (8 + BYTES)
CLUSTER = Cluster(PARALLELISM, OPTIONS.get("dir"))
PLACE, streamctl = CLUSTER.place, CLUSTER.streamctl
TIMELINE = PLACE / "timeline"

# Seconds of an undisturbed stream that a snapshot is compared with, and between two checkpoints.
CALM, INTERVAL = 5, 12

FIGURES = {}


def note(name, unit, value, limit=None, **aims):
    """One more value of a figure."""
    figure = FIGURES.setdefault(name, Figure(name, unit, **aims))
    figure.values.append(value)
    if limit:
        figure.limits.append(limit)
    print(f"{name}: {value:.3g} {unit}" + (f", limit {limit:.3g}" if limit else ""), file=sys.stderr, flush=True)


def submit(*arguments, snapshot=None, interval="1 h", incremental="true", rate=20_000):
    TIMELINE.unlink(missing_ok=True)
    case = "bigstate", f"keys={KEYS}", f"bytes={BYTES}", f"rate={rate}", f"random={int(rate != 20_000)}", f"timeline={TIMELINE}"
    settings = [
        f"state.backend.type={BACKEND}",
        f"execution.checkpointing.interval={interval}",
        f"execution.checkpointing.incremental={incremental}",
        "execution.checkpointing.num-retained=100",
    ]
    return CLUSTER.submit(*case, parallelism=PARALLELISM, settings=settings, options=["-s", snapshot] if snapshot else [])


def samples():
    return timeline(TIMELINE)


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


def records_at(points, moment):
    """How many records there were, between the two points of the time line around the moment."""
    (before, fewer), (after, more) = points[0], points[-1]
    for point in points:
        if point[0] <= moment:
            before, fewer = point
        else:
            after, more = point
            break
    return fewer + (more - fewer) * (moment - before) / max(after - before, 1e-9)


def pace(rate):
    return f"{rate:,} events/s" if rate else "flat out"


def pause(begin, end):
    """What 999 of 1,000 pauses between these moments are below, in milliseconds."""
    longest = sorted(sample[3] / 1000 for sample in samples() if begin <= sample[0] <= end)
    return longest[len(longest) * 95 // 100] if longest else None


def disturbed(what, rate, begin, end):
    """Notes what a snapshot between these moments did to the stream."""
    points = [sample[:2] for sample in samples()]

    def events(begin, end):
        return (records_at(points, end) - records_at(points, begin)) / (end - begin)

    calm, busy = events(begin - CALM, begin), events(begin, end)
    note(f"{what}, {pace(rate)}: during / before", "%", 100 * busy / calm, least=80)
    if rate == RATES[0] and (longest := pause(begin, end)):
        note(f"{what}: pauses, p99.9", "ms", longest, pause(begin - CALM, begin), most=5)


def savepoint(job):
    """The path of a savepoint, and when it began and ended."""
    began = time.time()
    taken = json.loads(streamctl("savepoint", job, "--output", "json").splitlines()[-1])
    return taken["savepoint_path"].removeprefix("file://"), began, time.time()


def load():
    """Loads the state, and takes savepoints of it. The path of the last."""
    began = time.time()
    job = submit(rate=RATES[0])
    loaded = wait_for("all keys are there", lambda: [sample for sample in samples() if sample[1] >= KEYS])
    note("load", "s", loaded[0][0] - began)
    time.sleep(2)
    note("memory", "× keys and values", sum(map(memory, CLUSTER.workers(job))) / RAW, most=1.6)
    path = None
    for _ in range(RUNS):
        if path:
            shutil.rmtree(path)
        time.sleep(CALM)
        path, began, ended = savepoint(job)
        note("savepoint", "s", ended - began, disk_seconds(size(path)), aim=2)
        note("savepoint: bytes", "× keys and values", size(path) / RAW)
        disturbed("savepoint", RATES[0], began, ended)
    CLUSTER.cancel(job)
    return path


def restored(what, snapshot, most):
    for _ in range(RUNS):
        began = time.time()
        job = submit(snapshot=snapshot)
        first = wait_for("a first record", samples)[0][0]
        note(f"{what} restored, to the first record", "s", first - began, most=most)
        CLUSTER.cancel(job)


def complete(folder):
    """The checkpoints in the folder of a job, by number."""
    return sorted((path.parent for path in folder.glob("chk-*/_metadata")), key=lambda path: int(path.name[4:]))


def last_checkpoints(job, wanted):
    """Waits for one more than so many checkpoints of a job. When each but the first began and ended."""
    found = {}

    def there():
        last = CLUSTER.status(job)["last_checkpoint"]
        if last and last["id"] not in found:
            ended = (pathlib.Path(last["uri"].removeprefix("file://")) / "_metadata").stat().st_mtime
            found[last["id"]] = ended - last["duration_ms"] / 1000, ended
        time.sleep(0.2)
        return len(found) > wanted

    wait_for("checkpoints", there)
    return [found[number] for number in sorted(found)][1:]


def checkpoints(snapshot, incremental, rate):
    """Takes checkpoints of one kind, and gives the job and their folder."""
    job = submit(snapshot=snapshot, interval=f"{INTERVAL} s", incremental=incremental, rate=rate)
    kind = "incremental checkpoint" if incremental == "true" else "full checkpoint"
    for began, ended in last_checkpoints(job, RUNS):
        note(f"{kind}, {pace(rate)}", "s", ended - began)
        disturbed(kind, rate, began, ended)
    CLUSTER.cancel(job)
    folder = PLACE / "checkpoints" / job
    if rate == RATES[0]:
        sizes = [size(checkpoint) for checkpoint in complete(folder)]
        for written in sizes[1:] if incremental == "true" else []:
            note("bytes after 1 % of the keys were touched", "% of all", 100 * written / sizes[0], most=2 if BACKEND == "rocksdb" else 5)
        restored(kind, complete(folder)[-1], 3)
    shutil.rmtree(folder)


def savepoints(snapshot, rate):
    job = submit(snapshot=snapshot, rate=rate)
    wait_for("records", samples)
    for count in range(RUNS + 1):
        time.sleep(CALM + 1)
        path, began, ended = savepoint(job)
        shutil.rmtree(path)
        time.sleep(0.2)
        if count:
            disturbed("savepoint", rate, began, ended)
    CLUSTER.cancel(job)


def main():
    with CLUSTER:
        snapshot = load()
        restored("savepoint", snapshot, 5)
        checkpoints(snapshot, "false", RATES[0])
        checkpoints(snapshot, "true", RATES[0])
        for rate in RATES[1:]:
            savepoints(snapshot, rate)
            checkpoints(snapshot, "false", rate)
    table = markdown(FIGURES.values())
    print(table)
    if out := OPTIONS.get("out"):
        insert(pathlib.Path(out, "bigstate.md"), table)


main()

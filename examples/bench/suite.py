#!/usr/bin/env python3
"""Runs the benchmark cases beside the limits of the machine, and prints one table.

    bin/bench [cases=keyed-sum-k1000,…] [runs=3] [scale=1] [rocksdb=1] [out=FOLDER]

Each case is run several times by turns with what it is held against: a loop written by hand over the same events, in the same
minutes, plain, or `prefetching` the buckets of 32 events before it changes any, or in two threads with an `exchange` of batches; for
`two-task-managers` the same job in one process, for `two-slots` two processes at once. The figure is CPU time for each
event, of all threads of the process, user and system, where the row says nothing else; the median, with the least and the greatest.
`scale` makes the inputs larger or smaller. With `out`, table and picture go into its page `figures.md`.

The figures of Flink 2.3 are of another day on such a machine, and stand there for orientation.
"""

import json, pathlib, resource, subprocess, sys, tempfile, time

from cluster import BIN, Cluster, options, timeline, wait_for
from process import cpu_seconds, memory
from table import Figure, draw, insert, markdown

OPTIONS = options("runs scale rocksdb cases out")
RUNS, SCALE = int(OPTIONS.get("runs", 3)), float(OPTIONS.get("scale", 1))
CHECKPOINTS = "checkpoint_ms=10000"
ONE = "parallelism=1"
M = 1_000_000

# How long a channel or an idle worker is watched, seconds.
WATCHED = 20


def events(number):
    return int(number * SCALE)


def cpu_of(command):
    """Runs a command. What it printed, and its CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def last_json(output):
    return json.loads([line for line in output.splitlines() if line.startswith("{")][-1])


def told(case, *arguments):
    """What a case tells of itself: rates and CPU over the last 80 % of the events."""
    return last_json(cpu_of([BIN / "bench", case, *arguments])[0])


def bench(case, *arguments):
    return lambda: [told(case, *arguments)["cpu_ns_per_event"]]


def bench_with(case, *arguments):
    return lambda slots: [str(BIN / "bench"), case, *arguments, f"parallelism={slots}"]


def nexmark_with(query, number):
    return lambda slots: [str(BIN / "nexmark"), "--query", query, "--events", str(events(number)), "--parallelism", str(slots)]


def nexmark(query, number, expected=None):
    """CPU nanoseconds for each event over the whole life of the process, its start included."""

    def run():
        output, cpu = cpu_of(nexmark_with(query, number)(1))
        if expected and SCALE == 1:
            found = last_json(output)
            assert expected.items() <= found.items(), f"{query}: {found} instead of {expected}"
        return [cpu * 1e9 / events(number)]

    return run


def word_totals(text):
    """CPU seconds until the totals of all words are in files."""

    def run():
        with tempfile.TemporaryDirectory() as folder:
            return [cpu_of([BIN / "bench", "wordcount", f"file={text}", f"output={folder}/out", ONE, CHECKPOINTS])[1]]

    return run


def latency(parallelism):
    def run():
        found = told("latency", f"seconds={10 + max(5, events(25))}", f"parallelism={parallelism}", "checkpoint_ms=1000")
        return [found["p50_ms"], found["p99_ms"], found["p999_ms"]]

    return run


def seconds(*commands):
    """How long these take together, started at once."""
    began = time.monotonic()
    processes = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for command in commands]
    failed = [process.args for process in processes if process.wait()]
    if failed:
        sys.exit(f"{' '.join(failed[0])}: failed")
    return time.monotonic() - began


def speed_up(command):
    """How many times as fast the same work is done with two slots as with one."""
    return lambda: [seconds(command(1)) / seconds(command(2))]


def side_by_side(command):
    """How many times the work of one process two of them do at the same time that share nothing: what the machine allows."""
    return lambda: [2 * seconds(command(1)) / seconds(command(1), command(1))]


def on_cluster(task_managers, slots, case, *arguments, parallelism, settings=()):
    """The same on a cluster: CPU nanoseconds for each event, of all of the job's workers together."""

    def run():
        with Cluster(slots, task_managers=task_managers) as cluster:
            lines = cluster.measured(case, *arguments, parallelism=parallelism, settings=settings)
            # Each worker tells its own CPU time for each event of the whole job.
            return [sum(line["cpu_ns_per_event"] for line in lines)]

    return run


def memory_of_state():
    """Resident bytes of a worker, of the raw bytes of the keys and values that it keeps on the heap."""
    keys = events(10 * M)
    with Cluster(1) as cluster:
        file = cluster.place / "timeline"
        job = cluster.submit("bigstate", f"keys={keys}", "bytes=100", f"timeline={file}")
        wait_for("all keys are there", lambda: [sample for sample in timeline(file) if sample[1] >= keys])
        return [memory(cluster.workers(job)[0]) / (keys * 108)]


def channel():
    """Gigabytes of texts of 100 bytes and their numbers that go from one process to another, for each processor second of whichever takes more."""
    with Cluster(1, task_managers=2) as cluster:
        file = cluster.place / "timeline"
        job = cluster.submit("channel", "bytes=100", f"timeline={file}")
        wait_for("records flow", lambda: len(timeline(file)) > 20)
        workers = cluster.workers(job)

        def now():
            return timeline(file)[-1][1], *map(cpu_seconds, workers)

        before = now()
        time.sleep(WATCHED)
        records, *cpu = (after - earlier for after, earlier in zip(now(), before, strict=True))
        return [108 * records / max(cpu) / 1e9]


def idle_worker():
    """Megabytes, and percent of a processor, of a worker that has an event a second and takes checkpoints."""
    with Cluster(1) as cluster:
        job = cluster.submit("trickle", "keyed=1", settings=["execution.checkpointing.interval=1 s"])
        wait_for("checkpoints", lambda: cluster.status(job)["checkpoints"]["completed"] >= 2)
        [worker] = cluster.workers(job)
        before, began = cpu_seconds(worker), time.monotonic()
        time.sleep(WATCHED)
        share = (cpu_seconds(worker) - before) / (time.monotonic() - began)
        return [memory(worker) / 1e6, 100 * share]


class Case:
    """What is run, what it is held against, and the rows that come of it: as many as the job gives values."""

    def __init__(self, name, job, rows, limit=None):
        self.name, self.job, self.rows, self.limit = name, job, rows, limit

    def run(self):
        for _ in range(RUNS):
            for row, value in zip(self.rows, self.job(), strict=True):
                row.values.append(value)
            if self.limit:
                self.rows[0].limits += self.limit()


def one(name, unit, job, limit=None, **row):
    return Case(name, job, [Figure(name, unit, **row)], limit)


def keyed_sums():
    ns = "CPU ns/event"
    arguments = "keys=1000", f"events={events(300 * M)}"
    yield one(
        "keyed-sum-k1000", ns, bench("keyed-sum", *arguments, ONE, CHECKPOINTS), bench("limit-keyed-sum", *arguments), flink=160, most=20
    )
    # Long enough for a checkpoint in between; the loops have none.
    long, short = f"events={events(500 * M)}", f"events={events(100 * M)}"
    for keys, flink in ((M, 760), (10 * M, 1270)):
        number = f"keys={keys}"
        job = bench("keyed-sum", number, long, ONE, CHECKPOINTS)
        yield one(f"keyed-sum-k{keys}", ns, job, bench("limit-keyed-sum", number, short), flink=flink, aim=1)
        yield one(f"keyed-sum-k{keys}-beside-prefetching", ns, job, bench("limit-keyed-sum-prefetching", number, short))
    exchange = bench("limit-keyed-sum-exchange", f"keys={M}", short)
    yield one(f"keyed-sum-k{M}-beside-exchange", ns, bench("keyed-sum", f"keys={M}", long, "parallelism=2", CHECKPOINTS), exchange)
    if OPTIONS.get("rocksdb", "1") == "1":
        settings = ["state.backend.type=rocksdb", "execution.checkpointing.interval=10 s"]
        job = on_cluster(1, 1, "keyed-sum", f"keys={M}", f"events={events(20 * M)}", parallelism=1, settings=settings)
        yield one("keyed-sum-k1000000-rocksdb", ns, job, flink=5110, most=5110 / 3)
    case = "keyed-sum", f"keys={M}", f"events={events(200 * M)}"
    settings = ["execution.checkpointing.interval=10 s"]
    apart, together = (on_cluster(managers, 2 // managers, *case, parallelism=2, settings=settings) for managers in (2, 1))
    yield one("keyed-sum-k1000000-two-task-managers", ns, apart, together, aim=2.5)


def others(text):
    ns, number = "CPU ns/event", f"events={events(400 * M)}"
    yield one("stateless", ns, bench("stateless", number, ONE, CHECKPOINTS), bench("limit-stateless", number), flink=61, aim=3)
    words = bench("wordcount", f"file={text}", ONE, CHECKPOINTS)
    yield one("wordcount-stream", "CPU ns/word", words, bench("limit-wordcount", f"file={text}"), flink=410, most=82)
    yield one("wordcount-final", "CPU s", word_totals(text), flink=49.9, most=5)
    q1, wsum = {"rows": 36800000, "checksum": 5275790769537805943}, {"rows": 336703, "checksum": 6376781583113083559}
    yield one("q1", ns, nexmark("q1", 40 * M, q1), flink=74, most=74 / 4)
    yield one("q2", ns, nexmark("q2", 40 * M, {"rows": 305096}), flink=62, most=62 / 4)
    for query, flink in (("q5", 1078), ("q7", 368), ("q8", 204), ("wsum", 336)):
        yield one(query, ns, nexmark(query, 5 * M, wsum if query == "wsum" else None), flink=flink, most=flink / 8)


def beside_throughput(text):
    for parallelism, flinks in ((1, (5.3, 34, 95)), (2, (15.6, 49, 117))):
        name = f"latency-p{parallelism}"
        shares = zip(("p50", "p99", "p99.9"), flinks, (1, 5, 15))
        yield Case(name, latency(parallelism), [Figure(f"{name} {share}", "ms", flink=flink, most=most) for share, flink, most in shares])
    in_slots = {
        "stateless": bench_with("stateless", f"events={events(400 * M)}", CHECKPOINTS),
        "keyed-sum": bench_with("keyed-sum", f"keys={M}", f"events={events(500 * M)}", CHECKPOINTS),
        "wordcount": bench_with("wordcount", f"file={text}", CHECKPOINTS),
        **{query: nexmark_with(query, 50 * M) for query in ("q5", "q7", "q8", "wsum")},
    }
    for name, command in in_slots.items():
        yield one(f"{name}-two-slots", "× one slot", speed_up(command), side_by_side(command), least=1.8)
    yield one("channel", "GB/s per core", channel, least=1)
    yield one("memory", "× keys and values", memory_of_state, most=1.6)
    idle = [Figure("idle-worker memory", "MB", most=15), Figure("idle-worker CPU", "% of a core", most=0.5)]
    yield Case("idle-worker", idle_worker, idle)


def main():
    wanted = [name for name in OPTIONS.get("cases", "").split(",") if name]
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        text = f"{folder}/words.txt"
        cases = {case.name: case for case in (*keyed_sums(), *others(text), *beside_throughput(text))}
        if unknown := set(wanted) - cases.keys():
            sys.exit(f"error: no case is called {', '.join(sorted(unknown))}\nhint: there are {', '.join(cases)}")
        cpu_of([BIN / "bench", "text", f"file={text}", f"bytes={events(300 * M)}"])
        for case in map(cases.get, wanted or cases):
            print(f"{case.name} …", file=sys.stderr, flush=True)
            case.run()
            figures += case.rows
    table = markdown(figures)
    print(table)
    if out := OPTIONS.get("out"):
        insert(pathlib.Path(out, "figures.md"), f"{table}\n![CPU time for each event](figures.svg)")
        draw(figures, pathlib.Path(out, "figures.svg"))


main()

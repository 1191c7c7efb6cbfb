#!/usr/bin/env python3
"""Runs the benchmark cases beside the limits of the machine, and prints one table.

    bin/bench [cases=keyed-sum-k1000,…] [runs=3] [scale=1] [out=FOLDER]

Each case is run several times by turns with what it is held against: a loop written by hand, over the same events, in the same
minutes. The figure is CPU time for each event, of all threads of the process, user and system; the median, with the least and the
greatest. `scale` makes the inputs larger or smaller. With `out`, the table and a picture of it are written there.

The figures of Flink 2.3 are of another day on such a machine, and stand there for orientation.
"""

import json, os, pathlib, resource, statistics, subprocess, sys, tempfile

OPTIONS = dict(argument.split("=", 1) for argument in sys.argv[1:])
BIN = pathlib.Path(os.environ["STREAMD_BIN_DIR"])
RUNS, SCALE = int(OPTIONS.get("runs", 3)), float(OPTIONS.get("scale", 1))
CHECKPOINTS = "checkpoint_ms=10000"
ONE = "parallelism=1"


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


def bench(case, *arguments):
    """CPU nanoseconds for each event, as the case tells them itself: over the last 80 % of the events."""
    return lambda: last_json(cpu_of([BIN / "bench", case, *arguments])[0])["cpu_ns_per_event"]


def nexmark(query, number, expected=None):
    """CPU nanoseconds for each event over the whole life of the process, its start included."""

    def run():
        output, cpu = cpu_of([BIN / "nexmark", "--query", query, "--events", events(number)])
        if expected and SCALE == 1:
            found = last_json(output)
            assert expected.items() <= found.items(), f"{query}: {found} instead of {expected}"
        return cpu * 1e9 / events(number)

    return run


def word_totals(text):
    """CPU seconds until the totals of all words are in a file."""

    def run():
        with tempfile.TemporaryDirectory() as folder:
            return cpu_of([BIN / "word_count", "--input", text, "--output", f"{folder}/out", "--quiet"])[1]

    return run


class Case:
    def __init__(self, name, unit, job, limit=None, flink=None, aim=None, most=None):
        """`aim`: at most so many times the limit; or `most`: at most so much."""
        self.name, self.unit, self.job, self.limit, self.flink, self.aim, self.most = name, unit, job, limit, flink, aim, most
        self.figures, self.limits = [], []

    def run(self):
        for _ in range(RUNS):
            self.figures.append(self.job())
            if self.limit:
                self.limits.append(self.limit())

    def figure(self):
        return statistics.median(self.figures)

    def row(self):
        figure = self.figure()
        spread = f"{figure:.3g} ({min(self.figures):.3g} – {max(self.figures):.3g})"
        limit = statistics.median(self.limits) if self.limits else None
        aim = f"{self.aim} × the loop" if self.aim else f"{self.most:.3g}" if self.most else ""
        reached = (self.aim is None or figure <= self.aim * limit) and (self.most is None or figure <= self.most)
        return [
            self.name,
            self.unit,
            spread,
            f"{limit:.3g}" if limit else "",
            f"{figure / limit:.2f}" if limit else "",
            f"{self.flink:g}" if self.flink else "",
            f"{self.flink / figure:.1f}" if self.flink else "",
            aim,
            ("yes" if reached else "NO") if aim else "",
        ]


HEAD = ["case", "unit", "streamd", "loop by hand", "of the loop", "Flink 2.3", "Flink's of ours", "aim: at most", "reached"]


def cases(text):
    ns, m = "CPU ns/event", 1_000_000
    yield Case(
        "keyed-sum-k1000", ns, bench("keyed-sum", "keys=1000", f"events={events(300 * m)}", ONE, CHECKPOINTS),
        bench("limit-keyed-sum", "keys=1000", f"events={events(300 * m)}"), 160, most=20,
    )
    for keys, number, flink in ((m, 100 * m, 760), (10 * m, 80 * m, 1270)):
        arguments = f"keys={keys}", f"events={events(number)}"
        yield Case(
            f"keyed-sum-k{keys}", ns, bench("keyed-sum", *arguments, ONE, CHECKPOINTS), bench("limit-keyed-sum", *arguments), flink, aim=1,
        )
    number = f"events={events(400 * m)}"
    yield Case("stateless", ns, bench("stateless", number, ONE, CHECKPOINTS), bench("limit-stateless", number), 61, aim=3)
    yield Case(
        "wordcount-stream", "CPU ns/word", bench("wordcount", f"file={text}", ONE, CHECKPOINTS), bench("limit-wordcount", f"file={text}"),
        410, most=82,
    )
    yield Case("wordcount-final", "CPU s", word_totals(text), None, 49.9, most=5)
    q1, wsum = {"rows": 36800000, "checksum": 5275790769537805943}, {"rows": 336703, "checksum": 6376781583113083559}
    yield Case("q1", ns, nexmark("q1", 40 * m, q1), None, 74, most=74 / 4)
    yield Case("q2", ns, nexmark("q2", 40 * m, {"rows": 305096}), None, 62, most=62 / 4)
    for query, flink in (("q5", 1078), ("q7", 368), ("q8", 204), ("wsum", 336)):
        yield Case(query, ns, nexmark(query, 5 * m, wsum if query == "wsum" else None), None, flink, most=flink / 8)


def markdown(rows):
    lines = [HEAD, ["---"] * len(HEAD), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def draw(measured, file):
    """Bars of each case, on a scale of powers of ten."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plot

    shown = [case for case in measured if case.unit.startswith("CPU ns")]
    height = 0.26
    figure, axes = plot.subplots(figsize=(9, 0.55 * len(shown) + 1.5))
    bars = [
        ("loop by hand", "#9aa5b1", [statistics.median(case.limits) if case.limits else 0 for case in shown]),
        ("streamd", "#1f6feb", [case.figure() for case in shown]),
        ("Flink 2.3, its best tuning, another day", "#d0743c", [case.flink or 0 for case in shown]),
    ]
    for place, (label, colour, values) in enumerate(bars):
        axes.barh([row + place * height for row in range(len(shown))], values, height, label=label, color=colour)
    axes.set_yticks([row + height for row in range(len(shown))], [case.name for case in shown])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("CPU nanoseconds for each event (or word)")
    axes.legend(loc="lower right", fontsize="small")
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})


def main():
    wanted = OPTIONS.get("cases", "").split(",") if OPTIONS.get("cases") else None
    measured = []
    with tempfile.TemporaryDirectory() as folder:
        text = f"{folder}/words.txt"
        cpu_of([BIN / "bench", "text", f"file={text}", f"bytes={events(300_000_000)}"])
        for case in cases(text):
            if wanted is None or case.name in wanted:
                print(f"{case.name} …", file=sys.stderr, flush=True)
                case.run()
                measured.append(case)
    table = markdown([case.row() for case in measured])
    print(table)
    if out := OPTIONS.get("out"):
        pathlib.Path(out, "table.md").write_text(table)
        draw(measured, pathlib.Path(out, "table.svg"))


main()

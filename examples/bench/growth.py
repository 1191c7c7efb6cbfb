#!/usr/bin/env python3
"""What a cluster takes as work grows: more jobs, more subtasks in a job, more channels between them.

    cargo build --release -p streamctl -p streamd-daemon -p bench
    examples/bench/growth.py [curves=jobs,subtasks,channels] [largest=1] [seconds=20] [out=FOLDER]

For each size a cluster of one task manager is started, and jobs that have an event a second in each subtask and take a checkpoint every
two seconds. Measured from outside: the seconds from the first submission until all subtasks run; the milliseconds of a checkpoint, as the
jobs tell them; and what the job manager takes of a processor meanwhile. A JSON line for each size. `largest` below 1 leaves out the
larger sizes: 0.1 stops at 10 jobs, 100 subtasks, 1,000 channels. With `out`, tables and picture
go into its page `growth.md`.
"""

import json, math, pathlib, statistics, time

from cluster import Cluster, options, wait_for
from process import cpu_seconds, memory
from table import insert, picture

OPTIONS = options("largest seconds curves out")
LARGEST, SECONDS = float(OPTIONS.get("largest", 1)), float(OPTIONS.get("seconds", 20))
INTERVAL = "execution.checkpointing.interval=2 s"
SIZES = {
    "jobs": [1, 3, 10, 30, 100],
    "subtasks": [1, 3, 10, 30, 100, 300, 1000],
    # Every subtask of one step with every one of the next.
    "channels": [1, 9, 100, 900, 2500, 10_000],
}
SHOWN = [("start_s", "start, s"), ("checkpoint_ms", "checkpoint, ms"), ("job_manager_cpu_percent", "job manager, % of a core")]


def submissions(curve, size):
    """How many jobs of which parallelism, and the arguments of each."""
    if curve == "jobs":
        return size, 1, ["keyed=1"]
    if curve == "subtasks":
        return 1, size, []
    return 1, math.isqrt(size), ["keyed=1"]


def measure(curve, size):
    count, parallelism, arguments = submissions(curve, size)
    with Cluster(count * parallelism) as cluster:
        began = time.monotonic()
        jobs = [cluster.submit("trickle", *arguments, parallelism=parallelism, settings=[INTERVAL]) for _ in range(count)]
        for job in jobs:
            cluster.wait_until_running(job)
        started = time.monotonic() - began

        def last_checkpoints(least=2):
            found = [cluster.status(job) for job in jobs]
            return all(job["checkpoints"]["completed"] >= least for job in found) and [job["last_checkpoint"]["duration_ms"] for job in found]

        wait_for("checkpoints", last_checkpoints)
        job_manager = cluster.job_manager()
        before, began = cpu_seconds(job_manager), time.monotonic()
        time.sleep(SECONDS)
        share = (cpu_seconds(job_manager) - before) / (time.monotonic() - began)
        checkpoints = last_checkpoints()
        workers = [worker for job in jobs for worker in cluster.workers(job)]
        return {
            "curve": curve,
            "size": size,
            "start_s": round(started, 3),
            "checkpoint_ms": statistics.median(checkpoints),
            "longest_checkpoint_ms": max(checkpoints),
            "job_manager_cpu_percent": round(100 * share, 2),
            "job_manager_mb": round(memory(job_manager) / 1e6, 1),
            "workers_mb": round(sum(map(memory, workers)) / 1e6, 1),
        }


def steepness(points, what):
    """The power of the size with which it grows from the last but one size to the last: 1 is linear."""
    if len(points) < 2 or not points[-2][what]:
        return ""
    before, last = points[-2:]
    return f"{math.log(max(last[what], 1e-9) / before[what]) / math.log(last['size'] / before['size']):.2f}"


def markdown(curves):
    columns = ["size", *(title for _, title in SHOWN), "longest checkpoint, ms", "job manager, MB", "workers, MB"]
    keys = ["size", *(key for key, _ in SHOWN), "longest_checkpoint_ms", "job_manager_mb", "workers_mb"]
    lines = []
    for curve, points in curves.items():
        lines += ["", f"| {curve}: " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
        lines += ["| " + " | ".join(f"{point[key]:,}" for key in keys) + " |" for point in points]
        powers = " | ".join(steepness(points, key) for key in keys[1:])
        lines.append(f"| grows at the end with the power | {powers} |")
    return "\n".join(lines[1:]) + "\n"


def draw(curves, file):
    def plot_of(plot):
        drawn, places = plot.subplots(1, len(SHOWN), figsize=(12, 3.6))
        for axes, (key, title) in zip(places, SHOWN):
            for curve, points in curves.items():
                axes.plot([point["size"] for point in points], [point[key] for point in points], marker="o", label=curve)
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_xlabel("size")
            axes.set_title(title, fontsize="medium")
        places[0].legend(fontsize="small")
        return drawn

    picture(plot_of, file)


def main():
    curves = {}
    for curve in OPTIONS.get("curves", ",".join(SIZES)).split(","):
        curves[curve] = []
        for size in (size for size in SIZES[curve] if size <= LARGEST * SIZES[curve][-1]):
            curves[curve].append(measure(curve, size))
            print(json.dumps(curves[curve][-1]), flush=True)
    if out := OPTIONS.get("out"):
        insert(pathlib.Path(out, "growth.md"), f"![start, checkpoint and job manager by size](growth.svg)\n\n{markdown(curves)}")
        draw(curves, pathlib.Path(out, "growth.svg"))


main()

#!/usr/bin/env python3
"""How long a job is away when a process of it is killed, by the size of its state.

    cargo build --release -p streamctl -p streamd-daemon -p bench
    examples/bench/recovery.py [keys=1000,1000000,10000000] [bytes=100] [times=5] [backend=hashmap] [with=timers|windows] [table=FILE]

For each size: the state is loaded and checkpointed; then processes are killed with signal 9, so many times each: the worker, the
task manager above it (another one stands by), the job manager (which is started again at once). Measured from outside, from the kill to
the first record that the job puts out again. The job writes a line every 50 ms while records flow, so that up to 50 ms of each time
are of the measurement. For the job manager: the longest time without a record, and the time to the next complete checkpoint.
"""

import pathlib, statistics, time

from cluster import Cluster, options, say, timeline, wait_for
from process import kill, parent

OPTIONS = options("keys bytes times backend with dir keep table")
SIZES = [int(keys) for keys in OPTIONS.get("keys", "1000,1000000,10000000").split(",")]
BYTES, TIMES, BACKEND = int(OPTIONS.get("bytes", 100)), int(OPTIONS.get("times", 5)), OPTIONS.get("backend", "hashmap")
SETTINGS = f"""state.backend.type: {BACKEND}
execution.checkpointing.interval: 2 s
execution.checkpointing.incremental: true
"""


class Measured:
    """A job over so many keys on a cluster with a task manager that stands by."""

    def __init__(self, cluster, keys):
        self.cluster, self.keys = cluster, keys
        self.timeline = cluster.place / "timeline"
        more = [f"{OPTIONS['with']}=1"] if "with" in OPTIONS else []
        self.job = cluster.submit("bigstate", f"keys={keys}", f"bytes={BYTES}", f"timeline={self.timeline}", *more)
        wait_for("all keys are there", lambda: any(records >= keys for _, records in self.samples()))
        self.next_checkpoint()

    def samples(self):
        return [sample[:2] for sample in timeline(self.timeline)]

    def status(self):
        return self.cluster.status(self.job)

    def last_checkpoint(self):
        last = self.status()["last_checkpoint"]
        return last["id"] if last else 0

    def next_checkpoint(self):
        """Waits for a checkpoint that begins from now on."""
        last = self.last_checkpoint()
        wait_for("two more checkpoints", lambda: self.last_checkpoint() >= last + 2)

    def first_after(self, moment):
        return next((at for at, _ in self.samples() if at > moment), None)

    def worker(self):
        return self.status()["workers"][0]["process_id"]

    def kill(self, process):
        """Kills it, and gives the seconds to the next record."""
        self.next_checkpoint()
        killed = time.time()
        kill(process)
        back = wait_for("records", lambda: self.first_after(killed + 0.001))
        wait_for("the job runs", lambda: self.status()["state"] == "RUNNING")
        return back - killed

    def kill_worker(self):
        return self.kill(self.worker())

    def kill_task_manager(self):
        task_manager = parent(self.worker())
        seconds = self.kill(task_manager)
        self.cluster.start_task_manager()
        return seconds

    def kill_job_manager(self):
        """The longest time without records, and the time to the next complete checkpoint."""
        self.next_checkpoint()
        last, attempt = self.last_checkpoint(), self.status()["attempt"]
        killed = time.time()
        kill(self.cluster.job_manager())
        self.cluster.start_job_manager()
        wait_for("a checkpoint", lambda: self.cluster.status_if_known(self.job) and self.last_checkpoint() > last, 60)
        seconds = time.time() - killed
        wait_for("records", lambda: self.first_after(time.time() - 0.2))
        times = [at for at, _ in self.samples() if at > killed - 1]
        gap = max(after - before for before, after in zip(times, times[1:]))
        return gap, seconds, self.status()["attempt"] - attempt


def shown(seconds):
    return f"{statistics.median(seconds):.2f} s (to {max(seconds):.2f} s)"


def measure(keys):
    with Cluster(1, OPTIONS.get("dir"), "keep" in OPTIONS, task_managers=2, settings=SETTINGS) as cluster:
        job = Measured(cluster, keys)
        workers = [job.kill_worker() for _ in range(TIMES)]
        task_managers = [job.kill_task_manager() for _ in range(TIMES)]
        job_managers = [job.kill_job_manager() for _ in range(TIMES)]
        return workers, task_managers, job_managers


def main():
    rows = []
    for keys in SIZES:
        workers, task_managers, job_managers = measure(keys)
        gaps, checkpoints, restarts = zip(*job_managers)
        say(f"{keys} keys x {BYTES} bytes, {BACKEND}", f"{keys * (8 + BYTES) / 1e6:.1f} MB", "aim")
        say("  worker killed, to the first record", shown(workers), "1 s; 3 s with 1 GB")
        say("  task manager killed, another stands by", shown(task_managers), "2 s")
        say("  job manager killed: longest time without a record", shown(gaps), "records never stop")
        say("  job manager killed: to the next complete checkpoint", shown(checkpoints), "10 s")
        say("  job manager killed: restarts of the job", str(sum(restarts)), "0")
        rows.append((keys, shown(workers), shown(task_managers), shown(gaps), shown(checkpoints)))
    if "table" in OPTIONS:
        lines = [f"| {keys:,} | {keys * (8 + BYTES) / 1e6:,.1f} MB | " + " | ".join(cells) + " |" for keys, *cells in rows]
        pathlib.Path(OPTIONS["table"]).write_text("\n".join(lines) + "\n")


main()

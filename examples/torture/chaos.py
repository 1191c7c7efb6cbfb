#!/usr/bin/env python3
"""Kills and stops processes of a cluster at random while torture jobs run on it, and checks that their output is exact.

    cargo build --release -p streamctl -p streamd-daemon -p torture
    examples/torture/chaos.py [minutes=30] [seed=1] [topologies=count,window,…] [faults=worker,task-manager,job-manager,…] [networks=yes]

The minutes are shared by the topologies. Each runs as one job of a fixed number of records; meanwhile, every few seconds, one fault:

    worker, task-manager, job-manager          the process is killed with signal 9; a daemon is started again at once
    stop-worker, stop-task-manager, stop-job-manager    the process is stopped, and continued up to 15 seconds later
    partition                                  a task manager and its workers are cut off from all others, up to 15 seconds long; needs
                                               root, and `networks=yes`, which gives each daemon a network of its own

After each fault the job must run and complete a checkpoint that began after it: the time to that is the recovery. When all records are
through, check.py computes what must be in the output and compares. A line for each fault, a summary for each topology; exit code 1 if
anything was lost, doubled or did not come back. The same seed chooses the same faults at the same times.
"""

import os, pathlib, random, signal, subprocess, sys, time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "bench"))
from networks import Networks
from cluster import BIN, Cluster, options, say, wait_for
from process import kill, parent

OPTIONS = options("minutes seed topologies faults networks dir keep")
MINUTES, SEED = float(OPTIONS.get("minutes", 30)), int(OPTIONS.get("seed", 1))
TOPOLOGIES = OPTIONS.get("topologies", "count,window,timers,join,broadcast,liststate,chain2,twosinks").split(",")
FAULTS = OPTIONS.get("faults", "worker,worker,task-manager,job-manager,stop-worker,stop-task-manager,stop-job-manager").split(",")
KEYS, RATE, PARALLELISM, TASK_MANAGERS = 200, 4000, 2, 3
LONGEST_STOP, PATIENCE, PAUSE = 15, 60, (0.5, 4.0)
SETTINGS = """execution.checkpointing.interval: 300 ms
restart-strategy.type: fixed-delay
restart-strategy.fixed-delay.attempts: 1000000
restart-strategy.fixed-delay.delay: 0 s
"""
CHECK = pathlib.Path(__file__).with_name("check.py")


class Chaos:
    """One job, and what is done to it."""

    def __init__(self, cluster, topology, records, dice):
        self.cluster, self.topology, self.records, self.dice = cluster, topology, records, dice
        self.output = cluster.place / "output" / topology
        self.recoveries, self.lost = [], []
        output = cluster.streamctl(
            "run", "-d", "-p", PARALLELISM, BIN / "torture", "--topology", topology, "--records", records, "--keys", KEYS,
            "--rate", RATE, "--output", self.output,
        )
        self.job = output.split()[-1]

    def status(self):
        return self.cluster.status_if_known(self.job)

    def is_over(self):
        status = self.status()
        return status is not None and status["state"] in ("FINISHED", "FAILED", "CANCELED")

    def last_checkpoint(self):
        status = self.status()
        return (status or {}).get("last_checkpoint") and status["last_checkpoint"]["id"] or 0

    def pids(self, kind):
        files = sorted((self.cluster.place / "pid").glob(f"{kind}-*.pid"))
        return [int(file.read_text().split()[0]) for file in files if file.read_text().strip()]

    def target(self, fault):
        if fault.endswith("job-manager"):
            return self.dice.choice(self.pids("jobmanager"))
        status = self.status()
        workers = [worker["process_id"] for worker in (status or {}).get("workers", []) if worker["process_id"]]
        if not workers:
            return None
        worker = self.dice.choice(workers)
        try:
            return parent(worker) if fault.endswith("task-manager") else worker
        except OSError:
            return None

    def hurt(self):
        """One fault, and the way back from it."""
        fault = self.dice.choice(FAULTS)
        pause = self.dice.uniform(*PAUSE)
        stopped_for = self.dice.uniform(0.1, LONGEST_STOP)
        time.sleep(pause)
        before, process = self.last_checkpoint(), self.target(fault)
        if process is None or self.is_over():
            return
        began = time.monotonic()
        try:
            if fault == "partition":
                network = self.cluster.networks.of(process)
                self.cluster.networks.cut(network)
                time.sleep(stopped_for)
                began = time.monotonic()
                self.cluster.networks.heal(network)
            elif fault.startswith("stop-"):
                os.kill(process, signal.SIGSTOP)
                time.sleep(stopped_for)
                began = time.monotonic()
                os.kill(process, signal.SIGCONT)
            else:
                network = self.cluster.networks.of(process) if self.cluster.networks else 0
                kill(process)
                if fault == "task-manager":
                    self.cluster.start_task_manager(network)
                elif fault == "job-manager":
                    self.cluster.start_job_manager()
        except ProcessLookupError:
            return
        self.await_recovery(fault, began, max(before, self.last_checkpoint()))

    def await_recovery(self, fault, began, before):
        # The first one that completes may have begun before the fault.
        while time.monotonic() - began < PATIENCE:
            status = self.status()
            if status and (status["state"] in ("FINISHED", "FAILED") or (status["last_checkpoint"] or {"id": 0})["id"] >= before + 2):
                seconds = time.monotonic() - began
                self.recoveries.append((seconds, fault))
                print(f"  {self.topology:<10} {fault:<18} back after {seconds:5.2f} s, attempt {status['attempt']}", flush=True)
                return
            time.sleep(0.02)
        self.lost.append(f"{fault}: not back after {PATIENCE} s")
        print(f"  {self.topology:<10} {fault:<18} NOT BACK after {PATIENCE} s: {status}", flush=True)

    def check(self):
        wait_for("the job is over", self.is_over, 600)
        folders = [self.output] + ([self.output.with_name(self.topology + "-again")] if self.topology == "twosinks" else [])
        command = [sys.executable, CHECK, self.topology, "--records", self.records, "--keys", KEYS, *folders]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        state = self.status()["state"]
        if done.returncode or state != "FINISHED":
            self.lost.append(f"{state}: {(done.stdout + done.stderr).strip()}")
        return (done.stdout + done.stderr).strip().splitlines()[-1]


def main():
    print(f"seed {SEED}", flush=True)
    if "networks" in OPTIONS:
        with Networks(1 + TASK_MANAGERS) as networks:
            failed = hurt_all(networks)
    else:
        failed = hurt_all(None)
    for what in failed:
        print(f"FAILED {what}; again with seed={SEED}")
    sys.exit(1 if failed else 0)


def hurt_all(networks):
    each = MINUTES * 60 / len(TOPOLOGIES)
    failed = []
    keep = "keep" in OPTIONS
    with Cluster(PARALLELISM, OPTIONS.get("dir"), keep, TASK_MANAGERS, SETTINGS, networks) as cluster:
        for topology in TOPOLOGIES:
            dice = random.Random(f"{SEED} {topology}")
            chaos = Chaos(cluster, topology, int(each * RATE * PARALLELISM * 0.8), dice)
            end = time.monotonic() + each
            while time.monotonic() < end and not chaos.is_over() and not chaos.lost:
                chaos.hurt()
            verdict = chaos.check()
            seconds = [seconds for seconds, _ in chaos.recoveries] or [0.0]
            say(f"{topology}: {len(chaos.recoveries)} faults", f"slowest recovery {max(seconds):.2f} s", verdict)
            failed += [f"{topology}: {what}" for what in chaos.lost]
            if failed:
                break
    return failed


main()

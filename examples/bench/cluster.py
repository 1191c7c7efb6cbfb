"""A cluster of release binaries under a temporary directory, for the scripts that measure."""

import json, os, pathlib, shutil, socket, subprocess, sys, tempfile, time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("STREAMD_BIN_DIR") or pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release")


def options(names):
    """The arguments of the script, each `name=value` with one of these names."""
    given = [argument.partition("=") for argument in sys.argv[1:]]
    if unknown := [name for name, equals, _ in given if not equals or name not in names.split()]:
        sys.exit(f"error: {', '.join(unknown)}: no such option\nhint: there are {', '.join(names.split())}, each as name=value")
    return {name: value for name, _, value in given}


def say(what, value, aim=""):
    print(f"{what:<58} {value:<34} {aim}", flush=True)


def wait_for(what, look, seconds=900):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        seen = look()
        if seen:
            return seen
        time.sleep(0.01)
    sys.exit(f"waited {seconds} s in vain: {what}")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def timeline(file):
    """What a case has written down so far: seconds since 1970, records, CPU seconds, and the longest pause in microseconds."""
    lines = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
    return [(int(at) / 1000, int(records), float(cpu), int(gap)) for at, records, cpu, gap in (l for l in lines if len(l) == 4)]


class Cluster:
    """Task managers, one if not said otherwise, with this many slots each, all on the loopback network unless there are others for them.
    Use it with `with`."""

    def __init__(self, slots, directory=None, keep=False, task_managers=1, settings="", networks=None):
        self.keep, self.task_managers, self.networks = keep, task_managers, networks
        address = networks.address(0) if networks else "127.0.0.1"
        self.place = pathlib.Path(tempfile.mkdtemp(prefix="bench-", dir=directory))
        configuration = self.place / "conf"
        configuration.mkdir()
        (configuration / "streamd.yaml").write_text(
            f"""jobmanager.rpc.address: {address}
jobmanager.bind-host: {address}
security.allow-insecure-bind: {str(bool(networks)).lower()}
jobmanager.rpc.port: {free_port()}
taskmanager.numberOfTaskSlots: {slots}
state.checkpoints.dir: {self.place}/checkpoints
state.savepoints.dir: {self.place}/savepoints
execution.checkpointing.externalized-checkpoint-retention: RETAIN_ON_CANCELLATION
{settings}"""
        )
        self.environment = dict(
            os.environ,
            STREAMD_BIN_DIR=str(BIN),
            STREAMD_CONF_DIR=str(configuration),
            STREAMD_LOG_DIR=str(self.place / "log"),
            STREAMD_PID_DIR=str(self.place / "pid"),
            STREAMD_DATA_DIR=str(self.place / "data"),
            STREAMD_TASK_MANAGERS=str(task_managers),
        )

    def __enter__(self):
        if self.networks:
            self.start_job_manager()
            for number in range(self.task_managers):
                self.start_task_manager(number + 1)
        else:
            self.call(ROOT / "bin/start-cluster.sh")
        return self

    def __exit__(self, *_failure):
        self.call(ROOT / "bin/stop-cluster.sh")
        if not self.keep:
            shutil.rmtree(self.place, ignore_errors=True)

    def call(self, *command, network=0):
        done = self.run(*command, network=network)
        if done.returncode:
            sys.exit(f"{command}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def run(self, *command, network=0):
        inside = self.networks.command(network) if self.networks else []
        return subprocess.run([*inside, *map(str, command)], env=self.environment, capture_output=True, text=True)

    def job_manager(self):
        """The process id of the job manager."""
        return int(next((self.place / "pid").glob("jobmanager-*.pid")).read_text().split()[0])

    def start_job_manager(self):
        self.call(ROOT / "bin/jobmanager.sh", "start")

    def start_task_manager(self, network=0):
        settings = ["-D", f"taskmanager.bind-host={self.networks.address(network)}"] if self.networks else []
        self.call(ROOT / "bin/taskmanager.sh", "start", *settings, network=network)

    def streamctl(self, *arguments):
        return self.call(BIN / "streamctl", *arguments)

    def status(self, job):
        return json.loads(self.streamctl("status", job, "--output", "json"))

    def status_if_known(self, job):
        """The same; `None` while the job manager does not answer, or does not know the job."""
        done = self.run(BIN / "streamctl", "--timeout", "2s", "status", job, "--output", "json")
        return None if done.returncode else json.loads(done.stdout)

    def submit(self, case, *arguments, parallelism=1, settings=(), options=()):
        """Starts a case of the application `bench`. The id of the job."""
        settings = [part for setting in settings for part in ("-D", setting)]
        return self.streamctl("run", "-d", "-p", parallelism, *settings, *options, BIN / "bench", case, *arguments).split()[-1]

    def workers(self, job):
        """The process ids of its workers."""
        return [worker["process_id"] for worker in self.status(job)["workers"]]

    def wait_until_running(self, job):
        def all_run():
            status = self.status(job)
            subtasks = [subtask["state"] for vertex in status["vertices"] for subtask in vertex["subtasks"]]
            return status["state"] == "RUNNING" and set(subtasks) == {"RUNNING"}

        wait_for("all subtasks run", all_run)

    def cancel(self, job):
        self.streamctl("cancel", job)
        wait_for("the job has gone", lambda: self.status(job)["state"] == "CANCELED")

    def measured(self, case, *arguments, **how):
        """Runs a case to its end, on all task managers. The line that each of its workers has printed."""
        job = self.submit(case, *arguments, **how)

        def ended():
            state = self.status(job)["state"]
            if state in ("FAILED", "CANCELED"):
                sys.exit(f"job {job} is {state}")
            return state == "FINISHED"

        wait_for("the end of the events", ended)

        def printed():
            lines = [json.loads(line) for line in self.streamctl("logs", job).splitlines() if line.startswith('{"case"')]
            return lines if len(lines) == self.task_managers else None

        return wait_for("what the workers printed", printed, 60)

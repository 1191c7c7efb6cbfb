"""A cluster of release binaries under a temporary directory, for the scripts that measure."""

import json, os, pathlib, shutil, signal, socket, subprocess, sys, tempfile, time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("STREAMD_BIN_DIR") or pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release")


def options():
    """The arguments of the script, each `name=value`."""
    return dict(argument.split("=", 1) for argument in sys.argv[1:])


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


def parent(process):
    """The process that started it."""
    return int(pathlib.Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[1])


def kill(process):
    """Kills it with signal 9, and waits until the kernel has taken back what it held, locks among it."""

    def is_gone():
        try:
            return pathlib.Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
        except OSError:
            return True

    os.kill(process, signal.SIGKILL)
    wait_for("the process is gone", is_gone, 60)


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

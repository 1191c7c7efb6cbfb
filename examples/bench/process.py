"""What a process takes, and its end."""

import os, pathlib, signal

from cluster import wait_for


def stat(process):
    """The fields of /proc/PID/stat behind the name."""
    return pathlib.Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()


def parent(process):
    """The process that started it."""
    return int(stat(process)[1])


def cpu_seconds(process):
    """User and system time of all of its threads so far."""
    return sum(map(int, stat(process)[11:13])) / os.sysconf("SC_CLK_TCK")


def memory(process):
    """Bytes that are resident."""
    status = pathlib.Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS:"))


def kill(process):
    """Kills it with signal 9, and waits until the kernel has taken back what it held, locks among it."""

    def is_gone():
        try:
            return stat(process)[0] in "ZX"
        except OSError:
            return True

    os.kill(process, signal.SIGKILL)
    wait_for("the process is gone", is_gone, 60)

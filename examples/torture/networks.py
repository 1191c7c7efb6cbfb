"""A network for each daemon of a cluster, on one machine: namespaces joined by a bridge, so that any of them can be cut off. Needs root."""

import os, subprocess


def ip(*arguments):
    done = subprocess.run(["ip", *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"ip {' '.join(map(str, arguments))}: {done.stderr.strip()}")
    return done.stdout


class Networks:
    """So many namespaces; the first is the job manager's. Use it with `with`."""

    def __init__(self, count):
        # The names of interfaces have at most 15 letters.
        self.tag = f"sd{os.getpid() % 100_000}"
        self.count = count
        self.switch = f"{self.tag}-switch"

    def __enter__(self):
        ip("netns", "add", self.switch)
        self.inside(self.switch, "link", "add", "bridge", "type", "bridge")
        self.inside(self.switch, "link", "set", "bridge", "up")
        for number in range(self.count):
            name, port, end = self.name(number), self.port(number), f"{self.tag}e{number}"
            ip("netns", "add", name)
            ip("link", "add", end, "netns", name, "type", "veth", "peer", "name", port, "netns", self.switch)
            self.inside(self.switch, "link", "set", port, "master", "bridge")
            self.inside(self.switch, "link", "set", port, "up")
            self.inside(name, "address", "add", f"{self.address(number)}/24", "dev", end)
            self.inside(name, "link", "set", end, "up")
            self.inside(name, "link", "set", "lo", "up")
        return self

    def __exit__(self, *_failure):
        for name in [*map(self.name, range(self.count)), self.switch]:
            ip("netns", "del", name)

    def name(self, number):
        return f"{self.tag}-{number}"

    def port(self, number):
        return f"{self.tag}p{number}"

    def address(self, number):
        return f"10.99.0.{number + 1}"

    def inside(self, name, *arguments):
        return ip("-n", name, *arguments)

    def command(self, number):
        """What a command begins with that runs in this network."""
        return ["ip", "netns", "exec", self.name(number)]

    def of(self, process):
        """The number of the network that a process is in."""
        return int(ip("netns", "identify", process).strip().rsplit("-", 1)[1])

    def cut(self, number):
        self.inside(self.switch, "link", "set", self.port(number), "down")

    def heal(self, number):
        self.inside(self.switch, "link", "set", self.port(number), "up")

"""Hosts in network namespaces, each with a name of its own; their links can be cut.

What needs root is the kernel's to grant: where it does not, the tests are skipped.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from shell import Shell

NET = "10.87.65"
"""Of a network that nobody else is in, however many there are of them."""

_BECOME = "import os, socket, sys; socket.sethostname(sys.argv[1]); os.execvp(sys.argv[2], sys.argv[2:])"


class Host:
    """One end of a link. Its processes share files and the clock with all others, and nothing else."""

    def __init__(self, network: Network, number: int, name: str) -> None:
        self.network, self.name, self.address = network, name, f"{NET}.{number}"
        self.space, self._port = f"{network.space}-{number}", f"port{number}"
        _ip("netns", "add", self.space)
        _ip("-n", network.space, "link", "add", self._port, "type", "veth", "peer", "name", "eth0", "netns", self.space)
        _ip("-n", network.space, "link", "set", self._port, "master", "switch", "up")
        _ip("-n", self.space, "address", "add", f"{self.address}/24", "dev", "eth0")
        for link in ("lo", "eth0"):
            _ip("-n", self.space, "link", "set", link, "up")
        become = [sys.executable, "-c", _BECOME, name]
        self.prefix = ["ip", "netns", "exec", self.space, "unshare", "--uts", *become]

    def start(self, *arguments: str, source: str = "", **options: Any) -> subprocess.Popen[str]:
        """As of the shell, on this host."""
        return self.network.shell.start(*arguments, source=source, prefix=self.prefix, **options)

    def run(self, *command: str) -> subprocess.Popen[bytes]:
        """Start any program there."""
        return subprocess.Popen(
            [*self.prefix, *command],
            cwd=self.network.shell.directory,
            env=self.network.shell.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    @contextmanager
    def cut_off(self) -> Iterator[None]:
        """Nothing goes to it or comes from it."""
        _ip("-n", self.network.space, "link", "set", self._port, "down")
        try:
            yield
        finally:
            _ip("-n", self.network.space, "link", "set", self._port, "up")


class Network:
    """Hosts around a switch."""

    _serial = itertools.count()

    def __init__(self, shell: Shell) -> None:
        self.shell, self.hosts = shell, dict[str, Host]()
        self.space = f"cf{os.getpid()}x{next(self._serial)}"

    def __enter__(self) -> Network:
        _need_the_right()
        _ip("netns", "add", self.space)
        _ip("-n", self.space, "link", "add", "switch", "type", "bridge")
        _ip("-n", self.space, "link", "set", "switch", "up")
        return self

    def __exit__(self, *_: Any) -> None:
        for space in (*(host.space for host in self.hosts.values()), self.space):
            _ip("netns", "delete", space)

    def add(self, name: str) -> Host:
        """A host of this name."""
        host = self.hosts[name] = Host(self, len(self.hosts) + 1, name)
        return host


def _need_the_right() -> None:
    """Skip the test where no host can be made, on CI too."""
    if sys.platform != "linux" or shutil.which("ip") is None or shutil.which("unshare") is None:
        pytest.skip("hosts are made by Linux, with ip and unshare. On Debian: tests/install.sh")
    probe = f"cf{os.getpid()}probe"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True)
    can_name = subprocess.run(["unshare", "--uts", "--net", "true"], capture_output=True, text=True)
    subprocess.run(["ip", "netns", "delete", probe], capture_output=True)
    if made.returncode or can_name.returncode:
        pytest.skip(f"hosts cannot be made here, which takes root: {(made.stderr or can_name.stderr).strip()}")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)

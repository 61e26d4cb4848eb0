"""A primary and its replica behind one address, which a failover sends to the other one."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import redis
from authority import free_port
from executions import wait_until
from proxies import Proxy
from shell import Shell
from stores import await_answer

from celeryflow.runtime import server


class Node:
    """One of the two servers."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.port = free_port()
        place = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
        self.process = subprocess.Popen(
            [server.find(), *place, "--repl-diskless-sync-delay", "0"], stdout=subprocess.DEVNULL
        )
        self.client = redis.Redis(port=self.port)
        await_answer(self.client)

    def follow(self, other: Node) -> None:
        """Become a replica, and be as far as the other."""
        self.client.replicaof("127.0.0.1", other.port)
        wait_until(lambda: self.client.info("replication")["master_link_status"] == "up")

    def lag(self) -> None:
        """Hear no more of the primary."""
        self.client.replicaof("127.0.0.1", free_port())

    def promote(self) -> None:
        """Become the primary."""
        self.client.replicaof("NO", "ONE")

    def kill(self) -> None:
        """By SIGKILL."""
        self.client.close()
        self.process.kill()
        self.process.wait()


class Pair:
    """Two servers, and the address that leads to one of them."""

    def __init__(self, shell: Shell, proxy: Proxy, one: Node, other: Node) -> None:
        self.shell, self.proxy, self.primary, self.replica = shell, proxy, one, other
        (shell.directory / "key").write_text("ab" * 32)
        (shell.directory / "key").chmod(0o600)
        self.url = f"redis://127.0.0.1:{proxy.port}"
        self.place = ["--url", self.url, "--key-file", "key", "--blobs", "blobs", "--insecure"]
        self.connect = f"""
import warnings
warnings.simplefilter("ignore", cf.InsecureWarning)
cf.connect({self.url!r}, key_file="key", blobs="blobs", insecure=True)
"""

    def fail_over(self, *, is_abrupt: bool) -> None:
        """Promote the replica, and send who connects from now on there.

        Where it is not abrupt, connections to the former primary stay as they are.
        """
        former, self.primary, self.replica = self.primary, self.replica, self.primary
        self.primary.promote()
        if is_abrupt:
            former.kill()
        self.proxy.point(("127.0.0.1", self.primary.port), drops=is_abrupt)

    def demote_former(self) -> None:
        """Make the former primary a replica of the new one."""
        self.replica.client.replicaof("127.0.0.1", self.primary.port)


@contextmanager
def replicated(shell: Shell) -> Iterator[Pair]:
    """Two servers, and a worker that knows their common address."""
    with ExitStack() as stack:
        nodes = [Node(shell.directory / f"server-{number}") for number in range(2)]
        for node in nodes:
            stack.callback(node.kill)
        nodes[1].follow(nodes[0])
        proxy = stack.enter_context(Proxy(("127.0.0.1", nodes[0].port)))
        pair = Pair(shell, proxy, *nodes)
        worker = shell.start("worker", "-c", "2", *pair.place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        stack.callback(worker.wait)
        stack.callback(worker.kill)
        wait_until(lambda: nodes[0].client.exists("celeryflow:workers"), timeout_s=60)
        yield pair

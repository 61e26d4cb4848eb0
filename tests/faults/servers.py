"""Damage to a server, and servers of a test's own that keep nothing, or come back with less than they had."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
from shell import Shell, wait_for

from celeryflow.runtime import embedded, server


def pid_of(directory: Path) -> int:
    """Process id of the embedded server of a directory, once it runs."""
    return int(wait_for(lambda: (embedded.status(directory) or {"server": 0})["server"]))


def client_of(directory: Path) -> redis.Redis:
    """A connection to the embedded server of a directory."""
    found = wait_for(lambda: embedded.status(directory))
    return redis.Redis(unix_socket_path=found["url"].removeprefix("unix://"))


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """These processes stand still."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@contextmanager
def connections_cut(client: redis.Redis, every_s: float) -> Iterator[list[int]]:
    """Every so many seconds the server closes all connections but ours; how many each time."""
    cuts: list[int] = []
    is_over = threading.Event()

    def loop() -> None:
        while not is_over.wait(every_s):
            cuts.append(int(client.execute_command("CLIENT", "KILL", "SKIPME", "yes", "TYPE", "normal")))

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield cuts
    finally:
        is_over.set()
        thread.join()


class Server:
    """A server that a shell's commands can be given, with a key and a folder for blobs."""

    def __init__(self, shell: Shell, is_kept: bool) -> None:
        self.shell, self.is_kept = shell, is_kept
        self.socket, self.data = shell.temporary / "own.sock", shell.directory / "data"
        self.data.mkdir()
        (shell.directory / "key").write_text("ab" * 32)
        self.start()

    @property
    def place(self) -> list[str]:
        """Options of the command line that name it."""
        return ["--url", f"unix://{self.socket}", "--key-file", "key", "--blobs", "blobs"]

    @property
    def connect(self) -> str:
        """The cell that connects to it."""
        return f"cf.connect('unix://{self.socket}', key_file='key', blobs='blobs')"

    def start(self) -> None:
        """Start it, with the data that is there."""
        kept = ["--appendonly", "yes" if self.is_kept else "no", "--save", "", "--appendfsync", "no"]
        place = ["--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.data)]
        self.process = subprocess.Popen(
            [server.find(), *place, *kept], stdout=subprocess.DEVNULL, env=self.shell.environment
        )
        wait_for(lambda: server.answers(str(self.socket)))

    def kill(self) -> None:
        """By SIGKILL."""
        self.process.kill()
        self.process.wait()

    def client(self) -> redis.Redis:
        """A connection to it."""
        return redis.Redis(unix_socket_path=str(self.socket))

    def keep_copy(self) -> None:
        """Remember its data as of now."""
        shutil.copytree(self.data, self.data.with_name("copy"))

    def go_back(self) -> None:
        """Put the copy in the place of its data."""
        shutil.rmtree(self.data)
        self.data.with_name("copy").rename(self.data)


@contextmanager
def served(shell: Shell, *, is_kept: bool) -> Iterator[Server]:
    """A server that ends with the test, and a worker for it."""
    own = Server(shell, is_kept)
    worker = shell.start("worker", "-c", "2", *own.place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield own
    finally:
        worker.kill()
        worker.wait()
        own.kill()

"""A bare server and a plain Celery worker, as one would start them by hand."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.contenders import WORKERS
from celeryflow.runtime import server

SOCKET = "BENCH_SOCKET"


@contextmanager
def bare_server(*options: str) -> Iterator[str]:
    """A server that writes nothing to disk, unless told so; its socket's path, which stands in the environment too."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/tmp") as folder:
        socket = str(Path(folder) / "s.sock")
        command = [server.find(), "--port", "0", "--unixsocket", socket, "--save", "", "--dir", folder, *options]
        with _running([*command, "--logfile", str(Path(folder) / "log")]) as process:
            while not server.answers(socket):
                assert process.poll() is None, "the bare server ended"
                time.sleep(0.005)
            os.environ[SOCKET] = socket
            yield socket


@contextmanager
def celery_worker() -> Iterator[None]:
    """A plain worker of the tasks, of as many processes as every contender has."""
    command = [sys.executable, "-m", "celery", "-A", "benchmarks.scripts.tasks", "worker", "--loglevel", "ERROR"]
    options = ["--concurrency", str(WORKERS), "--without-gossip", "--without-mingle"]
    with _running([*command, *options]):
        yield


@contextmanager
def _running(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, "C_FORCE_ROOT": "1"}  # as root, Celery refuses pickle without it
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()

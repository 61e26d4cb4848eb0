"""Kernels and workers to start and kill, and the directory that they work in."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from celeryflow.runtime import embedded, pools, server

KERNEL = """
import json, os, sys
from pathlib import Path
sys.stdin.readline()
from celeryflow.runtime import embedded, pools
pools.WORKER = sys.argv[2:] or pools.WORKER
runtime = embedded.join(Path(sys.argv[1]))
answer = runtime.settings.url
while True:
    print(json.dumps(answer), flush=True)
    line = sys.stdin.readline()
    if not line:
        break
    answer = None
    exec(line)
"""
"""A kernel: joins at the first line of its input, executes the others, leaves at the end of it."""

WORKER = """
import json, os, signal, subprocess, sys
from pathlib import Path
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
if "broken" in sys.argv and not Path("mended").exists():
    sys.exit("ModuleNotFoundError: No module named 'surprise'")
import celeryflow
children = []
if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "stubborn" in sys.argv or "parent" in sys.argv:
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    # Each is to be found in one way only: by its session, and by its variable or, stubbornly, its parent.
    environ = {} if "stubborn" in sys.argv else None
    children = [subprocess.Popen(sleep, process_group=0, env={})]
    children += [subprocess.Popen(sleep, start_new_session=True, env=environ)]
umask = os.umask(0)
report = {"environ": dict(os.environ), "umask": umask, "children": [c.pid for c in children]}
Path(f"worker-{os.getpid()}.new").write_text(json.dumps(report))
Path(f"worker-{os.getpid()}.new").rename(f"worker-{os.getpid()}.json")
while True:
    signal.pause()
"""
"""Stands in for the Celery worker: says in the working directory how it was started, and ends when told to."""


class Kernel:
    """A process that joins the runtime of a directory."""

    def __init__(self, place: Place, *worker: str, start: bool = True, **options: Any):
        self.process = subprocess.Popen(
            [sys.executable, "-c", KERNEL, str(place.directory), *place.worker(*worker)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": pools.python_path() or ""},
            **options,
        )
        place.kernels.append(self)
        if start:
            self.url = self.do("")

    def do(self, line: str) -> Any:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self) -> Any:
        line = self.process.stdout.readline()
        assert line, f"the kernel ended with exit code {self.process.wait()}"
        return json.loads(line)

    def kill(self) -> None:
        """SIGKILL without burying: the zombie stays."""
        self.process.kill()

    def close(self) -> None:
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        self.process.kill()
        self.process.wait()


class Place:
    """A directory to work in, with a state directory and a temporary directory of its own."""

    def __init__(self, root: Path, temporary: Path):
        self.directory, self.state = root / 'it\'s a "notebook" dir, für x', root / "state"
        self.temporary = temporary
        self.directory.mkdir()
        self.script = root / "worker.py"
        self.script.write_text(WORKER)
        self.kernels: list[Kernel] = []

    @property
    def home(self) -> Path:
        return self.directory / ".celeryflow"

    def worker(self, *mode: str) -> list[str]:
        return [] if mode == ("real",) else ["-P", str(self.script), *mode]

    def join(self, *mode: str, **options: Any) -> embedded.Runtime:
        pools.WORKER = self.worker(*mode)
        return embedded.join(self.directory, **options)

    def status(self) -> dict[str, Any]:
        found = embedded.status(self.directory)
        assert found is not None
        return found

    def processes(self) -> list[psutil.Process]:
        """What was started here and still lives, known by a variable that all inherit.

        The server's title takes the place of its variables, and names its socket.
        """
        kernels = {kernel.process.pid for kernel in self.kernels}
        return [p for p in psutil.process_iter() if p.pid not in kernels and self._is_here(p)]

    def _is_here(self, process: psutil.Process) -> bool:
        with suppress(psutil.Error):
            known = process.environ().get("XDG_STATE_HOME") == str(self.state)
            titled = str(self.temporary) in " ".join(process.cmdline())
            return (known or titled) and process.status() != psutil.STATUS_ZOMBIE
        return False

    def reports(self) -> dict[int, dict[str, Any]]:
        """How the workers so far were started."""
        paths = self.directory.glob("worker-*.json")
        return {int(path.stem.partition("-")[2]): json.loads(path.read_text()) for path in paths}

    def report(self) -> dict[str, Any]:
        """How the running worker was started, once it is."""
        return wait_for(lambda: self.reports().get(self.status()["workers"][0]))

    def await_looks(self) -> None:
        """Wait until the keeper has looked twice at its members: it takes away records of none."""
        record = self.home / "members" / "nobody.json"
        for _ in range(2):
            record.write_text("{}")
            wait_for(lambda: not record.exists())

    def wait_until_gone(self, within_s: float = 5.0) -> None:
        wait_for(lambda: not self.processes(), within_s)


def wait_for(condition: Callable[[], Any], within_s: float = 10.0) -> Any:
    """What the condition gives once it holds."""
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {within_s} s"
        time.sleep(0.02)
    return found


def ask(url: str, *words: str) -> str:
    """A server's reply to a command, as it is on the wire."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect(url.removeprefix("unix://"))
        parts = [f"*{len(words)}", *(line for word in words for line in (f"${len(word.encode())}", word))]
        connection.sendall(("\r\n".join(parts) + "\r\n").encode())
        return connection.recv(65536).decode()


def answers(url: str) -> bool:
    return server.answers(url.removeprefix("unix://"))

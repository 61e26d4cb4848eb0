"""The command line in a directory of its own, and what it leaves behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]


class Shell:
    """A directory, with a state directory and a temporary directory of its own, in which commands run."""

    def __init__(self, root: Path, temporary: Path):
        self.directory, self.state, self.temporary = root / "work", root / "state", temporary
        self.directory.mkdir()
        clean = {name: value for name, value in os.environ.items() if not name.startswith("CELERYFLOW_")}
        places = {"XDG_STATE_HOME": str(self.state), "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)}
        # Bytecode is kept as it would be for a user: start times are measured here. Apart, if that is not wanted.
        apart = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(ROOT / ".pytest_cache" / "bytecode")}
        self.environment = {**clean, **places, **(apart if sys.dont_write_bytecode else {})}

    def start(
        self, *arguments: str, source: str = "", prefix: Sequence[str] = (), **options: Any
    ) -> subprocess.Popen[str]:
        """Start ``celeryflow ARGUMENTS``, or Python source with these arguments; `prefix` is what starts it."""
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
        what = ["-c", source] if source else ["-m", "celeryflow"]
        return subprocess.Popen(
            [*prefix, sys.executable, *what, *arguments], cwd=self.directory, env=self.environment, **options
        )

    def __call__(self, *arguments: str, source: str = "") -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        process = self.start(*arguments, source=source)
        out, err = process.communicate(timeout=100)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def json(self, *arguments: str) -> Any:
        """What it writes for programs; nothing else may be there."""
        done = self(*arguments)
        assert done.stdout.endswith("\n"), done.stderr
        return json.loads(done.stdout)

    def processes(self) -> list[psutil.Process]:
        """What was started here and still lives; the server's title hides its variables and names its socket."""
        return [process for process in psutil.process_iter() if self._is_here(process)]

    def _is_here(self, process: psutil.Process) -> bool:
        with suppress(psutil.Error):
            known = process.environ().get("XDG_STATE_HOME") == str(self.state)
            titled = str(self.temporary) in " ".join(process.cmdline())
            return (known or titled) and process.status() != psutil.STATUS_ZOMBIE
        return False


@contextmanager
def opened(root: Path) -> Iterator[Shell]:
    """A shell in a new directory; in the end nothing that it started may be alive."""
    temporary = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    shell = Shell(root, temporary)
    try:
        yield shell
        shell("down")
        left = shell.processes()
        assert not left, left
    finally:
        for process in shell.processes():
            process.kill()
        shutil.rmtree(temporary)


def wait_for(condition: Callable[[], Any], within_s: float = 30.0) -> Any:
    """What the condition gives once it holds."""
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {within_s} s"
        time.sleep(0.02)
    return found

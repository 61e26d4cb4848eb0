"""A script and IPython in a real terminal: what stands there while a run goes on and after it, and Ctrl-C."""

from __future__ import annotations

import fcntl
import os
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Runtime

CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\r")
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"

HEAD = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # Ctrl-C goes to whom the terminal belongs
"""

FLOW = """
import time
from pathlib import Path
import celeryflow as cf

@cf.step
def load(gate):
    while not Path(gate).exists():
        time.sleep(0.02)

@cf.step
def clean(loaded, i):
    return i

@cf.workflow
def etl(gate):
    with cf.phase("extract"):
        loaded = load(gate)
    with cf.phase("transform"):
        return clean.map(loaded, range(5))
"""

SCRIPT = f"""{HEAD}{FLOW}
gate, never = sys.argv[1:]
etl.run(gate)
for variable, value in [("NO_COLOR", "1"), ("TERM", "dumb"), ("CELERYFLOW_VIEW", "none")]:
    print("---", variable, flush=True)
    before = os.environ.get(variable)
    os.environ[variable] = value
    etl.run(gate)
    os.environ.pop(variable)
    os.environ |= {{}} if before is None else {{variable: before}}
print("--- Ctrl-C", flush=True)
try:
    etl.run(never)
except KeyboardInterrupt:
    print("interrupted", cf.history().iloc[0]["status"], flush=True)
"""

IPYTHON = f"""{HEAD}
from IPython import start_ipython
start_ipython(argv=["--simple-prompt", "--no-banner", "--no-confirm-exit", "-i", sys.argv[1]])
"""


class Terminal:
    """A program in a terminal of 100 columns, which is all that it has."""

    def __init__(self, runtime: Runtime, source: str, *arguments: str) -> None:
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 40, 100, 0, 0))
        own = {k: v for k, v in os.environ.items() if k not in ("PYTEST_CURRENT_TEST", "NO_COLOR", "CELERYFLOW_VIEW")}
        places = {"XDG_STATE_HOME": str(runtime.state), "IPYTHONDIR": str(runtime.state / "ipython")}
        self._process = subprocess.Popen(
            [sys.executable, "-c", source, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=runtime.directory,
            env={**own, **places, "TERM": "xterm-256color", "PYTHONUTF8": "1"},
            start_new_session=True,
        )
        os.close(slave)
        self.written = ""

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def until(self, condition: Callable[[], object], timeout_s: float = 60.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, self.written[-2000:]
            assert self._read(), self.written[-2000:]

    def _read(self) -> bool:
        """Take what was written; False once nobody writes any more."""
        if select.select([self._master], [], [], 0.1)[0]:
            try:
                self.written += os.read(self._master, 65536).decode(errors="replace")
            except OSError:  # Linux says so when the last of them has closed it
                return False
        return self._process.poll() is None or bool(select.select([self._master], [], [], 0)[0])

    def rest(self) -> str:
        """All that was written, when the program has ended."""
        while self._read():
            pass
        assert self._process.wait(60) == 0, self.written[-2000:]
        return self.written

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)


def plain(written: str) -> str:
    return CODES.sub("", written)


@pytest.fixture(scope="module")
def parts(shared_runtime: Runtime, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What a script writes into a terminal in each of its runs."""
    folder = tmp_path_factory.mktemp("gates")
    screen = Terminal(shared_runtime, SCRIPT, str(folder / "gate"), str(folder / "never"))
    try:
        screen.until(lambda: "0 / 1" in plain(screen.written) and "1 worker busy" in plain(screen.written))
        (folder / "gate").touch()
        screen.until(lambda: "1 worker busy" in plain(screen.written.partition("--- Ctrl-C")[2]))
        screen.type("\x03")
        found = re.split(r"--- (\S+)\r\n", screen.rest())
        yield {"": found[0], **dict(zip(found[1::2], found[2::2], strict=True))}
    finally:
        screen.close()


def last_screen(part: str) -> list[str]:
    """What stands there after the last time that the cursor went up."""
    return [line.rstrip() for line in plain(re.split(r"\x1b\[\d*A", part)[-1]).split("\n") if line.strip()]


def test_a_run_is_redrawn_in_place_and_its_end_is_left(parts: dict[str, str]) -> None:
    shown = plain(parts[""])
    assert "▸ extract" in shown and "○ transform" in shown

    head, *rows = last_screen(parts[""])
    assert head.startswith("etl  ✓ success")
    assert [row.split()[:2] for row in rows[:2]] == [["✓", "extract"], ["✓", "transform"]]
    assert rows[-1] == "next: run.result()  run.steps()"


@pytest.mark.parametrize("part", ["", "NO_COLOR", "Ctrl-C"])
def test_the_cursor_is_there_again_after_a_run(parts: dict[str, str], part: str) -> None:
    assert parts[part].count(HIDE) == parts[part].count(SHOW) == 1
    assert parts[part].index(HIDE) < parts[part].index(SHOW)


def test_no_colours_where_none_are_wanted_and_no_codes_where_none_are_known(parts: dict[str, str]) -> None:
    assert re.search(r"\x1b\[[0-9;]*3\dm", parts[""])
    assert not re.search(r"\x1b\[[0-9;]*3\dm", parts["NO_COLOR"])
    assert "✓ success" in plain(parts["NO_COLOR"])
    assert "\x1b" not in parts["TERM"] and "✓ success" in parts["TERM"]
    assert parts["CELERYFLOW_VIEW"] == ""


def test_ctrl_c_cancels_and_the_picture_says_so(parts: dict[str, str]) -> None:
    found = last_screen(parts["Ctrl-C"])
    assert found[0].startswith("etl  ⊘ cancelled")
    assert "cancelled: interrupted" in found
    assert found[-1] == "interrupted cancelled"


def test_ipython_shows_a_run_once_and_again_when_it_is_asked_for(runtime: Runtime, tmp_path: Path) -> None:
    (tmp_path / "gate").touch()
    (tmp_path / "flow.py").write_text(FLOW)
    screen = Terminal(runtime, IPYTHON, str(tmp_path / "flow.py"))
    try:
        screen.until(lambda: "In [1]:" in screen.written)
        screen.type(f"run = etl.run({str(tmp_path / 'gate')!r}); run\n")
        screen.until(lambda: "In [2]:" in screen.written)
        screen.type("run\n")
        screen.until(lambda: "In [3]:" in screen.written)
        screen.type("exit\n")
        shown = screen.rest()
    finally:
        screen.close()
    first, again = (plain(part) for part in re.split(r"In \[[23]\]:", shown)[:2])
    assert len(re.findall("^etl  ✓ success", first, re.MULTILINE)) == 1
    assert re.search(r"Out\[2\]:\s+etl  ✓ success", again)

"""Captured output: a file a pool process, which outlives a crash and is shipped to the run's log.

Python's streams and logging write framed lines that say where they belong. What C code and child processes write to the
file descriptors stands between the frames, and belongs to the next frame, or to the item that was running at a crash.
"""

from __future__ import annotations

import fcntl
import io
import logging
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from celeryflow.engine.context import StepHandler
from celeryflow.graph.model import LogLine
from celeryflow.store.events import append_logs
from celeryflow.store.scripts import Store

LIMIT_BYTES = 2**20
TAIL_LINES = 20
FRAME = b"\x1e"


class Frame(LogLine, frozen=True):
    """A line in the file: a LogLine and its run; ``stream`` is empty where it only says whose the text before it is."""

    run: str


class Capture:
    """Redirects this process's output to a file, and tags it with the item that is running."""

    def __init__(self, path: Path, worker: str) -> None:
        self.path, self.worker = path, worker
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._saved: list[int] = []
        self._place = ("", 0, 0, 1)
        self._written = self._size = 0
        self._streams = (Stream(self, "stdout"), Stream(self, "stderr"))
        self._handler = StepHandler()

    def begin(self, run: str, node: int, index: int, attempt: int) -> None:
        """What is written from now on belongs to this item."""
        self._place = (run, node, index, attempt)
        self._written = 0

    def end(self) -> None:
        """The item is over: complete its last line, and claim what its children wrote."""
        for stream in self._streams:
            stream.end_line()
        size = os.fstat(self._file).st_size
        if size != self._size:
            self._frame("", "")
            self._size = os.fstat(self._file).st_size

    def write(self, stream: str, text: str) -> None:
        """Add lines; past 1 MiB an item they are dropped, which is said once."""
        for line in text.split("\n"):
            if self._written <= LIMIT_BYTES:
                self._written += len(line) + 1
                cut = self._written > LIMIT_BYTES
                self._frame(stream, "[output over 1 MiB is left out]" if cut else line)

    def _frame(self, stream: str, text: str) -> None:
        run, node, index, attempt = self._place
        frame = Frame(
            run=run,
            at=time.time(),
            node=node,
            index=index,
            attempt=attempt,
            worker=self.worker,
            stream=stream,
            text=text,
        )
        os.write(self._file, FRAME + msgspec.json.encode(frame) + b"\n")

    def ship(self, store: Store) -> None:
        """Move what was written to the runs' logs."""
        if os.fstat(self._file).st_size:
            ship(self._file, store, self._place, self.worker)
        self._size = 0

    def tail(self) -> str:
        """The last lines that the running item wrote."""
        for stream in self._streams:
            stream.end_line()
        lines = parse(_read(self._file), self._place, self.worker)
        return "\n".join(line.text for line in [*lines][-TAIL_LINES:] if (line.node, line.index) == self._place[1:3])

    def __enter__(self) -> Capture:
        sys.stdout.flush()
        sys.stderr.flush()
        self._saved = [os.dup(1), os.dup(2)]
        os.dup2(self._file, 1)
        os.dup2(self._file, 2)
        self._python = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = self._streams
        root = logging.getLogger()
        self._logging = root.handlers[:], root.level
        root.handlers[:] = [self._handler]
        root.setLevel(logging.INFO)
        return self

    def __exit__(self, *_: object) -> None:
        root = logging.getLogger()
        root.handlers[:], level = self._logging
        root.setLevel(level)
        sys.stdout, sys.stderr = self._python
        for number, saved in enumerate(self._saved, 1):
            os.dup2(saved, number)
            os.close(saved)


class Stream(io.TextIOBase):
    """Python's stdout or stderr while steps run: whole lines go to the capture."""

    def __init__(self, capture: Capture, name: str) -> None:
        self._capture, self._name, self._partial = capture, name, ""

    encoding = "utf-8"

    def writable(self) -> bool:
        """Yes."""
        return True

    def fileno(self) -> int:
        """The descriptor, which goes to the same file."""
        return 1 if self._name == "stdout" else 2

    def write(self, text: str) -> int:
        """Pass whole lines on; keep the rest until its end comes."""
        lines, newline, rest = (self._partial + text).rpartition("\n")
        if newline:
            self._capture.write(self._name, lines)
        self._partial = rest
        return len(text)

    def end_line(self) -> None:
        """Write an unfinished line."""
        if self._partial:
            self._capture.write(self._name, self._partial)
            self._partial = ""


def ship_after_crash(path: Path, store: Store, place: tuple[str, int, int, int], worker: str) -> None:
    """Move what a dead process had written; text without a frame belongs to `place`."""
    handle = os.open(path, os.O_RDWR)
    try:
        ship(handle, store, place, worker)
    finally:
        os.close(handle)


def ship(handle: int, store: Store, place: tuple[str, int, int, int], worker: str) -> None:
    """Move the file's lines to the logs of their runs."""
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        frames = [*parse(_read(handle), place, worker)]
        os.ftruncate(handle, 0)
    finally:
        fcntl.flock(handle, fcntl.LOCK_UN)
    for run in dict.fromkeys(frame.run for frame in frames):
        append_logs(store, run, [_line(frame) for frame in frames if frame.run == run])


def parse(data: bytes, place: tuple[str, int, int, int], worker: str) -> Iterator[Frame]:
    """The lines of a file, in order."""
    loose: list[str] = []
    for piece in data.replace(FRAME, b"\n" + FRAME).split(b"\n"):
        if not piece.startswith(FRAME):
            loose += [piece.decode(errors="replace")] if piece else []
            continue
        frame = msgspec.json.decode(piece[1:], type=Frame)
        for text in loose:
            yield msgspec.structs.replace(frame, stream="stdout", text=text)
        loose = []
        if frame.stream:
            yield frame
    run, node, index, attempt = place
    for text in loose if run else []:
        yield Frame(
            run=run, at=time.time(), node=node, index=index, attempt=attempt, worker=worker, stream="stdout", text=text
        )


def _line(frame: Frame) -> LogLine:
    return LogLine(
        at=frame.at, node=frame.node, index=frame.index, attempt=frame.attempt, worker=frame.worker,
        stream=frame.stream, text=frame.text,
    )  # fmt: skip


def _read(handle: int) -> bytes:
    return os.pread(handle, os.fstat(handle).st_size, 0)

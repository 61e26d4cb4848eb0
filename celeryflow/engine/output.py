"""Captured output: a file a pool process, which outlives a crash and is shipped to the runs' logs.

Python's streams and logging write *frames*: pieces of text that say where they belong. What C code and child processes
write to the file descriptors stands between the frames, and belongs to the next frame, or to the item that is running.
"""

from __future__ import annotations

import fcntl
import io
import logging
import os
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from celeryflow.engine.context import StepHandler
from celeryflow.engine.slots import Shipped, Slot
from celeryflow.graph.checks import storable
from celeryflow.graph.model import LogLine
from celeryflow.store.events import append_logs
from celeryflow.store.scripts import Store

LIMIT_BYTES = 2**20
LEFT_OUT = "[output over 1 MiB is left out]"
LINE_BYTES = 16
"""What a line counts at least: a million empty ones are no less work than a million others."""
GULP_BYTES = 2**22
"""As much as is taken from a file at once: where there is more, somebody floods it, and the rest is left out."""
TAIL_LINES = 20
JUST_NOW_S = 0.5
"""A line that was begun no longer ago, and has no end, waits for that."""

MARK = b"\x1e"


def open_file() -> int:
    """A file for one pool process, open before the fork and without a name, so that nothing is left of it."""
    handle, name = tempfile.mkstemp(prefix="celeryflow-output-")
    Path(name).unlink()
    fcntl.fcntl(handle, fcntl.F_SETFL, os.O_APPEND)
    return handle


class Place(msgspec.Struct, frozen=True):
    """Whose output it is."""

    run: str = ""
    node: int = 0
    index: int = 0
    attempt: int = 1


class Frame(msgspec.Struct, frozen=True):
    """A piece of text in the file; without a stream it only says whose the text before it is."""

    at: float
    place: Place
    stream: str = ""
    text: str = ""


@dataclass
class Writer:
    """An item that writes output: how much so far, and the last pieces."""

    place: Place = field(default_factory=Place)
    written: int = 0
    recent: deque[str] = field(default_factory=lambda: deque(maxlen=4 * TAIL_LINES))


_writer: ContextVar[Writer | None] = ContextVar("celeryflow_writer", default=None)


class Capture:
    """Redirects this process's output to a file, and tags it with the item that is running.

    Async steps run beside each other: each has its own context. Threads that have none belong to the last to begin.
    """

    def __init__(self, file: int, slot: Slot, worker: str) -> None:
        self._file, self._slot, self._worker = file, slot, worker
        self._saved: list[int] = []
        self._last = Writer()
        self._size = 0
        self._lock = threading.RLock()
        self._streams = (Stream(self, "stdout"), Stream(self, "stderr"))
        self._handler = StepHandler()

    def begin(self, run: str, node: int, index: int, attempt: int) -> None:
        """What is written from now on belongs to this item."""
        self._last = Writer(Place(run, node, index, attempt))
        _writer.set(self._last)

    @property
    def _now(self) -> Writer:
        return _writer.get() or self._last

    def end(self) -> None:
        """The item is over: claim what its children wrote."""
        if os.fstat(self._file).st_size != self._size:
            self._frame("", "")

    def write(self, stream: str, text: str) -> None:
        """Add text; past 1 MiB an item it is dropped."""
        writer = self._now
        if writer.written <= LIMIT_BYTES:
            text = text[: LIMIT_BYTES + 1]
            writer.written += len(text)
            writer.recent.append(text)
            self._frame(stream, text)

    def write_line(self, stream: str, text: str) -> None:
        """Add whole lines."""
        self.write(stream, f"{text}\n")

    def _frame(self, stream: str, text: str) -> None:
        frame = Frame(time.time(), self._now.place, stream, storable(text))
        with self._lock, suppress(OSError):  # what a full disk does not hold is lost, and no reason to end a step
            os.write(self._file, MARK + msgspec.json.encode(frame) + b"\n")
            self._size = os.fstat(self._file).st_size

    def ship(self, store: Store) -> None:
        """Move what was written to the runs' logs."""
        with self._lock:
            if os.fstat(self._file).st_size:
                ship(self._file, self._slot, store, self._now.place, self._worker, is_over=True)
            self._size = 0

    def tail(self) -> str:
        """The last lines that the running item wrote."""
        now = self._now.place
        lines = parse(_read(self._file, max(0, os.fstat(self._file).st_size - GULP_BYTES)), now)
        mine = [text for place, _, _, text in lines if place == now]
        shipped = "".join(self._now.recent).splitlines()  # with what a neighbour on the event loop has ended
        return "\n".join(max(mine, shipped, key=len)[-TAIL_LINES:])

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


class Silent(Capture):
    """Stands for a Capture where nothing of the user's runs."""

    def __init__(self) -> None:
        """There is no file."""

    def tail(self) -> str:
        """Nothing was written."""
        return ""


class Stream(io.TextIOBase):
    """Python's stdout or stderr while steps run."""

    encoding = "utf-8"

    def __init__(self, capture: Capture, name: str) -> None:
        self._capture, self._name = capture, name

    def writable(self) -> bool:
        """Yes."""
        return True

    def fileno(self) -> int:
        """The descriptor, which goes to the same file."""
        return 1 if self._name == "stdout" else 2

    def write(self, text: str) -> int:
        """Pass it on at once: the process may die with the next call."""
        self._capture.write(self._name, text)
        return len(text)


def ship(
    handle: int,
    slot: Slot,
    store: Store,
    place: Place,
    worker: str,
    is_over: bool,
    is_still_there: Callable[[], bool] = lambda: True,
) -> None:
    """Move the file's lines to the logs of their runs; while the process goes on, as far as they are whole.

    One at a time, until they are there: what comes later is not to be before it, nor the end of the step. Lines that
    nobody has signed are of `place`, if the process `is_still_there` once they are read; else they wait.
    """
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX if is_over else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return  # the process itself does it
    try:
        before, size = slot.shipped, os.fstat(handle).st_size
        data = _read(handle, before.size, GULP_BYTES)
        is_flood = before.size + len(data) < size
        if not is_still_there():
            data, is_flood = data[: data.find(b"\n", data.rfind(MARK)) + 1] if MARK in data else b"", False
        if is_over:
            slot.shipped = Shipped()
            os.ftruncate(handle, 0)
        if is_flood:
            data = data[: data.rfind(b"\n") + 1] or data
        whole = data if is_over or is_flood else _whole(data, time.time())
        shipped = _ship(whole, before, store, place, worker, is_flood)
        if not is_over:
            slot.shipped = shipped._replace(size=size) if is_flood else shipped
    finally:
        fcntl.lockf(handle, fcntl.LOCK_UN)


def _ship(data: bytes, before: Shipped, store: Store, place: Place, worker: str, is_flood: bool) -> Shipped:
    found = [*parse(data, place)]
    run = found[-1][0].run if found else place.run
    earlier = Place(run, before.node, before.item, before.attempt)
    sizes, last = Counter({earlier: before.of_item}), found[-1][0] if found else earlier
    lines = [*_limited(found, sizes)]
    if is_flood and sizes[last] <= LIMIT_BYTES:
        lines.append((last, time.time(), "stdout", LEFT_OUT))
        sizes[last] = LIMIT_BYTES + 1
    for run in dict.fromkeys(whose.run for whose, _, _, _ in lines):
        mine = (line for line in lines if line[0].run == run)
        append_logs(store, run, [_line(at, whose, worker, stream, text) for whose, at, stream, text in mine])
    return Shipped(before.size + len(data), last.node, last.index, last.attempt, sizes[last])


Line = tuple[Place, float, str, str]
"""Whose, when, which stream, and the text of a line."""


def parse(data: bytes, place: Place) -> Iterator[Line]:
    """The lines of a file, in order; text that no frame follows belongs to `place`."""
    pieces: list[Line] = []
    loose: list[str] = []
    for raw in data.replace(MARK, b"\n" + MARK).split(b"\n"):
        frame = _frame_of(raw)
        if frame is None:
            loose += [raw.decode(errors="replace")] if raw else []
            continue
        pieces += [(frame.place, frame.at, "stdout", f"{text}\n") for text in loose]
        pieces += [(frame.place, frame.at, frame.stream, frame.text)] if frame.stream else []
        loose = []
    pieces += [(place, time.time(), "stdout", f"{text}\n") for text in loose if place.run]
    return _joined(pieces)


def _joined(pieces: list[Line]) -> Iterator[Line]:
    """Lines of pieces: one that does not end goes on in the next of the same item and stream."""
    unended: dict[tuple[Place, str], tuple[float, list[str]]] = {}
    for place, at, stream, piece in pieces:
        begun_at, parts = unended.pop((place, stream), (at, []))
        *whole, rest = piece.split("\n")
        for line in whole:
            yield place, begun_at, stream, "".join([*parts, line])
            begun_at, parts = at, []
        parts += [rest] if rest else []
        if parts:
            unended[place, stream] = begun_at, parts
    for (place, stream), (at, parts) in unended.items():
        yield place, at, stream, "".join(parts)


def _whole(data: bytes, now: float) -> bytes:
    """As far as lines are whole: what was begun just now may be in the middle of a ``print``."""
    end = at = data.rfind(b"\n") + 1
    settled: set[tuple[Place, str]] = set()
    while (at := data.rfind(MARK, 0, at)) >= 0:
        frame = _frame_of(data[at : data.find(b"\n", at)])
        if frame is None or now - frame.at > JUST_NOW_S:
            break
        whose = frame.place, frame.stream
        if not frame.stream or whose in settled:
            continue
        if not frame.text.endswith("\n"):
            end = at
        if "\n" in frame.text:
            settled.add(whose)
    return data[:end]


def _limited(lines: Iterable[Line], sizes: Counter[Place]) -> Iterator[Line]:
    """Up to 1 MiB an item, with what `sizes` has of it already; that something is left out is said."""
    for place, at, stream, text in lines:
        before = sizes[place]
        sizes[place] += max(len(text) + 1, LINE_BYTES)
        if sizes[place] <= LIMIT_BYTES:
            yield place, at, stream, text
        elif before <= LIMIT_BYTES:
            yield place, at, stream, LEFT_OUT


def _frame_of(raw: bytes) -> Frame | None:
    if not raw.startswith(MARK):
        return None
    try:
        return msgspec.json.decode(raw[1:], type=Frame)
    except msgspec.DecodeError:  # a step wrote the mark itself
        return None


def _line(at: float, place: Place, worker: str, stream: str, text: str) -> LogLine:
    return LogLine(
        at=at, node=place.node, index=place.index, attempt=place.attempt, worker=worker, stream=stream, text=text
    )


def _read(handle: int, offset: int, most: int = sys.maxsize) -> bytes:
    return os.pread(handle, min(most, max(0, os.fstat(handle).st_size - offset)), offset)

"""Shared memory between a worker's main process and its pool: what each process is doing now.

Made before the fork, so that all see it. One writer a slot; the reader sees a whole record or tries again (a sequence
lock: odd while it is being written). One field is the reader's: the token of an attempt that is to stop. It is compared
with the token held, so that a signal that comes late stops nothing else.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from dataclasses import dataclass
from typing import NamedTuple

_FLAG = struct.Struct("<B7x")
_CLAIM = struct.Struct("<Q I 4x 400s 40s 208s")
_ITEM = struct.Struct("<i i i 4x d d d Q d")
_SHIPPED = struct.Struct("<Q i i i 4x Q")
SLOT_BYTES = 792
LANES = 1 + 128
"""Slots of a process: its own, and one for each async step that it may run at a time."""
_ITEM_AT = _CLAIM.size
_SHIPPED_AT = SLOT_BYTES - _SHIPPED.size
_STOP_AT = _SHIPPED_AT - 40
_TOKEN_AT = struct.calcsize("<Q I 4x 400s")
_TOKEN = struct.Struct("<40s")

NEVER = float("inf")


Limits = tuple[float, float, float, int, float]
"""Of an item that runs: the last five fields of `Doing`."""

_NO_LIMITS: Limits = (NEVER, 0.0, -1.0, 0, -1.0)


@dataclass(frozen=True)
class Doing:
    """What a process does: its claim, and the item that has started (node -1 between items).

    `deadline` is on the monotonic clock, which stands still while the machine sleeps; `retry_delay_s` is what to wait
    before a retry after it, negative for none, and `memory_retry_delay_s` after too much memory (0: no limit).
    """

    pid: int
    drainer: str
    token: str
    run: str
    node: int = -1
    index: int = -1
    attempt: int = 1
    deadline: float = NEVER
    timeout_s: float = 0.0
    retry_delay_s: float = -1.0
    memory_limit_bytes: int = 0
    memory_retry_delay_s: float = -1.0


class Shipped(NamedTuple):
    """Bytes of a process's output that were taken for the logs; and of those, what the item wrote that wrote last."""

    size: int = 0
    node: int = 0
    item: int = 0
    attempt: int = 0
    of_item: int = 0


class Slots:
    """The slots of `count` pool processes, and a flag that tells all of them to stop."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._memory = mmap.mmap(-1, _FLAG.size + count * LANES * SLOT_BYTES)
        self._slots = [Slot(self._memory, _FLAG.size + at * SLOT_BYTES) for at in range(count * LANES)]

    @property
    def is_stopping(self) -> bool:
        """Whether drainers should stop after the item at hand."""
        return self._memory[0] == 1

    def stop(self) -> None:
        """Tell all drainers to stop."""
        self._memory[0] = 1

    def slot(self, index: int, lane: int = 0) -> Slot:
        """A slot of pool process `index`."""
        return self._slots[index * LANES + lane]

    def busy(self) -> dict[tuple[int, int], Doing]:
        """What is being done, by process and lane; the lanes of a process from the last to its own."""
        found = ((divmod(at, LANES), self._slots[at].read()) for at in reversed(range(len(self._slots))))
        return {where: doing for where, doing in found if doing}

    def await_clear(self, index: int, timeout_s: float) -> None:
        """Wait until the supervisor has seen what the former process `index` died of."""
        deadline = time.monotonic() + timeout_s
        while any(process == index for process, _ in self.busy()) and time.monotonic() < deadline:
            time.sleep(0.01)


class Slot:
    """One process's record."""

    def __init__(self, memory: mmap.mmap, at: int) -> None:
        self._memory, self._at = memory, at

    def hold(self, drainer: str, token: str, run: str) -> None:
        """The process has a claim; no item has started."""
        sequence = self._sequence()
        self._write(sequence + 1)
        fields = (os.getpid(), drainer.encode(), token.encode(), run.encode())
        _CLAIM.pack_into(self._memory, self._at, sequence + 1, *fields)
        _ITEM.pack_into(self._memory, self._at + _ITEM_AT, -1, -1, 1, *_NO_LIMITS)
        self._write(sequence + 2)

    def start(self, node: int, index: int, attempt: int, limits: Limits = _NO_LIMITS) -> None:
        """An item starts."""
        sequence = self._sequence()
        self._write(sequence + 1)
        _ITEM.pack_into(self._memory, self._at + _ITEM_AT, node, index, attempt, *limits)
        self._write(sequence + 2)

    def stop(self, token: str) -> None:
        """Ask for the end of one attempt; the supervisor's alone to write."""
        _TOKEN.pack_into(self._memory, self._at + _STOP_AT, token.encode())

    @property
    def is_stopped(self) -> bool:
        """Whether the attempt that the process holds is to stop."""
        if not self._memory[self._at + _STOP_AT]:
            return False
        asked, held = (_TOKEN.unpack_from(self._memory, self._at + at) for at in (_STOP_AT, _TOKEN_AT))
        return asked == held

    def clear(self) -> None:
        """The process is idle, or gone."""
        self._memory[self._at : self._at + _STOP_AT] = bytes(_STOP_AT)

    def read(self) -> Doing | None:
        """What the process does, None if nothing or if it died while writing."""
        for _ in range(1000):
            before = self._sequence()
            if not before:
                return None
            data = bytes(self._memory[self._at : self._at + SLOT_BYTES])
            if before % 2 == 0 and before == self._sequence():
                return _doing(data)
        return _doing(data)

    @property
    def shipped(self) -> Shipped:
        """How much of the process's output is in the runs' logs already."""
        return Shipped(*_SHIPPED.unpack_from(self._memory, self._at + _SHIPPED_AT))

    @shipped.setter
    def shipped(self, shipped: Shipped) -> None:
        _SHIPPED.pack_into(self._memory, self._at + _SHIPPED_AT, *shipped)

    def _sequence(self) -> int:
        return int(struct.unpack_from("<Q", self._memory, self._at)[0])

    def _write(self, sequence: int) -> None:
        struct.pack_into("<Q", self._memory, self._at, sequence)


def _doing(data: bytes) -> Doing | None:
    _, pid, drainer, token, run = _CLAIM.unpack_from(data)
    if not pid:
        return None
    names = (field.rstrip(b"\0").decode(errors="replace") for field in (drainer, token, run))
    return Doing(pid, *names, *_ITEM.unpack_from(data, _ITEM_AT))

"""What goes between the scripts and the workers: claims, results, beats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

STILL_RUNNING = "-"
"""No next claim, as somebody else's process was committed for, which goes on for a moment."""

Item = tuple[int, int]
"""A node, and the first item of what is stored."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Items of one node in a claim: ``range(start, start + count)``, with what earlier attempts came to."""

    node: int
    start: int
    count: int
    exceptions: int
    losses: int
    spec: bytes | None
    inputs: dict[Item, bytes]


class Claim(NamedTuple):
    """What a drainer has to do; `queue` is the store's own name of where it lay."""

    token: str
    run: str
    generation: int
    units: tuple[Unit, ...]
    queue: str = ""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What became of some items of a claim; the fields are those of ``read_results`` in Lua.

    `length` counts the items of a planned map or the nodes of an expansion; `number` is a choice, the first node of an
    expansion, or the input that is missing.
    """

    node: int
    start: int
    count: int = 1
    outcome: str = "success"
    attempt: int = 1
    seconds: float = -1.0
    waited_s: float = 0.0
    output_bytes: int = 0
    kind: str = ""
    error: str = ""
    delay_s: float = 0.0
    length: int = 0
    number: int = -1
    record: bytes = b""
    durations_s: tuple[float, ...] = ()

    def header(self) -> list[Any]:
        """All but the bytes, in the order that Lua expects."""
        return [
            self.node, self.start, self.count, self.outcome, self.attempt, self.seconds, self.waited_s,
            self.output_bytes, self.kind, self.error, self.delay_s, self.length, self.number,
        ]  # fmt: skip


class Beat(NamedTuple):
    """A supervisor's answer: whom to reap, what need not go on (``run|node``), which tickets to send, gathers due."""

    expired: list[str]
    over: list[str]
    tickets: list[str]
    due: list[str]


def claim_of(reply: list[Any]) -> Claim | None:
    """The claim in a script's answer, if there is one."""
    if not reply:
        return None
    token, run, generation, queue, units = reply
    return Claim(token.decode(), run.decode(), generation, tuple(_unit(*unit) for unit in units), queue.decode())


def _unit(
    node: int, start: int, count: int, exceptions: int, losses: int, spec: bytes | None, inputs: list[bytes]
) -> Unit:
    found = {_item(field): record for field, record in zip(inputs[::2], inputs[1::2], strict=True)}
    return Unit(node, start, count, exceptions, losses, spec, found)


def _item(field: bytes) -> Item:
    node, _, start = field.partition(b":")
    return int(node), int(start)

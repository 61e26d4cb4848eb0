"""A run's event stream and its log: append, replay, follow."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from celeryflow.errors import IntegrityError, RunLostError
from celeryflow.graph.limits import MOST_ITEMS
from celeryflow.graph.model import Event, LogLine
from celeryflow.store.scripts import Store

LOG_LIMIT_BYTES = 2**27
LOG_ENTRY_BYTES = 100
"""Of a run's log, in the server's memory, and what a line takes there beside its own bytes."""
LEFT_OUT = "[the output of this run is over 128 MiB, and the rest of it is left out]"

PAGE = 1000
"""Events a reply: 5,000 kept the server from others for longer than anything else it did."""

_CONVERT: dict[str, Callable[[bytes], Any]] = {
    **dict.fromkeys(("node", "start", "count", "attempt", "generation", "output_bytes", "tries"), int),
    **dict.fromkeys(("at", "waited_s", "delay_s"), float),
    **dict.fromkeys(
        ("event", "worker", "status", "kind", "error", "origin"), lambda value: value.decode(errors="replace")
    ),
    "is_absorbed": lambda value: value == b"1",
}


def replay(store: Store, run: str, after: int = 0) -> Iterator[list[Event]]:
    """Pages of events after sequence number `after`, up to now."""
    key = store.keys.run(run, "events")
    while page := store.client.xrange(key, min=f"({after}-0", count=PAGE):
        events = _events(run, page)
        after = events[-1].seq
        yield events


def follow(store: Store, run: str, after: int = 0, wait_s: float = 1.0, at: float | None = None) -> list[Event]:
    """The next events after `after`, waiting for them up to `wait_s`; empty if none came.

    Where event `after` is not the one of the time `at`, the server has come back with an older state of the run, and
    what was seen is no longer so: then the events from the first on.

    Raises
    ------
    RunLostError
        If the server does not know the run any more.
    """
    key = store.keys.run(run, "events")
    pipe = store.client.pipeline(transaction=False)  # one connection: both replies are of one and the same server
    pipe.xread({key: f"{after}-0"}, count=PAGE, block=max(1, int(wait_s * 1000)))
    pipe.xrange(key, f"{after}-0", f"{after}-0")  # once the wait is over: its state may be another one by then
    found, seen = pipe.execute()
    if at is not None and [_CONVERT["at"](fields[b"at"]) for _, fields in seen] != [at]:
        found = [(key, store.client.xrange(key, count=PAGE))]
    if found and found[0][1]:
        return _events(run, found[0][1])
    if not store.client.hexists(store.keys.run(run, "meta"), "status"):
        raise RunLostError(
            f"run {run!r} is no longer on its server: that came back without its data, or the run has expired."
        )
    return []


def append_logs(store: Store, run: str, lines: list[LogLine]) -> None:
    """Add captured output to the run's log, up to its limit; that something is left out is said once."""
    key, packed = store.keys.run(run, "logs"), [msgspec.msgpack.encode(line) for line in lines]
    size = sum(len(line) + LOG_ENTRY_BYTES for line in packed)
    total = int(store.client.incrby(store.keys.run(run, "logged"), size))
    if total > LOG_LIMIT_BYTES:
        # What this is about to add crosses the limit, or the limit was crossed before.
        packed = [msgspec.msgpack.encode(replace(lines[0], text=LEFT_OUT))] if total - size <= LOG_LIMIT_BYTES else []
    pipe = store.client.pipeline(transaction=False)
    for line in packed:
        pipe.xadd(key, {"line": line})
    pipe.execute()


def read_logs(store: Store, run: str) -> Iterator[LogLine]:
    """Captured output in the order in which it was stored."""
    key, last = store.keys.run(run, "logs"), "-"
    while page := store.client.xrange(key, min=last, count=PAGE):
        for entry, fields in page:
            yield _log_line(run, entry, fields)
        last = f"({page[-1][0].decode()}"


def tail_logs(store: Store, run: str, most: int, after: str = "") -> tuple[list[LogLine], str]:
    """The latest lines of captured output, `most` at most and after that place alone; and the place of the last one."""
    found = store.client.xrevrange(store.keys.run(run, "logs"), min=f"({after}" if after else "-", count=most)
    lines = [_log_line(run, entry, fields) for entry, fields in reversed(found)]
    return lines, found[0][0].decode() if found else after


def _log_line(run: str, entry: bytes, fields: dict[bytes, bytes]) -> LogLine:
    try:
        return msgspec.msgpack.decode(fields[b"line"], type=LogLine)
    except (KeyError, msgspec.DecodeError) as error:
        raise _unreadable(run, "log", entry, error) from None


def _events(run: str, page: Sequence[tuple[bytes, dict[bytes, bytes]]]) -> list[Event]:
    found = []
    for entry, fields in page:
        try:
            event = _event(entry, fields)
            if event.count > MOST_ITEMS or event.start + event.count > MOST_ITEMS:
                raise ValueError(f"{event.count} items from {event.start} on")
        except (ValueError, TypeError, OverflowError, struct.error) as error:
            raise _unreadable(run, "events", entry, error) from None
        found.append(event)
    return found


def _unreadable(run: str, what: str, entry: bytes, error: Exception) -> IntegrityError:
    return IntegrityError(
        f"entry {entry.decode(errors='replace'):.50} of the {what} of run {run!r} cannot be read: {error!r:.200}. "
        "celeryflow did not write it."
    )


def _event(entry: bytes, fields: dict[bytes, bytes]) -> Event:
    values: dict[str, Any] = {}
    for raw, value in fields.items():
        name = raw.decode()
        if name in _CONVERT:
            values[name] = _CONVERT[name](value)
    packed = fields.get(b"durations", b"")
    durations = struct.unpack(f"<{len(packed) // 4}f", packed)
    values |= {name: int(fields[name.encode()]) for name in ("cause", "part") if name.encode() in fields}
    return Event(seq=int(entry.partition(b"-")[0]), durations_s=durations, **values)

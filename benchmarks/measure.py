"""Turns that alternate, results that are checked, medians."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import steps
from benchmarks.contenders import Contender
from benchmarks.works import Work, is_right

Row = dict[str, Any]
"""What was measured of one work by one contender, as the JSON has it."""


class WrongResultError(Exception):
    """A contender gave something else, or its steps ran more or less often than they had to."""


def measure(
    work: Work, contenders: dict[str, Contender], repeats: int, divisor: int = 1, say: Callable[[str], None] = print
) -> list[Row]:
    """A row a contender; the first turn of each is a tenth of the work, and only warms up."""
    taking_part = {name: who for name, who in contenders.items() if name in work.contenders}
    times: dict[str, list[float]] = {name: [] for name in taking_part}
    for repeat in range(work.share * repeats + 1):
        for name, who in taking_part.items():
            size = work.size_for(name, divisor if repeat else 10 * divisor)
            seconds = _time(work, name, who, 1_000 * (7 * repeat + 1), size)
            times[name] += [seconds] if repeat else []
    rows = [_row(work, name, work.size_for(name, divisor), found) for name, found in times.items()]
    say(f"{work.name}: " + ", ".join(f"{row['contender']} {row['seconds']:.4f} s" for row in rows))
    return rows


def _time(work: Work, name: str, who: Contender, start: int, size: int) -> float:
    given = work.given(start, size)
    if work.is_cold:
        who.rest()
    gc.collect()
    if work.is_warm:
        who.one(start)
    before = steps.counted()
    began = time.perf_counter()
    found = work.do(who, given, size)
    seconds = time.perf_counter() - began
    _check(f"{work.name} by {name}", found, work.answer(given, size), steps.counted() - before, work.executions(size))
    return seconds


def _check(what: str, found: Any, wanted: Any, ran: int, should_run: int) -> None:
    if not is_right(found, wanted):
        raise WrongResultError(f"{what} gave {found!r:.200}, not {wanted!r:.200}.")
    if ran != should_run:
        raise WrongResultError(f"{what} ran its steps {ran} times, not {should_run}.")


def _row(work: Work, name: str, size: int, times: Sequence[float]) -> Row:
    return {
        "work": work.name,
        "title": work.title,
        "contender": name,
        "size": size,
        "seconds": statistics.median(times),
        "all": [round(seconds, 6) for seconds in times],
    }

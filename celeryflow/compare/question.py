"""What a comparison asks: every argument of ``cf.compare``, checked and in one form."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from celeryflow.compare.adjust import CORRECTIONS
from celeryflow.compare.choice import ESTIMANDS
from celeryflow.compare.contrast import Interval
from celeryflow.compare.plan import DESIGNS
from celeryflow.compare.trial import scored
from celeryflow.errors import ComparisonError
from celeryflow.step import Step

METHODS = ("t", "permutation")

Named = tuple[tuple[str, Callable[..., Any]], ...]

TAKEN = (
    *("item", "repeat", "algorithm", "block", "order", "latency_s", "queue_wait_s", "peak_memory_bytes"),
    *("status", "error"),
)
"""Columns of `trials`, which no metric may be called."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """How the trials of a comparison are made and judged; names as the arguments of ``cf.compare``."""

    algorithms: tuple[str, ...]
    metrics: tuple[str, ...]
    lower_is_better: frozenset[str]
    primary: str
    estimand: str
    method: str
    design: str
    repeats: int
    seed: int
    alpha: float
    rope: Mapping[str, Interval]
    correction: str
    max_failure_rate: float
    timeout_s: float | None = None
    test_over_train: float | None = None
    is_sequential: bool = False


def check(
    algorithms: Named,
    metrics: Named,
    *,
    lower_is_better: Any = (),
    primary: str | None = None,
    estimand: str = "mean",
    method: str = "t",
    design: str = "paired",
    repeats: int = 1,
    seed: int = 0,
    alpha: float = 0.05,
    rope: Any = None,
    correction: str = "holm",
    max_failure_rate: float = 0.0,
    timeout_s: float | None = None,
    sequential: bool = False,
) -> Question:
    """The question that arguments of ``cf.compare`` ask.

    Raises
    ------
    ComparisonError
        Naming the argument that cannot be used.
    """
    names = tuple(name for name, _ in metrics)
    lower = frozenset([lower_is_better] if isinstance(lower_is_better, str) else lower_is_better)
    for name in sorted(map(str, lower - set(names))):
        raise ComparisonError(f"lower_is_better= names {name!r}, which is no metric. The metrics: {', '.join(names)}.")
    if primary is not None and primary not in names:
        raise ComparisonError(f"primary= is {primary!r}, which is no metric. The metrics: {', '.join(names)}.")
    primary = names[0] if primary is None else primary
    return Question(
        algorithms=tuple(name for name, _ in algorithms),
        metrics=names,
        lower_is_better=lower,
        primary=primary,
        estimand=one_of("estimand", estimand, ESTIMANDS),
        method=one_of("method", method, METHODS),
        design=one_of("design", design, DESIGNS),
        repeats=whole("repeats", repeats, 1),
        seed=whole("seed", seed, 0),
        alpha=between("alpha", alpha, 0.0, 0.5),
        rope=_ropes(rope, names, primary),
        correction=one_of("correction", correction, CORRECTIONS),
        max_failure_rate=between("max_failure_rate", max_failure_rate, 0.0, 1.0, is_closed=True),
        is_sequential=_sequential(sequential, design, method),
        timeout_s=None if timeout_s is None else between("timeout_s", timeout_s, 0.0, math.inf),
    )


def _sequential(sequential: Any, design: str, method: str) -> bool:
    """Whether to look after every item."""
    if not isinstance(sequential, bool):
        raise ComparisonError(f"sequential= is True or False, not {sequential!r:.80}.")
    if sequential and (design != "paired" or method != "t"):
        raise ComparisonError(
            'sequential= looks at paired differences in a way of its own: design="paired", method="t".'
        )
    return sequential


def named(argument: str, given: Any, least: int) -> Named:
    """Functions by name, of a mapping, of a sequence of functions or of pairs, or of one function.

    Raises
    ------
    ComparisonError
        If there are fewer than `least`, one is no function, or two have one name.
    """
    if isinstance(given, Mapping):
        pairs = list(given.items())
    elif isinstance(given, Iterable) and not isinstance(given, (str, bytes)):
        pairs = [pair if isinstance(pair, tuple) and len(pair) == 2 else (_name_of(pair), pair) for pair in given]
    elif callable(given):
        pairs = [(_name_of(given), given)]
    else:
        raise ComparisonError(f"{argument}= takes a dict of names and functions, not {given!r:.80}.")
    seen: set[str] = set()
    for name, function in pairs:
        if not isinstance(name, str) or not name:
            raise ComparisonError(f"{argument}= has the name {name!r:.80}; names are text.")
        if name in seen:
            raise ComparisonError(f"{argument}= has {name!r} twice. Give each a name of its own.")
        if not callable(function) and not hasattr(function, "fit"):
            raise ComparisonError(f"{argument}= has {name!r}, which is no function but {type(function).__name__}.")
        seen.add(name)
    if len(pairs) < least:
        raise ComparisonError(f"{argument}= has {len(pairs)}; at least {least} are needed.")
    return tuple(
        (name, function.callee.function if isinstance(function, Step) else function) for name, function in pairs
    )


def _name_of(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def check_metrics(metrics: Named, against: Sequence[Any]) -> None:
    """See that metrics have names that no other column has, and give numbers, as far as can be told before any trial.

    Each is called with a truth (an item, where there is none) for an output; what it raises then says nothing.

    Raises
    ------
    ComparisonError
        If one gives something else than a number.
    """
    for name, metric in metrics:
        if name in TAKEN:
            raise ComparisonError(f"metrics= has {name!r}, which is a column of trials() already. Call it otherwise.")
        for value in against[:1]:
            found = None
            with suppress(Exception):  # that was no output
                found = scored(metric, value, value)
            if isinstance(found, (str, bytes)):
                raise ComparisonError(f"metrics= has {name!r}, which returns text, {found!r:.80}, and no number.")


def one_of(argument: str, value: Any, choices: Sequence[str]) -> str:
    """One of a few words."""
    if value not in choices:
        raise ComparisonError(f"{argument}= must be one of {', '.join(map(repr, choices))}, not {value!r:.80}.")
    return str(value)


def whole(argument: str, value: Any, least: int) -> int:
    """A whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise ComparisonError(f"{argument}= must be a whole number of at least {least}, not {value!r:.80}.")
    return int(value)


def between(argument: str, value: Any, low: float, high: float, is_closed: bool = False) -> float:
    """A number between two others."""
    is_number = not isinstance(value, bool) and isinstance(value, numbers.Real)
    if not is_number or not (low <= value <= high if is_closed else low < value < high):
        raise ComparisonError(f"{argument}= must be a number between {low:g} and {high:g}, not {value!r:.80}.")
    return float(value)


def _ropes(rope: Any, metrics: Sequence[str], primary: str) -> dict[str, Interval]:
    """The region of equivalence of each metric that has one."""
    if rope is None:
        return {}
    given = rope if isinstance(rope, Mapping) else {primary: rope}
    for name in given:
        if name not in metrics:
            raise ComparisonError(f"rope= names {name!r}, which is no metric. The metrics: {', '.join(metrics)}.")
    return {name: _rope(value) for name, value in given.items()}


def _rope(value: Any) -> Interval:
    ends: Any = (-value, value) if not isinstance(value, bool) and isinstance(value, numbers.Real) else value
    try:
        low, high = map(float, ends)
    except (TypeError, ValueError):
        low = high = math.nan
    if not (low < 0.0 < high and math.isfinite(high - low)):
        raise ComparisonError(
            f"rope= takes the largest difference that makes no difference, above 0, or its ends (low, high) with 0 "
            f"between them, not {value!r:.80}."
        )
    return Interval(low, high)

"""The works that several contenders do: what goes in, what must come out, how often steps run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import steps
from benchmarks.contenders import NAMES, Contender, threes

LAYERS, STAGES, HOPS, COLUMNS = 10, 3, 5, 10
SMALLEST = 100


@dataclass(frozen=True, kw_only=True)
class Work:
    """A work.

    Attributes
    ----------
    size : int
        Items, or steps of a chain, or nodes of all layers.
    sizes : mapping
        Where a contender does a smaller one, since it would take minutes: its ratio is then that of the time an item.
    given : callable
        Makes the input from a start that differs in each repeat, and the size. Not timed.
    do : callable
        What is timed.
    answer : callable
        What has to come out for an input and a size.
    executions : callable
        How often steps that count have to run for a size.
    share : int
        Repeats for each that was asked for: many where one takes milliseconds.
    is_warm, is_cold : bool
        Contenders have just done one no-op before each repeat, or have rested.
    """

    name: str
    title: str
    size: int
    given: Callable[[int, int], Any]
    do: Callable[[Contender, Any, int], Any]
    answer: Callable[[Any, int], Any]
    executions: Callable[[int], int] = lambda size: size
    sizes: Mapping[str, int] = field(default_factory=dict)
    share: int = 1
    is_warm: bool = False
    is_cold: bool = False
    is_divisible: bool = True
    contenders: tuple[str, ...] = NAMES

    def size_for(self, contender: str, divisor: int = 1) -> int:
        """How large it is for a contender, in a run that makes everything `divisor` times smaller."""
        size = self.sizes.get(contender, self.size)
        return max(min(size, SMALLEST), size // divisor) if self.is_divisible else size


def _items(start: int, size: int) -> range:
    return range(start, start + size)


def _value(start: int, size: int) -> int:
    return start


def _same(given: Any, size: int) -> Any:
    return given


def _sum(given: range, size: int) -> int:
    return sum(given)


def _layer(start: int, size: int) -> range:
    return range(start, start + size // LAYERS)


def layers_answer(given: range, size: int) -> int:
    """The sum of the last layer, by plain Python."""
    found, width = [*given], len(given)
    for _ in range(LAYERS - 1):
        found = [(found[a] + 2 * found[b] + 3 * found[c]) % steps.PRIME for a, b, c in threes(width)]
    return sum(found)


def _frame(start: int, size: int) -> pd.DataFrame:
    values = np.random.default_rng(start).random((size * 1_000_000 // (8 * COLUMNS), COLUMNS))
    return pd.DataFrame(values, columns=[f"c{i}" for i in range(COLUMNS)])


def _map(name: str, title: str, size: int, cost_s: float, **more: Any) -> Work:
    return Work(
        name=name, title=title, size=size, given=_items, answer=_sum,
        do=lambda contender, given, size: contender.map_sum(given, cost_s), **more,
    )  # fmt: skip


def _chain(name: str, title: str, size: int, cost_s: float) -> Work:
    return Work(
        name=name, title=title, size=size, given=_value, answer=_same,
        do=lambda contender, given, size: contender.chain(given, size, cost_s),
    )  # fmt: skip


def _layers(name: str, title: str, size: int, cost_s: float) -> Work:
    return Work(
        name=name, title=title, size=size, given=_layer, answer=layers_answer,
        do=lambda contender, given, size: contender.layers(given, LAYERS, cost_s),
    )  # fmt: skip


def _stages(name: str, title: str, size: int, cost_s: float) -> Work:
    return Work(
        name=name, title=title, size=size, given=_items, answer=_sum, executions=lambda size: STAGES * size,
        do=lambda contender, given, size: contender.stages(given, STAGES, cost_s),
        sizes={"celery": 1_000, "dask": 1_000, "ray": 1_000},
    )  # fmt: skip


WORKS = (
    _map("map", "map of 10,000 no-ops and a sum", 10_000, 0.0),
    _map("map-1ms", "the same, steps of 1 ms", 10_000, 0.001, sizes={"celery": 1_000}),
    _chain("chain", "chain of 1,000 no-ops", 1_000, 0.0),
    _chain("chain-1ms", "the same, steps of 1 ms", 1_000, 0.001),
    _layers("layers", "10 layers x 100 no-ops, 3 inputs each", 1_000, 0.0),
    _layers("layers-1ms", "the same, steps of 1 ms", 1_000, 0.001),
    _stages("stages", "element-wise map of 10,000 no-ops x 3 stages", 10_000, 0.0),
    _stages("stages-1ms", "the same of 1,000, steps of 1 ms", 1_000, 0.001),
    _map("cpu", "200 items x 10 ms of CPU", 200, 0.01),
    Work(
        name="frame", title="a 10 MB DataFrame through 5 steps and back", size=10, given=_frame,
        do=lambda contender, given, size: contender.frame(given, HOPS),
        answer=lambda given, size: given + float(HOPS), executions=lambda size: HOPS,
    ),
    Work(
        name="one", title="one no-op, submit to result, warm", size=1, given=_value, answer=_same, share=10,
        is_warm=True,
        do=lambda contender, given, size: contender.one(given),
    ),
    Work(
        name="ticket", title="one no-op, submit to result, after a rest", size=1, given=_value, answer=_same, share=3,
        do=lambda contender, given, size: contender.one(given), is_cold=True,
    ),
)  # fmt: skip
"""In the order of the table."""


def is_right(found: Any, wanted: Any) -> bool:
    """Whether a work gave what it should."""
    if isinstance(wanted, pd.DataFrame):
        return isinstance(found, pd.DataFrame) and bool(np.allclose(found.to_numpy(), wanted.to_numpy()))
    return bool(found == wanted)

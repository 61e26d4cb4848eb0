"""What is compared on: items with their labels, from lists, frames, groups of rows, or a function of a seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from celeryflow.errors import ComparisonError

MADE_ITEMS = 30
"""Items that a function of a seed makes, where `max_trials` does not say how many."""


class Items(NamedTuple):
    """Items in order; `labels` name them in frames. `make` gives the item of a seed, where items are seeds."""

    values: Sequence[Any]
    labels: Sequence[Any]
    make: Callable[..., Any] | None = None


def read_items(data: Any, made: int = MADE_ITEMS, seed: int = 0) -> Items:
    """The items of the data of a comparison.

    Parameters
    ----------
    data : list, mapping, array, DataFrame, groupby or callable
        Rows of a DataFrame are Series, groups DataFrames labelled by their keys; a callable makes an item of a seed.
    made, seed : int
        How many a callable makes, and from which seed on.

    Raises
    ------
    ComparisonError
        If there are none, or `data` is nothing that can be gone through.
    """
    found = _read(data, made, seed)
    if not len(found.values):
        raise ComparisonError("data= is empty. A comparison needs items to run on, the more the surer.")
    return found


def _read(data: Any, made: int, seed: int) -> Items:
    if isinstance(data, (str, bytes)) or data is None:
        raise ComparisonError(
            f"data= takes a list, a DataFrame or its groupby, or a function of a seed, not {data!r:.80}."
        )
    if hasattr(data, "iterrows"):
        labels = list(data.index) if data.index.is_unique else range(len(data))
        return Items([row for _, row in data.iterrows()], labels)
    if hasattr(data, "ngroups") and hasattr(data, "groups"):
        return _labelled(data)
    if isinstance(data, Mapping):
        return _labelled(data.items())
    if hasattr(data, "__len__") or isinstance(data, Iterable):
        values = list(data)
        return Items(values, range(len(values)))
    if callable(data):
        seeds = range(seed, seed + made)
        return Items(seeds, seeds, data)
    raise ComparisonError(f"data= takes a list, a DataFrame or its groupby, or a function of a seed, not {data!r:.80}.")


def _labelled(pairs: Iterable[tuple[Any, Any]]) -> Items:
    found = list(pairs)
    return Items([value for _, value in found], [label for label, _ in found])


def read_truth(truth: Any, count: int) -> tuple[Callable[..., Any] | None, Sequence[Any] | None]:
    """A function that gives the truth of an item, or the truth of each.

    Raises
    ------
    ComparisonError
        If it is a sequence of another length than the items.
    """
    if truth is None or callable(truth):
        return truth, None
    if isinstance(truth, (str, bytes)) or not hasattr(truth, "__len__"):
        raise ComparisonError(f"truth= takes a sequence, or a function of the item, not {truth!r:.80}.")
    if len(truth) != count:
        raise ComparisonError(
            f"truth= has {len(truth)} values and data= has {count} items. They go together one by one."
        )
    return None, list(truth)

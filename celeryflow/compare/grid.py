"""The settings that a sweep tries: all combinations, or some at random."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from celeryflow.errors import ComparisonError

Setting = dict[str, Any]

MOST = 10_000
"""More combinations than that are a mistake, or for `n_samples`."""


def settings(params: Any, samples: int | None, seed: int) -> list[Setting]:
    """Settings in order: the whole grid, or `samples` different ones of it.

    Parameters
    ----------
    params : mapping of str to sequence
        Values of each parameter; with `samples` also distributions, as of ``scipy.stats``, that have ``rvs``.
    samples : int or None
        How many; None for the whole grid.
    seed : int
        Of the sample.

    Raises
    ------
    ComparisonError
        If there is nothing to choose from, or a grid is endless or too large.
    """
    if not isinstance(params, Mapping) or not params:
        raise ComparisonError(f"params= takes a dict of parameters and their values, not {params!r:.80}.")
    axes = {_name(name): _axis(name, values, samples) for name, values in params.items()}
    finite = {name: axis for name, axis in axes.items() if isinstance(axis, list)}
    size = math.prod(map(len, finite.values()))
    if samples is None or (len(finite) == len(axes) and samples >= size):
        if size > MOST:
            raise ComparisonError(f"params= has {size} combinations; the limit is {MOST}. Give n_samples=.")
        return [dict(zip(axes, values, strict=True)) for values in itertools.product(*finite.values())]
    random = np.random.default_rng(seed)
    if len(finite) < len(axes):
        return [{name: _drawn(axis, random) for name, axis in axes.items()} for _ in range(samples)]
    chosen = random.choice(size, samples, replace=False) if size <= 10**7 else random.integers(0, size, samples)
    return [_cell(finite, int(at)) for at in chosen]


def labelled(found: Iterable[Setting]) -> dict[str, Setting]:
    """Settings by a text of each, unique."""
    labels: dict[str, Setting] = {}
    for setting in found:
        label = ", ".join(f"{name}={_text(value)}" for name, value in setting.items())
        labels[label if label not in labels else f"{label} ({len(labels)})"] = setting
    return labels


def bound(function: Any, setting: Setting) -> Any:
    """`function` with a setting for its keyword arguments."""
    return functools.partial(function, **setting)


def _name(name: Any) -> str:
    if not isinstance(name, str) or not name.isidentifier():
        raise ComparisonError(f"params= has the parameter {name!r:.80}; they are names of arguments.")
    return name


def _axis(name: str, values: Any, samples: int | None) -> Any:
    if hasattr(values, "rvs"):
        if samples is None:
            raise ComparisonError(f"params= has a distribution for {name!r}. Give n_samples=, or a list of values.")
        return values
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise ComparisonError(f"params= takes a list of values for {name!r}, not {values!r:.80}.")
    found = list(values)
    if not found:
        raise ComparisonError(f"params= has no values for {name!r}.")
    return found


def _drawn(axis: Any, random: np.random.Generator) -> Any:
    return axis[int(random.integers(len(axis)))] if isinstance(axis, list) else axis.rvs(random_state=random)


def _cell(axes: Mapping[str, list[Any]], at: int) -> Setting:
    found: Setting = {}
    for name, values in reversed(list(axes.items())):
        at, place = divmod(at, len(values))
        found[name] = values[place]
    return {name: found[name] for name in axes}


def _text(value: Any) -> str:
    name = getattr(value, "__name__", None)
    return f"{value:.6g}" if isinstance(value, float) else str(name) if name else f"{value!r:.60}"

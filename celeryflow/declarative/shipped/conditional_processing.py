"""Steps of ``conditional_processing``: a small table gets a quick look, one of 1,000 rows a detailed one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from celeryflow.declarative.shipped.tables import groups, numbers, table_of
from celeryflow.step import step


@step
def load(input: Any = None) -> pd.DataFrame:  # noqa: A002 - what the engine calls it
    """The table."""
    return table_of(input)


@step
def assess(load: pd.DataFrame) -> dict[str, Any]:
    """How large the table is: what the next steps are chosen by."""
    return {
        "data_size": len(load),
        "columns": len(load.columns),
        "bytes": int(load.memory_usage(deep=True).sum()),
        "missing": int(load.isna().sum().sum()),
    }


@step
def quick(load: pd.DataFrame) -> dict[str, Any]:
    """Mean, least and most of each number."""
    measured = numbers(load)
    found = measured.agg(["mean", "min", "max"]) if len(measured.columns) else measured
    return {"method": "quick", "table": found}


@step
def detailed(load: pd.DataFrame, resamples: int = 200, seed: int = 7) -> dict[str, Any]:
    """Quantiles, correlations and means by group, and 95 % intervals of the means by the bootstrap (Efron, 1979)."""
    measured = numbers(load)
    rng = np.random.default_rng(seed)
    values = measured.to_numpy(dtype=float)
    picks = rng.integers(0, len(values), (resamples, len(values)))
    means = np.array([np.nanmean(values[pick], axis=0) for pick in picks])
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    table = measured.quantile([0.05, 0.25, 0.5, 0.75, 0.95]).T
    return {
        "method": "detailed",
        "table": table.assign(mean=measured.mean(), low=low, high=high).T,
        "correlations": measured.corr(),
        "groups": {name: measured.groupby(load[name]).mean() for name in groups(load)},
    }


@step
def summarise(
    assess: dict[str, Any], quick: dict[str, Any] | None = None, detailed: dict[str, Any] | None = None
) -> dict[str, Any]:
    """What was found, by whichever way there was."""
    found = quick or detailed or {}
    return {"data_size": assess["data_size"], "missing": assess["missing"], **found}

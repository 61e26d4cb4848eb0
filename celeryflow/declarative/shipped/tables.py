"""The data of the shipped workflows: what they were executed with as a table, or orders of a shop that are made up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from celeryflow.errors import ArgumentError

ROWS = 500
KEYS = ("data", "records", "table")
COUNTS = ("rows", "data_size")

PRODUCTS = pd.DataFrame(
    {
        "product": ["lamp", "chair", "desk", "shelf", "rug", "clock"],
        "category": ["light", "seat", "table", "storage", "textile", "decor"],
        "unit_cost": [11.0, 42.0, 120.0, 65.0, 38.0, 9.5],
    }
)
REGIONS = ("north", "south", "east", "west")


def orders(rows: int = ROWS, seed: int = 7) -> pd.DataFrame:
    """Orders of a shop, as they come: a few are doubled, lack a value, or have one that cannot be."""
    rng = np.random.default_rng(seed)
    product = rng.integers(0, len(PRODUCTS), rows)
    cost = PRODUCTS["unit_cost"].to_numpy()[product]
    table = pd.DataFrame(
        {
            "order": np.arange(1, rows + 1),
            "day": pd.Timestamp("2026-01-01") + pd.to_timedelta(rng.integers(0, 90, rows), unit="D"),
            "customer": rng.integers(1, max(2, rows // 5), rows),
            "region": np.array(REGIONS)[rng.integers(0, len(REGIONS), rows)],
            "product": PRODUCTS["product"].to_numpy()[product],
            "quantity": rng.poisson(2.0, rows) + 1,
            "price": np.round(cost * rng.uniform(1.2, 1.9, rows), 2),
        }
    )
    if rows:
        table.loc[rng.random(rows) < 0.03, "price"] = np.nan
        table.loc[rng.random(rows) < 0.02, "quantity"] = -1
    doubled = table.sample(frac=0.02, random_state=seed)
    return pd.concat([table, doubled], ignore_index=True)


def options(given: Any) -> dict[str, Any]:
    """The options in what a workflow was executed with: ``rows`` and ``seed`` of made up data."""
    if not isinstance(given, Mapping):
        return {}
    rows = next((given[key] for key in COUNTS if key in given), ROWS)
    seed = given.get("seed", 7)
    for name, value in (("rows", rows), ("seed", seed)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
            raise ArgumentError(f"{name} of the input must be a whole number of at least 0, not {value!r:.200}.")
    return {"rows": int(rows), "seed": int(seed)}


def table_of(given: Any) -> pd.DataFrame:
    """What a workflow was executed with, as a table.

    Parameters
    ----------
    given : DataFrame, list, dict or None
        A table; a list of dicts, or of values; a dict with one of those under ``data``, ``records`` or ``table``; a
        dict of equally long lists; or a dict with ``rows`` and ``seed``, or nothing, for orders that are made up.

    Raises
    ------
    ArgumentError
        If it is no table.
    """
    if isinstance(given, Mapping):
        held = next((given[key] for key in KEYS if key in given), None)
        if held is not None:
            return table_of(held)
        if given and all(isinstance(column, (list, tuple, np.ndarray, pd.Series)) for column in given.values()):
            return _frame(dict(given), given)
        unknown = sorted(map(str, set(given) - {*COUNTS, "seed", *KEYS}))
        if unknown:
            raise ArgumentError(
                f"the input has {unknown[0]!r}, which is neither of {', '.join((*KEYS, *COUNTS))}, seed, nor a column."
            )
        return orders(**options(given))
    if given is None:
        return orders()
    if isinstance(given, pd.DataFrame):
        return given.copy()
    if isinstance(given, (list, tuple, np.ndarray, pd.Series)):
        rows = list(given)
        return _frame(rows if rows and isinstance(rows[0], Mapping) else {"value": rows}, given)
    raise ArgumentError(f"the input must be a table, a list or a dict, not {type(given).__name__}.")


def _frame(data: Any, given: Any) -> pd.DataFrame:
    try:
        return pd.DataFrame(data)
    except (ValueError, TypeError) as error:
        raise ArgumentError(f"the input is no table: {error}. It is {given!r:.200}.") from error


def numbers(table: pd.DataFrame) -> pd.DataFrame:
    """The columns of numbers."""
    return table.select_dtypes("number")


def groups(table: pd.DataFrame, most: int = 20) -> list[str]:
    """The columns of text that tell rows apart into few groups."""
    texts = table.select_dtypes(exclude=["number", "datetime", "datetimetz", "timedelta", "bool"])
    return [str(name) for name in texts.columns if 1 < texts[name].nunique() <= most]

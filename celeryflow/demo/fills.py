"""Two ways to fill missing arrival delays, asked the same questions."""

from __future__ import annotations

import pandas as pd

import celeryflow as cf
from celeryflow.demo.etl import clean, extract

AFTER_LANDING = ["arr_delay", "arr_time", "air_time"]
"""What nobody knows of a flight whose delay is missing."""


@cf.step(outputs=3)
def hide(flights: pd.DataFrame, seed: int) -> tuple[pd.DataFrame, pd.DataFrame, pd.Series[float]]:
    """Flights to learn from, flights to fill, and the truth about a tenth of the delays, hidden among these."""
    truth = flights["arr_delay"].dropna().sample(frac=0.1, random_state=seed)
    is_open = flights["arr_delay"].isna() | flights.index.isin(truth.index)
    return flights[~is_open], flights[is_open].drop(columns=AFTER_LANDING), truth


@cf.step
def carrier_month_median(known: pd.DataFrame, to_fill: pd.DataFrame) -> pd.Series[float]:
    """What is usual for the carrier in that month."""
    usual = known.groupby(["carrier", "month"])["arr_delay"].median().rename("filled")
    return to_fill.join(usual, on=["carrier", "month"])["filled"]


@cf.step
def departure_and_route(known: pd.DataFrame, to_fill: pd.DataFrame) -> pd.Series[float]:
    """The delay at departure, and what is usually gained or lost on the way."""
    change = known.assign(change=known["arr_delay"] - known["dep_delay"])
    usual = change.groupby(["origin", "dest"])["change"].median()
    on_the_way = to_fill.join(usual, on=["origin", "dest"])["change"].fillna(change["change"].median())
    return to_fill["dep_delay"] + on_the_way


@cf.step
def score(filled: pd.Series[float], truth: pd.Series[float]) -> dict[str, float]:
    """Mean absolute error in minutes over the hidden delays, and how many really missing ones were filled."""
    error = (filled[truth.index] - truth).abs()
    if error.isna().any():
        raise ValueError(f"{error.isna().sum():,} of {len(truth):,} hidden delays were not filled")
    missing = filled.drop(truth.index)
    return {
        "mean_abs_error": float(error.mean()),
        "hidden": len(truth),
        "filled": int(missing.notna().sum()),
        "missing": len(missing),
    }


@cf.workflow
def compare_fills(seed: int = 13) -> dict[str, dict[str, float]]:
    """Both methods fill the same flights; the score of each, by its name."""
    with cf.phase("prepare"):
        known, to_fill, truth = hide(clean("flights", extract("flights")), seed)
    with cf.phase("fill"):
        filled = {
            "carrier-month median": carrier_month_median(known, to_fill),
            "departure + route median": departure_and_route(known, to_fill),
        }
    with cf.phase("score"):
        return {name: score(values, truth) for name, values in filled.items()}

"""The mean wind of each month from a sample, a larger one only where it is not yet known well enough."""

from __future__ import annotations

from typing import Any

import pandas as pd

import celeryflow as cf
from celeryflow.demo import tables

FIRST, FACTOR = 60, 3
"""Hours in the first sample, and how many times more in the next."""


def estimate(month: Any) -> dict[str, Any]:
    """A month, or what is known of it: from a sample, or from a larger one."""
    known = month if isinstance(month, dict) else {"month": month, "hours": FIRST // FACTOR}
    wind = pd.read_csv(tables.published("weather")).query(f"origin == 'JFK' and month == {known['month']}")[
        "wind_speed"
    ]
    hours = min(known["hours"] * FACTOR, wind.count())
    sample = wind.dropna().sample(hours, random_state=known["month"])
    half_width = 1.96 * float(sample.std()) / hours**0.5
    return {"month": known["month"], "hours": int(hours), "mph": float(sample.mean()), "half_width": half_width}


def precision(known: dict[str, Any]) -> float:
    """One less the half width of the 95 % interval, as a share of the mean."""
    return 1.0 - float(known["half_width"] / known["mph"])


def submit() -> cf.Run[Any]:
    """Start it."""
    refine = cf.patterns.progressive_refinement(process=estimate, score=precision, threshold=0.92, max_iterations=3)
    return refine.submit(list(range(1, 13)))


def told(result: dict[str, Any]) -> str:
    """A row a month."""
    frame = pd.DataFrame(result["items"]).assign(precision=result["scores"][-1]).round(2)
    unmet = [result["items"][i]["month"] for i in result["unmet"]]
    return f"{frame.to_string(index=False)}\n{result['iterations']} rounds; below 0.92 after them: {unmet or 'none'}"

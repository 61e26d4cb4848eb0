"""Two ways to fill a missing arrival delay, tested on the days of a month: which one, and how sure is that."""

from __future__ import annotations

import textwrap
from typing import Any

import pandas as pd

import celeryflow as cf
from celeryflow.demo import tables

COLUMNS = ["month", "day", "carrier", "dest", "dep_delay", "arr_delay"]
Day = dict[str, Any]


def days() -> list[Day]:
    """Those of January: flights that are known, and a tenth whose delay is hidden."""
    january = pd.read_csv(tables.published("flights"), usecols=COLUMNS).query("month == 1").dropna()
    found = []
    for _, day in january.groupby("day"):
        hidden = day.sample(frac=0.1, random_state=13)
        found.append({"known": day.drop(hidden.index), "hidden": hidden.drop(columns="arr_delay"), "truth": hidden})
    return found


def carrier_median(day: Day) -> Any:
    """What is usual for the carrier."""
    usual = day["known"].groupby("carrier")["arr_delay"].median()
    return day["hidden"]["carrier"].map(usual).fillna(day["known"]["arr_delay"].median())


def departure_and_route(day: Day) -> Any:
    """The delay at departure, and what is usually gained or lost on the way."""
    change = day["known"]["arr_delay"] - day["known"]["dep_delay"]
    usual = change.groupby(day["known"]["dest"]).median()
    return day["hidden"]["dep_delay"] + day["hidden"]["dest"].map(usual).fillna(change.median())


def minutes_off(filled: Any, day: Day) -> float:
    """Mean absolute error."""
    return float((filled - day["truth"]["arr_delay"]).abs().mean())


def submit() -> cf.Run[Any]:
    """Start it."""
    test = cf.patterns.ab_test(
        {"carrier median": carrier_median, "departure + route": departure_and_route},
        metrics={"minutes_off": minutes_off},
        lower_is_better=["minutes_off"],
    )
    return test.submit(days())


def told(report: Any) -> str:
    """A row an algorithm, and what follows from it."""
    columns = ["algorithm", "n", "minutes_off_mean", "minutes_off_ci_low", "minutes_off_ci_high", "recommended"]
    summary = report.summary()[columns].round(1).to_string(index=False)
    return f"{summary}\n{textwrap.fill(report.recommendation, 100)}"

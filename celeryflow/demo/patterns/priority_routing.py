"""The hours of a blizzard: storms first, with a warning as soon as all are known; fine hours in batches, last."""

from __future__ import annotations

from typing import Any

import pandas as pd

import celeryflow as cf
from celeryflow.demo import tables
from celeryflow.patterns import Route

Hour = dict[str, Any]


def classify(hour: Hour) -> str:
    """How bad the weather is."""
    if hour["wind_speed"] >= 25 or hour["visib"] < 1:
        return "storm"
    return "poor" if hour["visib"] < 5 or hour["precip"] > 0 else "fine"


def warn(hour: Hour) -> str:
    """What a tower would be told."""
    return f"{hour['origin']} {hour['time_hour'][:16]}: {hour['wind_speed']:.0f} mph, {hour['visib']} miles to see"


def tell(warnings: list[str]) -> None:
    """The notification, while the rest is still going on."""
    print(f"{len(warnings)} hours of storm, the first at {warnings[0]}")  # noqa: T201


def note(hour: Hour) -> float:
    """What is kept of an hour."""
    return float(hour["precip"])


def archive(hours: list[Hour]) -> list[float]:
    """The same for fifty."""
    return [note(hour) for hour in hours]


def submit() -> cf.Run[Any]:
    """Start it."""
    weather = pd.read_csv(tables.published("weather"))
    hours = weather.query("month == 2 and 7 <= day <= 10").to_dict("records")
    routes = {
        "storm": Route(warn, priority=9, on_complete=tell),
        "poor": Route(note, priority=5),
        "fine": Route(archive, priority=1, batch_size=50),
    }
    return cf.patterns.priority_routing(classify=classify, routes=routes).submit(hours)


def told(result: dict[str, Any]) -> str:
    """How many went which way."""
    counts = ", ".join(f"{len(found)} {name}" for name, found in result["routes"].items())
    return f"{len(result['items'])} hours: {counts}; none is lost.\nThe first storm: {result['routes']['storm'][0]}"

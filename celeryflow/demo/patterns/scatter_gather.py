"""One wind from three sources: the one that is wanted most has a gap, the exact one is late."""

from __future__ import annotations

import csv
import time
from statistics import mean
from typing import Any

import celeryflow as cf
from celeryflow.demo import tables

REQUEST = {"origin": "JFK", "time_hour": "2013-07-04T10:00:00Z"}
DEADLINE_S = 5.0


def winds(time_hour: str) -> dict[str, float]:
    """What was measured in an hour, by airport."""
    with tables.published("weather").open() as lines:
        rows = [row for row in csv.DictReader(lines) if row["time_hour"] == time_hour and row["wind_speed"] != "NA"]
    return {row["origin"]: float(row["wind_speed"]) for row in rows}


def station(request: dict[str, str]) -> float:
    """What was measured there."""
    found = winds(request["time_hour"])
    if request["origin"] not in found:
        raise LookupError(f"{request['origin']} did not measure the wind")
    return found[request["origin"]]


def model(request: dict[str, str]) -> float:
    """A simulation of the atmosphere, which takes its time."""
    time.sleep(60)
    return 0.0


def neighbours(request: dict[str, str]) -> float:
    """The mean of the other airports."""
    return round(mean(winds(request["time_hour"]).values()), 1)


def submit() -> cf.Run[Any]:
    """Start it."""
    sources = {"station": station, "model": model, "neighbours": neighbours}
    return cf.patterns.scatter_gather(sources=sources, deadline_s=DEADLINE_S).submit(REQUEST)


def told(result: dict[str, Any]) -> str:
    """The answer, and what became of the sources."""
    sources = "\n".join(f"{name}: {what}" for name, what in result["sources"].items())
    return f"{sources}\n{result['value']} mph, as {result['chosen']} say"

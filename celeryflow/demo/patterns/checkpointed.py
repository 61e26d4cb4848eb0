"""Twelve months of weather: July fails, and the same job goes on there once July has come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

import celeryflow as cf
from celeryflow.demo import tables

JOB = "weather-2013"
JULY = Path("july.txt")
"""There once July has been delivered."""


def split(year: int) -> list[int]:
    """Its months."""
    return list(range(1, 13))


def warmest(month: int) -> dict[str, Any]:
    """The warmest hour of a month."""
    if month == 7 and not JULY.exists():
        raise FileNotFoundError("July has not been delivered yet")
    hours = pd.read_csv(tables.published("weather")).query(f"month == {month}")
    hour = hours.nlargest(1, "temp").to_dict("records")[0]
    return {"month": month, "origin": hour["origin"], "temp": hour["temp"]}


def merge(months: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """In order."""
    return months


def in_celsius(month: dict[str, Any]) -> dict[str, Any]:
    """The same for most of the world."""
    return {**month, "celsius": round((month["temp"] - 32) / 1.8, 1)}


def submit() -> cf.Run[Any]:
    """Run it until it fails, deliver July, and run the same job again."""
    JULY.unlink(missing_ok=True)
    job = cf.patterns.checkpointed(split=split, process_chunk=warmest, merge=merge, enrich_item=in_celsius)
    job.options(job_id=JOB).submit(2013).wait()
    JULY.touch()
    return job.options(job_id=JOB).submit(2013)


def told(result: list[dict[str, Any]]) -> str:
    """A row a month."""
    return pd.DataFrame(result).to_string(index=False)

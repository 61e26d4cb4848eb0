"""Three airports ask for winds: one gets them, one asks for a month that there is not, one is over its quota."""

from __future__ import annotations

from typing import Any

import pandas as pd

import celeryflow as cf
from celeryflow.demo import tables
from celeryflow.patterns import TenantConfig

MONTHS = list(range(1, 13))
CONFIG = {
    "EWR": TenantConfig(quota_items=12, priority=7, settings={"airport": "EWR"}),
    "JFK": TenantConfig(quota_items=12, settings={"airport": "JFK"}),
    "LGA": TenantConfig(quota_items=6, settings={"airport": "LGA"}),
}


def mean_wind(month: int, settings: dict[str, Any]) -> float:
    """Of a month, in mph."""
    hours = pd.read_csv(tables.published("weather")).query(f"origin == {settings['airport']!r} and month == {month}")
    if hours.empty:
        raise ValueError(f"there is no month {month}")
    return round(float(hours["wind_speed"].clip(upper=200).mean()), 1)


def windiest(winds: list[float]) -> float:
    """The largest of the means."""
    return max(winds)


def submit() -> cf.Run[Any]:
    """Start it."""
    service = cf.patterns.multi_tenant(process=mean_wind, aggregate=windiest, config=CONFIG)
    return service.submit({"EWR": MONTHS, "JFK": [11, 12, 13], "LGA": MONTHS})


def told(result: pd.DataFrame) -> str:
    """A row a tenant."""
    return result.drop(columns="duration_s").to_string(index=False, na_rep="")

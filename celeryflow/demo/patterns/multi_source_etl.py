"""Four tables into a database: the one that breaks a rule is put aside, and the others are loaded."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import pandas as pd

import celeryflow as cf
from celeryflow.demo import tables

SOURCES = {name: name for name in ("airlines", "airports", "planes", "weather")}
DATABASE = "sources.sqlite"


def extract(source: str) -> pd.DataFrame:
    """A table as it was published."""
    return pd.read_csv(tables.published(source))


def transform(table: pd.DataFrame) -> pd.DataFrame:
    """No row twice."""
    return table.drop_duplicates()


def validate(table: pd.DataFrame) -> pd.DataFrame:
    """The table as it is, if its winds can be true."""
    if "wind_speed" in table and (count := int((table["wind_speed"] > 500).sum())):
        raise ValueError(f"{count} of {len(table):,} winds are over 500 mph")
    return table


def load(found: dict[str, pd.DataFrame]) -> dict[str, int]:
    """How many rows of each table went in."""
    with closing(sqlite3.connect(DATABASE)) as db:
        for name, table in found.items():
            table.to_sql(name, db, index=False, if_exists="replace")
        db.commit()
    return {name: len(table) for name, table in found.items()}


def verify(receipt: dict[str, int]) -> bool:
    """Whether they can be read back."""
    with closing(sqlite3.connect(DATABASE)) as db:
        return receipt == {name: db.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in receipt}


def submit() -> cf.Run[Any]:
    """Start it."""
    etl = cf.patterns.multi_source_etl(
        extract=extract, transform=transform, validate=validate, load=load, verify=verify, on_source_error="quarantine"
    )
    return etl.submit(SOURCES)


def told(result: dict[str, Any]) -> str:
    """What became of each source."""
    lines = [f"{name}: {what}" for name, what in result["sources"].items()]
    aside = ", ".join(f"{name} with {len(table):,} rows" for name, table in result["quarantined"].items())
    return "\n".join([*lines, f"loaded {result['receipt']}, verified: {result['verified']}; put aside: {aside}"])

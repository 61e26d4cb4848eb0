"""SIGKILL of the server: with its file the run goes on, without it the run is lost, and whoever waits is told."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest
from executions import wait_until
from shell import Shell

from . import figures
from .cells import Cells
from .oracle import Oracle
from .servers import Server, pid_of, served

GO_ON_S, LOST_S = 10.0, 10.0

FLOW = """
import asyncio
oracle = Oracle("oracle.jsonl")

@cf.step
def work(x, seconds):
    with oracle.recorded():
        time.sleep(seconds)
        return x + 1

@cf.step(concurrency=4)
async def fetch(x, seconds):
    with oracle.recorded():
        await asyncio.sleep(seconds)
        return x + 1

@cf.step
def total(xs):
    with oracle.recorded():
        return sum(xs)

@cf.workflow
def both(n, seconds):
    return total(work.map(fetch.map(range(n), seconds), seconds))

@cf.workflow
def long():
    return total(work.map(range(100), 0.5))
"""


# --- with the append-only file -------------------------------------------------------------------------


def test_run_goes_on_after_the_server_was_killed(shell: Shell, cells: Cells, witness: Oracle) -> None:
    check_kills(shell, cells, witness, items=60, kills=2)


@pytest.mark.slow_fault
@pytest.mark.timeout(300)
def test_run_goes_on_however_often_the_server_is_killed(shell: Shell, cells: Cells, witness: Oracle) -> None:
    check_kills(shell, cells, witness, items=600, kills=15)


def check_kills(shell: Shell, cells: Cells, witness: Oracle, items: int, kills: int) -> None:
    """Nothing runs twice, and nothing that was committed is lost: workers keep what they have until it is taken."""
    cells.begin(
        f"run = both.run({items}, 0.05); oracle.check(run); answer = [run.result(), run.steps().attempts.sum().item()]"
    )
    killed_at = []
    for number in range(kills):
        wait_until(lambda number=number: len(witness.read()) > 10 + number * items // kills, 60)
        os.kill(pid_of(shell.directory), signal.SIGKILL)
        killed_at.append(time.monotonic())
    answer, error = cells.end()

    assert error is None
    assert answer == [sum(range(items)) + 2 * items, 2 * items + 1]
    assert witness.repeats() == []
    for seconds in stalls(witness, killed_at):
        figures.time("stall after a kill of the server", seconds)
        assert seconds < GO_ON_S


def stalls(witness: Oracle, killed_at: list[float]) -> Iterator[float]:
    """Seconds from each kill to the first step that began after a pause in which none did."""
    starts = [execution.start for execution in witness.read()]
    for at in killed_at:
        gaps = [(after - before, after) for before, after in pairwise(starts) if before < at + 1 and after > at]
        yield max(gaps)[1] - at


def test_commands_that_come_while_the_server_is_away_wait_for_it(shell: Shell, cells: Cells) -> None:
    run = cells.run("run = both.submit(4, 0.05); answer = run.id")
    os.kill(pid_of(shell.directory), signal.SIGKILL)

    answer = cells.run(
        "answer = [cf.attach(run.id).status, run.result(), both.run(3, 0.01).result(), run.value('total')]"
    )

    assert answer[1:] == [14, 9, 14]
    assert shell.json("status", run, "--json")["status"] == "success"


def test_follow_goes_on_with_the_server(shell: Shell, cells: Cells) -> None:
    run, told = cells.run("run = both.submit(30, 0.1); answer = run.id"), shell.directory / "told.jsonl"
    with told.open("w") as file, shell.start("events", run, "--jsonl", "--follow", stdout=file) as following:
        wait_until(lambda: told.stat().st_size)
        os.kill(pid_of(shell.directory), signal.SIGKILL)
        _, err = following.communicate(timeout=60)

    seqs = [json.loads(line)["seq"] for line in told.read_text().splitlines()]
    assert (following.returncode, err) == (0, "")
    assert seqs == list(range(1, len(seqs) + 1))


# --- without ----------------------------------------------------------------------------------------------

WAITING = """
import asyncio, threading

async def awaited(run):
    return await run

def again_and_again(look):
    while look() is not None:
        time.sleep(0.05)

WAYS = {
    "result": lambda run: run.result(),
    "result with a limit": lambda run: run.result(timeout_s=60),
    "wait": lambda run: run.wait(),
    "await": lambda run: asyncio.run(awaited(run)),
    "status": lambda run: again_and_again(lambda: run.status),
    "text": lambda run: again_and_again(lambda: repr(run)),
    "page": lambda run: again_and_again(run._repr_html_),
    "frames": lambda run: again_and_again(run.steps),
    "value": lambda run: again_and_again(lambda: run.value("work", partial=True)),
}
told = {}

def tell(name, run):
    try:
        WAYS[name](run)
    except Exception as error:
        told[name] = type(error).__name__

def wait_in_all_ways(run_id):
    threads = [threading.Thread(target=tell, args=(name, cf.attach(run_id))) for name in WAYS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


@pytest.fixture
def forgetful(shell: Shell) -> Iterator[Server]:
    """A server without a file, and a worker."""
    with served(shell, is_kept=False) as own:
        yield own


def test_whoever_waits_is_told_that_the_run_is_lost(shell: Shell, forgetful: Server, witness: Oracle) -> None:
    kernel = Cells(shell, f"{FLOW}\n{WAITING}\n{forgetful.connect}")
    try:
        run = kernel.run("run = long.submit(); answer = run.id")
        with shell.start("events", run, "--jsonl", "--follow", *forgetful.place) as following:
            wait_until(lambda: len(witness.read()) > 2)
            kernel.begin("wait_in_all_ways(run.id); answer = told")
            time.sleep(1)  # all of them wait

            forgetful.kill()
            forgetful.start()
            began = time.monotonic()

            _, said = following.communicate(timeout=20)
        told, error = kernel.end()
        figures.time("until told that the run is lost", time.monotonic() - began)
        assert time.monotonic() - began < LOST_S
        assert error is None
        assert set(told.values()) == {"RunLostError"}, told
        assert len(told) == 9
        assert (following.returncode, "is no longer on its server" in said) == (3, True)
        gone = shell("status", run, *forgetful.place)
        assert (gone.returncode, f"no run '{run}'" in gone.stderr) == (2, True)
        # What its workers held nobody wants any more, and they run what comes next.
        assert kernel.run("answer = both.run(4, 0.01).result()") == 14
        assert shell.json("ps", "--json", *forgetful.place)["workers"][0]["slots"] == 2
    finally:
        kernel.close()


def test_results_of_a_run_that_is_over_are_lost_with_the_server_too(shell: Shell, forgetful: Server) -> None:
    kernel = Cells(shell, f"{FLOW}\n{forgetful.connect}")
    try:
        kernel.run("run = both.run(4, 0.01); answer = run.status")
        forgetful.kill()
        forgetful.start()
        for way in ("run.result()", "run.value('work')", "run.value('total')"):
            kernel.begin(way)
            assert kernel.end() == (None, "RunLostError")
    finally:
        kernel.close()


@pytest.mark.slow_fault
def test_server_that_does_not_come_back_is_named(shell: Shell, forgetful: Server, witness: Oracle) -> None:
    kernel = Cells(shell, f"{FLOW}\n{forgetful.connect}")
    try:
        kernel.run("run = long.submit()")
        wait_until(witness.read)
        kernel.begin("run.result()")
        forgetful.kill()
        began = time.monotonic()
        assert kernel.end() == (None, "ServerUnreachableError")
        assert time.monotonic() - began < 15
    finally:
        kernel.close()


# --- with less than it had ---------------------------------------------------------------------------------


def test_run_that_was_rolled_back_is_shown_as_it_is_and_goes_on(shell: Shell, witness: Oracle) -> None:
    with served(shell, is_kept=True) as own:
        kernel = Cells(shell, f"{FLOW}\n{own.connect}")
        try:
            run = kernel.run("run = both.submit(40, 0.1); run.steps(); answer = run.id")
            wait_until(lambda: len(witness.read("fetch")) > 4)
            own.keep_copy()
            kernel.begin("""
seen = []
while run.status not in ("success", "failure"):
    seen.append(run.steps().done.sum().item())
    oracle.note(str(seen[-1]))
    time.sleep(0.01)
answer = [seen, run.result(), run.steps().done.tolist(), run.status, run.events().seq.tolist()]
""")
            wait_until(lambda: int((witness.notes() or ["0"])[-1]) > 40)
            own.kill()
            own.go_back()
            own.start()

            (seen, result, done, status, seqs), error = kernel.end()
        finally:
            kernel.close()

    assert error is None
    assert min(after - before for before, after in pairwise(seen)) < 0  # it went back
    assert (result, done, status) == (sum(range(40)) + 80, [40, 40, 1], "success")
    assert seqs == list(range(1, len(seqs) + 1))
    assert witness.repeats(run)  # what was rolled back ran again

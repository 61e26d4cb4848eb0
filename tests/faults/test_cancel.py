"""Stopping a run: 100 steps that run and 400 that wait stop within 2 s, however it is told; races have one winner."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from executions import wait_until
from shell import opened

import celeryflow as cf
from celeryflow.engine.processes import is_alive

from . import figures
from .cells import Cells
from .oracle import Oracle

STOP_S = 2.0

FLOW = """
import asyncio
oracle = Oracle("oracle.jsonl")
cf.connect(workers=6)

@cf.step(concurrency=48, priority=8)
async def wait(i):
    with oracle.recorded():
        try:
            await asyncio.sleep(600)
        finally:
            oracle.note(f"{cf.current().run_id} {os.getpid()}")

@cf.step
def work(i):
    with oracle.recorded():
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        try:
            oracle.note(f"child {child.pid}")
            time.sleep(600)
        finally:
            oracle.note(f"{cf.current().run_id} {os.getpid()}")

@cf.step
def stubborn():
    with oracle.recorded():
        while True:
            try:
                time.sleep(600)
            except BaseException:
                pass

@cf.workflow
def large():
    working = [work.options(priority=9)(i) for i in range(4)]
    waiting = wait.map(range(96))
    return work.map(range(200)), [work(waiting) for _ in range(100)], [work(working[i % 4]) for i in range(100)]

small = cf.workflow(lambda: stubborn(), name="small")
"""
"""A run of 4 plain steps, each with a child, and 96 async ones in two processes; 200 items and 200 steps wait."""


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cells]:
    """A kernel with six processes."""
    with opened(tmp_path_factory.mktemp("cancel")) as shell:
        cells = Cells(shell, FLOW)
        yield cells
        cells.close()


@pytest.fixture
def large(cells: Cells) -> Large:
    return Large(cells)


class Large:
    """The large run of one test, and what remains of it."""

    def __init__(self, cells: Cells) -> None:
        self.cells, self.shell = cells, cells.shell
        self.oracle = Oracle(str(cells.shell.directory / "oracle.jsonl"))
        self.noted, self.known = len(self.oracle.notes()), {e.run for e in self.oracle.read()}

    def await_full(self, run: str | None = None) -> str:
        """Wait until a hundred of its steps run; its id."""
        run = run or wait_until(lambda: [e.run for e in self.oracle.read() if e.run not in self.known], 60)[0]
        wait_until(lambda: len(self.oracle.read(run=run)) >= 100, timeout_s=60)
        wait_until(lambda: len(self.children()) >= 4)
        return str(run)

    def children(self) -> list[int]:
        return [int(note.split()[1]) for note in self.oracle.notes()[self.noted :] if note.startswith("child")]

    def await_stopped(self, run: str) -> float:
        """Wait until everything has stopped; the moment, of the monotonic clock."""
        wait_until(lambda: self.has_stopped(run))
        return time.monotonic()

    def has_stopped(self, run: str) -> bool:
        """Each execution has come to its own end, or gone with its process, and so have the children."""
        stops = Counter(note for note in self.oracle.notes() if note.startswith(f"{run} "))
        begun = Counter(f"{run} {e.pid}" for e in self.oracle.read(run=run))
        goes_on = [pid for note in begun - stops if is_alive(pid := int(note.split()[1]))]
        return not goes_on and not any(is_alive(pid) for pid in self.children())

    def check(self, run: str, reason: str) -> None:
        """Cancelled everywhere, and nothing begins any more."""
        status = self.shell.json("status", run, "--json")
        assert (status["status"], status["reason"]) == ("cancelled", reason)
        answer = self.cells.run(f"""
run = cf.attach({run!r})
steps, timeline, errors = run.steps(), run.timeline(), run.errors()
answer = [run.status, steps.status.tolist(), steps.done.sum().item(), timeline.outcome.tolist(),
          timeline.reason.fillna("").tolist(), errors.kind.tolist()]
""")
        status, steps, done, outcomes, reasons, kinds = answer
        assert (status, set(steps), done) == ("cancelled", {"cancelled"}, 0)
        assert (set(outcomes), set(kinds)) == ({"cancelled"}, {"cancelled"})
        assert len(outcomes) == len(kinds) == len(self.oracle.read(run=run))
        assert all(reason in told for told in reasons)


def test_cancel_stops_100_steps_and_400_that_wait(large: Large) -> None:
    run = large.cells.run("run = large.submit(); answer = run.id")
    large.await_full(run)
    told_at = time.monotonic()
    large.cells.run("run.cancel(reason='too slow')")
    seconds = large.await_stopped(run) - told_at

    figures.time("cancel of 100 steps", seconds)
    assert seconds < STOP_S
    large.check(run, "too slow")
    # Once more changes nothing.
    large.cells.run("run.cancel(reason='really')")
    large.check(run, "too slow")


def test_the_command_cancels_as_well(large: Large) -> None:
    run = large.cells.run("run = large.submit(); answer = run.id")
    large.await_full(run)
    assert large.shell("cancel", run, "--reason", "by hand").returncode == 0
    stopped_at = large.await_stopped(run) + time.time() - time.monotonic()
    *_, ended = (json.loads(line) for line in large.shell("events", run, "--jsonl").stdout.splitlines())

    figures.time("cancel of 100 steps by the command", stopped_at - ended["at"])
    assert stopped_at - ended["at"] < STOP_S
    large.check(run, "by hand")
    again = large.shell("cancel", run)
    assert (again.returncode, f"{run} was over already: cancelled." in again.stderr) == (0, True)


def test_interrupt_of_a_blocking_cell_cancels_and_comes_back_when_all_has_stopped(large: Large) -> None:
    large.cells.begin("large.run()")
    run = large.await_full()
    told_at = time.monotonic()
    large.cells.interrupt()
    answer, error = large.cells.end()
    seconds = time.monotonic() - told_at

    figures.time("interrupt of 100 steps", seconds)
    assert (answer, error) == (None, "KeyboardInterrupt")
    assert large.has_stopped(run)
    assert seconds < STOP_S
    large.check(run, "interrupted")


def test_second_interrupt_leaves_at_once(large: Large) -> None:
    large.cells.begin("small.run()")
    wait_until(lambda: large.oracle.read("stubborn"))
    large.cells.interrupt()
    time.sleep(0.1)  # the first is being handled
    told_at = time.monotonic()
    large.cells.interrupt()
    _, error = large.cells.end()

    assert error == "KeyboardInterrupt"
    assert time.monotonic() - told_at < 0.3  # a stubborn step takes 0.5 s
    (execution,) = large.oracle.read("stubborn")
    wait_until(lambda: not is_alive(execution.pid), timeout_s=STOP_S)
    assert large.shell.json("status", execution.run, "--json")["status"] == "cancelled"


# --- races ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("runtime")
@pytest.mark.parametrize("tries", [30, pytest.param(300, marks=[pytest.mark.slow_fault, pytest.mark.timeout(300)])])
def test_cancel_wins_or_loses_a_race_with_the_end(tries: int, chance: random.Random, oracle: Oracle) -> None:
    @cf.step
    def work(i: int) -> int:
        with oracle.recorded():
            return i

    flow = cf.workflow(lambda: cf.step(sum)(work.map([work(i) for i in range(3)])))
    flow.run(check=True)
    around_s = max(flow.run(check=True).snapshot().duration_s() or 0.0, 0.005)
    found: Counter[str] = Counter()
    for _ in range(tries):
        run = flow.submit()
        time.sleep(chance.uniform(0.0, 2 * around_s))
        run.cancel("first")
        run.cancel("second")
        status = check_end(run)
        found[status] += 1
        # Stay about the end, however fast the machine is just now.
        around_s *= 1.2 if status == "cancelled" else 1 / 1.2

    assert found.total() == tries
    figures.count("cancels that won a race", found["cancelled"])
    figures.count("cancels that lost a race", found["success"])
    assert min(found["cancelled"], found["success"]) > 0


def check_end(run: cf.Run[Any]) -> str:
    """The run has one end, and everything agrees with it."""
    status = run.wait(timeout_s=10).status
    if status == "success":
        assert run.result() == 0 + 1 + 2
    else:
        with pytest.raises(cf.RunCancelledError, match="first"):
            run.result()
    ends = run.events().query("event == 'ended'")
    assert ends["status"].tolist() == [status]
    assert run.events()["event"].iloc[-1] == "ended"
    steps = set(run.steps()["status"])
    assert steps == {"success"} if status == "success" else steps <= {"success", "cancelled"}
    assert cf.attach(run.id).status == status
    return status


@pytest.mark.usefixtures("runtime")
def test_of_many_who_cancel_one_is_heard() -> None:
    run = cf.workflow(lambda: cf.step(time.sleep)(600)).submit()
    with ThreadPoolExecutor(8) as threads:
        handles = [cf.attach(run.id) for _ in range(8)]
        [*threads.map(lambda i: handles[i].cancel(f"by {i}"), range(8))]

    ends = run.wait(timeout_s=10).events().query("event == 'ended'")
    assert len(ends) == 1
    assert ends["error"].iloc[0] in {f"by {i}" for i in range(8)}


@pytest.mark.usefixtures("runtime")
def test_run_that_has_ended_keeps_its_state(oracle: Oracle) -> None:
    good = cf.workflow(lambda: cf.step(abs)(-1)).run()
    bad = cf.workflow(lambda: cf.step(int)("x")).run()
    for run, status in ((good, "success"), (bad, "failure")):
        before = run.events()
        run.cancel("too late")
        fresh = cf.attach(run.id)
        assert (run.status, fresh.status) == (status, status)
        assert len(fresh.events()) == len(before)

"""One workflow, ended in the middle at many points, and resumed each time: it gives what an undisturbed run gives."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from executions import wait_until
from shell import Shell

from . import figures
from .cells import Cells
from .damage import kill
from .oracle import Oracle

STEP_S = 0.2

FLOW = f"""
cf.connect(workers=2)

def recorded():
    return Oracle(cf.current().run_id + ".jsonl").recorded()

@cf.step
def work(*inputs):
    with recorded():
        time.sleep({STEP_S})
        return 1 + sum(sum(i) if isinstance(i, list) else i for i in inputs)

@cf.step
def value_of(loop):
    with recorded():
        return loop.value

@cf.workflow
def flow():
    first = work(1)
    left = work.map(list(range(10)))
    right = work.map(left)
    grown = cf.loop(work, first, until=lambda value: value >= 5, max_iterations=9)
    chain = work(work(first))
    return work(right, chain, value_of(grown))

def ends(run):
    frame = run.timeline()
    frame = frame[frame.outcome == "success"]
    index = [None if i != i else int(i) for i in frame["index"].astype("float64")]
    return list(zip(frame.step, index, frame.generation.tolist()))
"""


class Runs:
    """Runs of the workflow in a directory, whose kernels and runtimes come and go."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell
        self._open()
        run, self.expected = self.cells.run("run = flow.run(check=True); answer = run.id, run.result()")
        self.cost = len(self.oracle(run).read())

    def oracle(self, run: str) -> Oracle:
        """A file a run: it is read again and again, and must not grow."""
        return Oracle(str(self.shell.directory / f"{run}.jsonl"))

    def _open(self) -> None:
        self.cells = Cells(self.shell, FLOW)

    def begin(self) -> str:
        self.pids = [process.pid for process in self.shell.processes()]
        return str(self.cells.run("run = flow.submit(); answer = run.id"))

    def await_point(self, run: str, ended: int) -> None:
        """Wait until so many executions have ended and another has just begun."""

        def is_there() -> bool:
            read = self.oracle(run).read()
            is_fresh = any(e.end is None and time.monotonic() - e.start < STEP_S / 4 for e in read)
            return sum(e.end is not None for e in read) >= ended and is_fresh

        with suppress(AssertionError):  # it has ended meanwhile
            wait_until(is_there, timeout_s=5)

    def kill_everything(self) -> float:
        """Kernel, keeper, server, worker and its pool, at once."""
        at = kill(*self.pids).at
        while left := self.shell.processes():
            kill(*(process.pid for process in left))
            for process in left:
                with suppress(ChildProcessError):
                    process.wait(5)
        self.cells.close()
        self._open()
        return at

    def cancel(self) -> float:
        self.cells.run("run.cancel('enough'); wait_until(lambda: not run._source.is_at_work())")
        return time.monotonic()

    def resume(self, run: str, at: float) -> int:
        """Carry it on, and compare; how many were executed again."""
        result, ends = self.cells.run(f"""
run = cf.attach({run!r})
result = run.resume().result(timeout_s=60)
Oracle(run.id + ".jsonl").check(run, [step for step in run.steps().step if step != "loop"])
answer = result, ends(run)
""")
        assert result == self.expected
        by_item = self.oracle(run).by_item()
        for step, index, generation in ends:
            executions = by_item.get((step, index), [])
            assert sum(e.start > at for e in executions) == (generation > 1) * bool(executions)
            assert generation > 1 or all(e.start < at for e in executions)
        early = {item for item, all_of in by_item.items() if all_of[0].end and all_of[0].end < at - 1.0}
        kept = {(step, index) for step, index, generation in ends if generation == 1}
        assert early <= kept, "what had ended long before was not kept"
        return len(self.oracle(run).repeats())


@pytest.fixture
def runs(shell: Shell) -> Any:
    runs = Runs(shell)
    yield runs
    runs.cells.close()


def end_at(count: int, end: Callable[[Runs], float], what: str, runs: Runs, chance: random.Random) -> None:
    """End and resume the workflow at so many points, spread over its life."""
    done = 0
    for _ in range(8 * count):
        run = runs.begin()
        runs.await_point(run, round(done * (runs.cost - 2) / max(1, count - 1)))
        time.sleep(chance.uniform(0, STEP_S / 4))
        at = end(runs)
        was_under_way = bool(runs.oracle(run).under_way())
        again = runs.resume(run, at)
        # Between two steps is no point: it is tried once more.
        done += was_under_way
        figures.count(f"runs resumed after {what}", was_under_way)
        figures.count(f"executions again after {what}", again)
        if done == count:
            break
    assert done == count


@pytest.mark.parametrize(("end", "what"), [(Runs.kill_everything, "a kill of everything"), (Runs.cancel, "a cancel")])
def test_run_is_resumed_wherever_it_ended(
    end: Callable[[Runs], float], what: str, runs: Runs, chance: random.Random
) -> None:
    end_at(1 if end is Runs.kill_everything else 2, end, what, runs, chance)


@pytest.mark.slow_fault
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("end", "what"), [(Runs.kill_everything, "a kill of everything"), (Runs.cancel, "a cancel")])
def test_run_is_resumed_at_25_points_of_its_life(
    end: Callable[[Runs], float], what: str, runs: Runs, chance: random.Random
) -> None:
    end_at(25, end, what, runs, chance)

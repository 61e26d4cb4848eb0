"""SIGKILL of pool processes and whole workers, again and again: the run succeeds, and only what was cut runs again."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import Runtime

import celeryflow as cf

from . import figures
from .damage import kill_a_pool_process, kill_a_worker, kill_something, repeated
from .oracle import Kill, Oracle

LEASE_S, WORKER_LIVES_S = 15.0, 3.0

Strike = Callable[[Path, random.Random], Kill | None]


def layered(oracle: Oracle, depth: int, width: int, step_s: float) -> tuple[cf.Workflow[Any, int], int]:
    """A workflow of layers whose steps need three of the layer before, and a last one; and its result."""

    @cf.step
    def work(*inputs: int) -> int:
        with oracle.recorded():
            time.sleep(step_s)
            return 1 + sum(inputs)

    @cf.workflow
    def layers() -> Any:
        layer = [work() for _ in range(width)]
        for _ in range(depth - 1):
            layer = [work(layer[at], layer[(at + 1) % width], layer[(at + 7) % width]) for at in range(width)]
        return work(*layer)

    value = 1
    for _ in range(depth - 1):
        value = 1 + 3 * value
    return layers, 1 + width * value


def mapped(oracle: Oracle, count: int, step_s: float) -> tuple[cf.Workflow[Any, int], int]:
    """A map and the sum of it; and its result."""

    @cf.step
    def square(x: int) -> int:
        with oracle.recorded():
            time.sleep(step_s)
            return x * x

    @cf.step
    def total(values: list[int]) -> int:
        with oracle.recorded():
            return sum(values)

    return cf.workflow(lambda: total(square.map(range(count))), name="mapped"), sum(x * x for x in range(count))


FEW = {
    "a DAG, pool processes": (partial(layered, depth=8, width=20, step_s=0.03), kill_a_pool_process, 0.5, 6),
    "a map, pool processes": (partial(mapped, count=1500, step_s=0.002), kill_a_pool_process, 0.4, 6),
    "a map, a whole worker": (partial(mapped, count=800, step_s=0.003), kill_a_worker, 0.5, 1),
}
MANY = {
    "1,000 steps": (partial(layered, depth=10, width=100, step_s=0.03), kill_something, 2.0, 1000),
    "10,000 items": (partial(mapped, count=10_000, step_s=0.003), kill_something, 2.0, 1000),
}


@pytest.mark.parametrize("name", FEW)
def test_nothing_is_lost_with_a_process_or_a_worker(
    name: str, runtime: Runtime, oracle: Oracle, chance: random.Random
) -> None:
    kills = survive(*FEW[name], runtime, oracle, chance)
    assert kills


@pytest.mark.slow_fault
@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", MANY)
def test_nothing_is_lost_with_a_kill_every_two_seconds(
    name: str, runtime: Runtime, oracle: Oracle, chance: random.Random
) -> None:
    kills = survive(*MANY[name], runtime, oracle, chance)
    assert len(kills) >= 5


def test_what_was_cut_goes_before_what_has_become_ready_since(runtime: Runtime, oracle: Oracle) -> None:
    @cf.step
    def cut() -> None:
        with oracle.recorded():
            if cf.current().attempt == 1:
                os.kill(os.getpid(), signal.SIGKILL)

    @cf.step
    def link(before: int) -> int:
        with oracle.recorded():
            time.sleep(0.03)
            return before + 1

    @cf.step
    def leaf(before: int) -> int:
        time.sleep(0.03)
        return before

    @cf.workflow
    def growing() -> Any:
        end, leaves = link(0), [cut()]
        for _ in range(60):  # each makes more ready than is done meanwhile
            start, end = end, link(end)
            leaves += [leaf(start), leaf(start), leaf(start)]
        return end, leaves

    run = growing.submit()
    assert run.result(timeout_s=60)[0] == 61

    oracle.check(run, ["cut"])
    *_, again = oracle.read("cut")
    assert again.attempt == 2
    assert again.start < max(execution.start for execution in oracle.read() if execution.step.startswith("link"))


def survive(
    make: Callable[[Oracle], tuple[cf.Workflow[Any, int], int]],
    strike: Strike,
    every_s: float,
    most: int,
    runtime: Runtime,
    oracle: Oracle,
    chance: random.Random,
) -> list[Kill]:
    """Run it while it is damaged, and compare; the kills."""
    flow, expected = make(oracle)
    run = flow.submit()
    with repeated(partial(strike, runtime.directory, chance), every_s, most) as kills:
        result = run.result(timeout_s=300)

    assert result == expected
    oracle.check(run)
    figures.count("kills of a pool process", sum(not kill.is_of_a_worker for kill in kills))
    figures.count("kills of a whole worker", sum(kill.is_of_a_worker for kill in kills))
    figures.count("executions again", oracle.check_repeats(kills, run.id))
    for kill, seconds in oracle.stalls(kills, run.id):
        figures.time("stall after a whole worker" if kill.is_of_a_worker else "stall after a pool process", seconds)
        assert seconds < (LEASE_S if kill.is_of_a_worker else WORKER_LIVES_S)
    return kills

"""The longest chain of tasks, and how long some workers take: what must hold of any graph."""

from __future__ import annotations

import itertools
from functools import cache
from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeryflow.runtime.snapshot.schedule import Schedule

WORKERS = (1, 2, 3, 4, 8, 1_000)

durations = st.floats(0.0, 100.0, allow_subnormal=False) | st.sampled_from([0.0, 1.0, 1.0, 2.0])


@st.composite
def schedules(draw: st.DrawFn) -> tuple[Schedule, list[tuple[int, int]]]:
    size = draw(st.integers(0, 12))
    pairs = [(before, after) for after in range(size) for before in range(after)]
    edges = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    renamed = draw(st.permutations(range(size)))  # tasks need not stand in their order
    edges = [(renamed[before], renamed[after]) for before, after in edges]
    return of(draw(st.lists(durations, min_size=size, max_size=size)), edges), edges


def of(duration_s: list[float], edges: list[tuple[int, int]]) -> Schedule:
    pairs = np.array(edges, dtype=np.int64).reshape(-1, 2)
    return Schedule(duration_s, pairs[:, 0], pairs[:, 1])


@given(schedules())
def test_the_critical_path_is_a_longest_chain(made: tuple[Schedule, list[tuple[int, int]]]) -> None:
    schedule, edges = made
    path = schedule.critical_path
    assert {*itertools.pairwise(path)} <= {*edges}
    assert sum(schedule.duration_s[task] for task in path) == pytest.approx(schedule.critical_path_s)
    assert schedule.critical_path_s == pytest.approx(longest(schedule.duration_s, edges))


def longest(duration_s: list[float], edges: list[tuple[int, int]]) -> float:
    """By going along every chain."""

    @cache
    def from_(task: int) -> float:
        return duration_s[task] + max((from_(after) for before, after in edges if before == task), default=0.0)

    return max(map(from_, range(len(duration_s))), default=0.0)


@given(schedules())
def test_what_any_number_of_workers_needs(made: tuple[Schedule, list[tuple[int, int]]]) -> None:
    schedule, _ = made
    work, path = sum(schedule.duration_s), schedule.critical_path_s
    found = schedule.makespans(WORKERS)
    assert found[0] == pytest.approx(work)
    assert found[-1] == pytest.approx(path)
    last = inf
    for workers, makespan in zip(WORKERS, found, strict=True):
        assert makespan <= last
        assert makespan >= max(path, work / workers) - 1e-9
        assert makespan <= work / workers + (1 - 1 / workers) * path + 1e-9  # Graham's bound
        last = makespan


def test_tasks_with_much_behind_them_go_first() -> None:
    # Three short ones, and a chain that must begin at once.
    chain = of([1.0, 1.0, 1.0, 1.0, 2.0], [(3, 4)])
    assert chain.makespans((1, 2)) == [6.0, 3.0]


def test_more_workers_never_take_longer_where_the_schedule_does() -> None:
    # Graham's own example: nine tasks whose list schedule is longer with four workers than with three, in his order.
    duration_s = [3.0, 2.0, 2.0, 2.0, 4.0, 4.0, 4.0, 4.0, 9.0]
    found = of(duration_s, [(0, 8), (3, 4), (3, 5), (3, 6), (3, 7)]).makespans((1, 2, 3, 4, 5))
    assert found == sorted(found, reverse=True)
    assert found[2] == 12.0


def test_junctions_take_no_worker() -> None:
    schedule = of([1.0, 1.0, 0.0, 1.0, 1.0], [(0, 2), (1, 2), (2, 3), (2, 4)])
    assert schedule.makespans((1, 2, 4)) == [4.0, 2.0, 2.0]


def test_a_hundred_thousand_tasks_are_scheduled() -> None:
    size = 100_000
    items = np.arange(1, size + 1)
    before = np.concatenate([np.zeros(size, dtype=np.int64), items])
    after = np.concatenate([items, np.full(size, size + 1)])
    schedule = Schedule([1.0, *[0.001] * size, 1.0], before, after)
    assert schedule.makespans((1, 2, 64)) == pytest.approx([102.0, 52.0, 2 + 1_563 * 0.001])
    assert len(schedule.critical_path) == 3


def test_nothing_takes_no_time() -> None:
    assert (of([], []).makespans((1, 2)), of([], []).critical_path) == ([0.0, 0.0], [])

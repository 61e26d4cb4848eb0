"""Workflows in workflows: in place where Refs suffice, traced in a worker where a body needs the values."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest
from conftest import failure_of
from executions import Executions, wait_until

import celeryflow as cf

pytestmark = pytest.mark.usefixtures("runtime")


@cf.step
def give(value: Any) -> Any:
    return value


@cf.step
def add(*values: int) -> int:
    return sum(values)


@cf.step
def fail_on(x: int, bad: int) -> int:
    if x == bad:
        raise ValueError(f"no {x}")
    return x


@cf.workflow
def collatz(n: int) -> Any:
    """Steps to 1: a recursion whose depth the values decide."""
    if n == 1:
        return 0
    return add(1, collatz(give(n // 2 if n % 2 == 0 else 3 * n + 1)))


@cf.workflow
def steps_of(n: int) -> Any:
    """A body of another shape for each item."""
    if n == 0:
        return "none"
    if n % 2:
        return add(n, n)
    return add(*[give(i) for i in range(n)])


@pytest.fixture(params=["workers", "inline"])
def run(request: pytest.FixtureRequest) -> Any:
    """Runs a workflow's body."""
    return lambda body, *args: cf.workflow(body).run(*args, inline=request.param == "inline")


def test_a_body_that_needs_no_values_is_part_of_the_graph() -> None:
    @cf.workflow
    def inner(xs: Any) -> Any:
        return add(*[give(x) for x in (1, 2)], xs)

    graph = cf.workflow(lambda: inner(give(3))).graph()

    assert graph.names() == ["give", "give-2", "give-3", "add"]


def test_a_body_that_needs_a_value_is_traced_when_that_is_there(run: Any) -> None:
    found = run(lambda: add(steps_of(give(4)), steps_of(give(3))))

    assert found.result() == 12
    assert found.graph.names() == ["give", "steps_of", "give-2", "steps_of-2", "add"]
    added = ["steps_of/give", "steps_of/give-2", "steps_of/give-3", "steps_of/give-4", "steps_of/add", "steps_of-2/add"]
    assert set(found.steps().step) == {*found.graph.names(), *added}


def test_what_was_called_before_the_value_was_needed_is_not_called_twice(executions: Executions) -> None:
    @cf.step
    def note(x: int) -> int:
        with executions.recorded():
            return x

    @cf.workflow
    def late(x: int) -> Any:
        first = note(x)
        return add(first, x if x > 1 else note(x))

    run = cf.workflow(lambda: late(give(1))).run()

    assert run.result() == 2
    assert sorted(e.step for e in executions.read()) == [
        "late/note",
        "late/note-2",
    ]  # two processes may begin them in any order


def test_a_mapped_workflow_goes_its_own_way_for_each_item(run: Any) -> None:
    found = run(lambda: give(steps_of.map([0, 1, 2, 3])))

    assert found.result() == ["none", 2, 1, 6]
    assert found.steps().set_index("step").loc["steps_of", "items"] == 4
    assert steps_of.map([0, 1, 2, 3]) == ["none", 2, 1, 6]


def test_a_mapped_workflow_over_a_map_a_dict_and_a_list_known_only_then(run: Any) -> None:
    def body() -> Any:
        return [
            steps_of.map(give.map([1, 3])),
            steps_of.map({"a": 1, "b": 2}),
            steps_of.map(give([2])),
            steps_of.map([]),
        ]

    assert run(body).result() == [[2, 6], {"a": 2, "b": 1}, [1], []]


def test_maps_of_maps(run: Any) -> None:
    @cf.workflow
    def total(row: list[int]) -> Any:
        return add(*[give(x) for x in row])

    @cf.workflow
    def grid(table: list[list[int]]) -> Any:
        return total.map(table)

    assert run(lambda: grid.map([[[1, 2], [3]], [], [[4]]])).result() == [[3, 3], [], [4]]


def test_recursion_as_deep_as_the_values_say(run: Any) -> None:
    assert run(lambda: collatz(give(6))).result() == 8
    assert run(lambda: collatz.map([1, 2, 3])).result() == [0, 1, 7]


def test_recursion_50_deep(executions: Executions) -> None:
    @cf.step
    def down(n: int) -> int:
        with executions.recorded():
            return n - 1

    @cf.workflow
    def dive(n: int) -> Any:
        return 0 if n == 0 else add(1, dive(down(n)))

    assert cf.workflow(lambda: dive(down(51))).run().result() == 50
    assert len(executions.read()) == 51


def test_recursion_without_end_is_an_error() -> None:
    @cf.workflow
    def forever(n: int) -> Any:
        return forever(give(n)) if n else 0

    failed = failure_of(cf.workflow(lambda: forever(give(1))).run())

    assert "nested 200 deep" in str(failed)


@pytest.mark.parametrize(
    ("on_error", "status", "expected"), [("skip", "success", [0, 2]), ("return", "success", [0, "no 1", 2])]
)
def test_a_failed_item_of_a_mapped_workflow(run: Any, on_error: str, status: str, expected: Any) -> None:
    @cf.workflow
    def check(x: int) -> Any:
        return add(fail_on(x, 1)) if x < 5 else 0

    found = run(lambda: give(check.map([0, 1, 2], on_error=on_error)))

    assert found.status == status
    assert [str(v) if isinstance(v, Exception) else v for v in found.result()] == expected
    assert found.steps().set_index("step").loc["check", "failed"] == 1


def test_a_failed_step_inside_fails_the_run_and_is_named(run: Any) -> None:
    @cf.workflow
    def check(x: int) -> Any:
        return add(fail_on(x, 1)) if x < 5 else 0

    found = run(lambda: (give(check.map([0, 1, 2])), give(check(give(7)))))

    assert failure_of(found).step == "check[1]/fail_on"
    assert found.value("give-3") == 0
    assert found.steps().set_index("step").status[["check", "give"]].tolist() == ["skipped", "skipped"]


def test_a_gather_takes_what_the_others_gave(run: Any) -> None:
    @cf.workflow
    def check(x: int) -> Any:
        return add(fail_on(x, 1)) if x < 5 else 0

    found = run(lambda: give(cf.gather([check(give(0)), check(give(1))])))

    assert found.status == "success"
    assert found.result().as_dict() == {0: 0}


def test_a_body_that_raises_fails_its_step(run: Any) -> None:
    @cf.workflow
    def odd_only(x: int) -> Any:
        if x % 2 == 0:
            raise ValueError("even")
        return give(x)

    found = run(lambda: odd_only(give(2)))

    assert isinstance(failure_of(found).__cause__, ValueError)
    assert failure_of(found).step == "odd_only"


def test_a_ref_used_as_a_value_that_is_no_argument_is_an_error_at_once(nothing_is_written: None) -> None:
    @cf.workflow
    def wrong(x: int) -> Any:
        return give(1) if give(x) else 2

    with pytest.raises(cf.RefError, match="give"):
        cf.workflow(lambda: wrong(give(1))).submit()


def test_another_kernel_sees_the_added_steps() -> None:
    run = cf.workflow(lambda: steps_of.map([2, 3])).run()
    other = cf.attach(run.id)

    assert other.steps().step.tolist() == run.steps().step.tolist()
    assert other.value("steps_of[1]/add") == 6
    assert other.result() == [1, 6]


def test_nothing_is_lost_when_a_worker_dies_while_bodies_are_traced(executions: Executions) -> None:
    @cf.step
    def work(x: int) -> int:
        with executions.recorded():
            time.sleep(0.02)
        return x

    @cf.workflow
    def each(x: int) -> Any:
        return add(*[work(x) for _ in range(1 + x % 3)])

    run = cf.workflow(lambda: add_all(each.map(list(range(60))))).submit()
    for count in (5, 30, 60):
        done = wait_until(lambda count=count: len(found := executions.read()) >= count and found)
        os.kill(done[-1].pid, signal.SIGKILL)

    assert run.result() == sum(x * (1 + x % 3) for x in range(60))
    wanted = sum(1 + x % 3 for x in range(60))
    assert wanted <= len(executions.read()) <= wanted + 3 * 5  # a claim has some 50 ms of work


@cf.step
def add_all(values: list[int]) -> int:
    return sum(values)


def test_cancelling_ends_what_was_added_too() -> None:
    @cf.workflow
    def slow(x: int) -> Any:
        return wait_long(x) if x else 0

    @cf.step
    def wait_long(x: int) -> int:
        time.sleep(60)
        return x

    run = cf.workflow(lambda: slow.map([1, 2, 3])).submit()
    wait_until(lambda: (run.steps().status == "running").sum() >= 2)
    run.cancel()

    assert run.wait(5).status == "cancelled"
    assert set(run.steps().status) == {"cancelled"}


def test_many_items_run_once_each(executions: Executions) -> None:
    @cf.step
    def work(x: int) -> int:
        executions.note(str(x))
        return x

    @cf.workflow
    def each(x: int) -> Any:
        return work(x) if x % 2 else work(-x)

    run = cf.workflow(lambda: add_all(each.map(list(range(500))))).run()

    assert run.result() == sum(x if x % 2 else -x for x in range(500))
    assert len(executions.notes()) == len(set(executions.notes())) == 500


def test_a_failed_step_that_is_called_for_its_effect_fails_the_run(run: Any) -> None:
    @cf.workflow
    def late(n: int) -> Any:
        fail_on(n, n)
        return give(n) if n else 0

    found = run(lambda: late(give(1)))

    assert found.status == "failure"
    assert failure_of(found).step == "late/fail_on"


def test_a_phase_fails_with_a_step_that_its_steps_added(run: Any) -> None:
    @cf.workflow
    def late(x: int) -> Any:
        return give(fail_on(x, 2)) if x else x

    def body() -> Any:
        with cf.phase("before"):
            xs = give([1, 2])
        with cf.phase("absorbed"):
            give(late.map(xs, on_error="skip"))
        with cf.phase("broken"):
            return give(late(xs[0])), give(late(xs[1]))

    found = run(body)

    assert found.phases().status.tolist() == ["success", "success", "failure"]
    assert found.phases().progress.tolist() == [1.0, 1.0, 1.0]
    assert found.steps().set_index("step").status[["late-2", "late-3"]].tolist() == ["success", "skipped"]

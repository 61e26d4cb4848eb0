"""``cf.branch`` and ``cf.loop``: on workers, in this process, and as plain functions."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import failure_of
from executions import Executions

import celeryflow as cf

pytestmark = pytest.mark.usefixtures("runtime")


@cf.step
def give(value: Any) -> Any:
    """Something that is known only at run time."""
    return value


@cf.step
def double(x: Any, times: int = 1) -> Any:
    return 2 * times * x


@cf.step
def negate(x: Any, times: int = 1) -> Any:
    return -x * times


@cf.step
def fail(x: Any) -> Any:
    raise ValueError(f"no {x}")


@cf.workflow
def route(x: Any) -> Any:
    """Doubled above 10, an error below 0, else negated."""
    chosen = cf.branch(give(x), (lambda v: v > 10, double), (lambda v: v < 0, fail), otherwise=negate)
    return [chosen, double(chosen)]


@pytest.fixture(params=["workers", "inline"])
def run(request: pytest.FixtureRequest) -> Any:
    """Runs a workflow's body."""

    def run_body(body: Any, *args: Any) -> cf.Run[Any]:
        found = body if isinstance(body, cf.Workflow) else cf.workflow(body)
        return found.run(*args, inline=request.param == "inline")

    return run_body


# --- branch ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "expected"), [(11, [22, 44]), (5, [-5, -10])])
def test_the_first_arm_that_holds_runs(run: Any, value: int, expected: list[int]) -> None:
    assert run(route, value).result() == expected
    assert route(value) == expected


def test_the_other_arms_are_skipped_and_say_why(run: Any) -> None:
    found = run(route, 11)
    steps = found.steps().set_index("step")

    assert found.status == "success"
    assert steps.status[["double", "fail", "negate"]].tolist() == ["success", "skipped", "skipped"]
    assert steps.error["negate"] == "the branch took another arm"
    assert steps.attempts[["fail", "negate"]].tolist() == [0, 0]


def test_the_first_of_several_that_hold_is_taken(run: Any) -> None:
    def always(value: Any) -> bool:
        return True

    assert run(lambda: cf.branch(give(3), (always, double), (always, negate))).result() == 6


def test_a_failed_arm_fails_the_run_and_skips_what_needs_it(run: Any) -> None:
    found = run(route, -1)

    assert found.status == "failure"
    assert str(failure_of(found).__cause__) == "no -1"
    assert found.steps().set_index("step").status[["chosen", "double-2"]].tolist() == ["skipped", "skipped"]


def test_no_arm_that_holds_is_an_error(run: Any) -> None:
    found = run(lambda: double(cf.branch(give(3), (lambda v: v > 5, double))))

    assert isinstance(failure_of(found).__cause__, cf.NoBranchMatchedError)
    assert found.steps().set_index("step").status[["branch", "double", "double-2"]].tolist() == [
        "failure", "skipped", "skipped",
    ]  # fmt: skip


def test_arms_get_further_arguments_and_may_be_workflows_and_functions(run: Any) -> None:
    @cf.workflow
    def twice(x: Any, times: int) -> Any:
        return double(double(x, times))

    def body(x: int) -> Any:
        return cf.branch(give(x), (lambda v: v > 0, twice), otherwise=lambda x, times: (x, times), args=(give(3),))

    assert run(body, 1).result() == 12
    assert run(body, -1).result() == (-1, 3)


def test_an_arm_whose_body_needs_the_value_is_traced_when_it_is_taken(run: Any) -> None:
    @cf.workflow
    def chain(x: int) -> Any:
        for _ in range(x):
            x = double(x)
        return x

    def body(x: int) -> Any:
        return cf.branch(give(x), (lambda v: v > 5, negate), otherwise=chain)

    assert run(body, 3).result() == 24
    assert run(body, 9).result() == -9


def test_branches_in_branches(run: Any) -> None:
    @cf.workflow
    def inner(x: Any) -> Any:
        return cf.branch(x, (lambda v: v > 100, negate), otherwise=double)

    def body(x: int) -> Any:
        return give(cf.branch(give(x), (lambda v: v > 10, inner), otherwise=give))

    assert [run(body, x).result() for x in (1, 50, 500)] == [1, 100, -500]
    states = run(body, 1).steps().set_index("step").status
    assert states[["branch", "branch-2", "negate", "double", "chosen"]].tolist() == ["success", *["skipped"] * 4]


def test_a_map_in_an_arm(run: Any) -> None:
    @cf.workflow
    def each(xs: Any) -> Any:
        return give(double.map(xs))

    def body(xs: list[int]) -> Any:
        return cf.branch(give(xs), (lambda v: len(v) > 2, each), otherwise=give)

    assert run(body, [1, 2, 3]).result() == [2, 4, 6]
    assert run(body, [1]).result() == [1]


def test_predicates_are_asked_once_and_in_a_worker(executions: Executions) -> None:
    def is_small(value: int) -> bool:
        executions.note(cf.current().step)
        return value < 0

    def body() -> Any:
        return cf.branch(give(3), (is_small, double), (is_small, negate), otherwise=give)

    assert cf.workflow(body).run().result() == 3
    assert executions.notes() == ["branch", "branch"]


# --- loop ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "most", "expected"),
    [(1, 10, (16, 4, True)), (16, 10, (16, 0, True)), (1, 2, (4, 2, False)), (1, 0, (1, 0, False))],
)  # fmt: skip
def test_a_loop_ends_when_its_condition_holds(run: Any, start: int, most: int, expected: Any) -> None:
    def body(x: int) -> Any:
        return cf.loop(double, give(x), until=lambda v: v >= 16, max_iterations=most)

    found = run(body, start).result()

    assert (found.value, found.iterations, found.converged) == expected
    assert cf.loop(double, start, until=lambda v: v >= 16, max_iterations=most) == found


def test_a_loop_over_a_workflow_of_several_steps(run: Any) -> None:
    @cf.workflow
    def improve(state: dict[str, int]) -> Any:
        return {"value": double(state["value"]), "trail": negate(state["value"])}

    def body() -> Any:
        done = cf.loop(improve, {"value": 1, "trail": 0}, until=lambda s: s["value"] > 50, max_iterations=20)
        return give(done)

    found = run(body).result()

    assert (found.value, found.iterations) == ({"value": 64, "trail": -32}, 6)


def test_each_iteration_is_a_step_and_runs_once(executions: Executions) -> None:
    @cf.step
    def count(x: int) -> int:
        with executions.recorded():
            return x + 1

    def body() -> Any:
        return cf.loop(count, 0, until=lambda v: v == 200, max_iterations=1000)

    run = cf.workflow(body).run()

    assert run.result().iterations == 200
    assert [e.step for e in executions.read()] == [f"loop[{i}]/count" for i in range(200)]
    assert run.steps().step.tolist() == ["loop", *(f"loop[{i}]/count" for i in range(200))]
    assert run.value("loop[7]/count") == 8


def test_a_loop_lasts_from_its_first_look_to_its_last(run: Any) -> None:
    found = run(lambda: cf.loop(double, 1, until=lambda v: v > 8, max_iterations=9))
    loop, first, last = (found.snapshot().record(name) for name in ("loop", "loop[0]/double", "loop[3]/double"))

    assert (
        (loop.started_at or 0.0) <= (first.started_at or 0.0) < (last.finished_at or 0.0) <= (loop.finished_at or 0.0)
    )
    assert "4 inside" in found.draw().text


def test_a_failed_iteration_ends_the_loop(run: Any) -> None:
    @cf.step
    def step(x: int) -> int:
        if x == 3:
            raise ValueError("three")
        return x + 1

    found = run(lambda: give(cf.loop(step, 0, until=lambda v: v == 9, max_iterations=100)))

    assert failure_of(found).step == "loop[3]/step"
    assert found.steps().set_index("step").status[["loop", "give"]].tolist() == ["skipped", "skipped"]


def test_a_condition_that_raises_fails_the_loop(run: Any) -> None:
    found = run(lambda: cf.loop(double, 1, until=lambda v: v.missing, max_iterations=3))

    assert isinstance(failure_of(found).__cause__, AttributeError)
    assert failure_of(found).step == "loop"


def test_loops_in_a_mapped_workflow_go_their_own_ways(run: Any) -> None:
    @cf.workflow
    def halve(x: int) -> Any:
        return cf.loop(cf.step(lambda v: v // 2, name="half"), x, until=lambda v: v <= 1, max_iterations=50)

    found = run(lambda: halve.map([1, 7, 64])).result()

    assert [each.iterations for each in found] == [0, 2, 6]


# --- what cannot work ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        (lambda: cf.branch(1), cf.ArgumentError, "no arm"),
        (lambda: cf.branch(1, double), cf.ArgumentError, "pair"),  # type: ignore[arg-type]
        (lambda: cf.branch(1, (lambda v: v, 3)), cf.ArgumentError, "pair"),  # type: ignore[arg-type]
        (lambda: cf.branch(1, (bool, double), otherwise=3), cf.ArgumentError, "otherwise="),  # type: ignore[arg-type]
        (lambda: cf.loop(3, 1, until=bool, max_iterations=1), cf.ArgumentError, "body"),  # type: ignore[arg-type]
        (lambda: cf.loop(double, 1, until=True, max_iterations=1), cf.ArgumentError, "until="),  # type: ignore[arg-type]
        (lambda: cf.loop(double, 1, until=bool, max_iterations=-1), cf.InvalidOptionError, "max_iterations"),
        (lambda: cf.loop(double, 1, until=bool, max_iterations=1.5), cf.InvalidOptionError, "max_iterations"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_work_is_refused_at_once(nothing_is_written: None, body: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        body()
    with pytest.raises(error, match=message):
        cf.workflow(body).submit()

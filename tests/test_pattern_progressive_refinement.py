"""``progressive_refinement``: again for what is not good enough yet, and only for that."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
from conftest import failure_of
from executions import Executions

import celeryflow as cf

pytestmark = pytest.mark.usefixtures("runtime")


def halved(x: float) -> float:
    return x / 2


def closeness(x: float) -> float:
    return 1 / (1 + x)


def refinement(**given: Any) -> cf.Workflow[Any, Any]:
    return cf.patterns.progressive_refinement(**{"process": halved, "score": closeness, "threshold": 0.5, **given})


EXPECTED = {
    "items": [0.5, 1.0, 4.0, 0.25],
    "iterations": 3,
    "scores": [[1 / 1.5, 1 / 3, 1 / 17, 0.8], [1 / 1.5, 0.5, 1 / 9, 0.8], [1 / 1.5, 0.5, 0.2, 0.8]],
    "unmet": [2],
    "converged": False,
}


def test_only_what_is_poor_goes_round_again_from_where_it_is(executions: Executions) -> None:
    def process(x: float) -> float:
        executions.note(str(x))
        return x / 2

    run = refinement(process=process).run([1.0, 4.0, 32.0, 0.5])

    assert run.result() == EXPECTED
    assert Counter(executions.notes()) == Counter(["1.0", "4.0", "32.0", "0.5", "2.0", "16.0", "8.0"])
    assert run.steps().set_index("step").loc["loop[1]/process", "items"] == 2
    assert run.phases().phase.tolist() == ["refine"]


def test_it_ends_when_all_items_are_good_enough() -> None:
    found = refinement(max_iterations=50).run([4.0, 1.0], inline=True).result()

    assert (found["items"], found["iterations"], found["unmet"], found["converged"]) == ([1.0, 0.5], 2, [], True)


def test_a_score_of_the_threshold_is_good_enough_and_nothing_converges_at_once() -> None:
    assert refinement(score=lambda x: 0.95, threshold=0.95).run([1.0], inline=True).result()["iterations"] == 1
    assert refinement().run([], inline=True).result() == {
        "items": [], "iterations": 0, "scores": [], "unmet": [], "converged": True
    }  # fmt: skip


@pytest.mark.parametrize(("items", "expected"), [([1.0], "fine"), ([], "fine"), ([99.0], "warned")])
def test_what_came_of_it_is_handed_on(items: list[float], expected: str) -> None:
    run = refinement(
        finalize=lambda found: ("fine", found), finalize_with_warnings=cf.step(lambda found: ("warned", found))
    ).run(items, inline=True)

    said, found = run.result()
    assert said == expected
    assert found == refinement().run(items, inline=True).result()
    assert run.phases().phase.tolist() == ["refine", "finalize"]


def test_one_of_the_two_that_is_not_there_is_passed_by() -> None:
    for given, item in (({"finalize": len}, 99.0), ({"finalize_with_warnings": len}, 1.0)):
        assert refinement(**given).run([item], inline=True).result()["converged"] is (item == 1.0)


def test_a_score_that_is_not_a_number_at_all_is_never_good_enough() -> None:
    found = refinement(score=lambda x: math.nan if x > 1 else 1).run([1.0, 32.0], inline=True).result()

    assert found["unmet"] == [1]
    assert found["scores"][-1][0] == 1.0
    assert math.isnan(found["scores"][-1][1])


@pytest.mark.parametrize("score", [None, "0.9", [0.9], 1j])
def test_what_is_no_score_is_an_error(score: Any) -> None:
    run = refinement(score=lambda x: score if x == 2.0 else 0.1).run([1.0, 4.0], inline=True)

    error = failure_of(run).__cause__
    assert isinstance(error, cf.ArgumentError)
    assert f"the score of item 1 is {score!r}, not a number" in str(error)
    assert run.phases().status.tolist() == ["failure"]


def test_a_round_that_is_done_is_not_done_again(executions: Executions) -> None:
    def process(x: float) -> float:
        with executions.recorded() as here:
            if x == 8.0 and here.attempt == 1:
                raise ConnectionError
            return x / 2

    run = refinement(process=cf.step(process, retries=1, retry_delay_s=0.0)).run([16.0, 4.0])

    assert run.result()["items"] == [2.0, 1.0]
    assert Counter((e.step[:7], e.attempt) for e in executions.read()) == {
        ("loop[0]", 1): 2, ("loop[1]", 1): 2, ("loop[1]", 2): 1, ("loop[2]", 1): 1
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"max_iterations": 0}, cf.InvalidOptionError, "max_iterations of progressive_refinement .* from 1, not 0"),
        ({"max_iterations": -1}, ValueError, "max_iterations"),
        ({"max_iterations": 2.0}, ValueError, "max_iterations"),
        ({"max_iterations": True}, ValueError, "max_iterations"),
        ({"threshold": "high"}, cf.InvalidOptionError, "threshold of progressive_refinement must be a number"),
        ({"threshold": math.nan}, cf.InvalidOptionError, "threshold"),
        ({"score": 0.9}, cf.ArgumentError, "score= of progressive_refinement takes a function, a step or a workflow"),
        ({"process": None}, cf.ArgumentError, "process="),
        ({"finalize_with_warnings": 1}, cf.ArgumentError, "finalize_with_warnings="),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_made(given: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        refinement(**given)


@pytest.mark.parametrize("items", ["abc", 3.0, {1.0}])
def test_items_that_are_no_list_are_refused(nothing_is_written: None, items: Any) -> None:
    with pytest.raises(cf.ArgumentError, match="items of progressive_refinement must be a list"):
        refinement().run(items)


def test_it_is_part_of_other_workflows_and_a_plain_function() -> None:
    numbers = cf.step(lambda: [1.0, 4.0, 32.0, 0.5], name="numbers")
    single = refinement(process=cf.workflow(lambda x: cf.step(halved)(x)), score=cf.step(closeness))

    assert cf.workflow(lambda: single(numbers())).run(inline=True).result() == EXPECTED
    assert single([1.0, 4.0, 32.0, 0.5]) == EXPECTED

"""``scatter_gather``: the best answer that is there in time, and what became of every source."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from conftest import assert_all_workers_are_free, failure_of

import celeryflow as cf
from celeryflow.patterns import scatter_gather

pytestmark = pytest.mark.usefixtures("runtime")


def plus_one(x: int) -> int:
    return x + 1


def times_ten(x: int) -> int:
    return x * 10


def down(x: int) -> int:
    raise ConnectionError("no route")


def slow(x: int) -> int:
    time.sleep(60)
    return x


def test_the_most_wanted_answer_is_taken_whoever_comes_first() -> None:
    later = cf.step(lambda x: [time.sleep(0.2), x][1], name="later")
    run = scatter_gather(sources={"down": down, "later": later, "soon": plus_one}).run(4)

    assert run.result() == {
        "value": 4,
        "chosen": "later",
        "sources": {"down": "failed: ConnectionError: no route", "later": "answered", "soon": "answered"},
    }
    assert (run.status, run.phases().phase.tolist()) == ("success", ["scatter", "gather", "select"])
    assert run.steps().step.tolist() == ["down", "later", "soon", "gather", "tell", "most_wanted"]


def test_late_ones_are_stopped_at_one_deadline_and_workers_are_free_again(tmp_path: Path) -> None:
    cf.map(plus_one, [1, 2]).result()  # the workers are there
    # Two workers: the last ones never start.
    wf = scatter_gather(sources={"soon": plus_one, "a": slow, "b": slow, "c": slow}, deadline_s=1.5)
    started = time.monotonic()
    found = wf.run(4).result()

    assert time.monotonic() - started >= 1.5
    assert found == {
        "value": 5,
        "chosen": "soon",
        "sources": {"soon": "answered", "a": "late", "b": "late", "c": "late"},
    }
    assert_all_workers_are_free(tmp_path)


@pytest.mark.parametrize("inline", [False, True])
@pytest.mark.parametrize("value", [None, 0, "", [], False])
def test_a_falsy_answer_is_one(value: Any, inline: bool) -> None:
    wf = scatter_gather(sources={"down": down, "empty": lambda _: value, "full": plus_one})

    found = wf.run(1, inline=inline).result()

    assert (found["value"], found["chosen"], found["sources"]["empty"]) == (value, "empty", "answered")


def test_too_few_answers_are_an_error_with_the_same_list() -> None:
    cf.map(plus_one, [1, 2]).result()
    run = scatter_gather(sources={"a": plus_one, "b": down, "c": slow}, min_results=2, deadline_s=1.5).run(1)

    error = failure_of(run).__cause__
    assert isinstance(error, cf.TooFewResultsError)
    assert isinstance(error, cf.TooFewAnswersError)
    assert error.sources == {"a": "answered", "b": "failed: ConnectionError: no route", "c": "late"}
    assert "got 1 of the 2 answers" in str(error)
    assert "a: answered; b: failed: ConnectionError: no route; c: late" in str(error)


def test_one_source_that_fails_is_none_of_one() -> None:
    error = failure_of(scatter_gather(sources={"only": down}).run(1)).__cause__

    assert isinstance(error, cf.TooFewAnswersError)
    assert error.sources == {"only": "failed: ConnectionError: no route"}


@pytest.mark.parametrize(
    ("select", "value", "chosen"),
    [
        (lambda answers: max(answers, key=answers.get), 40, "ten"),
        (lambda answers: max(answers.values()), 40, "ten"),
        (lambda answers: sum(answers.values()), 45, None),
        (lambda answers: list(answers), ["one", "ten"], None),
        (cf.step(lambda answers: "one", name="mine", retries=1), 5, "one"),
    ],
)
def test_select_gives_a_name_or_a_value(select: Any, value: Any, chosen: str | None) -> None:
    wf = scatter_gather(sources={"one": plus_one, "down": down, "ten": times_ten}, select=select)

    found = wf.run(4).result()

    assert (found["value"], found["chosen"]) == (value, chosen)
    assert found["sources"]["down"] == "failed: ConnectionError: no route"


def test_sources_may_be_workflows_and_async_and_the_pattern_a_part_of_another(tmp_path: Path) -> None:
    async def waiting(x: int) -> int:
        return x + 100

    @cf.workflow
    def two_steps(x: Any) -> Any:
        return cf.step(plus_one)(cf.step(plus_one)(x))

    @cf.workflow
    def failing(x: Any) -> Any:
        return cf.step(plus_one)(cf.step(down)(x))

    ask = scatter_gather(sources={"broken": failing, "two": two_steps, "async": cf.step(waiting)}, deadline_s=20)

    @cf.workflow
    def twice(x: int) -> Any:
        first = ask(x)
        return ask(first["value"])

    run = twice.run(1)

    assert run.result() == {
        "value": 5,
        "chosen": "two",
        "sources": {"broken": "failed: a step that it needs has failed", "two": "answered", "async": "answered"},
    }


def test_called_as_a_function_it_asks_here() -> None:
    found = scatter_gather(sources={"a": plus_one, "b": times_ten}, select=lambda answers: "b")(3)

    assert found == {"value": 30, "chosen": "b", "sources": {"a": "answered", "b": "answered"}}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"sources": {}}, "sources="),
        ({"sources": [plus_one]}, "sources="),
        ({"sources": {1: plus_one}}, "sources="),
        ({"sources": {"a": 3}}, "a= of scatter_gather"),
        ({"select": 3}, "select= of scatter_gather"),
        ({"deadline_s": 0}, "deadline_s of scatter_gather"),
        ({"deadline_s": None}, "deadline_s of scatter_gather"),
        ({"min_results": 0}, "from 1 to 2"),
        ({"min_results": 3}, "from 1 to 2"),
        ({"min_results": True}, "from 1 to 2"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_made(wrong: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"sources": {"a": plus_one, "b": slow}, **wrong}
    with pytest.raises((cf.ArgumentError, cf.InvalidOptionError), match=message):
        scatter_gather(**given)

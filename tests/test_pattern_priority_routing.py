"""``priority_routing``: each item the way of its class, urgent ones first, and nothing dropped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import failure_of
from executions import Executions, wait_until

import celeryflow as cf
from celeryflow.patterns import Route

pytestmark = pytest.mark.usefixtures("runtime")


def size(item: int) -> str:
    return "critical" if item % 10 == 0 else "bulk" if item % 2 else "standard"


def tenfold(item: int) -> int:
    return item * 10


def negated(items: list[int]) -> list[int]:
    return [-item for item in items]


ROUTES = {
    "critical": Route(tenfold, priority=9),
    "standard": Route(tenfold),
    "bulk": Route(negated, priority=1, batch_size=3),
}


def routing(**given: Any) -> cf.Workflow[Any, Any]:
    return cf.patterns.priority_routing(**{"classify": size, "routes": ROUTES, **given})


def test_results_come_by_route_and_in_the_order_of_the_input() -> None:
    run = routing(combine=dict).run(range(11))

    assert run.result() == {
        "routes": {"critical": [0, 100], "standard": [20, 40, 60, 80], "bulk": [-1, -3, -5, -7, -9]},
        "items": [
            ("critical", 0), ("bulk", -1), ("standard", 20), ("bulk", -3), ("standard", 40), ("bulk", -5),
            ("standard", 60), ("bulk", -7), ("standard", 80), ("bulk", -9), ("critical", 100),
        ],
    }  # fmt: skip
    assert run.phases().phase.tolist() == ["classify", "critical", "standard", "bulk", "combine"]
    steps = run.steps().groupby("phase").priority.unique().to_dict()
    assert {phase: [*found] for phase, found in steps.items()} == {
        "classify": [5], "critical": [9], "standard": [5], "bulk": [1], "combine": [5]
    }  # fmt: skip


def test_batches_are_as_large_as_they_may_be(executions: Executions) -> None:
    def batch(items: list[int]) -> list[int]:
        executions.note(str(len(items)))
        return items

    run = routing(classify=lambda _: "bulk", routes={"bulk": Route(batch, priority=1, batch_size=50)}).run(range(120))

    assert run.result()["routes"]["bulk"] == [*range(120)]
    assert sorted(executions.notes()) == ["20", "50", "50"]


def test_urgent_items_are_told_of_while_the_rest_goes_on(executions: Executions, tmp_path: Path) -> None:
    told = tmp_path / "told"

    def handle(item: int) -> int:
        with executions.recorded():
            return item

    def bulk(items: list[int]) -> list[int]:
        with executions.recorded():
            wait_until(told.exists)
            return items

    def tell(results: list[int]) -> None:
        executions.note(str(results))
        told.touch()

    routes = {
        "bulk": Route(cf.step(bulk, name="bulk"), priority=1, batch_size=2),
        "standard": Route(cf.step(handle, name="standard")),
        "critical": Route(cf.step(handle, name="critical"), priority=9, on_complete=tell),
    }
    run = routing(routes=routes).run(range(31))

    assert len(run.result()["items"]) == 31
    assert executions.notes() == ["[0, 10, 20, 30]"]
    assert max(e.end or 0.0 for e in executions.read("critical")) < min(e.end or 0.0 for e in executions.read("bulk"))


def test_the_steps_of_a_workflow_have_the_priority_of_its_route() -> None:
    @cf.workflow
    def handled(item: int) -> Any:
        return cf.step(tenfold)(cf.step(abs)(item)) if item else 0

    run = routing(classify=lambda _: "all", routes={"all": Route(handled, priority=7)}).run([0, -1])

    assert run.result()["routes"] == {"all": [0, 10]}
    inside = run.steps()[run.steps().step.str.startswith("handled")]
    assert len(inside) == 3
    assert set(inside.priority) == {7}


def test_a_step_with_a_priority_of_its_own_has_that_of_its_route() -> None:
    step = cf.step(tenfold, priority=2)

    graph = routing(routes={"all": Route(step, priority=9, on_complete=step), "rest": step}).graph([1])

    found = [(node.phase, node.spec.priority) for node in graph.nodes if node.name.startswith("tenfold")]
    assert found == [("all", 9), ("all", 9), ("rest", 5)]


def test_routes_without_items_and_no_items_at_all(executions: Executions) -> None:
    def tell(results: list[int]) -> None:
        executions.note(str(results))

    routes = {**ROUTES, "critical": Route(tenfold, on_complete=tell)}
    some = routing(routes=routes).run([2], inline=True)
    none = routing(routes=routes).run([], inline=True)

    assert some.result()["routes"] == {"critical": [], "standard": [20], "bulk": []}
    assert none.result() == {"routes": {"critical": [], "standard": [], "bulk": []}, "items": []}
    assert executions.notes() == ["[]", "[]"]


@pytest.mark.parametrize("unknown", ["urgent", None, ["critical"], float("nan")])
def test_unknown_classes_go_to_the_route_that_is_named_for_them(unknown: Any) -> None:
    run = routing(classify=lambda item: "critical" if item == 1 else unknown, otherwise="standard").run(
        [1, 2], inline=True
    )

    assert run.result()["items"] == [("critical", 10), ("standard", 20)]


def test_an_unknown_class_is_an_error_before_anything_is_handled(executions: Executions) -> None:
    def handle(item: int) -> int:
        executions.note(str(item))
        return item

    run = routing(classify=lambda _: "critcal", routes={"critical": handle}).run([7], inline=True)

    error = failure_of(run).__cause__
    assert isinstance(error, cf.UnknownRouteError)
    assert "item 0 of priority_routing, 7, is of class 'critcal'" in str(error)
    assert "Did you mean 'critical'?" in str(error)
    assert executions.notes() == []


@pytest.mark.parametrize(
    ("returned", "got"),
    [
        ([1, 2], "2 results"),
        ([1, 2, 3, 4], "4 results"),
        (None, "a NoneType"),
        ("abc", "a str"),
        (3, "a int"),
        ({1: 1, 2: 2, 3: 3}, "a dict"),
        ({1, 2, 3}, "a set"),
    ],
)
def test_a_batch_gives_a_result_for_each_item(returned: Any, got: str) -> None:
    run = routing(classify=lambda _: "bulk", routes={"bulk": Route(lambda items: returned, batch_size=3)})

    error = failure_of(run.run([1, 2, 3, 4], inline=True)).__cause__
    assert isinstance(error, cf.ResultCountError)
    assert f"batch 0 of route 'bulk' had 3 items, and its step returned {got}" in str(error)


def test_batches_may_give_arrays_and_tuples() -> None:
    import numpy as np

    routes = {"odd": Route(np.negative, batch_size=2), "even": Route(tuple, batch_size=2)}
    run = routing(classify=lambda x: "odd" if x % 2 else "even", routes=routes).run(np.arange(5), inline=True)

    assert run.result()["routes"] == {"odd": [-1, -3], "even": [0, 2, 4]}


def test_an_item_that_fails_fails_the_run_once_the_others_are_done() -> None:
    def handle(item: int) -> int:
        if item == 10:
            raise OSError("no")
        return item

    run = routing(routes={**ROUTES, "critical": Route(handle, priority=9)}).run(range(12))

    assert isinstance(failure_of(run).__cause__, OSError)
    assert run.phases().status.tolist() == ["success", "failure", "success", "success", "skipped"]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"routes": {}}, cf.ArgumentError, "takes a dict with a Route for each class"),
        ({"routes": [Route(tenfold)]}, cf.ArgumentError, "takes a dict with a Route for each class"),
        ({"routes": {"a": 3}}, cf.ArgumentError, r"routes\['a'\] of priority_routing takes a Route or a step, not 3"),
        ({"otherwise": "bulky"}, cf.InvalidOptionError, "names no route: 'bulky'. Did you mean 'bulk'?"),
        ({"otherwise": ["bulk"]}, cf.InvalidOptionError, "names no route"),
        ({"classify": "size"}, cf.ArgumentError, "classify= of priority_routing"),
        ({"combine": 1}, cf.ArgumentError, "combine= of priority_routing"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_made(given: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        routing(**given)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"step": None}, cf.ArgumentError, "step= of Route"),
        ({"priority": 10}, cf.InvalidOptionError, "priority of a Route must be a whole number from 0 to 9, not 10"),
        ({"priority": "high"}, cf.InvalidOptionError, "priority of a Route"),
        (
            {"batch_size": 0},
            cf.InvalidOptionError,
            "batch_size of a Route must be a whole number from 1, or None, not 0",
        ),
        ({"batch_size": True}, cf.InvalidOptionError, "batch_size"),
        ({"on_complete": "mail"}, cf.ArgumentError, "on_complete= of Route"),
    ],
)
def test_a_route_that_cannot_be_is_refused(given: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Route(**{"step": tenfold, **given})


@pytest.mark.parametrize("items", ["abc", 3, {1, 2}])
def test_items_that_are_no_list_are_refused(nothing_is_written: None, items: Any) -> None:
    with pytest.raises(cf.ArgumentError, match="items of priority_routing must be a list"):
        routing().run(items)


def test_it_is_part_of_other_workflows_and_a_plain_function() -> None:
    numbers = cf.step(lambda: [1, 2], name="numbers")
    run = cf.workflow(lambda: routing()(numbers())["items"]).run(inline=True)

    assert run.result() == routing()([1, 2])["items"] == [("bulk", -1), ("standard", 20)]

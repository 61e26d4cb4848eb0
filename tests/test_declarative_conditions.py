"""Conditions of workflows that are described as data: which steps run, which are skipped and why."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import Runtime

import celeryflow as cf
from celeryflow.declarative import WorkflowEngine, WorkflowStatus, WorkflowStep

pytestmark = pytest.mark.usefixtures("own_names")


@cf.step
def passes(input: Any) -> Any:  # noqa: A002
    return input


@cf.step
def less_one(input: int) -> int:  # noqa: A002
    return input - 1


@cf.step
def arm(**given: Any) -> list[str]:
    return sorted(given)


@cf.step
def either(quick: Any = None, detailed: Any = None) -> tuple[Any, Any]:
    return quick, detailed


@cf.step
def needs_quick(load: Any, quick: Any) -> Any:
    return quick


@cf.step
def breaks() -> None:
    raise ValueError("broken")


def a_step(name: str, task: str, *depends_on: str, condition: Any = None, **parameters: Any) -> WorkflowStep:
    return WorkflowStep(name, f"{__name__}.{task}", parameters, depends_on, 0, condition=condition)


def on(kind: str, threshold: Any = None, **more: Any) -> dict[str, Any]:
    return {"step": "load", "field": "data_size", "type": kind, "threshold": threshold, **more}


@pytest.fixture
def engine() -> WorkflowEngine:
    return WorkflowEngine()


def execute(engine: WorkflowEngine, steps: list[WorkflowStep], given: Any) -> dict[str, Any]:
    engine.register_workflow("chosen", steps)
    execution_id = engine.execute_workflow("chosen", given)
    engine.run(execution_id).wait(20)
    return engine.get_workflow_status(execution_id)


def statuses(status: dict[str, Any]) -> dict[str, str]:
    return {name: step["status"] for name, step in status["steps"].items()}


MISSING = "MissingFieldError: the condition looks at field 'data_size', which is not there"
OWN = [
    a_step("quick", "arm", "load", condition={"field": "data_size", "type": "value_less_than", "threshold": 10}),
    a_step("detailed", "arm", "load", condition={"field": "data_size", "type": "value_greater_than", "threshold": 5}),
]
ROUTED = [
    a_step(
        "route",
        "nothing_is_called",
        "load",
        conditions={
            "small": {"type": "value_less_than", "params": {"field": "data_size", "threshold": 10}, "task": "quick"},
            "large": {
                "type": "value_greater_than",
                "params": {"field": "data_size", "threshold": 5},
                "task": "detailed",
            },
        },
    ),
    a_step("quick", "arm", "load"),
    a_step("detailed", "arm", "load", "route"),
]


@pytest.mark.parametrize("form", ["own", "routed"])
@pytest.mark.parametrize(
    ("size", "chosen", "other"), [(3, "quick", "detailed"), (7, "quick", "detailed"), (30, "detailed", "quick")]
)
def test_the_first_that_holds_runs_and_the_others_are_skipped(
    runtime: Runtime, engine: WorkflowEngine, form: str, size: int, chosen: str, other: str
) -> None:
    """What needs the other alone is skipped, too; what can do with either runs with what there is."""
    steps = [
        a_step("load", "passes"),
        *(OWN if form == "own" else ROUTED),
        a_step("after_quick", "arm", "quick"),
        a_step("after_detailed", "arm", "detailed"),
        a_step("either", "either", "quick", "detailed"),
        a_step("needs_quick", "needs_quick", "load", "quick"),
        a_step("load_and_more", "arm", "load", "after_quick", "after_detailed"),
        a_step("end", "arm", "needs_quick", "either"),
    ]
    status = execute(engine, steps, {"data_size": size})

    assert status["status"] is WorkflowStatus.SUCCESS, status["error"]
    steps_told, is_quick = status["steps"], chosen == "quick"
    expected = {chosen: "success", other: "skipped", f"after_{chosen}": "success", f"after_{other}": "skipped"}
    assert {name: steps_told[name]["status"] for name in expected} == expected
    assert steps_told["either"]["result"][0 if is_quick else 1]
    assert steps_told["either"]["result"][1 if is_quick else 0] is None
    assert steps_told["needs_quick"]["status"] == ("success" if is_quick else "skipped")
    assert steps_told["load_and_more"]["result"] == [f"after_{chosen}", "input", "load"]
    assert steps_told["end"]["result"] == (["either", "input", "needs_quick"] if is_quick else ["either", "input"])
    assert steps_told[other]["reason"] == f"step {chosen!r} was chosen"
    assert steps_told[f"after_{other}"]["reason"] == f"needs {other!r}, which did not run"
    assert status["progress"]["percentage"] == 100.0
    if form == "routed":
        assert steps_told["route"]["result"] == chosen
        assert steps_told["quick"]["level"] == 2


def test_where_no_condition_holds_all_are_skipped(runtime: Runtime, engine: WorkflowEngine) -> None:
    steps = [
        a_step("load", "passes"),
        a_step("quick", "arm", "load", condition=on("<", 0)),
        a_step("detailed", "arm", "load", condition=on(">", 9)),
        a_step("either", "either", "quick", "detailed"),
    ]
    status = execute(engine, steps, {"data_size": 5})
    assert statuses(status) == {"load": "success", "quick": "skipped", "detailed": "skipped", "either": "skipped"}
    assert (status["status"], status["progress"]["percentage"]) == ("success", 100.0)
    assert status["steps"]["quick"]["reason"] == "its condition did not hold"
    assert status["steps"]["either"]["reason"] == "needs 'quick' or 'detailed', which did not run"


def test_conditions_on_different_fields_are_asked_apart(runtime: Runtime, engine: WorkflowEngine) -> None:
    steps = [
        a_step("load", "passes"),
        a_step("quick", "arm", "load", condition=on(">", 1)),
        a_step("detailed", "arm", "load", condition=on(">", 1, field="errors")),
        a_step("whole", "arm", condition={"step": "input", "type": "equals", "value": {"data_size": 5, "errors": 2}}),
        a_step("never", "arm", "load", condition=on("not", condition={"type": "always"})),
    ]
    status = execute(engine, steps, {"data_size": 5, "errors": 2})
    assert statuses(status) == {
        "load": "success", "quick": "success", "detailed": "success", "whole": "success", "never": "skipped",
    }  # fmt: skip


def test_a_step_that_decides_may_have_a_task_whose_result_decides(runtime: Runtime, engine: WorkflowEngine) -> None:
    conditions = {
        "odd": {"type": "in", "values": [1, 3], "task": "quick"},
        "else": {"type": "otherwise", "task": "detailed"},
    }
    steps = [a_step("route", "less_one", conditions=conditions), a_step("quick", "arm"), a_step("detailed", "arm")]
    assert statuses(execute(engine, steps, 4)) == {"route": "success", "quick": "success", "detailed": "skipped"}
    status = execute(engine, steps, 3)
    assert statuses(status) == {"route": "success", "quick": "skipped", "detailed": "success"}
    assert status["steps"]["route"]["result"] == 2


def test_a_step_that_decides_falls_back_on_what_it_depends_on(runtime: Runtime, engine: WorkflowEngine) -> None:
    conditions = {"size": {"type": ">", "field": "data_size", "threshold": 1, "task": "quick"}}
    steps = [
        a_step("load", "passes"),
        a_step("route", "arm", "load", conditions=conditions),
        a_step("quick", "arm", "route"),
    ]
    assert execute(engine, steps, {"data_size": 2})["steps"]["quick"]["result"] == ["input", "route"]


def test_a_condition_may_look_at_what_may_be_skipped(runtime: Runtime, engine: WorkflowEngine) -> None:
    steps = [
        a_step("load", "passes"),
        a_step("quick", "passes", "load", condition=on(">", 1)),
        a_step("inner", "arm", "quick", condition={"field": "data_size", "type": ">", "threshold": 3}),
        a_step("both", "arm", "quick", "inner"),
        a_step("certain", "arm", "inner", "load"),
    ]
    for size, expected in {0: ["skipped"] * 3, 2: ["success", "skipped", "success"], 9: ["success"] * 3}.items():
        status = execute(engine, steps, {"data_size": size})
        assert [status["steps"][name]["status"] for name in ("quick", "inner", "both")] == expected
        assert status["steps"]["certain"]["status"] == "success"


def test_a_failure_is_no_choice(runtime: Runtime, engine: WorkflowEngine) -> None:
    """What could do without either of two waits for none that failed."""
    steps = [
        a_step("load", "passes"),
        a_step("quick", "breaks", "load", condition=on(">", 1)),
        a_step("detailed", "arm", "load", condition=on("<=", 1)),
        a_step("either", "either", "quick", "detailed"),
        a_step("end", "arm", "either"),
    ]
    status = execute(engine, steps, {"data_size": 5})
    assert statuses(status) == {
        "load": "success", "quick": "failure", "detailed": "skipped", "either": "skipped", "end": "skipped",
    }  # fmt: skip
    assert status["status"] is WorkflowStatus.FAILURE
    assert status["steps"]["end"]["reason"] == "needs 'quick', which failed"
    assert status["progress"]["completed_steps"] == 2


@pytest.mark.parametrize("form", ["own", "routed"])
@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"size": 3}, f"{MISSING}: 'load' has size."),
        ("text", f"{MISSING}: 'load' is of type str."),
        ({"data_size": "many"}, "ConditionError: value_less_than cannot compare 'data_size', which is 'many', with 10"),
    ],
)  # fmt: skip
def test_a_condition_that_cannot_be_asked_is_a_failure(
    runtime: Runtime, engine: WorkflowEngine, form: str, given: Any, error: str
) -> None:
    status = execute(
        engine, [a_step("load", "passes"), *(OWN if form == "own" else ROUTED), a_step("x", "arm", "quick")], given
    )
    failed = ["quick", "detailed"] if form == "own" else ["route"]
    assert status["status"] is WorkflowStatus.FAILURE
    assert [name for name, state in statuses(status).items() if state == "failure"] == failed
    assert status["steps"][failed[0]]["error"].startswith(error)
    assert status["steps"]["x"]["reason"] == f"needs {failed[0]!r}, which failed"


# --- each type ---------------------------------------------------------------------------------

HOLD: list[tuple[dict[str, Any], list[Any], list[Any]]] = [
    ({"type": "value_greater_than", "threshold": 2}, [3, 2.5], [2, 1]),
    ({"type": "gt", "params": {"threshold": 2}}, [3], [2]),
    ({"type": "value_less_than", "threshold": 2}, [1], [2, 3]),
    ({"type": "value_at_least", "threshold": 2}, [2, 3], [1]),
    ({"type": "value_greater_or_equal", "threshold": 2}, [2, 3], [1]),
    ({"type": "<=", "threshold": 2}, [1, 2], [3]),
    ({"type": "value_equals", "threshold": "a"}, ["a"], ["b", 1, None]),
    ({"type": "not_equal", "value": 2}, [1, "2"], [2]),
    ({"type": "value_between", "low": 1, "high": 3}, [1, 2, 3], [0.9, 3.1]),
    ({"type": "between", "threshold": [1, 3]}, [2], [4]),
    ({"type": "between", "min": "b", "max": "d"}, ["c"], ["a"]),
    ({"type": "value_in", "values": [1, "a"]}, [1, "a"], [2]),
    ({"type": "value_not_in", "threshold": (1, 2)}, [3], [1]),
    ({"type": "and", "conditions": [{"type": ">", "threshold": 1}, {"type": "<", "threshold": 3}]}, [2], [1, 3]),
    ({"type": "or", "conditions": [{"type": "<", "threshold": 1}, {"type": ">", "threshold": 3}]}, [0, 4], [2]),
    ({"type": "not", "condition": {"type": "in", "values": [1]}}, [2], [1]),
    ({"type": "AND", "conditions": {"a": {"type": "always"}, "b": {"type": "==", "threshold": 1}}}, [1], [2]),
]


def test_each_type_holds_where_it_says(runtime: Runtime, engine: WorkflowEngine) -> None:
    """All of them in one execution: a step for each value and condition, which looks at a field of its own."""
    given, steps, expected = {}, [], {}
    for number, (condition, yes, no) in enumerate(HOLD):
        for place, value in enumerate([*yes, *no]):
            name = f"s{number}_{place}"
            given[name] = {"deep": value}
            steps.append(a_step(name, "arm", condition={**condition, "step": "input", "field": f"{name}.deep"}))
            expected[name] = "success" if place < len(yes) else "skipped"
    assert statuses(execute(engine, steps, given)) == expected


REFUSED: dict[str, tuple[Any, str]] = {
    "no dict": ("data_size > 3", "must be a dict with a type"),
    "no type": ({"field": "x"}, "has no type"),
    "an unknown type": ({"type": "value_greter_than", "threshold": 1}, "Did you mean 'value_greater_than'"),
    "a type that is no name": ({"type": 3}, "has no type 3"),
    "no threshold": ({"type": ">", "field": "x"}, "needs a threshold"),
    "no ends": ({"type": "between", "low": 1}, "needs low and high"),
    "ends the wrong way": ({"type": "between", "low": 3, "high": 1}, "low=3 above high=1"),
    "ends of two kinds": ({"type": "between", "low": 3, "high": "a"}, "cannot be compared"),
    "values as text": ({"type": "in", "values": "abc"}, "needs values, a list"),
    "no parts": ({"type": "and"}, "needs conditions, a list"),
    "empty parts": ({"type": "or", "conditions": []}, "needs conditions, a list"),
    "not of two": ({"type": "not", "conditions": [{"type": "always"}] * 2}, "a single one"),
    "a part that is none": ({"type": "and", "conditions": [{"type": "no"}]}, "part 1 of the condition"),
    "an unknown key": ({"type": ">", "treshold": 1}, "unknown key 'treshold'"),
    "a field that is no name": ({"type": ">", "threshold": 1, "field": 3}, "field of the condition of step 'b'"),
    "params that are none": ({"type": ">", "params": [1]}, "params of the condition of step 'b'"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_condition_that_is_none_is_refused(engine: WorkflowEngine, case: str) -> None:
    condition, message = REFUSED[case]
    with pytest.raises(cf.ConditionError, match=message):
        engine.register_workflow("etl", [a_step("a", "arm"), a_step("b", "arm", "a", condition=condition)])


def test_a_condition_that_could_look_at_several_says_which(engine: WorkflowEngine) -> None:
    for depends_on in ((), ("a", "b")):
        steps = [
            a_step("a", "arm"),
            a_step("b", "arm"),
            a_step("c", "arm", *depends_on, condition={"type": ">", "threshold": 1}),
        ]
        with pytest.raises(cf.ConditionError, match="condition of step 'c' does not say whose value"):
            engine.register_workflow("etl", steps)
    with pytest.raises(cf.UnknownStepError, match="looks at step 'd', which does not exist"):
        engine.register_workflow("etl", [a_step("a", "arm", condition={"type": ">", "threshold": 1, "step": "d"})])


@pytest.mark.parametrize(
    ("entry", "error", "message"),
    [
        ({"type": "always", "task": "nobody"}, cf.UnknownStepError, "condition 'x' of step 'r' runs step 'nobody'"),
        ({"type": "always", "task": "r"}, cf.UnknownStepError, "runs step 'r'"),
        ({"type": "always", "task": 3}, cf.ConditionError, "does not say what it runs"),
        ({"type": "some", "task": "a"}, cf.ConditionError, "condition 'x' of step 'r' has no type 'some'"),
    ],
)
def test_a_step_that_decides_among_what_is_not_there_is_refused(
    engine: WorkflowEngine, entry: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        engine.register_workflow("etl", [a_step("a", "arm"), a_step("r", "arm", conditions={"x": entry})])


def test_a_step_is_decided_about_by_one(engine: WorkflowEngine) -> None:
    routes = [a_step(name, "arm", conditions={"x": {"type": "always", "task": "a"}}) for name in ("r", "s")]
    with pytest.raises(cf.ConditionError, match="'a' runs is decided by both 'r' and 's'"):
        engine.register_workflow("etl", [a_step("a", "arm"), *routes])

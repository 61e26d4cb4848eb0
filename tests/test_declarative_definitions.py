"""Workflows that are described as data: what is refused when they are registered, and what a task's name means."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

import celeryflow as cf
from celeryflow.declarative import WorkflowEngine, WorkflowManager, WorkflowStatus, WorkflowStep

pytestmark = pytest.mark.usefixtures("own_names")


@cf.step
def take(**given: Any) -> dict[str, Any]:
    return given


@cf.step
def scale(values: list[float], factor: float = 1.0) -> list[float]:
    return [value * factor for value in values]


class Shop:
    @staticmethod
    @cf.step
    def order(**given: Any) -> str:
        return "shop"


class Bar:
    @staticmethod
    @cf.step
    def order(**given: Any) -> str:
        return "bar"


TAKE = f"{__name__}.take"


def a_step(name: str = "a", *depends_on: str, task: str = TAKE, **more: Any) -> WorkflowStep:
    return WorkflowStep(name, task, more.pop("parameters", {}), depends_on, **more)


@pytest.fixture
def engine() -> WorkflowEngine:
    return WorkflowEngine()


# --- what cannot work -----------------------------------------------------------------------

CASES: dict[str, tuple[Any, type[Exception], str]] = {
    "no steps": ([], cf.EmptyWorkflowError, "'etl' has no steps"),
    "two of one name": ([a_step(), a_step()], cf.DuplicateNameError, "two steps named 'a'"),
    "an unknown dependency": ([a_step("load"), a_step("b", "laod")], cf.UnknownStepError, "'laod'.*you mean 'load'"),
    "itself": ([a_step("a", "a")], cf.CycleError, "a -> a"),
    "a cycle": ([a_step("a", "c"), a_step("b", "a"), a_step("c", "b")], cf.CycleError, "(a -> b -> c|b -> c|c -> a)"),
    "a cycle by a condition": (
        [a_step("a", condition={"step": "b", "type": "gt", "threshold": 1}), a_step("b", "a")],
        cf.CycleError,
        "(a -> b -> a|b -> a -> b)",
    ),
    "a negative timeout": ([a_step(timeout=-1)], cf.InvalidOptionError, "timeout of step 'a'.*-1"),
    "no time": ([a_step(timeout=0)], cf.InvalidOptionError, "timeout of step 'a'"),
    "a timeout that is text": ([a_step(timeout="soon")], cf.InvalidOptionError, "timeout of step 'a'.*'soon'"),
    "negative retries": ([a_step(retry_count=-1)], cf.InvalidOptionError, "retry_count of step 'a'.*-1"),
    "half a retry": ([a_step(retry_count=1.5)], cf.InvalidOptionError, "retry_count of step 'a'"),
    "a flag as retries": ([a_step(retry_count=True)], cf.InvalidOptionError, "retry_count of step 'a'"),
    "a queue that is none": ([a_step(queue="a b")], cf.InvalidNameError, "queue of step 'a'"),
    "a name that is none": ([a_step("a b")], cf.InvalidNameError, "the name of step 1"),
    "a name that is a number": ([a_step(7)], cf.InvalidNameError, "the name of step 1"),  # type: ignore[arg-type]
    "the input's name": ([a_step("input")], cf.InvalidNameError, "workflow's input"),
    "no task": ([a_step(task="")], cf.InvalidNameError, "task_name of step 'a'"),
    "a task that is none": ([a_step(task=3)], cf.InvalidNameError, "task_name of step 'a'"),  # type: ignore[arg-type]
    "parameters in a list": ([a_step(parameters=[1])], cf.DefinitionError, "parameters of step 'a'"),
    "parameters without names": ([a_step(parameters={1: 2})], cf.DefinitionError, "parameters of step 'a'"),
    "a dependency as text": (
        [a_step("ab"), WorkflowStep("c", TAKE, {}, "ab")],
        cf.DefinitionError,
        "depends_on of step 'c' must be a list",
    ),
    "a dependency twice": ([a_step(), a_step("b", "a", "a")], cf.DuplicateNameError, "step 'b' lists 'a' twice"),
    "a dict for a step": ([{"name": "a"}], cf.DefinitionError, "step 1 of workflow 'etl' must be a WorkflowStep"),
    "a step for a list": (a_step(), cf.DefinitionError, "takes a list"),
    "nothing for a list": (None, cf.DefinitionError, "takes a list"),
    "a parameter named as a dependency": (
        [a_step("load"), a_step("b", "load", parameters={"load": 1})],
        cf.DefinitionError,
        "step 'b' has a parameter 'load'",
    ),
    "an argument that nothing gives": (
        [a_step("load"), a_step("b", "load", task=f"{__name__}.scale")],
        cf.ArgumentError,
        "step 'b'.*needs 'values'.*'input', 'load'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_work_is_refused_and_nothing_is_registered(engine: WorkflowEngine, case: str) -> None:
    steps, error, message = CASES[case]
    with pytest.raises(error, match=message) as caught:
        engine.register_workflow("etl", steps)
    assert isinstance(caught.value, cf.CeleryflowError)
    manager = WorkflowManager(engine)
    assert manager.list_workflows() == []
    with pytest.raises(cf.UnknownWorkflowError, match="'etl'"):
        engine.execute_workflow("etl", {})


@pytest.mark.parametrize("workflow_id", ["", "a b", None, 3])
def test_an_id_that_is_none_is_refused(engine: WorkflowEngine, workflow_id: Any) -> None:
    with pytest.raises(cf.InvalidNameError, match="id of a workflow"):
        engine.register_workflow(workflow_id, [a_step()])


def test_a_workflow_that_is_registered_again_and_wrong_leaves_the_former(engine: WorkflowEngine) -> None:
    engine.register_workflow("etl", [a_step("former")])
    with pytest.raises(cf.CycleError):
        engine.register_workflow("etl", [a_step("a", "a")])
    assert [step["name"] for step in WorkflowManager(engine).get_workflow_info("etl")["steps"]] == ["former"]


# --- what is registered ---------------------------------------------------------------------


def test_the_manager_tells_of_workflows_as_they_were_given(engine: WorkflowEngine) -> None:
    engine.register_workflow(
        "second", [a_step("c", "a", "b"), a_step("a"), a_step("b", "a", queue="slow", timeout=1.5)]
    )
    engine.register_workflow("first", [a_step()])
    manager = WorkflowManager(engine)

    info = manager.get_workflow_info("second")

    assert manager.list_workflows() == ["second", "first"]
    assert (info["workflow_id"], info["total_steps"]) == ("second", 3)
    assert [(step["name"], step["level"]) for step in info["steps"]] == [("c", 2), ("a", 0), ("b", 1)]
    assert info["steps"][2] == {
        "name": "b", "task_name": TAKE, "parameters": {}, "depends_on": ["a"], "retry_count": 3, "timeout": 1.5,
        "queue": "slow", "condition": None, "level": 1,
    }  # fmt: skip
    with pytest.raises(cf.UnknownWorkflowError, match="Did you mean 'first'"):
        manager.get_workflow_info("frist")


def test_a_step_has_the_defaults_that_it_says() -> None:
    step = cf.WorkflowStep("a", "proj.tasks.a", {})
    assert (step.depends_on, step.retry_count, step.timeout, step.queue, step.condition) == (
        (),
        3,
        300,
        "default",
        None,
    )
    assert [status.value for status in cf.WorkflowStatus] == ["pending", "running", "success", "failure", "cancelled"]
    assert cf.WorkflowStatus is WorkflowStatus
    assert cf.declarative.WorkflowEngine is cf.WorkflowEngine


# --- what a name means ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["take", TAKE, f"{__name__}.Shop.order", f"{__name__}.local", "local", "given.name", "partly"]
)
def test_steps_are_found_by_full_and_short_names(engine: WorkflowEngine, name: str) -> None:
    @cf.step
    def local(values: int) -> int:
        return values

    cf.step(lambda values: values, name="given.name")
    cf.step(functools.partial(lambda x, **given: x, 3), name="partly")
    cf.step(take, retries=1)  # the same step, used otherwise
    if "local" in name or name == "given.name":
        with pytest.raises(cf.ArgumentError, match="needs 'values'"):  # so it was found
            engine.register_workflow("etl", [a_step(task=name)])
    engine.register_workflow("etl", [a_step(task=name, parameters={"values": 1})])


def test_a_short_name_of_several_is_refused_with_their_full_names(engine: WorkflowEngine) -> None:
    with pytest.raises(cf.AmbiguousTaskError, match=rf"{__name__}\.Bar\.order, {__name__}\.Shop\.order"):
        engine.register_workflow("etl", [a_step(task="order")])


def test_a_step_that_is_defined_again_takes_the_place_of_the_former(engine: WorkflowEngine) -> None:
    def define(function: Callable[..., Any]) -> None:
        function.__qualname__ = function.__name__ = "again"
        cf.step(function)

    define(lambda values: values)
    with pytest.raises(cf.ArgumentError, match="needs 'values'"):
        engine.register_workflow("etl", [a_step(task="again")])
    define(lambda **given: given)
    engine.register_workflow("etl", [a_step(task="again")])


def test_a_name_whose_module_breaks_is_told(engine: WorkflowEngine, tmp_path: Any, monkeypatch: Any) -> None:
    (tmp_path / "broken_tasks.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(cf.UnknownTaskError, match=r"broken_tasks.clean.*ZeroDivisionError"):
        engine.register_workflow("etl", [a_step(task="broken_tasks.clean")])

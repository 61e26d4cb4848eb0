"""Workflows in JSON and YAML files, and the three that are there under their ids."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import Runtime

import celeryflow as cf
from celeryflow.declarative import WorkflowEngine, WorkflowManager, WorkflowStep


@cf.step
def from_file(input: Any, factor: int = 1) -> Any:  # noqa: A002
    return input * factor


TASK = f"{__name__}.from_file"

YAML = f"""
workflow_id: etl
steps:
  - name: load
    task_name: {TASK}
    parameters: {{factor: 3}}
    timeout: 1.5
  - name: quick
    task_name: {TASK}
    depends_on: [load]
    retry_count: 0
    queue: fast
    condition: {{type: value_less_than, threshold: 10}}
"""


@pytest.fixture
def engine() -> WorkflowEngine:
    engine = WorkflowEngine()
    less = {"type": "value_less_than", "threshold": 10}
    engine.register_workflow(
        "etl",
        [WorkflowStep("load", TASK, {"factor": 3}, timeout=1.5),
         WorkflowStep("quick", TASK, {}, ("load",), 0, queue="fast", condition=less)],
    )  # fmt: skip
    return engine


def ended(engine: WorkflowEngine, workflow_id: str, given: Any = None) -> dict[str, Any]:
    execution_id = engine.execute_workflow(workflow_id, given)
    engine.run(execution_id).wait(30)
    return engine.get_workflow_status(execution_id)


def test_a_workflow_is_read_from_yaml(runtime: Runtime, engine: WorkflowEngine, tmp_path: Path) -> None:
    (tmp_path / "etl.yaml").write_text(YAML)
    loaded = WorkflowEngine.load(tmp_path / "etl.yaml")
    assert loaded.definitions == engine.definitions
    steps = ended(loaded, "etl", 2)["steps"]
    assert [step["result"] for step in steps.values()] == [6, 2]


@pytest.mark.parametrize("name", ["all.json", "all.yaml", "all.YML"])
def test_what_is_saved_is_read_again(engine: WorkflowEngine, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    engine.save(path)
    assert WorkflowEngine.load(str(path)).definitions == engine.definitions

    parameters = {"text": "ä: 'b'\n", "none": None, "deep": [{"x": [1, 2.5, True]}, "2026-11-21", "no", ""]}
    engine.register_workflow("other", [WorkflowStep("a", TASK, parameters, timeout=None)])
    engine.save(path)
    assert WorkflowEngine.load(path).definitions == engine.definitions
    engine.save(path, "other")
    more = WorkflowEngine.load(path)
    assert WorkflowManager(more).list_workflows() == ["other"]
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_an_engine_takes_the_workflows_of_a_file_in(engine: WorkflowEngine, tmp_path: Path) -> None:
    engine.save(tmp_path / "etl.json")
    mine = WorkflowEngine()
    mine.register_workflow("mine", [WorkflowStep("a", TASK, {})])
    assert mine.load(tmp_path / "etl.json") is mine
    assert WorkflowManager(mine).list_workflows() == ["mine", "etl"]


def test_what_is_saved_says_no_more_than_it_has_to(engine: WorkflowEngine, tmp_path: Path) -> None:
    engine.save(tmp_path / "etl.json")
    saved = json.loads((tmp_path / "etl.json").read_text())
    assert saved["workflow_id"] == "etl"
    assert saved["steps"][0] == {"name": "load", "task_name": TASK, "parameters": {"factor": 3}, "timeout": 1.5}


@pytest.mark.parametrize("value", [pd.DataFrame(), {1, 2}, {1: 2}, float("nan"), object()])
def test_what_a_file_cannot_hold_is_named(engine: WorkflowEngine, tmp_path: Path, value: Any) -> None:
    engine.register_workflow("etl", [WorkflowStep("load", TASK, {"deep": [0, {"x": value}]})])
    with pytest.raises(
        cf.DefinitionError, match=r"parameters of step 'load' of workflow 'etl'\['deep'\]\[1\]\['x'\] is"
    ):
        engine.save(tmp_path / "etl.json")
    assert not [*tmp_path.iterdir()]


A = {"name": "a", "task_name": TASK}


def etl(*steps: Any) -> dict[str, Any]:
    return {"workflow_id": "etl", "steps": [*steps]}


FAULTS: dict[str, tuple[Any, type[Exception], str]] = {
    "a list": ([A], cf.DefinitionError, "must have entries"),
    "nothing": (None, cf.DefinitionError, "must have entries"),
    "no id": ({"steps": [A]}, cf.DefinitionError, "has no workflow_id"),
    "no steps": ({"workflow_id": "etl"}, cf.DefinitionError, "has no steps"),
    "empty steps": ({"workflow_id": "etl", "steps": []}, cf.EmptyWorkflowError, "'etl' has no steps"),
    "steps by name": ({"workflow_id": "etl", "steps": {"a": A}}, cf.DefinitionError, "steps must be a list"),
    "another entry": ({"workflow_id": "etl", "stepz": [A]}, cf.DefinitionError, "'stepz'. Did you mean 'steps'"),
    "a step as text": (etl(A, "b"), cf.DefinitionError, r"steps\[1\] must have entries"),
    "a step without a task": (etl({"name": "a"}), cf.DefinitionError, r"steps\[0\] has no task_name"),
    "a step with more": (
        etl(A, {**A, "name": "b", "retries": 3}),
        cf.DefinitionError,
        r"steps\[1\] has an unknown entry 'retries'. Its entries: name, task_name",
    ),
    "a bad timeout": (etl({**A, "timeout": -3}), cf.InvalidOptionError, "timeout of step 'a'"),
    "a cycle": (etl({**A, "depends_on": ["a"]}), cf.CycleError, "a -> a"),
    "a condition": (etl({**A, "condition": {"type": "?"}}), cf.ConditionError, "has no type '?'"),
    "no workflows": ({"workflows": []}, cf.DefinitionError, "at least one"),
    "workflows and more": ({"workflows": [], "steps": []}, cf.DefinitionError, "stand alone"),
    "a bad one of two": (
        {"workflows": [{"workflow_id": "x", "steps": [A]}, {"workflow_id": "y", "steps": [A, A]}]},
        cf.DuplicateNameError,
        r"workflows\[1\]: workflow 'y' has two steps named 'a'",
    ),
    "two of one id": ({"workflows": [etl(A), etl(A)]}, cf.DefinitionError, r"workflows\[1\] has the id 'etl'"),
}  # fmt: skip


@pytest.mark.parametrize("suffix", ["json", "yaml"])
@pytest.mark.parametrize("case", FAULTS)
def test_the_entry_at_fault_is_named_and_nothing_is_loaded(tmp_path: Path, case: str, suffix: str) -> None:
    data, error, message = FAULTS[case]
    path = tmp_path / f"etl.{suffix}"
    path.write_text(json.dumps(data))  # which is YAML, too
    engine = WorkflowEngine()
    with pytest.raises(cf.WorkflowError, match=message) as caught:
        engine.load(path)
    assert isinstance(caught.value, error)
    assert str(caught.value).startswith(str(path))
    assert engine.definitions == {}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "{", "is no JSON.*line 1"),
        ("a.json", '{"workflow_id": "a", "workflow_id": "b"}', "'workflow_id' stands there twice"),
        ("a.json", '{"workflow_id": "a", "steps": NaN}', "NaN is no number"),
        ("a.yaml", "workflow_id: [", "is no YAML.*line 1"),
        ("a.yaml", "workflow_id: a\nsteps:\n- name: a\n  name: b\n", "'name' stands there twice.*line 3"),
        ("a.yaml", "workflow_id: !!python/object/apply:os.getcwd []", "is no YAML"),
        ("a.toml", "", "must end in .json, .yaml, .yml"),
    ],
)
def test_a_file_that_is_none_is_told(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(cf.DefinitionError, match=f"(?s){message}"):
        WorkflowEngine.load(tmp_path / name)


def test_a_path_that_is_none_is_told(tmp_path: Path, engine: WorkflowEngine) -> None:
    for path in (tmp_path / "none.json", tmp_path, tmp_path / "no" / "a.yaml", None, 3):
        with pytest.raises(cf.DefinitionError):
            WorkflowEngine.load(path)
    for path in (tmp_path / "no" / "a.yaml", tmp_path / "a", None):
        with pytest.raises(cf.DefinitionError):
            engine.save(path)
    with pytest.raises(cf.DefinitionError, match="no workflow to save"):
        WorkflowEngine().save(tmp_path / "a.json")


# --- what is shipped ------------------------------------------------------------------------------


def test_data_processing_goes_from_dirty_rows_to_a_message(runtime: Runtime) -> None:
    rows = [
        {"city": " Ulm ", "heat": 1.0},
        {"city": "Bonn", "heat": None},
        {"city": "Ulm", "heat": 1.0},
        {"city": "Bonn", "heat": 5.0},
    ]
    status = ended(WorkflowEngine(), "data_processing", rows)
    steps = status["steps"]
    assert (status["status"], [*steps]) == (
        "success",
        ["validate", "clean", "transform", "analyse", "report", "notify"],
    ), status["error"]
    assert (steps["validate"]["result"]["rows"], steps["validate"]["result"]["missing"]) == (4, 1)
    assert steps["clean"]["result"].to_dict("list") == {"city": ["Ulm", "Bonn", "Bonn"], "heat": [1.0, 3.0, 5.0]}
    assert steps["transform"]["result"]["heat_z"].round(3).tolist() == [-1.225, 0.0, 1.225]
    assert steps["analyse"]["result"]["groups"]["city"]["heat"].to_dict() == {"Bonn": 4.0, "Ulm": 1.0}
    assert "4 rows of 2 columns, 3 of them kept" in steps["report"]["result"]
    assert steps["notify"]["result"]["subject"] == "Data processing is done"


def test_data_processing_takes_what_is_a_table_and_refuses_the_rest(runtime: Runtime) -> None:
    tables = [None, {}, {"rows": 40, "seed": 1}, [3, 1, 2], {"data": {"x": [1, 2], "y": ["a", "b"]}}]
    others = [("text", "not str"), ([], "no rows"), ({"row": 3}, "'row'"), ({"rows": -1}, "rows")]
    engine = WorkflowEngine()
    executions = [engine.execute_workflow("data_processing", given) for given in (*tables, *(o for o, _ in others))]
    for execution_id in executions:
        engine.run(execution_id).wait(30)
    errors = [engine.get_workflow_status(execution_id)["error"] for execution_id in executions]
    assert errors[: len(tables)] == [None] * len(tables)
    for error, (_, message) in zip(errors[len(tables) :], others, strict=True):
        assert "ArgumentError" in error and message in error


@pytest.mark.parametrize(("size", "chosen"), [(999, "quick"), (1000, "detailed")])
def test_conditional_processing_chooses_by_size(runtime: Runtime, size: int, chosen: str) -> None:
    table = pd.DataFrame({"x": range(size), "group": ["a", "b"] * (size // 2) + ["a"] * (size % 2)})
    steps = ended(WorkflowEngine(), "conditional_processing", table)["steps"]
    assert {name for name in ("quick", "detailed") if steps[name]["status"] == "success"} == {chosen}
    found = steps["summarise"]["result"]
    assert (found["data_size"], found["method"]) == (size, chosen)
    means = found["table"].loc["mean"]
    assert means["x"] == (size - 1) / 2
    if chosen == "detailed":
        assert found["table"].loc["low", "x"] < means["x"] < found["table"].loc["high", "x"]
        assert [*found["groups"]["group"].index] == ["a", "b"]


def test_parallel_processing_integrates_both_analyses(runtime: Runtime) -> None:
    engine = WorkflowEngine()
    status = ended(engine, "parallel_processing", {"rows": 300, "seed": 5})
    steps = status["steps"]
    assert status["status"] == "success", status["error"]
    assert [step["level"] for step in steps.values()] == [0, 1, 1, 1, 2, 2, 3, 4, 4]
    orders = steps["prepare_orders"]["result"]
    assert steps["integrate"]["result"]["revenue"] == pytest.approx((orders["quantity"] * orders["price"]).sum())
    assert steps["analyse_customers"]["result"]["orders"].sum() == len(orders)
    thin = steps["analyse_products"]["result"].query("margin < 0.34").index
    assert {alert.partition(":")[0] for alert in steps["alerts"]["result"] if "margin" in alert} == {*thin}
    assert steps["dashboard"]["result"].count("\n") == len(steps["analyse_products"]["result"])


def test_the_shipped_ones_are_there_and_not_listed() -> None:
    manager = WorkflowManager(WorkflowEngine())
    assert manager.list_workflows() == []
    totals = [
        manager.get_workflow_info(f"{name}_processing")["total_steps"] for name in ("data", "conditional", "parallel")
    ]
    assert totals == [6, 5, 9]
    with pytest.raises(cf.UnknownWorkflowError, match="Did you mean 'data_processing'"):
        manager.get_workflow_info("dataprocessing")

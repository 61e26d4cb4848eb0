"""Workflows that are described as data, executed by real workers: how they stand, fail, stop, and are cleaned up."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from conftest import Runtime, assert_all_workers_are_free, stored_keys
from executions import wait_until

import celeryflow as cf
from celeryflow.declarative import WorkflowEngine, WorkflowManager, WorkflowStatus, WorkflowStep

pytestmark = pytest.mark.usefixtures("runtime", "own_names")


@cf.step
def everything(**given: Any) -> dict[str, Any]:
    return given


@cf.step
def wait_for_file(path: str) -> str:
    wait_until(lambda: Path(path).exists())
    return path


@cf.step
def touch(path: str, **given: Any) -> str:
    Path(path).touch()
    return path


@cf.step
def refuse(because: str) -> None:
    raise ValueError(because)


@pytest.fixture
def engine() -> WorkflowEngine:
    return WorkflowEngine()


def a_step(name: str, task: str, *depends_on: str, retries: int = 0, **parameters: Any) -> WorkflowStep:
    return WorkflowStep(name, f"{__name__}.{task}", parameters, depends_on, retries)


def ended(engine: WorkflowEngine, execution_id: str) -> dict[str, Any]:
    """How an execution stands once it is over."""
    engine.run(execution_id).wait(20)
    return engine.get_workflow_status(execution_id)


def statuses(status: dict[str, Any]) -> dict[str, str]:
    return {name: step["status"] for name, step in status["steps"].items()}


def test_an_execution_tells_how_each_of_its_steps_went(engine: WorkflowEngine) -> None:
    begun = datetime.now(UTC)
    steps = [a_step("sum", "total", "left", "right"), a_step("left", "number", n=1), a_step("right", "number", n=2)]

    @cf.step
    def number(input: int, n: int) -> int:  # noqa: A002
        return input * n

    @cf.step
    def total(left: int, right: int) -> int:
        return left + right

    local = [WorkflowStep(s.name, s.task_name.rpartition(".")[2], s.parameters, s.depends_on, 0) for s in steps]
    engine.register_workflow("sums", local)
    execution_id = engine.execute_workflow("sums", 10)
    status = ended(engine, execution_id)

    assert (status["execution_id"], status["workflow_id"], status["error"]) == (execution_id, "sums", None)
    assert status["status"] is WorkflowStatus.SUCCESS
    assert status["progress"] == {"completed_steps": 3, "total_steps": 3, "percentage": 100.0}
    last = status["steps"]["sum"]
    assert {name: (step["result"], step["level"]) for name, step in status["steps"].items()} == {
        "left": (10, 0),
        "right": (20, 0),
        "sum": (30, 1),
    }
    assert (last["status"], last["error"], last["reason"], last["attempts"]) == ("success", None, None, 1)
    assert begun < status["submitted_at"] <= status["started_at"] <= last["started_at"] <= last["finished_at"]
    assert last["finished_at"] <= status["finished_at"]
    assert status["steps"]["left"]["finished_at"] <= last["started_at"]
    assert 0 <= last["duration_s"] <= status["duration_s"]


def test_a_step_gets_what_it_accepts_and_no_more(engine: WorkflowEngine) -> None:
    @cf.step
    def few(rows: int, /, first: int, *, factor: int = 1, self: int = 0) -> tuple[int, ...]:
        return rows, first, factor, self

    @cf.step
    async def none() -> str:
        return "none"

    engine.register_workflow(
        "fits",
        [
            a_step("first", "everything", n=1),
            WorkflowStep("self", "none", {}, retry_count=0),
            WorkflowStep("few", "few", {"rows": 3, "factor": 2, "surplus": 9}, ["first", "self"], retry_count=0),
            a_step("all", "everything", "first", "few", input="a parameter", extra=[1]),
        ],
    )
    steps = ended(engine, engine.execute_workflow("fits", {"x": 1}))["steps"]

    first = {"input": {"x": 1}, "n": 1}
    assert steps["few"]["result"] == (3, first, 2, "none")
    assert steps["all"]["result"] == {
        "input": "a parameter",
        "first": first,
        "few": steps["few"]["result"],
        "extra": [1],
    }


def test_a_step_starts_when_its_own_dependencies_have_ended(engine: WorkflowEngine, tmp_path: Path) -> None:
    """The slow root waits for a step two levels below it."""
    flag = str(tmp_path / "flag")
    engine.register_workflow(
        "levels",
        [a_step("slow", "wait_for_file", path=flag), a_step("a", "everything"), a_step("b", "everything", "a"),
         a_step("c", "touch", "b", path=flag), a_step("end", "everything", "slow", "c")],
    )  # fmt: skip
    status = ended(engine, engine.execute_workflow("levels"))
    assert status["status"] == WorkflowStatus.SUCCESS
    assert {name: step["level"] for name, step in status["steps"].items()} == {
        "slow": 0, "a": 0, "b": 1, "c": 2, "end": 3,
    }  # fmt: skip


def test_each_step_has_its_own_retries_timeout_and_queue(engine: WorkflowEngine) -> None:
    @cf.step(retry_delay_s=0.01)
    def third_time() -> int:
        if cf.current().attempt < 3:
            raise OSError("not yet")
        return cf.current().attempt

    @cf.step(retries=5, timeout_s=100, queue="other")
    def slow() -> None:
        time.sleep(60)

    engine.register_workflow(
        "limits",
        [
            WorkflowStep("often", "third_time", {}, retry_count=2, timeout=None, queue="special"),
            WorkflowStep("once", "third_time", {}, retry_count=0),
            WorkflowStep("slow", "slow", {}, retry_count=0, timeout=0.2),
        ],
    )
    execution_id = engine.execute_workflow("limits")
    status = ended(engine, execution_id)

    assert statuses(status) == {"often": "success", "once": "failure", "slow": "failure"}
    steps = status["steps"]
    assert (steps["often"]["result"], steps["often"]["attempts"], steps["once"]["attempts"]) == (3, 3, 1)
    assert "OSError: not yet" in steps["once"]["error"]
    assert "StepTimeoutError" in steps["slow"]["error"] and "0.2 s" in steps["slow"]["error"], steps["slow"]["error"]
    frame = engine.run(execution_id).steps().set_index("step")
    assert frame.queue.to_dict() == {"often": "special", "once": "default", "slow": "default"}


def test_a_failure_skips_what_needs_it_and_lets_the_rest_end(engine: WorkflowEngine) -> None:
    engine.register_workflow(
        "partly",
        [a_step("bad", "refuse", because="no rows"), a_step("after", "everything", "bad"),
         a_step("last", "everything", "after"), a_step("good", "everything")],
    )  # fmt: skip
    status = ended(engine, engine.execute_workflow("partly"))

    assert status["status"] is WorkflowStatus.FAILURE
    assert statuses(status) == {"bad": "failure", "after": "skipped", "last": "skipped", "good": "success"}
    assert status["progress"] == {"completed_steps": 1, "total_steps": 4, "percentage": 25.0}
    assert status["steps"]["bad"]["error"] == "ValueError: no rows"
    assert status["error"] == "step 'bad': ValueError: no rows"
    assert status["steps"]["last"]["reason"] == "needs 'bad', which failed"


def test_cancel_stops_what_runs(engine: WorkflowEngine, tmp_path: Path) -> None:
    started = tmp_path / "started"
    engine.register_workflow(
        "endless",
        [a_step("go", "touch", path=str(started)), a_step("wait", "wait_for_file", "go", path=str(tmp_path / "never")),
         a_step("after", "everything", "wait")],
    )  # fmt: skip
    execution_id = engine.execute_workflow("endless")
    wait_until(lambda: statuses(engine.get_workflow_status(execution_id))["wait"] == "running")
    assert engine.get_workflow_status(execution_id)["status"] is WorkflowStatus.RUNNING

    assert engine.cancel_workflow(execution_id, "changed my mind")

    status = engine.get_workflow_status(execution_id)
    assert status["status"] is WorkflowStatus.CANCELLED
    assert statuses(status) == {"go": "success", "wait": "cancelled", "after": "cancelled"}
    assert status["steps"]["wait"]["reason"] == "changed my mind"
    assert status["progress"]["completed_steps"] == 1
    assert_all_workers_are_free(tmp_path)
    assert not engine.cancel_workflow(execution_id)
    assert engine.get_workflow_status(execution_id) == status


def test_another_process_sees_the_same_executions_and_can_stop_them(
    engine: WorkflowEngine, tmp_path: Path, runtime: Runtime, kernel: Callable[..., Any]
) -> None:
    engine.register_workflow(
        "mine", [a_step("a", "everything"), a_step("b", "wait_for_file", path=str(tmp_path / "x"))]
    )
    execution_id, other = engine.execute_workflow("mine", {"n": 1}), engine.execute_workflow("mine")
    assert execution_id != other
    wait_until(lambda: statuses(engine.get_workflow_status(execution_id))["a"] == "success")

    status, history, is_cancelled, unknown = kernel(
        f"""
        from celeryflow.declarative import WorkflowEngine
        engine = WorkflowEngine()
        status = engine.get_workflow_status({execution_id!r})
        history = engine.get_execution_history("mine")
        answer = [status, history, engine.cancel_workflow({execution_id!r})]
        try:
            engine.execute_workflow("mine")
        except cf.UnknownWorkflowError as error:
            answer.append(str(error))
        answer = json.loads(json.dumps(answer, default=str))
        """,
        directory=runtime.directory,
        XDG_STATE_HOME=str(runtime.state),
    )

    assert (status["workflow_id"], status["status"]) == ("mine", "running")
    assert status["steps"]["a"]["result"] == {"input": {"n": 1}}
    assert {row["execution_id"] for row in history} == {execution_id, other}
    assert is_cancelled
    assert "no workflow 'mine'" in unknown
    assert engine.get_workflow_status(execution_id)["status"] is WorkflowStatus.CANCELLED
    engine.cancel_workflow(other)


def test_the_manager_stops_and_deletes_executions(engine: WorkflowEngine, tmp_path: Path) -> None:
    manager = WorkflowManager(engine)
    manager.cancel_all_executions()
    manager.cleanup_completed_executions(0)
    before = stored_keys()
    engine.register_workflow("quick", [a_step("a", "everything")])
    engine.register_workflow("bad", [a_step("a", "refuse", because="no")])
    engine.register_workflow("endless", [a_step("a", "wait_for_file", path=str(tmp_path / "never"))])
    plain = cf.workflow(lambda: everything(), name="endless").run()
    done = [engine.execute_workflow(name) for name in ("quick", "bad", "endless")]
    for execution_id in done[:2]:
        ended(engine, execution_id)

    assert [row["execution_id"] for row in engine.get_execution_history()] == done[::-1]
    assert [row["execution_id"] for row in engine.get_execution_history("bad")] == [done[1]]
    assert manager.cleanup_completed_executions() == 0
    assert manager.cancel_all_executions() == 1
    assert manager.cancel_all_executions() == 0
    history = engine.get_execution_history()
    assert [row["status"] for row in history] == [
        WorkflowStatus.CANCELLED,
        WorkflowStatus.FAILURE,
        WorkflowStatus.SUCCESS,
    ]
    assert [row["workflow_id"] for row in history] == ["endless", "bad", "quick"]
    assert all(row["finished_at"] >= row["submitted_at"] and row["duration_s"] >= 0 for row in history)
    assert manager.cleanup_completed_executions(max_age_hours=1) == 0
    assert manager.cleanup_completed_executions(max_age_hours=0) == 3
    assert manager.cleanup_completed_executions(max_age_hours=0) == 0

    assert engine.get_execution_history() == []
    assert plain.id in cf.history()["run"].tolist()
    with pytest.raises(cf.UnknownExecutionError, match=done[0]):
        engine.get_workflow_status(done[0])
    # The list of what was ready of a cancelled one goes when a worker comes by it.
    wait_until(lambda: not any(execution.encode() in key for key in stored_keys() - before for execution in done))


@pytest.mark.parametrize("age", [-1, "a day", float("nan"), True, None])
def test_an_age_that_is_none_is_refused(engine: WorkflowEngine, age: Any) -> None:
    with pytest.raises(cf.InvalidOptionError, match="max_age_hours"):
        WorkflowManager(engine).cleanup_completed_executions(age)


def test_what_is_no_execution_is_told(engine: WorkflowEngine) -> None:
    run = cf.workflow(lambda: everything(), name="plain").run()
    for execution_id in (run.id, "nothing", "etl-x0123456789ab", "", None, 3):
        for ask in (engine.get_workflow_status, engine.cancel_workflow):
            with pytest.raises(cf.UnknownExecutionError) as caught:
                ask(execution_id)  # type: ignore[operator]
            assert repr(execution_id) in str(caught.value)
            assert isinstance(caught.value, cf.UnknownRunError)


def test_an_unknown_task_is_told_within_three_seconds(engine: WorkflowEngine) -> None:
    engine.register_workflow("etl", [a_step("a", "everythin")])
    begun = time.monotonic()
    with pytest.raises(cf.UnknownTaskError, match=r"step 'a' of workflow 'etl'.*everythin.*Did you mean") as caught:
        engine.execute_workflow("etl")
    assert time.monotonic() - begun < 3
    assert "celeryflow worker -A" in str(caught.value)
    assert engine.get_execution_history("etl") == []


def test_a_step_defined_anew_is_what_runs(engine: WorkflowEngine) -> None:
    def define(value: int) -> None:
        @cf.step
        def edited(missing: int = 0) -> int:
            return value

    define(1)
    engine.register_workflow("edited", [WorkflowStep("a", "edited", {}, retry_count=0)])
    define(2)
    assert ended(engine, engine.execute_workflow("edited"))["steps"]["a"]["result"] == 2


def test_a_failed_execution_can_be_resumed(engine: WorkflowEngine, tmp_path: Path) -> None:
    @cf.step
    def once_there(path: str) -> str:
        return Path(path).read_text()

    engine.register_workflow("mended", [
        a_step("a", "everything"), WorkflowStep("b", "once_there", {"path": str(tmp_path / "b")}, ("a",), 0),
        a_step("c", "everything", "b"),
    ])  # fmt: skip
    execution_id = engine.execute_workflow("mended")
    assert ended(engine, execution_id)["progress"]["completed_steps"] == 1
    (tmp_path / "b").write_text("there")
    engine.run(execution_id).resume()
    status = ended(engine, execution_id)
    assert status["steps"]["c"]["result"] == {"input": None, "b": "there"}
    assert (status["progress"]["percentage"], status["steps"]["a"]["attempts"]) == (100.0, 1)


def test_a_status_can_be_written_as_json(engine: WorkflowEngine) -> None:
    engine.register_workflow("plain", [a_step("a", "everything", n=1)])
    status = json.loads(json.dumps(ended(engine, engine.execute_workflow("plain", [1])), default=str))
    assert (status["status"], status["steps"]["a"]["result"]) == ("success", {"input": [1], "n": 1})

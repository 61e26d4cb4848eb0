"""``workflow.options(…)`` and ``@cf.workflow(…)``: names, labels, priorities and time limits of runs."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import WORKERS, assert_all_workers_are_free
from executions import Executions, wait_until
from flows import double, fail, wait_for, works
from shell import opened

import celeryflow as cf

pytestmark = pytest.mark.usefixtures("runtime")

NAN, INF = float("nan"), float("inf")
BAD_TIMES = [0, -1, -0.5, NAN, INF, "5", True, [1]]


@pytest.fixture
def all_are_busy(tmp_path: Path) -> Iterator[Any]:
    """A context in which every worker process has something else to do."""

    @contextmanager
    def busy() -> Iterator[None]:
        gate = tmp_path / "gate"
        run = cf.map(wait_for, [str(gate)] * WORKERS, name="busy")
        wait_until(lambda: (run.items("busy").status == "running").sum() == WORKERS)
        yield
        gate.touch()
        run.wait()

    return busy


# --- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("deadline_s", BAD_TIMES),
        ("timeout_s", BAD_TIMES),
        ("priority", [-1, 10, 5.0, NAN, "5", True, None]),
        ("fail_fast", [None, 1, "yes"]),
    ],
)
def test_options_out_of_range_are_refused_at_once(option: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(cf.InvalidOptionError, match=f"{option} of workflow 'works' must be"):
            works.options(**{option: value})


@pytest.mark.parametrize("text", ["", "a b", "für", "a/b", "a|b", "a\nb", "x" * 201, 3, b"a", ["a"]], ids=repr)
def test_odd_characters_in_ids_and_names_are_refused(text: Any) -> None:
    for option in ("tenant", "job_id", "name"):
        with pytest.raises(cf.InvalidNameError, match=f"{option} of workflow 'works'"):
            works.options(**{option: text})


def test_an_unknown_option_gets_did_you_mean() -> None:
    with pytest.raises(cf.InvalidOptionError, match=r"'works' has no option 'deadline'. Did you mean 'deadline_s'\?"):
        works.options(deadline=3)
    with pytest.raises(cf.InvalidOptionError, match="Its options: fail_fast"):
        works.options(colour="red")


@pytest.mark.parametrize("seconds", BAD_TIMES, ids=str)
def test_the_decorator_refuses_them_too(seconds: Any) -> None:
    with pytest.raises(cf.InvalidOptionError, match="deadline_s of workflow"):
        cf.workflow(deadline_s=seconds)(lambda: 1)


def test_options_leave_the_workflow_as_it_was() -> None:
    other = works.options(name="other", priority=9)

    assert (works.graph(1).name, other.graph(1).name) == ("works", "other")
    assert [n.spec.priority for n in works.graph(1).nodes] == [5, 5]
    assert [n.spec.priority for n in other.options(tenant="x").graph(1).nodes] == [9, 9]
    assert other(3) == works(3) == 12


def test_options_of_a_run_are_not_for_a_part_of_one() -> None:
    part = works.options(priority=9)

    for body in (lambda: part(1), lambda: part.map([1, 2])):
        with pytest.raises(cf.WorkflowError, match="'works' has options of a run"):
            cf.workflow(body).graph()


# --- names, tenants, priorities ----------------------------------------------------------------------------------


def test_history_shows_name_and_tenant() -> None:
    plain, run = works.run(1), works.options(name="nightly", tenant="sales.north").run(2)

    row = cf.history().set_index("run").loc[run.id]
    assert run.id.startswith("nightly-")
    assert (row.workflow, row.tenant, row.status) == ("nightly", "sales.north", "success")
    assert cf.history().set_index("run").tenant.isna()[plain.id]


def test_the_runs_priority_is_that_of_steps_without_one() -> None:
    own = double.options(priority=2)

    @cf.workflow
    def inner(x: int) -> Any:
        return double(x) if x else own(x)

    def body() -> Any:
        value = own(1)
        return double(value), double.options(retries=1)(value), double.map([1]), inner(value), inner.map([0])

    steps = cf.workflow(body, name="mixed").options(priority=8).run().steps().set_index("step").priority

    # What inner calls is traced in a worker, where its value is known.
    assert steps.drop(["double", "inner-2[0]/double"]).unique().tolist() == [8]
    assert steps[["double", "inner-2[0]/double"]].tolist() == [2, 2]
    assert len(steps) == 8


def test_fail_fast_of_one_run(tmp_path: Path) -> None:
    never = str(tmp_path / "never")
    wf = cf.workflow(lambda: (wait_for(never), fail("luck")), name="quick")

    run = wf.options(fail_fast=True).run()

    assert (run.status, run.steps().status.tolist()) == ("failure", ["cancelled", "failure"])
    with pytest.raises(cf.StepFailedError, match="bad luck"):
        run.result()


# --- time limits -------------------------------------------------------------------------------------------------


def test_a_deadline_stops_what_runs(executions: Executions, tmp_path: Path) -> None:
    @cf.step
    def stuck(i: int) -> None:
        with executions.recorded():
            time.sleep(60)

    wf = cf.workflow(lambda: (double(1), double(stuck.map([1, 2]))), name="late")
    began = time.monotonic()
    run = wf.options(deadline_s=1).run()
    took_s = time.monotonic() - began

    assert 1 <= took_s < 5
    assert (run.status, run.value("double")) == ("failure", 2)
    with pytest.raises(cf.RunTimeoutError, match="deadline_s of 1 s") as caught:
        run.result()
    assert isinstance(caught.value, TimeoutError)
    assert run.steps().set_index("step").status.to_dict() == {
        "double": "success", "stuck": "cancelled", "double-2": "cancelled"
    }  # fmt: skip
    errors = run.errors()
    assert (
        errors[["step", "kind", "error", "attempt"]].values.tolist()
        == [["stuck", "deadline", "RunTimeoutError", 1]] * 2
    )
    assert errors["index"].tolist() == [0, 1]
    assert errors.message.str.contains("deadline_s of 1 s").all()
    assert errors.worker.notna().all()
    assert_all_workers_are_free(tmp_path)
    assert [e.end for e in executions.read()] == [None, None]


def test_deadline_s_counts_from_the_submit_and_timeout_s_from_the_first_step(all_are_busy: Any) -> None:
    with all_are_busy():
        late = works.options(deadline_s=0.7).submit(1)
        patient = works.options(timeout_s=0.7).submit(2)
        with pytest.raises(cf.RunTimeoutError, match=r"deadline_s of 0.7 s"):
            late.result(timeout_s=5)
        assert patient.status == "pending"

    assert patient.result() == 8
    # Nothing of it ran, which is the reason.
    assert late.errors()[["step", "kind", "attempt"]].values.tolist() == [["double", "deadline", 0]]
    assert late.steps().attempts.tolist() == [0, 0]


def test_timeout_s_ends_a_run(tmp_path: Path) -> None:
    never = str(tmp_path / "never")
    run = cf.workflow(lambda: wait_for(never), name="slow").options(timeout_s=0.5).run()

    with pytest.raises(cf.RunTimeoutError, match=r"timeout_s of 0.5 s"):
        run.result()
    assert run.errors().kind.tolist() == ["deadline"]


def test_the_limits_of_the_decorator_and_the_shorter_one_counts(tmp_path: Path) -> None:
    @cf.workflow(deadline_s=60, timeout_s=50, fail_fast=True)
    def slow(path: str) -> Any:
        return wait_for(path)

    graph = slow.graph("x")
    assert (graph.deadline_s, graph.timeout_s, graph.fail_fast) == (60, 50, True)
    with pytest.raises(cf.RunTimeoutError, match=r"deadline_s of 0.5 s"):
        slow.options(deadline_s=0.5).run(str(tmp_path / "never"), check=True)
    assert slow.options(deadline_s=None).graph("x").deadline_s is None


def test_a_run_that_ends_in_time_stays_as_it_is(runtime: Any) -> None:
    run = works.options(deadline_s=1, timeout_s=1).run(1)

    time.sleep(1.5)
    assert cf.attach(run.id).status == run.status == "success"
    assert run.result() == 4


def test_a_resumed_run_has_its_time_anew(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    run = cf.workflow(lambda: double(wait_for(str(gate))), name="again").options(deadline_s=1).run()
    assert run.status == "failure"
    assert run.resume().wait(timeout_s=5).status == "failure"
    assert run.errors().kind.tolist() == ["deadline"]

    threading.Timer(0.3, gate.touch).start()
    run.resume()

    assert run.result() == 2 * str(gate)
    assert run.errors().empty


def test_where_nobody_works_those_who_wait_and_look_end_it(tmp_path: Path) -> None:
    program = """
import json, time
import celeryflow as cf

@cf.step
def one():
    return 1

wf = cf.workflow(lambda: one(), name="alone").options(deadline_s=1)
began = time.monotonic()
waited, seen, listed = wf.submit(), wf.submit(), wf.submit()
try:
    waited.result()
except cf.RunTimeoutError as error:
    text = str(error)
print(json.dumps([text, time.monotonic() - began, seen.status, cf.history().status.astype(str).tolist()]))
"""
    with opened(tmp_path) as shell:
        assert shell("up", "-c", "0").returncode == 0
        done = shell(source=program)
        assert done.returncode == 0, done.stderr
        text, seconds, seen, history = json.loads(done.stdout)

    assert "deadline_s of 1 s" in text
    assert 1 <= seconds < 4
    assert (seen, history) == ("failure", ["failure"] * 3)

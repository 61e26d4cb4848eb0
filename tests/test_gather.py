"""``cf.gather``: what is there by the deadline, and why the rest is missing."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from conftest import assert_all_workers_are_free, failure_of
from executions import Executions, wait_until

import celeryflow as cf
from celeryflow.values.gathered import MISSING

pytestmark = pytest.mark.usefixtures("runtime")


@cf.step
def double(x: Any) -> Any:
    if x is None:
        raise ValueError("nothing to double")
    return 2 * x


@cf.step
def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@cf.step
def told(found: Any) -> Any:
    return found.as_dict(), found.missing


@pytest.mark.parametrize("inline", [False, True])
def test_what_failed_is_missing_and_does_not_fail_the_run(inline: bool) -> None:
    run = cf.workflow(lambda: told(cf.gather([double(1), double(None), double(double(None)), double(3)]))).run(
        inline=inline
    )
    values, missing = run.result()

    assert values == {0: 2, 3: 6}
    assert missing == {1: "failed: ValueError: nothing to double", 2: "skipped"}
    assert run.status == "success"
    assert run.errors().step.tolist() == ["double-2", "double-3"]


@pytest.mark.parametrize("inline", [False, True])
def test_a_dict_of_refs_keeps_its_keys_and_a_map_its_indices(inline: bool) -> None:
    def body() -> Any:
        named = cf.gather({"a": double(1), "b": double(None)})
        mapped = cf.gather(double.map([1, None, 3]))
        keyed = cf.gather(double.map({"x": None, "y": 2}))
        return [told(named), told(mapped), told(keyed), mapped]

    named, mapped, keyed, found = cf.workflow(body).run(inline=inline).result()

    assert named == ({"a": 2}, {"b": "failed: ValueError: nothing to double"})
    assert mapped == ({0: 2, 2: 6}, {1: "failed: ValueError: nothing to double"})
    assert keyed == ({"y": 4}, {"x": "failed: ValueError: nothing to double"})
    assert (list(found), found.indices, len(found)) == ([2, 6], [0, 2], 2)


def test_a_failure_that_something_else_needs_fails_the_run() -> None:
    def body() -> Any:
        bad = double(None)
        return told(cf.gather([bad])), bad

    run = cf.workflow(body).run()

    assert run.status == "failure"
    assert run.value("told") == ({}, {0: "failed: ValueError: nothing to double"})


def test_fail_fast_minds_only_failures_that_count() -> None:
    def body() -> Any:
        return told(cf.gather([double(None), double(1)])), double(2)

    assert cf.workflow(fail_fast=True)(body).run().result()[1] == 4


def test_fewer_than_needed_is_an_error_that_lists_what_is_missing() -> None:
    run = cf.workflow(lambda: told(cf.gather({"a": double(1), "b": double(None)}, min_results=2))).run()

    assert isinstance(failure_of(run).__cause__, cf.TooFewResultsError)
    assert "got 1 results" in str(failure_of(run))
    assert "b: failed: ValueError: nothing to double" in str(failure_of(run))


def test_large_values_pass_through_unread() -> None:
    np = pytest.importorskip("numpy")
    make = cf.step(lambda n: np.full(200_000, n), name="make")
    total = cf.step(lambda found: [int(each.sum()) for each in found], name="total")

    run = cf.workflow(lambda: total(cf.gather([make(1), make(2)]))).run()

    assert run.result() == [200_000, 400_000]
    assert run.steps().set_index("step").output_bytes["gather"] < 1000


# --- deadlines -------------------------------------------------------------------------------------


def test_the_deadline_comes_with_every_worker_busy(executions: Executions, tmp_path: Path) -> None:
    @cf.step
    def work(seconds: float) -> float:
        with executions.recorded():
            time.sleep(seconds)
        return seconds

    def body() -> Any:
        return told(cf.gather([work(0.01), work(60), work(61), work(62)], deadline_s=1.5))

    double.map([0])
    cf.map(double, [1, 2]).result()  # the workers are there
    started = time.monotonic()
    run = cf.workflow(body).submit()
    wait_until(lambda: run.steps().set_index("step").status["gather"] == "success")
    fired_after = time.monotonic() - started
    values, missing = run.result()

    assert 1.5 <= fired_after < 1.5 + 0.3 + 0.5  # half a second for looking at it
    assert values == {0: 0.01}
    assert missing == {1: "late: still running", 2: "late: still running", 3: "never started"}
    assert run.steps().set_index("step").status[["work", "work-2", "work-3", "work-4"]].tolist() == [
        "success", "cancelled", "cancelled", "cancelled",
    ]  # fmt: skip
    assert_all_workers_are_free(tmp_path)
    assert sum(e.end is not None for e in executions.read()) == 1


def test_items_of_a_map_by_the_deadline() -> None:
    cf.map(double, [1, 2]).result()
    run = cf.workflow(lambda: told(cf.gather(sleep.map([0.01, 60, 60, 60]), deadline_s=1.5, min_results=1))).run()
    values, missing = run.result()

    assert values == {0: 0.01}
    assert sorted(missing) == [1, 2, 3]
    assert missing[3] == "never started"
    assert run.status == "success"
    assert run.steps().status.astype(str).tolist() == ["cancelled", "success", "success"]


def test_what_somebody_else_needs_goes_on() -> None:
    def body() -> Any:
        slow = sleep(2.5)
        return told(cf.gather([double(1), slow], deadline_s=0.5)), double(slow)

    cf.map(double, [1, 2]).result()
    found, doubled = cf.workflow(body).run().result()

    assert found == ({0: 2}, {1: "late: still running"})
    assert doubled == 5.0


def test_what_leads_to_a_late_input_is_cancelled_too() -> None:
    def body() -> Any:
        return told(cf.gather([double(1), double(sleep(60))], deadline_s=1.0))

    cf.map(double, [1, 2]).result()
    run = cf.workflow(body).run()

    # The deadline counts from when the first of its inputs could start, which is at the submit.
    assert run.result() == ({0: 2}, {1: "never started"})
    assert run.steps().set_index("step").status[["sleep", "double-2"]].tolist() == ["cancelled", "cancelled"]


def test_all_in_time_is_the_plain_result() -> None:
    found = cf.workflow(lambda: told(cf.gather([double(1), double(2)], deadline_s=30))).run().result()

    assert found == ({0: 2, 1: 4}, {})


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        (lambda: cf.gather([double(1)], deadline_s=0), cf.InvalidOptionError, "deadline_s"),
        (lambda: cf.gather([double(1)], deadline_s=float("nan")), cf.InvalidOptionError, "deadline_s"),
        (lambda: cf.gather([double(1)], min_results=2), cf.InvalidOptionError, "min_results"),
        (lambda: cf.gather([double(1)], min_results=-1), cf.InvalidOptionError, "min_results"),
        (lambda: cf.gather([double(1)], min_results=True), cf.InvalidOptionError, "min_results"),
        (lambda: cf.gather([double(1), 3]), cf.ArgumentError, "not 3"),
        (lambda: cf.gather(double(1)), cf.ArgumentError, "single result"),
        (lambda: cf.gather(3), cf.ArgumentError, "not 3"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_work_is_refused_at_once(nothing_is_written: None, body: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        cf.workflow(body).submit()


def test_outside_of_a_workflow_it_gives_all_of_them() -> None:
    assert cf.gather({"a": 1, "b": 2}).as_dict() == {"a": 1, "b": 2}
    assert list(cf.gather([3, 4])) == [3, 4]


class Witness:
    """A value that leaves a file behind where it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.path.touch()


@pytest.mark.parametrize("inline", [False, True])
def test_of_a_gather_only_what_is_asked_for_is_read(tmp_path: Path, inline: bool) -> None:
    seen = tmp_path / "seen"

    def body() -> Any:
        found = cf.gather({"a": double(1), "witness": cf.step(Witness)(seen), "bad": double(None)})
        return double(found["a"]), cf.step(dict)(found[MISSING])

    run = cf.workflow(body).run(inline=inline)

    assert run.result() == (4, {"bad": "failed: ValueError: nothing to double"})
    assert not seen.exists()
    assert run.value("gather")["witness"].path == seen
    assert seen.exists()

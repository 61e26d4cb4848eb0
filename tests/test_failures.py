"""What a failed step leaves: the error that is raised, what still runs, and trying again."""

from __future__ import annotations

import itertools
import pickle
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import failure_of
from executions import Executions, wait_until
from flows import double

import celeryflow as cf

pytestmark = pytest.mark.usefixtures("runtime")


# --- the error -----------------------------------------------------------------------------------------


def test_error_names_step_and_kind_and_has_the_original_as_its_cause() -> None:
    @cf.step
    def parse(text: str) -> float:
        return float(text)

    error = failure_of(cf.workflow(lambda: double(parse("x1"))).run())

    assert (error.step, error.index, error.kind) == ("parse", None, "exception")
    assert type(error.__cause__) is ValueError
    assert str(error.__cause__) == "could not convert string to float: 'x1'"
    assert str(error).startswith("step 'parse' failed (exception): ValueError: could not convert")


def test_error_names_the_item_of_a_map() -> None:
    @cf.step
    def invert(x: float) -> float:
        return 1 / x

    error = failure_of(cf.workflow(lambda: invert.map([2, 1, 0])).run())

    assert (error.step, error.index) == ("invert", 2)
    assert "item 2 of step 'invert'" in str(error)
    assert isinstance(error.__cause__, ZeroDivisionError)


def test_error_has_the_workers_traceback_as_text() -> None:
    def helper(value: Any) -> Any:
        return value["missing"]

    @cf.step
    def load() -> Any:
        return helper({})

    error = failure_of(cf.workflow(lambda: load()).run())

    assert error.traceback.startswith("Traceback (most recent call last):")
    assert "in load" in error.traceback and "in helper" in error.traceback
    assert error.traceback.rstrip().endswith("KeyError: 'missing'")
    assert "celeryflow/engine" not in error.traceback
    assert error.traceback in str(error)


def test_long_message_is_cut_to_10000_characters_and_in_events_to_500() -> None:
    @cf.step
    def load() -> None:
        raise ValueError("x" * 20_000)

    run = cf.workflow(lambda: load()).run()

    assert run.errors()["message"].tolist() == ["x" * 10_000]
    assert run.events()["error"].dropna().iloc[0] == f"ValueError: {'x' * 20_000}"[:500]


def test_error_of_a_chained_exception_shows_both() -> None:
    @cf.step
    def load() -> Any:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise RuntimeError("outer") from error

    error = failure_of(cf.workflow(lambda: load()).run())

    assert "KeyError: 'inner'" in error.traceback
    assert "RuntimeError: outer" in error.traceback


class Unpicklable(Exception):
    def __reduce__(self) -> Any:
        raise TypeError("no way")


class PickledButNotBack(Exception):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)


class Speechless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("speechless")


def test_exception_that_cannot_be_shown_is_still_the_cause() -> None:
    @cf.step
    def load() -> Any:
        raise Speechless

    error = failure_of(cf.workflow(lambda: load()).run())

    assert "Speechless" in str(error)
    assert type(error.__cause__).__name__ == "Speechless"


@pytest.mark.parametrize("make", [Unpicklable, lambda: PickledButNotBack(7, "two arguments")])
def test_exception_that_does_not_travel_still_gives_its_traceback(make: Any) -> None:
    name = type(make()).__name__

    @cf.step
    def load() -> Any:
        raise make()

    error = failure_of(cf.workflow(lambda: load()).run())

    assert (error.step, error.kind, error.__cause__) == ("load", "exception", None)
    assert name in str(error)
    assert "in load" in error.traceback


def test_error_pickles() -> None:
    @cf.step
    def load(x: Any) -> Any:
        raise ValueError("no")

    error = failure_of(cf.workflow(lambda: load.map([1])).run())
    copy = pickle.loads(pickle.dumps(error))

    assert (copy.step, copy.index, copy.kind, str(copy)) == ("load", 0, "exception", str(error))


@pytest.mark.parametrize("stop", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()], ids=lambda e: type(e).__name__)
def test_step_that_raises_what_ends_a_program_fails_and_ends_no_worker(stop: BaseException) -> None:
    @cf.step
    def load() -> Any:
        raise stop

    run = cf.workflow(lambda: load()).run()

    assert failure_of(run).kind == "exception"
    assert type(stop).__name__ in str(failure_of(run))
    assert run.steps()["attempts"].tolist() == [1]


def test_result_that_does_not_pickle_is_the_steps_failure() -> None:
    @cf.step
    def load() -> Any:
        return (i for i in range(3))

    error = failure_of(cf.workflow(lambda: load()).run())

    assert isinstance(error.__cause__, cf.SerializationError)
    assert "result of step 'load'" in str(error) and "generator" in str(error)


# --- what still runs --------------------------------------------------------------------------------------


def test_failure_skips_what_needed_it_and_lets_the_rest_finish(executions: Executions) -> None:
    @cf.step
    def work(*needs: Any) -> str:
        with executions.recorded() as here:
            if here.step == "bad":
                raise ValueError("bad")
            return here.step

    @cf.workflow
    def etl() -> Any:
        bad, good = work.options(name="bad")(), work.options(name="good")()
        work.options(name="child")(bad)
        both = work.options(name="both")(good, bad)
        work.options(name="grandchild")(both)
        work.options(name="ordered", after=[bad])()
        return work.options(name="fine")(work.options(name="also")(good))

    run = etl.run()
    status = dict(zip(run.steps()["step"], run.steps()["status"], strict=True))

    assert run.status == "failure"
    assert status == {
        "bad": "failure", "good": "success", "child": "skipped", "both": "skipped", "grandchild": "skipped",
        "ordered": "skipped", "fine": "success", "also": "success",
    }  # fmt: skip
    assert {e.step for e in executions.read()} == {"bad", "good", "also", "fine"}
    assert run.value("fine") == "fine"


def test_skipped_step_says_why() -> None:
    bad = cf.step(lambda: 1 / 0, name="bad")

    run = cf.workflow(lambda: double(double(bad()))).run()

    assert "bad" in run.steps()["error"][1]


def test_fail_fast_cancels_the_rest(tmp_path: Path) -> None:
    started = tmp_path / "started"

    @cf.step
    def slow() -> None:
        started.touch()
        time.sleep(60)

    @cf.step
    def bad() -> None:
        wait_until(started.exists)
        raise ValueError("bad")

    @cf.workflow(fail_fast=True)
    def etl() -> Any:
        return slow(), bad(), double.map(range(100))

    run = etl.submit()
    wait_until(lambda: not run.errors().empty)

    assert run.wait(timeout_s=3).status == "failure"
    assert dict(zip(run.steps()["step"], run.steps()["status"], strict=True))["slow"] == "cancelled"
    assert failure_of(run).step == "bad"


def test_run_past_its_timeout_ends(tmp_path: Path) -> None:
    @cf.workflow(timeout_s=0.5)
    def etl() -> Any:
        return cf.step(lambda: time.sleep(30), name="slow")()

    run = etl.submit().wait(timeout_s=5)

    assert run.status == "failure"
    with pytest.raises(cf.RunTimeoutError):
        run.result()


def test_an_error_of_a_file_name_that_is_no_text_is_an_error_like_others() -> None:
    strange = b"caf\xe9".decode(errors="surrogateescape")

    run = cf.workflow(lambda: cf.step(lambda: open(f"/nowhere/{strange}"), name="read")()).run()  # noqa: PTH123, SIM115

    assert run.errors()["error"].tolist() == ["FileNotFoundError"]
    assert r"caf\udce9" in run.errors()["message"][0]


# --- retries -------------------------------------------------------------------------------------------------


def flaky(
    executions: Executions, failures: int, error: type[Exception] = ValueError, **options: Any
) -> cf.Step[Any, Any]:
    """A step whose first attempts fail."""

    def flaky(x: Any = None) -> int:
        with executions.recorded() as here:
            if here.attempt <= failures:
                raise error(f"attempt {here.attempt}")
            return here.attempt

    return cf.step(flaky, **options)


def test_step_is_tried_again_after_an_exception(executions: Executions) -> None:
    step = flaky(executions, 2, retries=3, retry_delay_s=0)

    run = cf.workflow(lambda: step()).run()

    assert run.result() == 3
    assert [e.attempt for e in executions.read()] == [1, 2, 3]
    assert run.timeline()["outcome"].tolist() == ["exception", "exception", "success"]


def test_retries_are_used_up(executions: Executions) -> None:
    step = flaky(executions, 99, retries=2, retry_delay_s=0)

    error = failure_of(cf.workflow(lambda: step()).run())

    assert "attempt 3" in str(error.__cause__)
    assert len(executions.read()) == 3


def test_items_of_a_map_are_tried_again_each_for_itself(executions: Executions) -> None:
    @cf.step(retries=1, retry_delay_s=0)
    def work(i: int) -> tuple[int, int]:
        with executions.recorded() as here:
            if i % 2 and here.attempt == 1:
                raise ValueError(i)
            return i, here.attempt

    run = cf.workflow(lambda: work.map(range(6))).run()

    assert run.result() == [(0, 1), (1, 2), (2, 1), (3, 2), (4, 1), (5, 2)]
    assert len(executions.read()) == 9


@pytest.mark.parametrize("retry_on", [KeyError, (OSError, LookupError)])
def test_listed_exceptions_and_their_subclasses_are_retried(executions: Executions, retry_on: Any) -> None:
    step = flaky(executions, 1, KeyError, retries=1, retry_delay_s=0, retry_on=retry_on)

    assert cf.workflow(lambda: step()).run().result() == 2


def test_other_exceptions_are_not_retried(executions: Executions) -> None:
    step = flaky(executions, 1, ValueError, retries=5, retry_delay_s=0, retry_on=(KeyError, OSError))

    assert cf.workflow(lambda: step()).run().status == "failure"
    assert len(executions.read()) == 1


def test_exceptions_of_the_notebook_can_be_retried_on(executions: Executions) -> None:
    class Busy(Exception):
        pass

    step = flaky(executions, 1, Busy, retries=1, retry_delay_s=0, retry_on=Busy)

    assert cf.workflow(lambda: step()).run().result() == 2


def test_delay_grows_by_the_backoff(executions: Executions) -> None:
    step = flaky(executions, 3, retries=3, retry_delay_s=0.1, retry_backoff=2, retry_jitter=0)

    cf.workflow(lambda: step()).run(check=True)
    starts = [e.start for e in executions.read()]
    waits = [b - a for a, b in itertools.pairwise(starts)]

    assert all(delay <= wait < delay + 0.5 for wait, delay in zip(waits, [0.1, 0.2, 0.4], strict=True)), waits


def test_jitter_spreads_the_delays_up_to_its_share(executions: Executions) -> None:
    step = flaky(executions, 1, retries=1, retry_delay_s=0.2, retry_jitter=1.0)

    run = cf.workflow(lambda: step.map(range(10))).run(check=True)
    attempts = run.timeline().sort_values(["index", "attempt"])
    ended = attempts[attempts["attempt"] == 1]["finished_at"].to_numpy()
    again = attempts[attempts["attempt"] == 2]["ready_at"].to_numpy()
    delays = (again - ended).astype("timedelta64[us]").astype(float) / 1e6

    assert len(delays) == 10
    assert delays.min() >= 0.199 and delays.max() <= 0.401
    assert delays.max() - delays.min() > 0.02


def test_waiting_for_a_retry_holds_no_worker(executions: Executions) -> None:
    step = flaky(executions, 1, retries=1, retry_delay_s=1.5, retry_jitter=0)
    waiting = cf.workflow(lambda: [step.options(name=f"f{i}")() for i in range(6)]).submit()
    wait_until(lambda: len(executions.read()) == 6)

    # All six wait, on two workers, and others can work.
    assert cf.workflow(lambda: double.map(range(10))).run().result() == [2 * i for i in range(10)]
    assert len(executions.read()) == 6

    assert waiting.result() == [2] * 6

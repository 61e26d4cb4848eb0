"""A Run: its values, and finding it again."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import Runtime
from executions import wait_until
from flows import double, fails, waits, works

import celeryflow as cf

pytestmark = pytest.mark.usefixtures("runtime")


# --- values ----------------------------------------------------------------------------------------------


def test_value_gives_the_result_of_one_step() -> None:
    run = works.run(3)

    assert (run.value("double"), run.value("double-2")) == (6, 12)


def test_value_of_a_map_is_its_list_or_dict() -> None:
    run = cf.workflow(lambda: (double.map([1, 2]), double.map({"a": 1}))).run()

    assert run.value("double") == [2, 4]
    assert run.value("double-2") == {"a": 2}


def test_value_of_a_step_that_has_none_yet_says_so(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    run = waits.submit(str(gate))
    wait_until(lambda: run.status == "running")

    with pytest.raises(cf.RunError, match=r"'wait_for'.*running.*wait"):
        run.value("wait_for")

    gate.touch()
    run.wait()


def test_value_of_a_failed_or_skipped_step_says_so() -> None:
    run = fails.run()

    with pytest.raises(cf.StepFailedError, match="bad luck"):
        run.value("fail")
    with pytest.raises(cf.RunError, match=r"'double'.*skipped"):
        run.value("double")


@cf.step
def picky(x: int) -> int:
    if x % 3 == 0:
        raise ValueError(f"{x} is a third")
    return x


def test_value_of_a_map_with_failures_says_how_many_and_the_first_few() -> None:
    run = cf.workflow(lambda: picky.map(range(13))).run()

    with pytest.raises(cf.StepFailedError) as caught:
        run.value("picky")

    message = str(caught.value).partition("\n\n")[0]
    assert "5 of 13 items of step 'picky' failed" in message
    assert "item 0 (ValueError: 0 is a third), item 3 (ValueError: 3 is a third), item 6" in message
    assert "9 is a third" not in message
    assert "partial=True" in message


def test_partial_gives_what_there_is_with_the_reasons_for_what_is_not() -> None:
    run = cf.workflow(lambda: picky.map(range(5))).run()

    some = run.value("picky", partial=True)

    assert isinstance(some, cf.Gathered)
    assert (list(some), some.indices) == ([1, 2, 4], [1, 2, 4])
    assert some.missing == {0: "ValueError: 0 is a third", 3: "ValueError: 3 is a third"}


def test_partial_of_a_dict_has_its_keys() -> None:
    run = cf.workflow(lambda: picky.map({"a": 1, "b": 3})).run()

    some = run.value("picky", partial=True)

    assert some.as_dict() == {"a": 1}
    assert list(some.missing) == ["b"]


def test_partial_works_while_the_map_runs(tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    @cf.step
    def work(i: int) -> int:
        if i == 1:
            wait_until(gate.exists)
        time.sleep(0.06)  # slow enough for a claim of its own
        return i

    run = cf.workflow(lambda: work.map(range(4))).submit()
    wait_until(lambda: len(run.value("work", partial=True)) == 3)
    some = run.value("work", partial=True)
    gate.touch()

    assert some.indices == [0, 2, 3]
    assert list(some.missing) == [1]
    assert run.result() == [0, 1, 2, 3]


# --- finding a run again -----------------------------------------------------------------------------------


def test_attached_run_says_the_same() -> None:
    run = cf.workflow(lambda: (double(1), picky.map(range(4), on_error="skip"))).run()

    again = cf.attach(run.id)

    assert again is not run
    assert (again.id, again.status, again.result()) == (run.id, "success", run.result())
    assert repr(again) == repr(run)
    for frame in ("phases", "steps", "timeline", "errors", "logs", "events"):
        pd.testing.assert_frame_equal(getattr(again, frame)(), getattr(run, frame)())


def test_run_that_goes_on_can_be_attached_and_waited_for(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    again = cf.attach(waits.submit(str(gate)).id)

    gate.touch()

    assert again.result() == str(gate)


def test_another_kernel_attaches_and_reads_the_result(kernel: Callable[..., Any], runtime: Runtime) -> None:
    run = cf.workflow(lambda: (double([1]), picky.map(range(4), on_error="skip"))).run()

    found = kernel(
        f"""
        run = cf.attach({run.id!r})
        is_known = run.id in set(cf.history()["run"])
        answer = [run.status, run.result(), run.value("double"), len(run.items("picky")), is_known]
        """,
        directory=runtime.directory,
        XDG_STATE_HOME=str(runtime.state),
    )

    assert found == ["success", [[1, 1], [1, 2]], [1, 1], 4, True]


def test_run_goes_on_when_its_kernel_has_gone(kernel: Callable[..., Any], runtime: Runtime, tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    run_id = kernel(
        f"""
        import time
        from pathlib import Path

        @cf.step
        def wait(path):
            while not Path(path).exists():
                time.sleep(0.01)
            return "waited"

        @cf.workflow
        def lonely():
            return wait({str(gate)!r})

        answer = lonely.submit().id
        """,
        directory=runtime.directory,
        XDG_STATE_HOME=str(runtime.state),
    )
    gate.touch()

    assert cf.attach(run_id).result(timeout_s=20) == "waited"


def test_history_has_the_latest_run_first() -> None:
    older, newer = works.run(1), fails.run()

    rows = cf.history().head(2)

    assert rows["run"].tolist() == [newer.id, older.id]
    assert rows["workflow"].tolist() == ["fails", "works"]
    assert rows["status"].tolist() == ["failure", "success"]
    assert rows["steps"].tolist() == [2, 2]
    assert rows["failed"].tolist() == [1, 0]


def test_every_run_has_an_id_of_its_own_that_begins_with_its_workflow() -> None:
    ids = {works.run(1).id for _ in range(5)}

    assert len(ids) == 5
    assert all(found.startswith("works-") for found in ids)


def test_run_with_workers_is_not_stalled(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    run = waits.submit(str(gate))
    wait_until(lambda: run.status == "running")

    assert run.stalled is False

    gate.touch()
    run.wait()
    assert run.stalled is False

"""The frames of a run: exactly these columns and types, also when empty, and the numbers in them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from executions import wait_until
from flows import add, double

import celeryflow as cf

pytestmark = pytest.mark.usefixtures("runtime")

TIME = "datetime64[ns, UTC]"
TEXT = str(pd.Series(["x"]).dtype)
STATES = {"pending", "ready", "running", "retrying", "success", "failure", "skipped", "cancelled"}
OUTCOMES = {"success", "exception", "timeout", "memory", "worker_lost", "cancelled", "stale"}
KINDS = {"exception", "timeout", "memory", "poisoned", "cancelled", "deadline"}

COLUMNS: dict[str, dict[str, Any]] = {
    "phases": {
        "phase": TEXT, "status": STATES, "steps": "int64", "done": "int64", "failed": "int64", "skipped": "int64",
        "progress": "float64", "started_at": TIME, "finished_at": TIME, "duration_s": "float64", "work_s": "float64",
        "result": "object",
    },
    "steps": {
        "step": TEXT, "phase": TEXT, "status": STATES, "items": "Int64", "done": "int64", "failed": "int64",
        "attempts": "int64", "queue": TEXT, "priority": "int64", "queue_wait_s": "float64", "duration_s": "float64",
        "output_bytes": "int64", "reused": "bool", "worker": TEXT, "error": TEXT,
    },
    "items": {
        "index": "Int64", "key": TEXT, "status": STATES, "attempts": "int64", "started_at": TIME,
        "duration_s": "float64", "worker": TEXT, "error": TEXT,
    },
    "timeline": {
        "generation": "int64", "step": TEXT, "index": "Int64", "key": TEXT, "attempt": "int64", "worker": TEXT,
        "ready_at": TIME, "claimed_at": TIME, "started_at": TIME, "finished_at": TIME, "outcome": OUTCOMES,
        "reason": TEXT,
    },
    "critical_path": {
        "step": TEXT, "index": "Int64", "key": TEXT, "attempts": "int64", "worker": TEXT, "started_at": TIME,
        "finished_at": TIME, "duration_s": "float64", "queue_wait_s": "float64", "share": "float64",
        **{f"makespan_{n}_s": "float64" for n in (1, 2, 4, 8, 16, 32, 64)},
    },
    "errors": {
        "step": TEXT, "index": "Int64", "key": TEXT, "kind": KINDS, "error": TEXT, "message": TEXT, "traceback": TEXT,
        "log_tail": TEXT, "attempt": "int64", "worker": TEXT,
    },
    "logs": {
        "at": TIME, "step": TEXT, "index": "Int64", "attempt": "int64", "worker": TEXT, "stream": TEXT, "text": TEXT,
    },
    "events": {
        "seq": "int64", "at": TIME, "run": TEXT, "event": TEXT, "step": TEXT, "items": "object", "attempt": "Int64",
        "generation": "int64", "worker": TEXT, "status": STATES, "error": TEXT,
    },
    "history": {
        "run": TEXT, "workflow": TEXT, "status": STATES, "stalled": "bool", "submitted_at": TIME,
        "duration_s": "float64", "steps": "int64", "failed": "int64", "tenant": TEXT,
    },
}  # fmt: skip


@cf.step
def picky(x: int) -> int:
    print("at", x)
    if x % 2:
        raise ValueError(f"{x} is odd")
    return x


@cf.workflow
def etl(n: int = 4) -> Any:
    with cf.phase("extract"):
        raw = double.map(range(n))
    with cf.phase("check"):
        good = picky(3)
        double(good)
        return picky.map(raw)


def frame_of(run: cf.Run[Any], name: str) -> pd.DataFrame:
    if name == "history":
        return cf.history()
    return run.items("double") if name == "items" else getattr(run, name)()


def assert_columns(frame: pd.DataFrame, name: str) -> None:
    assert list(frame.columns) == list(COLUMNS[name])
    for column, expected in COLUMNS[name].items():
        dtype = frame[column].dtype
        if isinstance(expected, set):
            assert isinstance(dtype, pd.CategoricalDtype), column
            assert set(dtype.categories) == expected, column
        else:
            assert str(dtype) == expected, column


@pytest.mark.parametrize("name", COLUMNS)
def test_frame_has_exactly_these_columns_and_types(name: str) -> None:
    frame = frame_of(etl.run(), name)

    assert len(frame) > 0
    assert_columns(frame, name)


@pytest.mark.parametrize("name", [name for name in COLUMNS if name not in ("steps", "events", "history")])
def test_empty_frame_has_the_same_columns_and_types(name: str) -> None:
    frame = frame_of(cf.workflow(lambda: double.map([])).run(), name)

    assert len(frame) == 0
    assert_columns(frame, name)


def test_history_of_a_new_runtime_is_empty_with_the_same_columns_and_types(kernel: Any) -> None:
    found = kernel(
        """
        cf.connect(workers=1)
        rows = cf.history()
        answer = [len(rows), list(rows.columns), [str(dtype) for dtype in rows.dtypes]]
        """
    )

    filled = cf.history()
    assert found == [0, list(filled.columns), [str(dtype) for dtype in filled.dtypes]]


@pytest.mark.parametrize("name", [name for name in COLUMNS if name != "history"])
def test_frame_while_the_run_goes_on_has_the_same_columns_and_types(name: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    wait = cf.step(lambda: wait_until(gate.exists))
    run = cf.workflow(lambda: (wait(), double.map([1, 2]))).submit()
    wait_until(lambda: run.status == "running")

    assert_columns(frame_of(run, name), name)

    gate.touch()
    run.wait()


@pytest.mark.parametrize("name", [name for name in COLUMNS if name != "history"])
def test_frame_of_an_inline_run_has_the_same_columns_and_types(name: str) -> None:
    assert_columns(frame_of(etl.run(inline=True), name), name)


# --- phases --------------------------------------------------------------------------------------------------


def test_phases_are_in_order_with_counts() -> None:
    rows = etl.run().phases()

    assert rows["phase"].tolist() == ["extract", "check"]
    assert rows["status"].tolist() == ["success", "failure"]
    assert rows["steps"].tolist() == [1, 3]
    # picky fails, its double is skipped, and 2 x range(4) is even.
    assert rows[["done", "failed", "skipped"]].to_numpy().tolist() == [[4, 0, 0], [4, 1, 1]]


def test_progress_counts_what_ended_and_done_only_what_succeeded() -> None:
    def body() -> Any:
        with cf.phase("only"):
            return picky.map(range(4))

    row = cf.workflow(body).run().phases().iloc[0]

    assert (row["progress"], row["done"], row["failed"]) == (1.0, 2, 2)
    assert row["status"] == "failure"


def test_progress_of_a_phase_that_has_not_begun_is_zero(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    wait = cf.step(lambda: wait_until(gate.exists))

    def body() -> Any:
        with cf.phase("first"):
            found = wait()
        with cf.phase("second"):
            return double(found)

    run = cf.workflow(body).submit()
    wait_until(lambda: run.status == "running")
    rows = run.phases()
    gate.touch()
    run.wait()

    assert rows["progress"].tolist() == [0, 0]
    assert rows["status"].tolist() == ["running", "pending"]
    assert rows["started_at"].notna().tolist() == [True, False]
    assert rows["finished_at"].isna().all()


def test_phase_times_and_work_add_up() -> None:
    nap = cf.step(lambda _: time.sleep(0.1))

    def body() -> Any:
        with cf.phase("naps"):
            return nap.map(range(4))

    run = cf.workflow(body).run()
    row, attempts = run.phases().iloc[0], run.timeline()
    took = (attempts["finished_at"] - attempts["started_at"]).dt.total_seconds()

    assert row["work_s"] >= 0.4
    assert row["work_s"] == pytest.approx(took.sum(), abs=1e-3)
    assert row["duration_s"] == pytest.approx((row["finished_at"] - row["started_at"]).total_seconds(), abs=1e-3)


def test_phase_result_is_the_value_of_its_only_final_step() -> None:
    def body() -> Any:
        with cf.phase("one end"):
            end = double(double(5))
        with cf.phase("two ends"):
            double(end), double(1)
        with cf.phase("map"):
            double.map([1, 2])

    assert cf.workflow(body).run().phases()["result"].tolist() == [20, None, [2, 4]]


def test_large_phase_result_is_a_bounded_text() -> None:
    large = cf.step(lambda: list(range(200_000)))

    def body() -> Any:
        with cf.phase("large"):
            return large()

    found = cf.workflow(body).run().phases()["result"][0]

    assert isinstance(found, str)
    assert len(found) < 1000


# --- steps, items --------------------------------------------------------------------------------------------


def test_steps_say_how_each_went() -> None:
    run = etl.run()
    rows = run.steps().set_index("step")

    assert rows.index.tolist() == ["double", "picky", "double-2", "picky-2"]
    assert rows["phase"].tolist() == ["extract", "check", "check", "check"]
    assert rows["status"].tolist() == ["success", "failure", "skipped", "success"]
    assert rows["items"].tolist() == [4, 1, 1, 4]
    assert rows["done"].tolist() == [4, 0, 0, 4]
    assert rows["failed"].tolist() == [0, 1, 0, 0]
    assert rows["attempts"].tolist() == [4, 1, 0, 4]
    assert rows["error"]["picky"] == "ValueError: 3 is odd"
    assert not rows["reused"].any()
    assert rows["queue_wait_s"].dropna().between(0, 10).all()
    assert rows["output_bytes"]["double"] > 0


def test_length_that_nobody_knows_is_missing() -> None:
    run = cf.workflow(lambda: double.map(picky(1))).run()

    assert run.steps()["items"].isna().tolist() == [False, True]


def test_steps_worker_is_the_process_that_ran_it() -> None:
    import os
    import socket

    run = cf.workflow(lambda: cf.step(lambda: os.getpid(), name="pid")()).run()

    assert run.steps()["worker"][0] == f"{socket.gethostname()}:{run.result()}"


def test_steps_duration_is_the_time_that_it_took() -> None:
    run = cf.workflow(lambda: cf.step(lambda: time.sleep(0.2))()).run()

    assert 0.2 <= run.steps()["duration_s"][0] < 2


def test_items_have_a_bounded_text_of_what_was_mapped_as_key() -> None:
    show = cf.step(lambda x: None, name="show")
    run = cf.workflow(lambda: show.map(["flights", 7, "x" * 1000, {"a": [1]}])).run()

    keys = run.items("show")["key"].tolist()

    assert keys[:2] == ["flights", "7"]
    assert len(keys[2]) <= 100
    assert keys[3] == "{'a': [1]}"


def test_items_of_a_mapped_dict_have_its_keys_also_in_maps_over_it() -> None:
    run = cf.workflow(lambda: double.map(double.map({"jan": 1, "feb": 2}))).run()

    assert run.items("double")["key"].tolist() == ["jan", "feb"]
    assert run.items("double-2")["key"].tolist() == ["jan", "feb"]


def test_items_of_arrays_series_tables_and_refs_have_a_key() -> None:
    @cf.step
    def show(x: Any) -> None:
        pass

    @cf.step
    def give() -> list[Any]:
        return [{"a": 1}, 2.5]

    tables = [pd.DataFrame({"a": [1, 2], "b": [3, 4]}), np.zeros(3), object]

    def body() -> Any:
        return [
            show.map(np.array([1, 2])), show.map(pd.Series([1.5, 2.5], index=["x", "y"])), show.map(("a", None)),
            show.map(range(2)), show.map(tables), show.map(give()), show.map([give(), give()[1], 3]),
        ]  # fmt: skip

    run = cf.workflow(body).run()

    times = "\N{MULTIPLICATION SIGN}"
    assert [run.items(f"show{suffix}")["key"].tolist() for suffix in ("", "-2", "-3", "-4", "-5", "-6", "-7")] == [
        ["1", "2"], ["1.5", "2.5"], ["a", "None"], ["0", "1"], [f"DataFrame 2 {times} 2", "ndarray 3", "object"],
        ["{'a': 1}", "2.5"], ["give-2", "give-3[1]", "3"],
    ]  # fmt: skip


def test_items_of_maps_over_maps_and_of_mapped_workflows_have_a_key() -> None:
    @cf.workflow
    def inner(x: int) -> Any:
        return double(x) if x > 1 else double(double(x))

    def body() -> Any:
        first = double.map([1, 2])
        both = add.map(first, double.map([3, 4]))
        late = add.map(picky.map(give([2, 4])), picky.map(give([6, 8])))
        return inner.map([5, 7]), both, inner.map(first), late

    give = cf.step(lambda x: x, name="give")
    run = cf.workflow(body).run()

    assert run.items("add")["key"].tolist() == ["1", "2"]
    assert run.items("inner-2")["key"].tolist() == ["1", "2"]
    assert run.items("add-2")["key"].tolist() == ["2", "4"]
    assert run.items("inner")["key"].tolist() == ["5", "7"]


def test_more_than_is_worth_reading_is_not_read_for_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    run = cf.workflow(lambda: double.map(["x" * 1000, "y" * 1000])).run()
    assert run.items("double")["key"].str.len().tolist() == [80, 80]

    monkeypatch.setattr("celeryflow.run.outputs.KEYS_LIMIT_BYTES", 1_500)
    assert run.items("double")["key"].isna().all()


def test_items_say_how_each_went() -> None:
    @cf.step(retries=1, retry_delay_s=0)
    def work(x: int) -> int:
        if x == 2 or (x == 1 and cf.current().attempt == 1):
            raise ValueError(f"no {x}")
        return x

    rows = cf.workflow(lambda: work.map(range(3))).run().items("work")

    assert rows["index"].tolist() == [0, 1, 2]
    assert rows["status"].tolist() == ["success", "success", "failure"]
    assert rows["attempts"].tolist() == [1, 2, 2]
    assert rows["error"].isna().tolist() == [True, True, False]
    assert rows["error"][2] == "ValueError: no 2"
    assert rows["started_at"].notna().all()


# --- timeline, errors, events ------------------------------------------------------------------------------


def test_timeline_has_a_row_an_attempt_with_its_times_in_order() -> None:
    @cf.step(retries=2, retry_delay_s=0)
    def work(x: int) -> int:
        if cf.current().attempt <= x:
            raise ValueError("again")
        return x

    rows = cf.workflow(lambda: work.map(range(3))).run().timeline()

    assert sorted(zip(rows["index"], rows["attempt"], rows["outcome"], strict=True)) == [
        (0, 1, "success"),
        (1, 1, "exception"), (1, 2, "success"),
        (2, 1, "exception"), (2, 2, "exception"), (2, 3, "success"),
    ]  # fmt: skip
    assert (rows["ready_at"] <= rows["claimed_at"]).all()
    assert (rows["claimed_at"] <= rows["started_at"]).all()
    assert (rows["started_at"] <= rows["finished_at"]).all()
    assert rows["reason"].dropna().unique().tolist() == ["ValueError: again"]
    assert (rows["generation"] == 1).all()


def test_timeline_agrees_with_the_steps_own_account(executions: Any) -> None:
    @cf.step
    def work(x: int) -> int:
        with executions.recorded():
            time.sleep(0.02)
            return x

    run = cf.workflow(lambda: work.map(range(6))).run()
    rows = run.timeline().set_index("index")
    offset = time.time() - time.monotonic()

    for execution in executions.read():
        row = rows.loc[execution.index]
        assert row["started_at"].timestamp() == pytest.approx(execution.start + offset, abs=0.05)
        assert row["finished_at"].timestamp() == pytest.approx(execution.end + offset, abs=0.05)
        assert row["worker"].endswith(f":{execution.pid}")


def test_errors_have_a_row_a_failed_step_or_item() -> None:
    run = cf.workflow(lambda: (picky.map({"a": 1, "b": 2, "c": 3}), picky(5), double(1))).run()

    rows = run.errors().sort_values(["step", "index"]).reset_index(drop=True)

    assert rows["step"].tolist() == ["picky", "picky", "picky-2"]
    assert rows["index"].fillna(-1).tolist() == [0, 2, -1]
    assert rows["key"].tolist()[:2] == ["a", "c"]
    assert rows["kind"].tolist() == ["exception"] * 3
    assert rows["error"].tolist() == ["ValueError"] * 3
    assert rows["message"].tolist() == ["1 is odd", "3 is odd", "5 is odd"]
    assert all("in picky" in text for text in rows["traceback"])
    assert rows["log_tail"].tolist() == ["at 1", "at 3", "at 5"]
    assert rows["attempt"].tolist() == [1, 1, 1]


def test_events_are_numbered_and_tell_the_whole_story() -> None:
    run = cf.workflow(lambda: double.map(range(3))).run()
    rows = run.events()

    assert rows["seq"].tolist() == list(range(1, len(rows) + 1))
    assert rows["at"].is_monotonic_increasing
    assert (rows["run"] == run.id).all()
    assert rows["event"].tolist()[:2] == ["submitted", "started"]
    assert (rows["event"].iloc[-1], rows["status"].iloc[-1]) == ("ended", "success")
    items = [i for first, last in rows[rows["event"] == "success"]["items"] for i in range(first, last)]
    assert sorted(items) == [0, 1, 2]

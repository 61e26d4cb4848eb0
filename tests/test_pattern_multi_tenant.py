"""``multi_tenant``: each tenant within limits of its own, and nobody notices the others."""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from executions import wait_until

import celeryflow as cf
from celeryflow.patterns import TenantConfig, multi_tenant

pytestmark = pytest.mark.usefixtures("runtime")

COLUMNS = ["tenant", "status", "items", "failed", "result", "error", "duration_s"]


def rated(item: Any, settings: dict[str, Any]) -> Any:
    if item == "rubbish":
        raise ValueError("no number")
    time.sleep(settings.get("takes_s", 0))
    return item * settings.get("rate", 1)


def wait_for(path: str, settings: dict[str, Any]) -> str:
    wait_until(Path(path).exists, timeout_s=60)
    return path


def rows(frame: pd.DataFrame) -> dict[str, Any]:
    return {row["tenant"]: row for row in frame.to_dict("records")}


@pytest.mark.parametrize("inline", [False, True])
def test_a_row_a_tenant_in_the_order_of_the_data(inline: bool) -> None:
    wf = multi_tenant(
        process=rated,
        aggregate=sum,
        config={
            "acme": TenantConfig(10, settings={"rate": 2}),
            "bolt": TenantConfig(quota_items=2),
            "core": TenantConfig(10, priority=9),
            "none": TenantConfig(10),
            "not there": TenantConfig(1),
        },
    )
    run = wf.run({"core": [1, "rubbish", 3, "rubbish"], "bolt": [1, 2, 3], "acme": (4, 5), "none": []}, inline=inline)
    frame = run.result()

    assert run.status == "success"
    assert list(frame.columns) == COLUMNS
    assert frame.tenant.tolist() == ["core", "bolt", "acme", "none"]
    assert frame.status.tolist() == ["failure", "rejected", "success", "success"]
    assert frame["items"].tolist() == [4, 3, 2, 0]
    assert frame.failed.tolist() == [2, 0, 0, 0]
    assert frame.result.tolist() == [None, None, 18, 0]
    assert frame.error.tolist()[:2] == [
        "2 of 4 items failed: item 1: ValueError: no number; item 3: ValueError: no number",
        "over quota: asked for 3 items, 0 in use, quota 2",
    ]
    assert frame.error.isna().tolist() == [False, False, True, True]
    assert (frame.duration_s >= 0).all()
    assert_has_the_dtypes(frame)
    assert run.phases().phase.tolist() == ["begin", "process", "aggregate", "report"]
    assert set(run.phases().status) == {"success"}


def assert_has_the_dtypes(frame: pd.DataFrame) -> None:
    assert frame.status.cat.categories.tolist() == ["success", "failure", "rejected"]
    assert (frame["items"].dtype, frame.failed.dtype, frame.duration_s.dtype) == (np.int64, np.int64, np.float64)
    assert frame.result.dtype == object
    assert (frame.tenant.dtype, frame.error.dtype) == (pd.Series(["a"]).dtype,) * 2


def test_no_tenants_give_an_empty_frame() -> None:
    frame = multi_tenant(process=rated, aggregate=sum, config={}).run({}).result()

    assert (len(frame), list(frame.columns)) == (0, COLUMNS)
    assert_has_the_dtypes(frame)


def test_the_time_limit_is_each_tenant_s_own() -> None:
    wf = multi_tenant(
        process=rated,
        aggregate=sum,
        config={"slow": TenantConfig(9, time_limit_s=1, settings={"takes_s": 60}), "quick": TenantConfig(9)},
    )
    cf.map(abs, [1, 2]).result()  # the workers are there
    started = time.monotonic()
    found = rows(wf.run({"slow": [1, 2, 3], "quick": [1, 2]}).result())

    assert time.monotonic() - started < 30
    assert (found["quick"]["status"], found["quick"]["result"]) == ("success", 3)
    assert (found["slow"]["status"], found["slow"]["failed"], found["slow"]["result"]) == ("failure", 3, None)
    assert found["slow"]["error"] == "3 of 3 items were late: the time limit of 1 s was over"


def test_a_quota_bounds_what_is_in_flight_over_all_runs(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    one_at_a_time = cf.step(wait_for, max_running=1)  # which leaves a worker to the other run
    wf = multi_tenant(process=one_at_a_time, aggregate=len, config={"acme": TenantConfig(5), "bolt": TenantConfig(5)})
    first = wf.submit({"acme": [str(gate)] * 3})
    try:
        second = rows(wf.run({"acme": [str(gate)] * 3, "bolt": []}).result())
        assert second["acme"]["status"] == "rejected"
        assert second["acme"]["error"] == "over quota: asked for 3 items, 3 in use, quota 5"
        assert second["bolt"]["status"] == "success"
    finally:
        gate.touch()
    assert rows(first.result())["acme"]["status"] == "success"
    assert rows(wf.run({"acme": [str(gate)] * 5}).result())["acme"]["status"] == "success"


def test_a_quota_is_free_again_as_soon_as_a_run_is_cancelled(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    wf = multi_tenant(process=wait_for, aggregate=len, config={"acme": TenantConfig(1)})
    held = wf.submit({"acme": [str(gate)]})
    wait_until(lambda: held.status == "running")
    held.cancel()
    gate.touch()

    assert wf.run({"acme": [str(gate)]}).result().status.tolist() == ["success"]


def test_many_who_submit_at_once_are_let_in_up_to_the_quota(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    wf = multi_tenant(process=wait_for, aggregate=len, config={"acme": TenantConfig(10)})
    runs: list[cf.Run[Any]] = []
    threads = [threading.Thread(target=lambda: runs.append(wf.submit({"acme": [str(gate)] * 4}))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gate.touch()

    statuses = [run.result().status[0] for run in runs]
    assert sorted(statuses) == ["rejected"] * 3 + ["success"] * 2


def test_a_tenant_s_flood_comes_after_the_others() -> None:
    wf = multi_tenant(
        process=rated, aggregate=len, config=defaultdict(lambda: TenantConfig(1000, settings={"takes_s": 0.005}))
    )
    run = wf.run({"flood": [1] * 100, "quiet": [1] * 10, "other": [1] * 10})

    assert run.result().status.tolist() == ["success"] * 3
    timeline = run.timeline()
    mine = timeline[timeline.step == "rated.quiet"]
    before = timeline[(timeline.step == "rated.flood") & (timeline.claimed_at < mine.claimed_at.max())]
    assert before.empty


def test_a_tenant_that_kills_its_workers_fails_alone() -> None:
    def deadly(item: int, settings: dict[str, Any]) -> int:
        if settings.get("kills"):
            os._exit(1)
        return item

    wf = multi_tenant(
        process=cf.step(deadly, max_worker_losses=0),
        aggregate=sum,
        config={"bad": TenantConfig(9, settings={"kills": True}), "good": TenantConfig(9)},
    )
    found = rows(wf.run({"bad": [1], "good": [1, 2, 3]}).result())

    assert (found["good"]["status"], found["good"]["result"]) == ("success", 6)
    assert (found["bad"]["status"], found["bad"]["failed"]) == ("failure", 1)
    assert "WorkerLost" in found["bad"]["error"]


def test_an_aggregate_that_fails_is_its_tenant_s_failure() -> None:
    wf = multi_tenant(process=rated, aggregate=max, config={"none": TenantConfig(1), "one": TenantConfig(1)})
    run = wf.run({"none": [], "one": [7]})
    found = rows(run.result())

    assert (found["one"]["status"], found["one"]["result"]) == ("success", 7)
    assert (found["none"]["status"], found["none"]["failed"], found["none"]["result"]) == ("failure", 0, None)
    assert found["none"]["error"].startswith("aggregate failed: ValueError: max()")
    assert found["none"]["duration_s"] >= 0


def test_steps_keep_their_options_and_may_be_async() -> None:
    @cf.step(retries=1, retry_delay_s=0.01, name="again")
    async def process(item: int, settings: dict[str, Any]) -> int:
        await asyncio.sleep(0)
        if cf.current().attempt == 1:
            raise ConnectionError("try again")
        return item

    async def aggregate(results: list[int]) -> int:
        await asyncio.sleep(0)
        return sum(results)

    wf = multi_tenant(
        process=process.options(name="mine"),
        aggregate=cf.step(aggregate, name="total"),
        config={"a": TenantConfig(9, priority=1), "b": TenantConfig(9, priority=7)},
    )
    run = wf.run({"a": [1, 2], "b": [3]})

    assert run.result().result.tolist() == [3, 3]
    priorities = run.steps().set_index("step").priority
    assert priorities[["again", "again-2", "total", "total-2"]].tolist() == [7, 1, 7, 1]  # the smaller one first


def test_results_that_are_taken_over_keep_their_rows_and_others_have_no_duration() -> None:
    wf = multi_tenant(process=rated, aggregate=sum, config={"a": TenantConfig(9), "b": TenantConfig(9)})
    first = wf.run({"a": [1, 2], "b": [3]})
    second = wf.run({"a": [1, 2], "b": [4]}, reuse=first)

    assert second.result().result.tolist() == [3, 4]
    assert second.result().duration_s[0] == first.result().duration_s[0]
    assert math.isnan(second.result().duration_s[1])


def test_as_a_function_it_is_plain_python() -> None:
    wf = multi_tenant(process=rated, aggregate=sum, config={"a": TenantConfig(9)})

    assert wf({"a": [1, 2]}).result.tolist() == [3]


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ({"acmee": [1]}, cf.UnknownTenantError, "no config for tenant 'acmee'. Did you mean 'acme'"),
        ({3: [1]}, cf.UnknownTenantError, "no config for tenant 3"),
        ({"acme": 3}, cf.ArgumentError, "the items of tenant 'acme' of multi_tenant must be a list"),
        ({"acme": "text"}, cf.ArgumentError, "the items of tenant 'acme' of multi_tenant must be a list"),
        ([1, 2], cf.ArgumentError, "a dict of items by tenant"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_does(
    nothing_is_written: None, data: Any, error: type[Exception], message: str
) -> None:
    wf = multi_tenant(process=rated, aggregate=sum, config={"acme": TenantConfig(9)})
    with pytest.raises(error, match=message):
        wf.submit(data)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"quota_items": -1}, "quota_items"),
        ({"quota_items": 1.5}, "quota_items"),
        ({"quota_items": True}, "quota_items"),
        ({"quota_items": 1, "priority": 10}, "priority of a TenantConfig"),
        ({"quota_items": 1, "time_limit_s": 0}, "time_limit_s of a TenantConfig"),
        ({"quota_items": 1, "settings": [1]}, "settings of a TenantConfig"),
    ],
)
def test_a_config_out_of_range_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(cf.InvalidOptionError, match=message):
        TenantConfig(**given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"config": None}, "config="),
        ({"config": {"a": 5}}, "no TenantConfig"),
        ({"config": {1: TenantConfig(1)}}, "name of 1 to 200 characters"),
        ({"process": 3}, "process= of multi_tenant"),
        ({"aggregate": cf.workflow(lambda x: x)}, "not the workflow"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_made(given: dict[str, Any], message: str) -> None:
    with pytest.raises(cf.ArgumentError, match=message):
        multi_tenant(**{"process": rated, "aggregate": sum, "config": {}, **given})

"""Large values between steps: mapped files, copies of one's own, limits."""

from __future__ import annotations

import hashlib
import mmap
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Runtime, blobs
from executions import Executions

import celeryflow as cf

pytestmark = pytest.mark.usefixtures("runtime")


def mapping_of(array: np.ndarray[Any, Any]) -> Any:
    """What holds the array's memory."""
    base: Any = array
    while getattr(base, "base", None) is not None:
        base = base.base
    return base.obj if isinstance(base, memoryview) else base


def test_values_up_to_256_kib_make_no_file_and_larger_ones_one_named_by_its_content(runtime: Runtime) -> None:
    make = cf.step(lambda size, mark: mark * size, name="make")
    before = blobs()

    cf.workflow(lambda: make(262_000, b"s")).run(check=True)
    assert blobs() == before

    cf.workflow(lambda: make(262_200, b"l")).run(check=True)
    (new,) = blobs() - before
    assert new.is_relative_to(runtime.directory / ".celeryflow")
    assert new.name == hashlib.sha256(new.read_bytes()).hexdigest()


def test_same_content_is_one_file() -> None:
    make = cf.step(lambda i: np.full(100_000, 7.25), name="make")
    before = blobs()

    cf.workflow(lambda: [make(i) for i in range(5)]).run(check=True)

    assert len(blobs() - before) == 1


def test_large_array_is_read_from_a_mapped_file() -> None:
    @cf.step
    def where(array: Any) -> tuple[str, bool]:
        return type(mapping_of(array)).__name__, array.flags.writeable

    make = cf.step(lambda: np.arange(200_000.0), name="make")

    assert cf.workflow(lambda: where(make())).run().result() == ("mmap", True)


def test_large_array_is_read_from_a_mapped_file_here_too() -> None:
    make = cf.step(lambda: np.arange(200_001.0), name="make")

    found = cf.workflow(lambda: make()).run().result()

    assert isinstance(mapping_of(found), mmap.mmap)
    np.testing.assert_array_equal(found, np.arange(200_001.0))


@pytest.mark.parametrize("size", [10, 5_000, 200_000])
def test_edits_of_an_input_are_not_seen_by_siblings(size: int) -> None:
    @cf.step
    def edit(array: Any) -> float:
        array += 1
        return float(array[0])

    make = cf.step(lambda: np.zeros(size), name="make")

    @cf.workflow
    def etl() -> Any:
        array = make()
        first = [edit(array) for _ in range(6)]
        return first, edit.options(after=first)(array), array

    firsts, later, array = etl.run().result()

    assert (firsts, later) == ([1.0] * 6, 1.0)
    assert array.sum() == 0


def test_edits_of_an_input_are_not_seen_by_a_retry(executions: Executions) -> None:
    @cf.step(retries=2, retry_delay_s=0)
    def edit(array: Any, rows: list[int]) -> tuple[float, int]:
        array += 1
        rows.append(1)
        if cf.current().attempt < 3:
            raise ValueError
        return float(array[0]), len(rows)

    make = cf.step(lambda: np.zeros(200_000), name="make")

    assert cf.workflow(lambda: edit(make(), [])).run().result() == (1.0, 1)


@pytest.mark.parametrize("size", [10, 5_000, 100_000])
def test_edits_of_an_unmapped_value_are_not_seen_by_other_items(size: int) -> None:
    @cf.step
    def edit(i: int, table: Any, rows: list[int]) -> tuple[float, int]:
        table.iloc[0, 0] += 1
        rows.append(i)
        return float(table.iloc[0, 0]), len(rows)

    frame = pd.DataFrame({"a": np.zeros(size)})

    assert cf.workflow(lambda: edit.map(range(8), cf.unmapped(frame), cf.unmapped([]))).run().result() == [(1.0, 1)] * 8
    assert frame["a"].sum() == 0


@pytest.mark.parametrize("size", [10, 5_000, 200_000])
def test_edits_of_a_result_here_are_not_seen_by_the_next_reader(size: int) -> None:
    run = cf.workflow(lambda: cf.step(lambda: np.zeros(size), name="make")()).run()

    first = run.result()
    first += 1

    assert run.result().sum() == 0
    assert run.value("make").sum() == 0


def test_frame_of_10_mb_goes_through_five_steps() -> None:
    @cf.step
    def work(frame: Any) -> Any:
        frame["a"] += 1
        return frame

    frame = pd.DataFrame({"a": np.zeros(650_000), "b": np.arange(650_000)})

    @cf.workflow
    def etl() -> Any:
        found = work(frame)
        for _ in range(4):
            found = work(found)
        return found

    found = etl.run().result()

    assert (found["a"].unique().tolist(), len(found)) == ([5.0], 650_000)
    assert frame["a"].sum() == 0


def test_large_arguments_and_items_of_maps_arrive() -> None:
    arrays = [np.full(50_000, float(i)) for i in range(8)]
    total = cf.step(lambda array, scale: float(array.sum() * scale.sum()), name="total")

    found = cf.workflow(lambda: total.map(arrays, cf.unmapped(np.ones(50_000)))).run().result()

    assert found == [i * 50_000.0 * 50_000.0 for i in range(8)]


def test_limits_of_large_values_name_the_object_and_the_way_out(kernel: Any, tmp_path: Path) -> None:
    found = kernel(
        """
        cf.connect(workers=1, blob_limit_bytes=1_000_000)

        @cf.step
        def load(size):
            return b"x" * size

        @cf.step
        def take(value):
            return len(value)

        @cf.workflow
        def etl(size):
            return take(load(size))

        def message_of(call):
            try:
                return call()
            except cf.CeleryflowError as error:
                return type(error).__name__, str(error).partition("\\n")[0]

        answer = {
            "fits": etl.run(900_000).result(),
            "result": message_of(lambda: etl.run(2_000_000).result()),
            "argument": message_of(lambda: cf.workflow(lambda: take(b"y" * 2_000_000)).run()),
            "items": message_of(lambda: cf.map(take, [b"z" * 2_000_000])),
            "runs": len(cf.history()),
        }
        """
    )

    assert found["fits"] == 900_000
    assert found["result"][0] == "StepFailedError"
    assert "result of step 'load'" in found["result"][1] and "blob_limit_bytes" in found["result"][1]
    assert found["argument"][0] == "ValueTooLargeError"
    assert "step 'take'" in found["argument"][1] and "MiB" in found["argument"][1] and "path" in found["argument"][1]
    assert found["items"][0] == "ValueTooLargeError"
    assert found["runs"] == 2

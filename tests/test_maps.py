"""``map``: what it goes over, how items flow, and what a failed one does."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from executions import Executions, wait_until
from flows import double

import celeryflow as cf

pytestmark = pytest.mark.usefixtures("runtime")


@cf.step
def add(a: Any, b: Any = 0, c: Any = 0) -> Any:
    return a + b + c


@cf.step
def pair(a: Any, b: Any) -> Any:
    return [a, b]


@cf.step
def give(value: Any) -> Any:
    """Something that is known only at run time."""
    return value


@cf.step
def show(value: Any) -> str:
    return repr(value)


@cf.step
def odd_only(x: int) -> int:
    if x % 2 == 0:
        raise ValueError(f"{x} is even")
    return x


def run(body: Any) -> Any:
    return cf.workflow(body).run().result()


# --- what it goes over -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        [1, 2, 3],
        (1, 2, 3),
        range(1, 4),
        np.array([1, 2, 3]),
        pd.Series([1, 2, 3], index=list("abc")),
        pd.Index([1, 2, 3]),
    ],
    ids=["list", "tuple", "range", "array", "series", "index"],
)
def test_map_goes_over_every_list_like_value(values: Any) -> None:
    assert run(lambda: double.map(values)) == [2, 4, 6]


def test_map_goes_over_rows_of_a_matrix() -> None:
    rows = run(lambda: double.map(np.arange(6).reshape(3, 2)))

    assert [row.tolist() for row in rows] == [[0, 2], [4, 6], [8, 10]]


@pytest.mark.parametrize("values", [[1, 2, 3], (1, 2, 3), range(1, 4), np.array([1, 2, 3]), pd.Series([1, 2, 3])])
def test_map_goes_over_a_list_known_only_at_run_time(values: Any) -> None:
    assert run(lambda: double.map(give(values))) == [2, 4, 6]


def test_map_over_an_item_of_a_result() -> None:
    assert run(lambda: double.map(give({"rows": [[1], [2, 3]]})["rows"][1])) == [4, 6]


def test_map_over_a_list_of_refs() -> None:
    assert run(lambda: double.map([give(1), 2, give(3)])) == [2, 4, 6]


def test_mapped_items_may_hold_refs_deep_inside() -> None:
    assert run(lambda: show.map([{"k": [give(1)]}, (give(2),)])) == ["{'k': [1]}", "(2,)"]


def test_mapped_dict_keeps_its_keys() -> None:
    assert run(lambda: double.map({"b": 1, "a": 2, 3: 3})) == {"b": 2, "a": 4, 3: 6}


def test_mapped_dict_known_only_at_run_time_keeps_its_keys() -> None:
    assert run(lambda: double.map(give({"b": 1, ("a", 1): 2}))) == {"b": 2, ("a", 1): 4}


def test_keys_go_through_maps_over_maps() -> None:
    found = run(lambda: (show(total := double.map(double.map({"b": 1, "a": 2}))), total))

    assert found == ("{'b': 4, 'a': 8}", {"b": 4, "a": 8})


@pytest.mark.parametrize("constant", ["text", 7, 1.5, None, b"bytes", True])
def test_scalars_strings_and_none_go_to_every_call(constant: Any) -> None:
    assert run(lambda: pair.map([1, 2], constant)) == [[1, constant], [2, constant]]


@pytest.mark.parametrize("whole", [[8, 9], (8,), {"k": 8}, pd.DataFrame({"a": [1]}), np.array([1, 2])])
def test_unmapped_values_go_whole_to_every_call(whole: Any) -> None:
    found = run(lambda: pair.map([1, 2], cf.unmapped(whole)))

    assert [item for item, _ in found] == [1, 2]
    assert [repr(got) for _, got in found] == [repr(whole)] * 2


@pytest.mark.parametrize("seen", [[], bytearray()], ids=["list", "bytearray"])
def test_an_unmapped_value_that_a_call_changes_is_fresh_for_the_next(seen: Any) -> None:
    @cf.step
    def seen_before(x: int, seen: Any) -> int:
        seen.append(x)
        return len(seen) - 1

    assert run(lambda: seen_before.map(range(100), cf.unmapped(seen))) == [0] * 100


def test_unmapped_ref_and_unmapped_map_go_whole_to_every_call() -> None:
    assert run(lambda: pair.map([1, 2], cf.unmapped(give([5, 6])))) == [[1, [5, 6]], [2, [5, 6]]]
    assert run(lambda: pair.map([1, 2], cf.unmapped(double.map([5, 6])))) == [[1, [10, 12]], [2, [10, 12]]]


def test_arguments_may_be_mapped_by_keyword_and_defaults_kept() -> None:
    assert run(lambda: add.map(a=[1, 2], c=range(10, 12))) == [11, 13]


def test_map_calls_functions_of_any_kind() -> None:
    power = cf.step(functools.partial(pow, 2))

    assert run(lambda: power.map([1, 2, 3])) == [2, 4, 8]
    assert run(lambda: cf.step(len).map(["a", "bc"])) == [1, 2]


# --- zipped, empty ---------------------------------------------------------------------------------


def test_values_mapped_together_are_zipped() -> None:
    assert run(lambda: add.map([1, 2], (10, 20), c=np.array([100, 200]))) == [111, 222]
    assert run(lambda: add.map(give([1, 2]), [10, 20], double.map([50, 100]))) == [111, 222]


def test_two_maps_are_zipped_item_by_item() -> None:
    def body() -> Any:
        numbers = give.map(range(500))
        return add.map(double.map(numbers), double.map(numbers), numbers)

    assert run(body) == [5 * i for i in range(500)]


def test_zipped_dicts_of_the_same_keys_keep_them() -> None:
    assert run(lambda: add.map({"a": 1, "b": 2}, {"a": 10, "b": 20})) == {"a": 11, "b": 22}


def test_unequal_lengths_are_an_error_that_names_both() -> None:
    with pytest.raises(cf.LengthMismatchError, match=r"add\.map\(\).*2 items in a.*3 in b"):
        cf.workflow(lambda: add.map([1, 2], [1, 2, 3])).graph()
    with pytest.raises(cf.LengthMismatchError, match=r"5 .*\bb\b"):
        cf.workflow(lambda: add.map(double.map(range(4)), range(5))).graph()
    with pytest.raises(cf.LengthMismatchError, match=r"1 items in argument 1 and 2 in c|1 items in a and 2 in c"):
        add.map([1], c=[1, 2])


def test_unequal_lengths_found_at_run_time_fail_the_step_and_name_both() -> None:
    failed = cf.workflow(lambda: add.map(give([1, 2]), give([1, 2, 3]))).run()

    with pytest.raises(cf.StepFailedError, match=r"2 items in a and 3 in b") as caught:
        failed.result()
    assert isinstance(caught.value.__cause__, cf.LengthMismatchError)
    assert caught.value.step == "add"
    assert failed.steps().set_index("step").status["add"] == "failure"
    for partial in (False, True):
        with pytest.raises(cf.StepFailedError, match=r"step 'add' failed .*2 items in a and 3 in b"):
            failed.value("add", partial=partial)
    assert failed.items("add").empty


def test_keys_come_from_the_dict_among_what_is_mapped() -> None:
    assert run(lambda: add.map(double.map([1, 2]), {"a": 10, "b": 20})) == {"a": 12, "b": 24}


def test_maps_over_maps_of_other_lengths_are_an_error_at_run_time() -> None:
    lists = cf.workflow(lambda: add.map(double.map(give([1, 2])), double.map(give([1, 2, 3])))).run()

    with pytest.raises(cf.StepFailedError) as caught:
        lists.result()
    assert isinstance(caught.value.__cause__, cf.LengthMismatchError)
    assert caught.value.step == "add"


def test_dicts_of_different_keys_are_not_zipped_by_position() -> None:
    numbers, others = {"a": 1, "b": 2}, {"b": 10, "a": 20}

    with pytest.raises(cf.LengthMismatchError, match="keys"):
        cf.workflow(lambda: add.map(numbers, others)).graph()
    with pytest.raises(cf.LengthMismatchError, match="keys"):
        cf.workflow(lambda: add.map(double.map(numbers), others)).graph()
    with pytest.raises(cf.LengthMismatchError, match="keys"):
        add.map(numbers, others)


def test_dicts_of_different_keys_found_at_run_time_fail_the_step() -> None:
    with pytest.raises(cf.StepFailedError, match="keys"):
        run(lambda: add.map(give({"a": 1, "b": 2}), give({"b": 10, "a": 20})))


@pytest.mark.parametrize(("nothing", "expected"), [([], []), (range(0), []), (np.array([]), []), ({}, {})])
def test_map_over_nothing_gives_nothing(nothing: Any, expected: Any) -> None:
    static = cf.workflow(lambda: double.map(double.map(nothing))).run()
    planned = cf.workflow(lambda: double.map(double.map(give(nothing)))).run()

    assert (static.status, static.result()) == ("success", expected)
    assert (planned.status, planned.result()) == ("success", expected)


def test_step_over_an_empty_map_runs() -> None:
    total = cf.step(sum)

    assert run(lambda: (total(double.map([])), total(double.map(give([]))))) == (0, 0)


# --- flow ------------------------------------------------------------------------------------------------


def test_map_over_a_map_has_no_barrier(tmp_path: Path) -> None:
    ahead = tmp_path / "ahead"

    @cf.step
    def first(i: int) -> int:
        if i == 0:
            wait_until(ahead.exists)  # goes on only after item 1 has come through all stages
        return i

    @cf.step
    def last(i: int) -> int:
        if i == 1:
            ahead.touch()
        return i

    assert run(lambda: last.map(add.map(first.map([0, 1]), 0))) == [0, 1]


def test_step_over_a_whole_map_waits_for_all_of_it(executions: Executions) -> None:
    @cf.step
    def work(i: int) -> int:
        with executions.recorded():
            return i

    @cf.step
    def total(found: list[int]) -> int:
        with executions.recorded():
            return sum(found)

    assert run(lambda: total(work.map(range(50)))) == sum(range(50))
    assert len(executions.read("work")) == 50
    assert executions.read("total")[0].start >= max(e.end or 0 for e in executions.read("work"))


def test_results_are_in_input_order_whatever_ends_first(tmp_path: Path) -> None:
    done = tmp_path / "done"

    @cf.step
    def work(i: int) -> int:
        if i == 0:
            wait_until(done.exists)
        if i == 9:
            done.touch()
        return i

    assert run(lambda: work.map(range(10))) == list(range(10))


def test_map_of_10000_items_runs_each_of_them_once(executions: Executions) -> None:
    @cf.step
    def work(i: int) -> int:
        executions.note(str(i))
        return i

    assert run(lambda: work.map(range(10_000))) == list(range(10_000))
    assert sorted(map(int, executions.notes())) == list(range(10_000))


def test_item_of_a_map_can_be_taken() -> None:
    assert run(lambda: add(double.map([1, 2])[1], double.map({"k": 5})["k"])) == 14


# --- on_error ----------------------------------------------------------------------------------------------


def test_failed_item_fails_its_map_after_the_others_have_run(executions: Executions) -> None:
    @cf.step
    def work(i: int) -> int:
        executions.note(str(i))
        return odd_only(i)

    failed = cf.workflow(lambda: work.map([0, 1, 2, 3])).run()

    assert failed.status == "failure"
    assert sorted(executions.notes()) == ["0", "1", "2", "3"]
    assert failed.items("work")["status"].tolist() == ["failure", "success", "failure", "success"]


def test_skip_leaves_the_item_out_downstream() -> None:
    def body() -> Any:
        good = odd_only.map(range(6), on_error="skip")
        return good, double.map(good), show(good), add.map(good, range(6))

    assert run(body) == ([1, 3, 5], [2, 6, 10], "[1, 3, 5]", [2, 6, 10])


def test_skip_in_a_mapped_dict_leaves_the_key_out() -> None:
    assert run(lambda: double.map(odd_only.map({"a": 1, "b": 2, "c": 3}, on_error="skip"))) == {"a": 2, "c": 6}


def test_skip_of_every_item_leaves_nothing() -> None:
    assert run(lambda: (show(bad := odd_only.map([0, 2], on_error="skip")), double.map(bad))) == ("[]", [])


def test_return_passes_the_exception_on_as_a_value() -> None:
    def body() -> Any:
        found = odd_only.map([1, 2], on_error="return")
        return found, show.map(found), show(found)

    whole, each, shown = run(body)

    assert whole[0] == 1
    assert isinstance(whole[1], ValueError) and str(whole[1]) == "2 is even"
    assert each == ["1", "ValueError('2 is even')"]
    assert shown == "[1, ValueError('2 is even')]"


def test_failures_that_on_error_absorbed_leave_the_run_a_success_and_are_counted() -> None:
    done = cf.workflow(lambda: odd_only.map(range(4), on_error="skip")).run()

    assert done.status == "success"
    assert done.steps()["failed"].tolist() == [2]
    assert done.errors()["index"].tolist() == [0, 2]


def test_map_over_a_failed_map_skips_only_what_needed_the_failed_items() -> None:
    failed = cf.workflow(lambda: double.map(odd_only.map([1, 2, 3]))).run()

    assert failed.status == "failure"
    assert failed.items("double")["status"].tolist() == ["success", "skipped", "success"]


# --- cf.map ------------------------------------------------------------------------------------------------


def test_cf_map_runs_a_function_over_items_and_gives_a_run() -> None:
    started = cf.map(lambda x: x * x, range(5))

    assert isinstance(started, cf.Run)
    assert started.result() == [0, 1, 4, 9, 16]


def test_cf_map_takes_a_step_a_dict_and_options() -> None:
    assert cf.map(double, {"a": 1}).result() == {"a": 2}
    named = cf.map(lambda x: x, [1], name="square", priority=9)
    assert named.steps()[["step", "priority"]].to_numpy().tolist() == [["square", 9]]
    assert cf.map(odd_only, [1, 2, 3], on_error="skip").result() == [1, 3]

"""Steps and workflows: how they are written, called and wired."""

from __future__ import annotations

import functools
import math
import os
from typing import Any

import numpy as np
import pytest
from flows import add, describe, double

import celeryflow as cf

pytestmark = pytest.mark.usefixtures("runtime")


@cf.step(outputs=2)
def split(pair: Any) -> Any:
    return pair[0], pair[1]


# --- outside of a workflow -----------------------------------------------------------------


def test_step_outside_of_a_workflow_is_the_plain_function() -> None:
    assert add(1, scale=3) == 33
    assert add.__name__ == "add"


def test_step_with_options_outside_of_a_workflow_is_the_plain_function() -> None:
    assert split((1, 2)) == (1, 2)
    assert double.options(name="twice", priority=9)(4) == 8


def test_map_outside_of_a_workflow_gives_a_list() -> None:
    assert double.map([1, 2, 3]) == [2, 4, 6]
    assert add.map([1, 2], cf.unmapped(5), scale=(1, 10)) == [6, 70]


def test_map_over_a_dict_outside_of_a_workflow_gives_a_dict() -> None:
    assert double.map({"a": 1, "b": 2}) == {"a": 2, "b": 4}


def test_workflow_outside_of_a_workflow_runs_here_as_plain_python() -> None:
    @cf.workflow
    def etl(items: list[int]) -> tuple[int, list[int]]:
        with cf.phase("all"):
            return os.getpid(), double.map(items)

    assert etl([1, 2]) == (os.getpid(), [2, 4])


@pytest.mark.parametrize(
    ("function", "argument", "expected"),
    [
        (math.sqrt, 9.0, 3.0),
        (len, "abc", 3),
        (functools.partial(add.callee.function, scale=2), 1, 22),
        (lambda x: x - 1, 1, 0),
        (str.upper, "a", "A"),
        (np.sum, [1, 2], 3),
    ],
    ids=["math.sqrt", "builtin", "partial", "lambda", "method", "numpy"],
)
def test_any_callable_can_be_a_step(function: Any, argument: Any, expected: Any) -> None:
    wrapped = cf.step(function, retries=1)

    @cf.workflow
    def etl() -> Any:
        return wrapped(argument)

    assert etl.run().result() == expected


def test_callable_object_can_be_a_step() -> None:
    class Adder:
        def __init__(self, amount: int) -> None:
            self.amount = amount

        def __call__(self, x: int) -> int:
            return x + self.amount

    assert cf.map(Adder(5), [1, 2]).result() == [6, 7]


def test_async_function_can_be_a_step() -> None:
    @cf.step
    async def fetch(x: int) -> int:
        return x + 1

    @cf.workflow
    def etl() -> Any:
        return fetch(fetch(1))

    assert etl.run().result() == 3


# --- arguments -----------------------------------------------------------------------------


def test_positional_keyword_default_and_star_arguments_take_refs() -> None:
    @cf.workflow
    def etl(x: int) -> Any:
        one, two = double(x), double(b := double(x))
        return add(one), add(one, two), add(one, b=two, scale=b), add(*[one, two, 1, b])

    assert etl.run(1).result() == (12, 6, 12, 9)


def test_refs_nested_in_lists_tuples_and_dicts_arrive_as_values() -> None:
    @cf.workflow
    def etl() -> Any:
        ref = double(1)
        return describe([ref, (ref, {"k": [ref]})], deep={"a": (ref,), 1: {"b": ref}})

    assert etl.run().result() == "(([2, (2, {'k': [2]})],), {'deep': {'a': (2,), 1: {'b': 2}}})"


def test_lists_stay_lists_and_tuples_stay_tuples() -> None:
    @cf.workflow
    def etl(given: Any) -> Any:
        return describe(given, double(1))

    assert etl.run([1, (2, [])]).result() == "(([1, (2, [])], 2), {})"


def test_body_may_return_any_nesting_of_refs_and_values() -> None:
    @cf.workflow
    def etl() -> Any:
        ref = double(2)
        return {"list": [ref, 1], "tuple": (ref, "x", None), "deep": {"a": {"b": [ref]}}, "plain": 3.5}

    assert etl.run().result() == {"list": [4, 1], "tuple": (4, "x", None), "deep": {"a": {"b": [4]}}, "plain": 3.5}


def test_body_without_a_return_gives_none() -> None:
    @cf.workflow
    def etl() -> None:
        double(1)

    assert etl.run().result() is None


def test_body_may_loop_over_its_arguments() -> None:
    @cf.workflow
    def etl(names: list[str], rounds: int) -> Any:
        found = {}
        for name in names:
            found[name] = name
            for _ in range(rounds):
                found[name] = double(found[name])
        return found

    assert etl.run(["a", "bc"], rounds=2).result() == {"a": "aaaa", "bc": "bcbcbcbc"}


def test_workflow_is_traced_with_the_real_arguments() -> None:
    @cf.workflow
    def etl(wanted: bool = False) -> Any:
        return double(1) if wanted else (double(2), double(3))

    assert etl.graph().names() == ["double", "double-2"]
    assert etl.graph(True).names() == ["double"]


def test_items_of_a_result_are_taken_by_position_key_and_path() -> None:
    table = cf.step(lambda: {"rows": [{"n": 1}, {"n": 2}], 5: "five"})

    @cf.workflow
    def etl() -> Any:
        found = table()
        return double(found["rows"][1]["n"]), found[5], found["rows"][-1]

    assert etl.run().result() == (4, "five", {"n": 2})


def test_outputs_unpack_into_refs() -> None:
    @cf.workflow
    def etl() -> Any:
        first, second = split((1, 2))
        (third, _), fourth = split(split((5, 6))), 7
        return add(first, second), third, fourth

    assert etl.run().result() == (3, 5, 7)


def test_unpacking_into_another_number_than_outputs_is_an_error() -> None:
    @cf.workflow
    def etl() -> Any:
        _a, _b, _c = split((1, 2))

    with pytest.raises(ValueError, match="unpack"):
        etl.graph()


def test_workflow_called_in_a_body_adds_its_steps() -> None:
    @cf.workflow
    def inner(x: Any) -> Any:
        return double(double(x))

    @cf.workflow
    def outer(x: int) -> Any:
        return add(inner(x), inner(1))

    assert outer.graph(1).names() == ["double", "double-2", "double-3", "double-4", "add"]
    assert outer.run(3).result() == 16

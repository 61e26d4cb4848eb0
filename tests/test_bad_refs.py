"""A Ref, which stands for a value still to come, is not that value: whatever else is done with it says so."""

from __future__ import annotations

import math
import operator
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

import celeryflow as cf

pytestmark = pytest.mark.usefixtures("nothing_is_written")


@cf.step
def load(x: Any = 1) -> Any:
    return x


@cf.step
def both(x: Any, y: Any) -> Any:
    return x, y


def looped(ref: Any) -> None:
    for _ in ref:
        pass


def conditional(ref: Any) -> Any:
    return 1 if ref else 2


MISUSES: dict[str, Callable[[Any], Any]] = {
    "bool": bool,
    "if": conditional,
    "not": operator.not_,
    "and": lambda ref: ref and 1,
    "assert": lambda ref: [1 for _ in [1] if ref],
    "len": len,
    "iterator": iter,
    "for": looped,
    "list": list,
    "unpack": lambda ref: [*ref],
    "sum": sum,
    "sorted": sorted,
    "max": lambda ref: max(ref, 3),
    "in": lambda ref: 1 in ref,
    "in a list": lambda ref: ref in [1, 2],
    "index of a list": lambda ref: [1, 2][ref],
    "range": range,
    "equal": lambda ref: ref == 3,
    "not equal": lambda ref: ref != 3,
    "less": lambda ref: ref < 3,
    "greater": lambda ref: ref >= 3,
    "add": lambda ref: ref + 1,
    "add from the right": lambda ref: 1 + ref,
    "add to text": lambda ref: "a" + ref,
    "add to a list": lambda ref: [1] + ref,  # noqa: RUF005
    "add in place": lambda ref: operator.iadd(ref, 1),
    "subtract": lambda ref: 1 - ref,
    "multiply": lambda ref: ref * 2,
    "divide": lambda ref: ref / 2,
    "floor divide": lambda ref: 5 // ref,
    "modulo": lambda ref: ref % 2,
    "divmod": lambda ref: divmod(ref, 2),
    "power": lambda ref: ref**2,
    "matmul": lambda ref: ref @ ref,
    "or": lambda ref: ref | ref,
    "shift": lambda ref: ref << 1,
    "negative": operator.neg,
    "invert": operator.invert,
    "abs": abs,
    "round": round,
    "int": int,
    "float": float,
    "complex": complex,
    "math": math.sqrt,
    "floor": math.floor,
    "f-string": lambda ref: f"{ref}",
    "f-string with a format": lambda ref: f"{ref:>10}",
    "percent format": lambda ref: "%s" % ref,  # noqa: UP031
    "str.format": lambda ref: "{}".format(ref),  # noqa: UP032
    "str": str,
    "set item": lambda ref: operator.setitem(ref, 0, 1),
    "delete item": lambda ref: operator.delitem(ref, 0),
    "call": lambda ref: ref(),
    "attribute": lambda ref: ref.columns,
    "pickle": pickle.dumps,
    "np.mean": np.mean,
    "np.sum": np.sum,
    "np.array": np.array,
    "np.asarray in a list": lambda ref: np.asarray([ref, ref], dtype=float),
    "np.concatenate": lambda ref: np.concatenate([ref, [1]]),
    "np.add": lambda ref: np.add(ref, 1),
    "ndarray + ref": lambda ref: np.arange(3) + ref,
    "np.float64 * ref": lambda ref: np.float64(2) * ref,
    "Series + ref": lambda ref: pd.Series([1, 2]) + ref,
    "DataFrame of it": pd.DataFrame,
    "Series of it": lambda ref: pd.Series([1]).isin(ref),
}


@pytest.mark.parametrize("misuse", MISUSES.values(), ids=MISUSES.keys())
def test_ref_used_as_its_value_is_refused_on_the_spot(misuse: Callable[[Any], Any]) -> None:
    reached = []

    @cf.workflow
    def etl() -> Any:
        ref = load.options(name="the-source")()
        reached.append(ref)
        misuse(ref)
        reached.append("past it")

    with pytest.raises((TypeError, AttributeError)) as caught:
        etl.run()

    assert len(reached) == 1
    assert "the-source" in str(caught.value)


def test_message_names_the_step_and_says_what_to_write() -> None:
    with pytest.raises(cf.RefError, match=r"cannot decide on the result of 'load'.*step that"):
        cf.workflow(lambda: conditional(load())).run()
    with pytest.raises(cf.RefError, match=r"cannot iterate over the result of 'load'.*(Map|outputs)"):
        cf.workflow(lambda: looped(load())).run()
    with pytest.raises(cf.RefError, match=r"cannot calculate with the result of 'load'.*step that"):
        cf.workflow(lambda: load() + 1).run()


def test_item_of_a_ref_is_no_value_either() -> None:
    with pytest.raises(cf.RefError, match="load"):
        cf.workflow(lambda: load()["n"] + 1).run()
    with pytest.raises(cf.RefError, match="load"):
        cf.workflow(lambda: list(load()[0])).run()


def test_result_of_a_map_is_no_list() -> None:
    for misuse in (len, list, sum, bool, np.mean):
        with pytest.raises(cf.RefError, match="load"):
            cf.workflow(lambda misuse=misuse: misuse(load.map([1, 2]))).run()


def test_repr_of_a_ref_says_what_it_is() -> None:
    seen = []

    cf.workflow(lambda: seen.extend([repr(load()), repr(load()["a"][0]), repr([load()])])).graph()

    assert seen == ["<Ref to load>", "<Ref to load-2['a'][0]>", "[<Ref to load-3>]"]


def test_refs_can_be_kept_in_sets_and_compared_by_is() -> None:
    def body() -> Any:
        ref = load()
        assert ref is not None
        assert len({ref, load()}) == 2
        return ref

    assert cf.workflow(body).graph().names() == ["load", "load-2"]


# --- refs of another workflow ------------------------------------------------------------------------------


def leaked() -> Any:
    found: list[Any] = []
    cf.workflow(lambda: found.append(load.options(name="source")()), name="first").graph()
    return found[0]


@pytest.mark.parametrize(
    "use",
    [
        lambda ref: load(ref),
        lambda ref: load([{"k": (ref,)}]),
        lambda ref: load(x=ref),
        lambda ref: load(ref["n"]),
        lambda ref: load.map(ref),
        lambda ref: load.map([1, ref]),
        lambda ref: load.map([{"k": [ref]}]),
        lambda ref: both.map([1], cf.unmapped(ref)),
        lambda ref: load.options(after=[ref])(1),
        lambda ref: (load(1), ref),
    ],
    ids=[
        "argument",
        "nested",
        "keyword",
        "item",
        "map",
        "item of a map",
        "nested in a map",
        "unmapped",
        "after",
        "returned",
    ],
)
def test_ref_of_another_workflow_is_refused(use: Callable[[Any], Any]) -> None:
    ref = leaked()

    with pytest.raises(cf.ForeignRefError, match=r"source.*another workflow, 'first'"):
        cf.workflow(lambda: use(ref), name="second").run()


def test_ref_captured_by_a_step_is_refused() -> None:
    def body() -> Any:
        ref = load()
        return cf.step(lambda: [ref], name="captures")()

    with pytest.raises((cf.RefError, cf.SerializationError), match=r"load|ref"):
        cf.workflow(body).run()


class Box:
    def __init__(self, content: Any) -> None:
        self.content = content


@pytest.mark.parametrize(
    "hide", [lambda ref: {ref}, lambda ref: np.array([ref, None], dtype=object), Box], ids=["set", "array", "object"]
)
def test_ref_hidden_where_it_is_not_looked_for_is_refused(hide: Callable[[Any], Any]) -> None:
    with pytest.raises((cf.RefError, cf.SerializationError), match="load"):
        cf.workflow(lambda: load(hide(load()))).run()


def test_after_takes_refs_alone() -> None:
    for wrong in ([1], ["load"], [None]):
        with pytest.raises(cf.ArgumentError, match=r"after=.*Refs"):
            cf.workflow(lambda wrong=wrong: load.options(after=wrong)()).run()


def test_lone_ref_given_to_after_is_refused() -> None:
    with pytest.raises((cf.ArgumentError, cf.RefError), match="load"):
        cf.workflow(lambda: load.options(after=load())()).run()

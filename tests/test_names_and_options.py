"""Names, options, phases, and the graph that comes of them."""

from __future__ import annotations

import itertools
import time
import warnings
from typing import Any

import pytest
from executions import Executions
from flows import add, describe, double

import celeryflow as cf

pytestmark = pytest.mark.usefixtures("runtime")


# --- names and order -------------------------------------------------------------------------


def test_same_step_used_twice_gets_numbered_names() -> None:
    @cf.workflow
    def etl() -> Any:
        return [double(1), add(1), double(2), double(3)]

    assert etl.graph().names() == ["double", "add", "double-2", "double-3"]


def test_order_is_deterministic() -> None:
    @cf.workflow
    def etl() -> Any:
        parts = {name: double(name) for name in "qwertyuiop"}
        return describe(**parts)

    first, second = etl.graph(), etl.graph()

    assert first == second
    assert first.edges == tuple((f"double{'' if i == 1 else f'-{i}'}", "describe") for i in range(1, 11))


def test_two_functions_of_one_name_are_told_apart() -> None:
    first, second = cf.step(lambda: "first"), cf.step(lambda: "second")

    @cf.workflow
    def etl() -> Any:
        return first(), second(), first()

    assert etl.graph().names() == ["lambda", "lambda-2", "lambda-3"]
    assert etl.run().result() == ("first", "second", "first")


def test_function_names_outside_of_ascii_get_a_slug_and_keep_their_label() -> None:
    @cf.step
    def prüfen(x: int) -> int:
        return x

    @cf.workflow
    def etl() -> Any:
        return prüfen(1), cf.step(lambda: 2)()

    nodes = etl.graph().nodes

    assert [node.name for node in nodes] == ["prufen", "lambda"]
    assert [node.spec.label for node in nodes] == ["prüfen", "<lambda>"]
    assert etl.run().value("prufen") == 1


def test_names_are_chosen_for_the_step_or_for_one_use() -> None:
    loader = cf.step(lambda x: x, name="load.all-2")

    @cf.workflow(name="nightly-etl")
    def etl() -> Any:
        return loader(1), loader.options(name="special")(2)

    run = etl.run()

    assert run.graph.names() == ["load.all-2", "special"]
    assert run.id.startswith("nightly-etl-")
    assert run.value("special") == 2


# --- options ---------------------------------------------------------------------------------


def test_options_of_one_use_leave_the_step_as_it_was() -> None:
    @cf.workflow
    def etl() -> Any:
        return double.options(priority=9, queue="fast", retries=4, timeout_s=5)(1), double(2)

    special, plain = (node.spec for node in etl.graph().nodes)

    assert (special.priority, special.queue, special.retries, special.timeout_s) == (9, "fast", 4, 5)
    assert (plain.priority, plain.queue, plain.retries, plain.timeout_s) == (5, "default", 0, None)


def test_embedded_workers_serve_every_queue() -> None:
    @cf.workflow
    def etl() -> Any:
        return double.options(queue="nobody-ever-heard-of-it")(1)

    assert etl.run().result() == 2


def test_after_orders_steps_without_passing_data(executions: Executions) -> None:
    @cf.step
    def note() -> str:
        with executions.recorded():
            return "noted"

    @cf.workflow
    def etl() -> Any:
        first = note.options(name="first")()
        second = note.options(name="second", after=[first])()
        note.options(name="third", after=[first, second])()

    for _ in range(5):
        etl.run(check=True)
    order = executions.read()

    assert [e.step for e in order] == ["first", "second", "third"] * 5
    assert all(a.end is not None and a.end <= b.start for a, b in itertools.pairwise(order))


def test_after_works_for_maps_too(executions: Executions) -> None:
    @cf.step
    def note(x: int) -> int:
        with executions.recorded():
            return x

    @cf.workflow
    def etl() -> Any:
        first = note.options(name="first").map(range(5))
        return note.options(name="second", after=[first]).map(range(5))

    assert etl.run().result() == [0, 1, 2, 3, 4]
    assert max(e.end or 0 for e in executions.read("first")) <= executions.read("second")[0].start


# --- phases, graph -----------------------------------------------------------------------------


def test_steps_belong_to_the_phase_that_they_are_written_in() -> None:
    @cf.workflow
    def etl() -> Any:
        with cf.phase("extract data"):
            one = double(1)
            with cf.phase("inner"):
                two = double(2)
            three = double(3)
        with cf.phase("extract data"):
            four = double(4)
        return add(one, two, three, four)

    graph = etl.graph()

    assert [node.phase for node in graph.nodes] == ["extract data", "inner", "extract data", "extract data", None]
    assert graph.phases == ("extract data", "inner")


def test_phase_ends_when_the_body_leaves_it_by_an_error() -> None:
    @cf.workflow
    def etl() -> Any:
        try:
            with cf.phase("doomed"):
                raise KeyError("x")
        except KeyError:
            return double(1)

    assert etl.graph().nodes[0].phase is None


def test_graph_says_what_would_run_and_runs_nothing(executions: Executions) -> None:
    noting = cf.step(lambda x: executions.note("ran"))

    @cf.workflow
    def etl(n: int) -> Any:
        return double(noting.map(range(n)))

    graph = etl.graph(n=7)

    assert graph.name == "etl"
    assert graph.nodes[0].is_map and graph.nodes[0].length == 7
    assert graph.edges == (("lambda", "double"),)
    assert executions.notes() == []


def test_tracing_that_takes_long_warns_that_work_runs_outside_of_a_step() -> None:
    @cf.workflow
    def etl() -> Any:
        time.sleep(1.1)
        return double(1)

    with pytest.warns(cf.TracingWarning, match=r"'etl'.*outside of any step"):
        etl.graph()


def test_quick_tracing_does_not_warn() -> None:
    @cf.workflow
    def etl() -> Any:
        return double(1)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        etl.graph()


# --- the size of things --------------------------------------------------------------------------


def test_chain_of_2000_steps_simply_works() -> None:
    plus = cf.step(lambda x: x + 1)

    @cf.workflow
    def chain() -> Any:
        value: Any = 0
        for _ in range(2000):
            value = plus(value)
        return value

    assert chain.run().result() == 2000


def test_10000_static_nodes_simply_work() -> None:
    one, total = cf.step(lambda i: i), cf.step(lambda *parts: sum(parts))

    @cf.workflow
    def wide() -> Any:
        return total(*[one(i) for i in range(9_999)])

    run = wide.run()

    assert run.result() == sum(range(9_999))
    assert len(run.steps()) == 10_000

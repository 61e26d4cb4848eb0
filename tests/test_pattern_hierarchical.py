"""``hierarchical``: a tree that is found while it is walked, and rolled up as soon as its parts are there."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import failure_of
from executions import Executions, wait_until

import celeryflow as cf

pytestmark = pytest.mark.usefixtures("runtime")

COMPANY = {
    "company": ["sales", "research", "legal"],
    "sales": ["north", "south"],
    "north": ["shop"],
    "research": ["lab"],
    "legal": [],
}


def below(node: str) -> list[str]:
    return COMPANY.get(node, [])


def named(node: str, values: list[Any]) -> Any:
    return {node: values}


def hierarchical(**steps: Any) -> cf.Workflow[Any, Any]:
    return cf.patterns.hierarchical(**{"children": below, "leaf": str.upper, "aggregate": named, **steps})


def test_a_tree_of_uneven_depth_with_an_empty_department(executions: Executions) -> None:
    def children(node: str) -> list[str]:
        with executions.recorded():
            return below(node)

    run = hierarchical(children=children).run("company")

    sales = {"sales": [{"north": ["SHOP"]}, "SOUTH"]}
    assert run.result() == {"company": [sales, {"research": ["LAB"]}, "LEGAL"]}
    assert len(executions.read()) == 8  # each unit was asked once
    assert run.phases().phase.tolist() == ["children", "roll up"]
    assert set(run.phases().status) == {"success"}


def test_a_unit_is_rolled_up_while_its_sibling_is_still_at_work(tmp_path: Path) -> None:
    done = tmp_path / "sales"

    def leaf(node: str) -> str:
        if node == "lab":
            wait_until(done.exists)
        return node

    def aggregate(node: str, values: list[Any]) -> Any:
        if node == "sales":
            done.touch()
        return len(values)

    assert hierarchical(leaf=leaf, aggregate=aggregate).run("company").result() == 3


@pytest.mark.parametrize("none", [[], (), None, {}])
def test_a_single_node_is_a_leaf(none: Any) -> None:
    assert hierarchical(children=lambda node: none).run("alone", inline=True).result() == "ALONE"


def test_a_deep_chain() -> None:
    chain = hierarchical(
        children=lambda n: [n + 1] if n < 30 else [], leaf=str, aggregate=lambda n, values: [n, *values]
    )

    found, depth = chain.run(0).result(), 0
    while isinstance(found, list):
        (depth, found) = (depth + 1, found[1])
    assert (depth, found) == (30, "30")


def test_a_wide_level() -> None:
    wide = hierarchical(
        children=lambda n: [*range(1, 201)] if n == 0 else [], leaf=lambda n: n, aggregate=lambda n, values: values
    )

    assert wide.run(0).result() == [*range(1, 201)]


def test_nodes_may_be_anything_and_children_have_names() -> None:
    tree = {"parts": {"a": {"size": 1}, "b": {"parts": {"c": {"size": 5}}}, "d": {"parts": {}, "size": 7}}}

    found = hierarchical(
        children=lambda node: node.get("parts"),
        leaf=lambda node: node["size"],
        aggregate=cf.workflow(lambda node, values: cf.step(dict)(values)),
    ).run(tree, inline=True)

    assert found.result() == {"a": 1, "b": {"c": 5}, "d": 7}


def test_a_leaf_that_fails_stops_only_what_is_above_it(executions: Executions) -> None:
    def leaf(node: str) -> str:
        if node == "shop":
            raise ValueError("closed")
        return node

    def aggregate(node: str, values: list[Any]) -> str:
        executions.note(node)
        return node

    run = hierarchical(leaf=leaf, aggregate=aggregate).run("company")

    assert str(failure_of(run).__cause__) == "closed"
    assert executions.notes() == ["research"]
    assert run.phases().status.tolist() == ["success", "failure"]


def test_a_step_that_is_tried_again_leaves_the_rest_alone(executions: Executions) -> None:
    def leaf(node: str) -> str:
        with executions.recorded() as here:
            if node == "shop" and here.attempt == 1:
                raise ConnectionError
            return node

    assert hierarchical(leaf=cf.step(leaf, retries=1, retry_delay_s=0.0)).run("company").status == "success"
    assert Counter(e.attempt for e in executions.read()) == {1: 4, 2: 1}


@pytest.mark.parametrize("found", [3, "north", {"north"}])
def test_children_that_are_no_list_are_an_error(found: Any) -> None:
    root = hierarchical(children=lambda node: found).run("sales", inline=True)
    below = hierarchical(children=lambda node: ["north"] if node == "sales" else found).run("sales", inline=True)

    for run, where in ((root, "children"), (below, "children of 'north'")):
        error = failure_of(run).__cause__
        assert isinstance(error, cf.ArgumentError)
        assert f"{where} of hierarchical must be a list, not {type(found).__name__}" in str(error)


@pytest.mark.parametrize("argument", ["children", "leaf", "aggregate"])
def test_what_is_no_step_is_refused_when_it_is_made(argument: str) -> None:
    with pytest.raises(cf.ArgumentError, match=f"{argument}= of hierarchical takes a function, a step or a workflow"):
        hierarchical(**{argument: None})


def test_it_is_part_of_other_workflows_and_a_plain_function() -> None:
    roots = cf.step(lambda: ["sales", "lab"], name="roots")
    run = cf.workflow(lambda: hierarchical().map(roots())).run(inline=True)

    assert run.result() == [{"sales": [{"north": ["SHOP"]}, "SOUTH"]}, "LAB"]
    assert hierarchical()("research") == {"research": ["LAB"]}

"""A tree that is found while it is walked, and rolled up from its leaves to its root.

**When.** A company has departments, these have teams or again departments, and nobody knows how deep it goes before
having asked; the figures of each unit come from those of its own parts.

::

                       company                     children(company) -> [sales, research, legal]
                   ^      ^      ^                 aggregate(company, [its three values])
               sales  research  legal              legal has no children: leaf(legal)
               ^   ^      ^
           north  south  lab                       leaf(north), leaf(south), leaf(lab)

**The steps.**

=========== ==================================== ====================================================================
step        is called with                       gives
=========== ==================================== ====================================================================
`children`  a node                               a list of nodes; an empty one, or None, for a leaf. A dict is taken
                                                 by its values, and its keys stay
`leaf`      a node without children              its value
`aggregate` a node and the values of its         the node's value; they are in the order of its children, or a dict
            children                             where these were one
=========== ==================================== ====================================================================

A node is whatever `children` gives: a name, a path, a row, a nested dict. No level waits for another: a unit is rolled
up as soon as its own parts are, whatever goes on elsewhere in the tree.

**When not.** For levels that are known beforehand (a sum a team, then a sum a department) a map after a map does it,
for less. For hundreds of thousands of leaves let `leaf` take a whole small unit at once: each node here is a step or
two of its own, some milliseconds. A tree may be 190 levels deep; of a graph that is no tree, a node that is reached
twice is walked twice, and a cycle ends in an error at that depth.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celeryflow.control import branch
from celeryflow.graph.trace import phase
from celeryflow.patterns.arguments import listed, part
from celeryflow.workflow import Workflow, workflow

PATTERN = "hierarchical"


def hierarchical(
    *, children: Callable[[Any], Any], leaf: Callable[[Any], Any], aggregate: Callable[[Any, Any], Any]
) -> Workflow[[Any], Any]:
    """A workflow that walks a tree down, and rolls it up again.

    Parameters
    ----------
    children : step, workflow or function
        ``children(node)``, the list of nodes below; a node that has none is a leaf.
    leaf : step, workflow or function
        ``leaf(node)``, the value of a leaf.
    aggregate : step, workflow or function
        ``aggregate(node, values)``, the value of a node from its children's.

    Returns
    -------
    Workflow
        ``.run(root)``, whose result is the value of the root. A node that fails fails the run, and what is above it is
        skipped; the other branches come to their end.

    Raises
    ------
    ArgumentError
        At once, if a step is none; in the run, if `children` gives no list.

    Examples
    --------
    >>> tree = {"all": ["a", "b"], "a": ["c", "d"]}
    >>> total = hierarchical(children=lambda n: tree.get(n, []), leaf=len, aggregate=lambda node, values: sum(values))
    >>> total("all")
    3
    """
    below, end = part(PATTERN, "children", children), part(PATTERN, "leaf", leaf)
    above = part(PATTERN, "aggregate", aggregate)

    @workflow
    def alone(nodes: Any, node: Any) -> Any:
        return end(node)

    @workflow
    def together(nodes: Any, node: Any) -> Any:
        return above(node, roll_up.map(nodes, below.map(nodes)))

    @workflow
    def roll_up(node: Any, nodes: Any) -> Any:
        return alone(nodes, node) if are_none(nodes, node) else together(nodes, node)

    def hierarchical(root: Any) -> Any:
        with phase("children"):
            nodes = below(root)
        with phase("roll up"):  # as a branch, so that the first level stands in the picture
            return branch(nodes, (are_none, alone), otherwise=together, args=(root,))

    return workflow(hierarchical)


def are_none(nodes: Any, node: Any = None) -> bool:
    """Whether a node has no children, and is a leaf."""
    of = "" if node is None else f" of {node!r:.100}"
    return nodes is None or not listed(PATTERN, f"children{of}", nodes).items

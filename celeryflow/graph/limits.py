"""How much there may be of what a workflow is made of: far above what is of use, and below what does harm."""

from __future__ import annotations

from typing import NoReturn

from celeryflow.errors import LimitError

MOST_NODES = 1_000_000
MOST_ITEMS = 10_000_000
MOST_PHASES = 10_000
MOST_QUEUES = 1_000
LONGEST_NAME = 200
DEEPEST = 300
"""Lists, tuples and dicts in one another, in what steps are called with: Python's own recursion ends not far behind."""


def check_nodes(workflow: str, count: int) -> None:
    """See that a workflow has not too many steps.

    Raises
    ------
    LimitError
        Saying what to write instead.
    """
    if count > MOST_NODES:
        _refuse(
            f"workflow {workflow!r} has over {MOST_NODES:,} steps",
            "Map one step over a list, which is a single step with items, or make several runs of it",
        )


def check_items(label: str, count: int) -> None:
    """See that a map has not too many items.

    Raises
    ------
    LimitError
        Saying what to write instead.
    """
    if count > MOST_ITEMS:
        _refuse(
            f"{label}.map() got {count:,} items; the limit is {MOST_ITEMS:,}",
            "Map over batches of them, or make several runs",
        )


def check_phase(name: str) -> None:
    """See that a phase's name is not too long.

    Raises
    ------
    LimitError
        Naming the phase.
    """
    if len(name) > LONGEST_NAME:
        _refuse(f"the phase {name[:40]!r}… has a name of {len(name):,} characters", f"Use {LONGEST_NAME} at most")


def check_phases(name: str, count: int) -> None:
    """See that there are not too many phases.

    Raises
    ------
    LimitError
        Naming the last one.
    """
    if count > MOST_PHASES:
        _refuse(f"phase {name!r} is one of over {MOST_PHASES:,}", "Name stages, not items")


def check_queues(workflow: str, queues: set[str]) -> None:
    """See that the steps of a workflow are not in too many queues.

    Raises
    ------
    LimitError
        Saying what to write instead.
    """
    if len(queues) > MOST_QUEUES:
        _refuse(
            f"workflow {workflow!r} has steps in over {MOST_QUEUES:,} queues",
            "A queue is for a kind of worker; who goes first is said by priority=",
        )


def refuse_depth() -> NoReturn:
    """Say that lists, tuples and dicts lie too deep in one another, or hold themselves."""
    _refuse(
        f"lists, tuples and dicts are nested over {DEEPEST} deep, or one holds itself",
        "Pass them as text or bytes, or inside an object of a class of your own",
    )


def _refuse(what: str, instead: str) -> NoReturn:
    raise LimitError(f"{what}. {instead}.")

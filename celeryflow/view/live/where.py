"""Where a run can show itself: in a notebook, in a terminal, in a log, or nowhere."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from typing import Any, NamedTuple

from celeryflow.config import view_mode


class Place(StrEnum):
    """What reads what this process shows."""

    NOTEBOOK = "notebook"
    TERMINAL = "terminal"
    LOG = "log"
    NOWHERE = "nowhere"


class Cell(NamedTuple):
    """One execution of a cell; `id` is the notebook's name of the cell, empty where the front end does not say it."""

    id: str
    execution: str


NO_CELL = Cell("", "")


def shell() -> Any:
    """The IPython that runs the user's code; None without one. Nothing is imported to find out."""
    find = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return None if find is None else find()


def place() -> Place:
    """Where a run can show itself here and now.

    A log is what is neither notebook nor terminal. Tests have no reader: pytest shows what they wrote only when they
    failed.

    Raises
    ------
    ConfigError
        If ``CELERYFLOW_VIEW`` is none of its values.
    """
    if view_mode() == "none":
        return Place.NOWHERE
    if getattr(shell(), "kernel", None) is not None:
        return Place.NOTEBOOK
    if "PYTEST_CURRENT_TEST" in os.environ or sys.stderr is None:
        return Place.NOWHERE
    return Place.TERMINAL if sys.stderr.isatty() else Place.LOG


def cell() -> Cell:
    """The execution that is under way."""
    here = shell()
    if here is None:
        return NO_CELL
    kernel = getattr(here, "kernel", None)
    if kernel is None:
        return Cell("", str(here.execution_count))
    parent = kernel.get_parent()
    return Cell(parent.get("metadata", {}).get("cellId") or "", parent.get("header", {}).get("msg_id", ""))

"""What a workflow is as data: its steps as they are written, and its status as it is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

INPUT = "input"
"""What a step calls the data that the workflow is executed with; no step may be named so."""


class WorkflowStatus(StrEnum):
    """How an execution stands; each member equals its value, ``"success"`` say."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCESS = "success"
    FAILURE = "failure"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class WorkflowStep:
    """One step of a workflow that is described as data. It is checked when its workflow is registered.

    Parameters
    ----------
    name : str
        Its name in the workflow, of ``[A-Za-z0-9_.-]``; not ``input``.
    task_name : str
        A step (``@cf.step``) or Celery task, by its full name (``proj.tasks.clean``) or by a short one (``clean``) that
        nothing else has.
    parameters : dict
        Arguments by name. A step gets `input`, the results of what it depends on by their names, and these, and of
        all that what it accepts. A parameter stands in the place of `input` if it is named so.
    depends_on : sequence of str
        Names of the steps that it waits for.
    retry_count : int
        Further attempts after an exception, 0 or more.
    timeout : float or None
        Seconds that one attempt may take, over 0; None for any time.
    queue : str
        Queue whose workers run it.
    condition : dict, optional
        When it is to run at all; else it is skipped. See `celeryflow.declarative.conditions`.

    Examples
    --------
    >>> WorkflowStep("load", "proj.tasks.load", {"path": "a.csv"}).timeout
    300
    """

    name: str
    task_name: str
    parameters: Mapping[str, Any]
    depends_on: Sequence[str] = ()
    retry_count: int = 3
    timeout: float | None = 300
    queue: str = "default"
    condition: Mapping[str, Any] | None = None

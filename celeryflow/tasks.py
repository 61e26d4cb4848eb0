"""Celery tasks that a team has already, as steps."""

from __future__ import annotations

from typing import Any

from celeryflow.engine.tasks import TaskCall
from celeryflow.errors import InvalidNameError
from celeryflow.step import Step, step


def from_task(task: str, /, **options: Any) -> Step[..., Any]:
    """Make a Celery task that you have a step of workflows.

    Parameters
    ----------
    task : str
        Its name, as Celery has it: ``"proj.tasks.clean"``.
    **options
        As of ``@cf.step``; by default the step is called as the last part of the task's name.

    Returns
    -------
    Step
        Outside of a workflow it calls the task here.

    Raises
    ------
    InvalidNameError, InvalidOptionError
        If the name is no text, or an option cannot be used.
    UnknownTaskError
        By the call, or as the failure of the step, if the task is not there.

    Notes
    -----
    Workers that were started by ``celeryflow worker -A proj.app`` have the tasks of that app; others import the task's
    module, as this process would. The worker calls the task as a function, as ``clean(x)`` does and ``clean.delay(x)``
    does not: nothing is sent, ``bind=True`` gives it ``self``, and its rate limit, time limits and result backend play
    no part. The step's ``retries`` count, and the task's own do not: ``self.retry(exc=error)`` and ``autoretry_for``
    raise the error. A task that raises ``Ignore`` gives None, and one that raises ``Reject`` fails.

    Examples
    --------
    >>> clean = from_task("proj.tasks.clean", retries=2, queue="etl")
    >>> clean
    <Step clean>
    """
    if not isinstance(task, str) or not task:
        raise InvalidNameError(f"cf.from_task takes the name of a Celery task, like 'proj.tasks.clean', not {task!r}.")
    return step(TaskCall(task), **options)

"""What a step may know of its own execution: ``cf.current()``."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from celeryflow.errors import NotInWorkflowError


@dataclass
class Current:
    """The execution of a step, seen from inside.

    Attributes
    ----------
    run_id, step : str
        Where it belongs.
    index : int or None
        The item of a map; None for a plain step.
    attempt : int
        1 for the first.
    """

    run_id: str
    step: str
    index: int | None
    attempt: int
    write: Callable[[str, str], Any]

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt of this item in this run: for side effects that must happen once."""
        return f"{self.run_id}/{self.step}" if self.index is None else f"{self.run_id}/{self.step}/{self.index}"

    def progress(self, done: float, total: float) -> None:
        """Say how far the step is; it appears in the log."""
        self.write("progress", f"{done:g} of {total:g}")

    def log(self, text: str) -> None:
        """Add a line to the run's log."""
        self.write("log", str(text))


_current: ContextVar[Current | None] = ContextVar("celeryflow_current", default=None)


def current() -> Current:
    """The execution of the step that is running here.

    Raises
    ------
    NotInWorkflowError
        Outside of a step.
    """
    found = _current.get()
    if found is None:
        raise NotInWorkflowError("cf.current() means something inside a running step only.")
    return found


def running() -> Current | None:
    """The execution that runs in this context, if any."""
    return _current.get()


def enter(execution: Current) -> None:
    """Make `execution` the current one."""
    _current.set(execution)


def leave() -> None:
    """No step is running here any more."""
    _current.set(None)


class StepHandler(logging.Handler):
    """Passes log records of a step to its run's log; others are dropped."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, if a step is running in this context."""
        execution = _current.get()
        if execution is not None:
            execution.write("log", f"{record.levelname} {record.name}: {self.format(record)}")

"""Workers of ``--registered-only``: steps that they know by name, data that is no pickle, and nothing else.

A run's signed records still say what to do. What its submitter brings along is not used: neither its code, which is not
fetched, nor its directory and import path, nor anything that would have to be imported.
"""

from __future__ import annotations

import importlib
import logging
import os
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from celeryflow.engine.tasks import TaskCall, app_tasks
from celeryflow.errors import ConfigError, RegisteredOnlyError, did_you_mean
from celeryflow.graph.model import Role
from celeryflow.values import codec, named
from celeryflow.values.manifest import Call

log = logging.getLogger(__name__)

CONTROL = {Role.DECIDE: "a decision of the workflow", Role.EXPAND: "a loop, or a workflow that is traced in a worker"}


def import_modules(names: Sequence[str]) -> None:
    """Import the modules whose steps this worker knows.

    Raises
    ------
    ConfigError
        If one cannot be imported.
    """
    if names and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # last, as for the app
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:
            raise ConfigError(f"--import {name}: it cannot be imported: {error!r}.") from error


def begin() -> None:
    """From now on take nothing but steps that are registered by now, and values that are no pickles."""
    named.close()
    codec.refuse_pickles()
    if not known():
        log.warning("--registered-only: no step is registered here, so nothing runs. Add --import MODULE or -A APP.")


def is_begun() -> bool:
    """Whether this process takes nothing else."""
    return not codec.opens_pickles()


def known() -> list[str]:
    """Names of the steps that are taken."""
    return sorted({*named.known(), *(named.TASK + task for task in app_tasks())})


def load(call: Call) -> tuple[Callable[..., Any], tuple[type[BaseException], ...]]:
    """The function of a step that is registered here, and the exceptions after which it is tried again.

    Raises
    ------
    RegisteredOnlyError
        If it is not, naming what was refused, and the way out.
    """
    is_called = call.role is Role.CALL
    function = named.find(call.function) or _task(call.function) if is_called else None
    if function is None:
        raise RegisteredOnlyError(_refusal(call))
    if not call.spec.retries:
        return function, ()
    try:
        return function, named.find_exceptions(call.retry_on)
    except LookupError as error:
        raise RegisteredOnlyError(
            f"step {call.step!r} was not run: its retry_on names {error.args[0]!r}, which is no exception of a module "
            f"that worker {_here()} has imported. Take one of those, or of Python's own."
        ) from None


def _task(name: str) -> TaskCall | None:
    """A task of the worker's own app: others would have to be imported."""
    task = name.removeprefix(named.TASK)
    return TaskCall(task) if task != name and task in app_tasks() else None


def _refusal(call: Call) -> str:
    only = f"step {call.step!r} was not run: worker {_here()}, started with --registered-only,"
    if call.role is not Role.CALL:
        return f"{only} takes no code by value, as {CONTROL[call.role]} is. Let others have it, by a queue of its own."
    if not call.function:
        return (
            f"{only} takes no code by value, as a notebook's functions, lambdas and bound arguments are. Put the "
            "function into a module that the worker imports (--import MODULE, -A APP), with @cf.step."
        )
    mine = known()
    return (
        f"{only} does not know {call.function!r}.{did_you_mean(call.function, mine)} "
        "Start workers that import its module, where it has @cf.step: --import MODULE, or -A APP for its tasks."
    )


def _here() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"

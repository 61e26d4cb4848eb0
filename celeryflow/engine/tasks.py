"""Existing Celery tasks as steps: found in the user's app, or by import, and called as functions."""

from __future__ import annotations

import importlib
import inspect
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from celeryflow.errors import ConfigError, UnknownTaskError, did_you_mean

PICKLE = "application/x-python-serialize"

_apps: list[Any] = []
"""The user's app, if this worker was started with one: its processes are forked with it in place."""


@dataclass(frozen=True)
class TaskCall:
    """A task by its name, as the function of a step; celery is imported by the call."""

    task: str

    @property
    def __name__(self) -> str:
        """What steps and pictures call it: the last part of the task's name."""
        return self.task.rpartition(".")[2]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the task here; nothing is sent."""
        from celery.exceptions import Ignore

        task = _find(self.task)
        task.app.set_current()
        try:
            return task(*args, **kwargs)
        except Ignore:
            return None

    def signature(self) -> inspect.Signature:
        """What the task takes, ``self`` apart.

        Raises
        ------
        UnknownTaskError
            If it is not there.
        """
        return inspect.signature(_find(self.task).run)


def use_app(name: str) -> None:
    """Take the tasks of a Celery app, named as for ``celery -A``: ``module`` or ``module:attribute``.

    Raises
    ------
    ConfigError
        If there is no such app, or if it accepts pickle.
    """
    from celery import Celery
    from celery.app.utils import find_app
    from kombu.serialization import prepare_accept_content

    sys.path.append(str(Path.cwd()))  # for its tasks; last, so that nothing beside them hides an installed module
    try:
        app = find_app(name)
        if not isinstance(app, Celery):
            raise ConfigError(f"-A {name}: it is of type {type(app).__name__}, and no Celery app.")
        app.loader.import_default_modules()
        app.finalize()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"-A {name}: no Celery app can be loaded by that name: {error}.") from error
    accepted = {*app.conf.accept_content, *(app.conf.result_accept_content or ())}
    serializers = app.conf.task_serializer, app.conf.result_serializer
    if PICKLE in (prepare_accept_content([*accepted, *serializers]) or ()):
        raise ConfigError(
            f"-A {name}: the app accepts pickle, by which whoever reaches its broker can run code in this worker. "
            'Take "pickle" out of accept_content, result_accept_content, task_serializer and result_serializer.'
        )
    _apps[:] = [app]


def app_tasks() -> list[str]:
    """Names of the tasks of the app that this worker was started with."""
    return sorted({task for app in _apps for task in app.tasks if not task.startswith("celery.")})


def local_tasks() -> dict[str, Any]:
    """The tasks of Celery apps in this process, by name; none where Celery has not been imported."""
    if "celery" not in sys.modules:
        return {}
    from celery import current_app

    return {name: task for name, task in current_app.tasks.items() if not name.startswith("celery.")}


def _find(name: str) -> Any:
    """The task of the worker's app, or of its module."""
    for app in _apps:
        if name in app.tasks:
            return app.tasks[name]
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute) if module else None
    except (ImportError, AttributeError) as error:
        raise _unknown(name, f" ({error})") from error
    from celery import Task

    if not isinstance(found, Task):
        raise _unknown(name, "")
    return found


def _unknown(name: str, why: str) -> UnknownTaskError:
    where = f"{socket.gethostname()}:{os.getpid()}"
    known = app_tasks()
    mine = f" is not in the app {_apps[0].main!r} of" if _apps else " is unknown to"
    return UnknownTaskError(
        f"task {name!r}{mine} worker {where}, and cannot be imported there{why}.{did_you_mean(name, known, 'tasks')} "
        "Start workers that have it: celeryflow worker -A proj.app, with your app's name."
    )

"""Functions and exceptions by name: how a client names them, and which of them a worker has."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

TASK = "task "
"""Before the name of a Celery task, which is no function's."""

_functions: dict[str, Callable[..., Any]] = {}
_is_closed = False


def name_of(function: Any) -> str:
    """``module:qualname``, or ``task name``; empty where a function has no name by which it is found elsewhere.

    Those of a notebook and of a function's inside have none, nor have methods, and functions with bound arguments.
    """
    task = getattr(function, "task", None)
    if isinstance(task, str) and not isinstance(function, type):
        return TASK + task
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    is_bound = not isinstance(getattr(function, "__self__", None), ModuleType | None)
    if not (isinstance(module, str) and isinstance(name, str)) or is_bound or "<" in name or module == "__main__":
        return ""
    return f"{module}:{name}"


def register(function: Callable[..., Any]) -> None:
    """Remember a function of a step, until `close`."""
    name = name_of(function)
    if name and not _is_closed:
        _functions[name] = function


def close() -> None:
    """What is registered from now on does not count: a run may have led to it."""
    global _is_closed
    _is_closed = True


def find(name: str) -> Callable[..., Any] | None:
    """The function that was registered under a name."""
    return _functions.get(name)


def known() -> list[str]:
    """Names of all of them."""
    return sorted(_functions)


def find_exceptions(names: Sequence[str]) -> tuple[type[BaseException], ...]:
    """Exception types by name, of modules that are imported already: nothing is imported for them.

    Raises
    ------
    LookupError
        Of the first that is not there.
    """
    found = tuple(map(_exception, names))
    missing = next((name for name, error in zip(names, found, strict=True) if error is None), None)
    if missing is not None:
        raise LookupError(missing)
    return tuple(error for error in found if error is not None)


def _exception(name: str) -> type[BaseException] | None:
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, "__dict__", {}).get(part)
    return found if isinstance(found, type) and issubclass(found, BaseException) else None

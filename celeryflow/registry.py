"""Steps by name: every ``@cf.step`` is found here by whoever knows only what it is called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from celeryflow.engine.tasks import TaskCall
from celeryflow.errors import AmbiguousTaskError
from celeryflow.values import named

LOCAL = "<locals>."
OWN = "celeryflow"


@dataclass(frozen=True)
class Entry:
    """A step and what it is called.

    Attributes
    ----------
    step : Step
        The latest that was defined under the name.
    full : str
        ``module.name``, or ``module.Class.name``; with ``<locals>`` before the name where a function defines it.
    short : frozenset of str
        What else it answers to, where nothing else does.
    written : str
        The name that Python has for its function.
    """

    step: Any
    full: str
    short: frozenset[str]
    written: str


_entries: dict[str, Entry] = {}


def register(step: Any, function: Any, name: str, is_named: bool) -> None:
    """Remember a step. One that is defined anew, as by a cell that runs again, takes the place of the former.

    What has neither a name nor a place of its own is left out, as a lambda has not. celeryflow's own steps have no
    short names, which are the user's.
    """
    named.register(function)
    entry = _entry(step, function, name, is_named)
    if entry is not None:
        _entries[entry.full] = entry


def _entry(step: Any, function: Any, name: str, is_named: bool) -> Entry | None:
    if isinstance(function, TaskCall):
        return Entry(step, function.task, frozenset((name, function.__name__)), function.task)
    module, written = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if not (isinstance(module, str) and isinstance(written, str)):  # a partial function, say
        return Entry(step, name, frozenset(), name) if is_named else None
    if written.endswith("<lambda>") and not is_named:
        return None
    outer, dot, last = written.rpartition(LOCAL)[2].rpartition(".")
    place = outer + dot + (name if is_named else last)
    local = LOCAL if LOCAL in written else ""
    short = {name, f"{module}.{place}"} if module.partition(".")[0] != OWN else ()
    return Entry(step, f"{module}.{local}{place}", frozenset(short), f"{module}.{written}")


def find(name: str) -> Any | None:
    """The step of that full, or unambiguous short, name; None if there is none.

    Raises
    ------
    AmbiguousTaskError
        If several steps are called so.
    """
    exact = _entries.get(name) or next((e for e in _entries.values() if e.written == name), None)
    if exact is not None:
        return exact.step
    found = [entry for entry in _entries.values() if name in entry.short]
    if len(found) > 1:
        raise AmbiguousTaskError(ambiguous(name, [entry.full for entry in found]))
    return found[0].step if found else None


def ambiguous(name: str, full: list[str]) -> str:
    """What to say of a name that several have."""
    return f"{name!r} is the name of several: {', '.join(sorted(full))}. Say which by its full name."


def known() -> list[str]:
    """Full names of all steps."""
    return sorted(_entries)

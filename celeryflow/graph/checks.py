"""Checks of names, options and order, before anything is submitted."""

from __future__ import annotations

import graphlib
import math
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from celeryflow.errors import CycleError, InvalidNameError, InvalidOptionError, UnknownStepError, did_you_mean
from celeryflow.graph.limits import LONGEST_NAME

NAME = re.compile(r"[A-Za-z0-9_.-]{1,200}")

_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b.?", re.DOTALL)

_AT_LEAST: dict[str, float] = {
    "outputs": 1,
    "retries": 0,
    "retry_delay_s": 0,
    "retry_backoff": 1,
    "retry_jitter": 0,
    "max_worker_losses": 0,
    "concurrency": 1,
    "max_running": 1,
    "memory_limit_bytes": 1,
}
_AT_MOST: dict[str, float] = {
    "outputs": 10_000,
    "retries": 100_000,
    "retry_jitter": 1,
    "max_worker_losses": 100_000,
    "concurrency": 128,
    "max_running": 1_000_000,
    "memory_limit_bytes": 2**62,
}
_WHOLE = {"outputs", "retries", "priority", "max_worker_losses", "concurrency", "max_running", "memory_limit_bytes"}
_OPTIONAL = {"timeout_s", "concurrency", "max_running", "memory_limit_bytes", "quota"}


def check_name(name: Any, what: str) -> str:
    """The name, if it may stand in keys and files.

    Raises
    ------
    InvalidNameError
        Otherwise.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise InvalidNameError(f"{what} must be 1 to 200 of the characters A-Z a-z 0-9 _ . -, not {name!r:.250}.")
    return name


def slug(label: str) -> str:
    """A name made of any label: ``prüfen`` gives ``prufen``, ``<lambda>`` gives ``lambda``."""
    plain = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", plain).strip("-.")[:200] or "step"


def label_of(name: str) -> str:
    """What people see of a function's or workflow's own name: all of it, but for what is beyond all reason."""
    return storable(name[:LONGEST_NAME])


def storable(text: str) -> str:
    r"""Text with what has no encoding, such as the bytes of a strange file name, written out: ``\udce9``."""
    return text.encode(errors="backslashreplace").decode()


def harmless(text: str) -> str:
    r"""Text for a terminal: its lines, without what would move, colour or turn anything there.

    Examples
    --------
    >>> harmless("one\n\x1b[2Jtwo\x9b31m\u202e")
    'one\ntwo31m'
    """
    return "".join(c for c in _ESCAPES.sub("", text) if c in "\n\t" or unicodedata.category(c)[0] != "C")


def check_options(options: Mapping[str, Any], step: str) -> None:
    """See that the options of a step are in range.

    Raises
    ------
    InvalidOptionError, InvalidNameError
        Naming step, option, value and what is allowed.
    """
    for name, value in options.items():
        if value is None and name in _OPTIONAL:
            continue
        if name in _AT_LEAST:
            _check_number(step, name, value, _AT_LEAST[name])
        elif name == "timeout_s":
            check_timeout(value, f"{name} of step {step!r}")
        elif name == "priority":
            check_priority(value, f"priority of step {step!r}")
        elif name == "cache" and not isinstance(value, bool):
            raise InvalidOptionError(f"cache of step {step!r} must be True or False, not {value!r}.")
        elif name == "queue":
            check_name(value, f"queue of step {step!r}")
        elif name == "quota":
            _check_quota(step, value)


def _check_quota(step: str, value: Any) -> None:
    is_pair = isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str)
    if not is_pair or not 0 < len(value[0]) <= 200 or not _is_int(value[1]) or value[1] < 0:
        raise InvalidOptionError(
            f"quota of step {step!r} must be a name and a number of items, as in ('sales', 100), not {value!r:.250}."
        )


def check_timeout(value: Any, what: str) -> None:
    """See that a time is a positive, finite number of seconds."""
    if not _is_number(value) or not math.isfinite(value) or value <= 0:
        raise InvalidOptionError(f"{what} must be a positive number of seconds, not {value!r}.")


def check_priority(value: Any, what: str) -> None:
    """See that a priority is a whole number from 0 to 9."""
    if not _is_int(value) or not 0 <= value <= 9:
        raise InvalidOptionError(f"{what} must be a whole number from 0 to 9, not {value!r}.")


def order(depends_on: Mapping[str, Sequence[str]]) -> list[str]:
    """Names such that each comes after those that it depends on.

    Raises
    ------
    UnknownStepError
        If a dependency is not among the names.
    CycleError
        If there is a cycle; the message holds its path.
    """
    for name, needed in depends_on.items():
        _check_known(name, needed, depends_on)
    try:
        return [*graphlib.TopologicalSorter(depends_on).static_order()]
    except graphlib.CycleError as error:
        path = " -> ".join(error.args[1])
        raise CycleError(f"the workflow has a cycle: {path}. Remove one of these dependencies.") from None


def _check_known(name: str, needed: Sequence[str], known: Collection[str]) -> None:
    for other in needed:
        if other not in known:
            hint = did_you_mean(other, [*known])
            raise UnknownStepError(f"step {name!r} depends on {other!r}, which does not exist.{hint}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_number(step: str, name: str, value: Any, least: float) -> None:
    fits = _is_int(value) if name in _WHOLE else _is_number(value) and math.isfinite(value)
    most = _AT_MOST.get(name, math.inf)
    if not fits or not least <= value <= most:
        kind = "a whole number" if name in _WHOLE else "a finite number"
        limit = "" if most == math.inf else f" and at most {most:,}"
        raise InvalidOptionError(f"{name} of step {step!r} must be {kind} of at least {least:g}{limit}, not {value!r}.")

"""Functions by value: pickled with what they refer to, named by content, measured."""

from __future__ import annotations

import hashlib
import inspect
import sys
import sysconfig
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle

from celeryflow.errors import LargeClosureWarning, SerializationError, StaleModuleWarning, ValueTooLargeError
from celeryflow.values import codec
from celeryflow.values.refusals import refusal

WARN_BYTES = 1_000_000
LIMIT_BYTES = 50_000_000

Stamp = tuple[int, int]

_registered: dict[str, Stamp] = {}
_seen: dict[str, int] = {}
"""Modules that were looked at, by name, with the identity that they had then."""
_local: set[str] = set()
"""Those of them that are the user's own."""


def pack_function(
    function: Callable[..., Any], retry_on: tuple[type[BaseException], ...], label: str
) -> tuple[str, bytes]:
    """Digest and bytes of a function by value.

    Raises
    ------
    SerializationError
        If it, or something that it captures, does not pickle; the message names the variable.
    ValueTooLargeError
        If it carries more than 50 MB.
    """
    register_local_modules()
    try:
        data = codec.dumps((function, retry_on), f"step {label!r}")
    except SerializationError as error:
        culprit = _unpicklable(function)
        if culprit is None:
            raise
        raise SerializationError(
            f"step {label!r} uses {culprit}, which cannot be sent to a worker ({error.__cause__}). "
            "Make it inside the step, or pass what it is made from."
        ) from error
    if len(data) > WARN_BYTES:
        _report_size(function, label, len(data))
    return hashlib.sha256(data).hexdigest(), data


def unpack_function(
    data: bytes, digest: str, load: Callable[[bytes], Any] = codec.loads
) -> tuple[Callable[..., Any], tuple[type[BaseException], ...]]:
    """The function of bytes whose digest a signed record named.

    Raises
    ------
    SignatureError
        If the bytes are not those; they are not read then.
    """
    if hashlib.sha256(data).hexdigest() != digest:
        raise refusal(f"the stored code {digest[:12]} does not match its digest. It was not read.")
    function, retry_on = load(data)
    return function, retry_on


def register_local_modules() -> None:
    """Let modules that are not installed (beside the notebook, editable) travel by value; warn of one that is stale."""
    for name, stamp in local_modules().items():
        known = _registered.setdefault(name, stamp)
        if known == stamp:
            cloudpickle.register_pickle_by_value(sys.modules[name])
        else:
            _registered[name] = stamp
            warnings.warn(
                f"module {name!r} changed on disk since this process imported it; steps get it as it was imported. "
                f"Run importlib.reload({name}) to use the change.",
                StaleModuleWarning,
                stacklevel=6,
            )


def local_modules() -> dict[str, Stamp]:
    """The imported modules of the user's own files, and how those files are now."""
    for name, module in list(sys.modules.items()):
        if _seen.get(name) != id(module):  # most were looked at before: to look at all takes milliseconds
            _seen[name] = id(module)
            (_local.add if is_local(name, module) else _local.discard)(name)
    found = {name: stamp_of(name) for name in [*_local] if name in sys.modules}
    return {name: stamp for name, stamp in found.items() if stamp is not None}


def stamp_of(name: str) -> Stamp | None:
    """Time of change and size of a module's file; None where it has gone."""
    try:
        status = Path(str(getattr(sys.modules.get(name), "__file__", ""))).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def is_local(name: str, module: ModuleType | None) -> bool:
    """Whether a module lives in the user's own files."""
    file = getattr(module, "__file__", None)
    if not isinstance(file, str) or not is_own_file(file):
        return False
    return name not in {"__main__", "__mp_main__"} and name.partition(".")[0] != "celeryflow"


@cache
def is_own_file(file: str) -> bool:
    """Whether a file is not installed: neither Python's, nor of a package."""
    return bool(file) and not file.startswith(_installed_places())


@cache
def _installed_places() -> tuple[str, ...]:
    here = sysconfig.get_paths()
    base = sysconfig.get_paths(vars={"base": sys.base_prefix, "platbase": sys.base_prefix})
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    places = {found[name] for found in (here, base) for name in names}
    return tuple(sorted(places | {str(Path(place).resolve()) for place in places}))


def _captured(function: Callable[..., Any]) -> dict[str, Any]:
    inner = inspect.unwrap(getattr(function, "func", function))
    if not inspect.isfunction(inner):
        return {}
    found = inspect.getclosurevars(inner)
    return {**found.nonlocals, **found.globals}


def _unpicklable(function: Callable[..., Any]) -> str | None:
    for name, value in _captured(function).items():
        try:
            codec.dumps(value, name)
        except SerializationError:
            return f"the variable {name!r} ({type(value).__name__})"
    return None


def _report_size(function: Callable[..., Any], label: str, size: int) -> None:
    sizes = {}
    for name, value in _captured(function).items():
        if not isinstance(value, ModuleType):
            sizes[name] = len(codec.dumps(value, name))
    largest = max(sizes, key=lambda name: sizes[name], default="")
    where = f", most of it in the variable {largest!r}" if largest else ""
    advice = "Pass it as an argument instead: arguments are stored once and shared."
    if size > LIMIT_BYTES:
        raise ValueTooLargeError(
            f"step {label!r} carries {size / 1e6:.0f} MB with its code{where}; the limit is "
            f"{LIMIT_BYTES / 1e6:.0f} MB. {advice}"
        )
    warnings.warn(
        f"step {label!r} carries {size / 1e6:.1f} MB with its code{where}. {advice}", LargeClosureWarning, stacklevel=2
    )

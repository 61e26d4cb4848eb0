"""What a worker's host does not have, in words: whose host, which directory and versions, and what to do."""

from __future__ import annotations

import os
import platform
import socket
import sys
from pathlib import Path

from celeryflow.graph.checks import storable
from celeryflow.version import __version__


def here() -> str:
    """Directory of this process; empty if it has gone."""
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        return ""


def whereabouts() -> str:
    """Host and process of this worker, its directory, and what it runs."""
    directory = storable(here()) or "a directory that is gone"
    return (
        f"worker {socket.gethostname()}:{os.getpid()} (in {directory}, with Python {platform.python_version()} at "
        f"{sys.executable} and celeryflow {__version__})"
    )


def lack(error: BaseException, directory: Path) -> str:
    """Why a step that works in the notebook may fail with this error here; empty of errors that have other causes.

    Parameters
    ----------
    directory : Path
        The notebook's own.
    """
    if isinstance(error, ImportError) or _is_not_in_module(error):
        name = getattr(error, "name", None)
        what = f"module {name!r}" if name else "what it needs"
        return (
            f"{whereabouts()} does not have {what}, or another version of it. Install the notebook's there, or keep "
            "the module's file beside the notebook: such modules travel with the steps that use them."
        )
    path = error.filename if isinstance(error, FileNotFoundError) else None
    if not isinstance(path, str | bytes) or os.path.lexists(path):
        return ""
    gone = "" if directory.is_dir() else f" The notebook's directory {storable(str(directory))} is not on that host."
    return (
        f"{whereabouts()} has no {storable(os.fsdecode(path))!r}.{gone} Steps see the files of the worker's host: "
        "put it where all hosts have it under one path, or read it in the notebook and pass what it holds."
    )


def _is_not_in_module(error: BaseException) -> bool:
    """Whether a pickle names something that its module does not have."""
    text = error.args[0] if isinstance(error, AttributeError) and error.args else None
    return isinstance(text, str) and text.startswith("Can't get attribute")

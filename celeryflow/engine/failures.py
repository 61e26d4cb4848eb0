"""Exceptions of steps as records: message, traceback text, and the pickled original where that works."""

from __future__ import annotations

import traceback
from pathlib import Path
from types import TracebackType

from celeryflow.graph.checks import storable
from celeryflow.graph.model import Failure
from celeryflow.values import codec

MESSAGE_CHARS = 10_000

_HERE = str(Path(__file__).parent)


def describe(error: BaseException, attempt: int, worker: str, log_tail: str) -> Failure:
    """All that is worth knowing of an exception of a step."""
    return Failure(
        kind="exception",
        error=storable(type(error).__name__),
        message=storable(_message(error)),
        traceback=storable(_format(error)),
        log_tail=storable(log_tail),
        attempt=attempt,
        worker=worker,
        exception=_pickled(error),
    )


def _message(error: BaseException) -> str:
    try:
        return str(error)[:MESSAGE_CHARS]
    except Exception as broken:  # noqa: BLE001 - a user's __str__
        return f"(its message cannot be shown: {type(broken).__name__})"


def _pickled(error: BaseException) -> bytes:
    try:
        data = codec.dumps(error, "exception")
        codec.loads(data)
    except Exception:  # noqa: BLE001 - whatever a user's class raises; the text travels anyway
        return b""
    return data


def _format(error: BaseException) -> str:
    """Traceback without celeryflow's own frames at the top."""
    trace: TracebackType | None = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_HERE):
        trace = trace.tb_next
    try:
        return "".join(traceback.format_exception(type(error), error, trace))
    except Exception as broken:  # noqa: BLE001 - a user's __str__ again
        return f"{type(error).__name__} (its traceback cannot be shown: {type(broken).__name__})"

"""Exceptions of steps as records: message, traceback text, and the pickled original where that works."""

from __future__ import annotations

import traceback
from pathlib import Path
from types import TracebackType

from celeryflow.graph.checks import storable
from celeryflow.graph.model import Failure
from celeryflow.masking import masked
from celeryflow.values import codec

MESSAGE_CHARS = 10_000
TRACEBACK_CHARS = 100_000
TAIL_CHARS = 20_000
NAME_CHARS = 200
EXCEPTION_BYTES = 256 * 1024
"""Of the pickled original: a larger one stays where it was raised, and its words travel."""

_HERE = str(Path(__file__).parent)


def describe(error: BaseException, attempt: int, worker: str, log_tail: str, note: str = "") -> Failure:
    """All that is worth knowing of an exception of a step, without this worker's secrets; a note ends the message."""
    message, text = _message(error), _format(error)
    return Failure(
        kind="exception",
        error=storable(type(error).__name__[:NAME_CHARS]),
        message=masked(storable(f"{message}\n{note}" if note else message)),
        traceback=masked(storable(text)),
        log_tail=masked(storable(log_tail[-TAIL_CHARS:])),
        attempt=attempt,
        worker=worker,
        exception=_pickled(error) if masked(text) == text else b"",
    )


def _message(error: BaseException) -> str:
    try:
        return str(error)[:MESSAGE_CHARS]
    except Exception as broken:  # noqa: BLE001 - a user's __str__
        return f"(its message cannot be shown: {type(broken).__name__})"


def _pickled(error: BaseException) -> bytes:
    if not codec.opens_pickles():
        return b""
    try:
        data = codec.dumps(error, "exception")
        if len(data) > EXCEPTION_BYTES:
            return b""
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
        return _cut("".join(traceback.format_exception(type(error), error, trace)))
    except Exception as broken:  # noqa: BLE001 - a user's __str__ again
        return f"{type(error).__name__} (its traceback cannot be shown: {type(broken).__name__})"


def _cut(text: str) -> str:
    """A text that is too long without its middle: where it was raised stands before that, and the words at its end."""
    if len(text) <= TRACEBACK_CHARS:
        return text
    half = TRACEBACK_CHARS // 2
    return f"{text[:half]}\n[{len(text) - 2 * half:,} characters are left out]\n{text[-half:]}"

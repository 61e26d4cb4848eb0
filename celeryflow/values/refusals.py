"""What was refused: said in the log and counted, wherever bytes are not what was signed."""

from __future__ import annotations

import logging
from collections.abc import Callable

from celeryflow.errors import CeleryflowError, SignatureError

log = logging.getLogger(__name__)

listeners: list[Callable[[], None]] = []
"""Called at each refusal: a process that uses a deployment counts it there."""


def refusal(message: str, kind: type[CeleryflowError] = SignatureError) -> CeleryflowError:
    """The error for bytes that were changed, cut, moved, put back or made with another key; to be raised.

    Parameters
    ----------
    message : str
        What was refused, without anything of its content.
    kind : type
        Of the error, where it is not the signature that forbids to read them.
    """
    log.warning("refused: %s", message)
    for tell in [*listeners]:
        tell()
    return kind(message)

"""Who is let in at a server that was named: TLS and a key, or its absence said out loud."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

from celeryflow.config import Settings
from celeryflow.errors import ConfigError, InsecureWarning
from celeryflow.masking import mask
from celeryflow.store.address import is_private

OTHERS = 0o077
"""Permissions of anybody but the owner."""

log = logging.getLogger(__name__)


def admit(settings: Settings, needs_key: bool = True) -> None:
    """See that the way to the server is safe. What is not is warned of, at each call anew.

    Who reads and signs nothing needs no key.

    Raises
    ------
    ConfigError
        If it has no TLS or there is no key, and nobody has said that this is meant.
    """
    found = [*_lacking(settings, needs_key)]
    if found and not settings.insecure:
        raise ConfigError(
            f"{mask(settings.url)} needs TLS (rediss://, with its checks) and key_file=, made by: "
            "celeryflow keygen FILE; or the keys in CELERYFLOW_KEY. To do without, on a machine of your own, say "
            "insecure=True (--insecure, CELERYFLOW_INSECURE=1)."
        )
    if found:
        _warn(f"{mask(settings.url)} is used {', and '.join(found)}.")
    _look_at(settings.key_file)


def _lacking(settings: Settings, needs_key: bool) -> Iterator[str]:
    if not is_private(settings.url):
        yield (
            "without TLS or its checks: whoever is on the way there reads its password, and the code and values of "
            "every run"
        )
    if needs_key and not settings.key_file and not settings.key:
        yield ("without a key of its own: whoever reaches that server can run code in its workers and in this process")


def _look_at(key_file: str) -> None:
    """Say in the log that others can read the keys: containers mount their secrets so, and cannot do otherwise."""
    path = Path(key_file)
    mode = path.stat().st_mode & 0o777 if key_file and path.is_file() else 0
    if mode & OTHERS:
        log.warning(
            "the key file %s is open to other users (mode %o), who could run code on the workers: chmod 600 %s",
            *(path, mode, path),
        )


def _warn(text: str) -> None:
    """Warn where the user called, each time: the filters count, but not that a place has warned before."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "celeryflow":
        frame = frame.f_back
    name, place = frame.f_globals.get("__name__", ""), frame.f_code.co_filename
    warnings.warn_explicit(text, InsecureWarning, place, frame.f_lineno, name, registry=None)

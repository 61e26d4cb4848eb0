"""What is installed only with an extra, and asked for by name."""

from __future__ import annotations

from importlib import import_module

from celeryflow.errors import MissingExtraError


def require_altair(call: str) -> None:
    """Say what to install where `call`, the user's, cannot draw its chart.

    Raises
    ------
    MissingExtraError
        If altair is not installed.
    """
    try:
        import_module("altair")
    except ImportError as error:
        raise MissingExtraError(
            f'{call} draws with altair, which is not installed. Run: pip install "celeryflow[plot]"'
        ) from error

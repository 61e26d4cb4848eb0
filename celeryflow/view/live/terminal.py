"""A run in a terminal or a log, on standard error, while it is waited for."""

from __future__ import annotations

import threading

from rich.console import Console

from celeryflow.view.live.follower import Look
from celeryflow.view.text import LiveText

QUIET_S = 5.0
"""In a log a run that is over so soon is told of once, at its end."""


class Terminal:
    """Shows a run in words: redrawn in a terminal, as lines without control codes in a log."""

    tick_s = 0.5

    def __init__(self) -> None:
        self._live = LiveText(Console(stderr=True), quiet_s=QUIET_S)
        self._lock = threading.Lock()
        self._is_open = True
        self._live.__enter__()

    def show(self, look: Look) -> None:
        """As of Surface."""
        with self._lock:
            if self._is_open:
                self._live.update(look.snapshot, look.now)

    def close(self) -> None:
        """Leave the latest state standing, and draw no more."""
        with self._lock:
            self._is_open = False
            self._live.__exit__(None, None, None)

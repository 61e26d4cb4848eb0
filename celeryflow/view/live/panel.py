"""What stands under a run's display besides: what its results come to so far."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from html import escape
from typing import NamedTuple

from celeryflow.errors import CeleryflowError
from celeryflow.view import words
from celeryflow.view.live.display import Display
from celeryflow.view.live.follower import Look
from celeryflow.view.live.where import Cell

PERIOD_S, SHARE_OF_A_CORE = 1.0, 0.02
"""How often it is drawn anew at most, and the share of a core that this may take."""

_log = logging.getLogger(__name__)


class Told(NamedTuple):
    """The same as a page and in words."""

    html: str
    text: str


Tell = Callable[[], Told]
"""Says what there is to show now; in the thread that follows the run, so that it reads nothing of the user's."""


class Panel:
    """One display of what a run's results come to.

    Parameters
    ----------
    tell : callable
        What to show.
    first : Told
        What to show until then.
    cell : Cell
        Under which it is.
    is_text : bool
        Show plain text alone.
    """

    tick_s = PERIOD_S

    def __init__(self, tell: Tell, first: Told, cell: Cell, is_text: bool = False) -> None:
        self.cell = cell
        self._tell, self._is_text = tell, is_text
        self._display = Display()
        self._next_at, self._told_of = time.monotonic() + PERIOD_S / 2, 0
        self._publish(first)

    def show(self, look: Look) -> None:
        """Show what there is: at the end, and now and then before that."""
        is_due = look.is_over or (time.monotonic() >= self._next_at and look.snapshot.last_seq > self._told_of)
        if not is_due or look.trouble:
            return
        began = time.thread_time()
        told = self._told(look.is_over)
        if told is not None:
            self._publish(told)
        self._told_of = look.snapshot.last_seq
        self._next_at = time.monotonic() + max(PERIOD_S, (time.thread_time() - began) / SHARE_OF_A_CORE)

    def _told(self, is_over: bool) -> Told | None:
        """What there is to show; None for nothing new. The run's own picture goes on whatever happens here."""
        try:
            return self._tell()
        except CeleryflowError as error:
            said = words.plain(str(error), 500)
            return Told(f'<p class="cf-error">{escape(said)}</p>', said) if is_over else None
        except Exception:  # noqa: BLE001 - whatever the results are, nobody wants a traceback under their cell
            _log.warning("what a run comes to is not shown", exc_info=True)
            return None

    def _publish(self, told: Told) -> None:
        page = {} if self._is_text else {"text/html": told.html}
        self._display.publish({**page, "text/plain": told.text})

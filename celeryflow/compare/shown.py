"""How comparisons and sweeps show themselves in a notebook: by a card, below their run while that goes on."""

from __future__ import annotations

from typing import Any, Protocol

from celeryflow.compare import card
from celeryflow.compare.card import Card
from celeryflow.config import view_mode
from celeryflow.run.run import Run
from celeryflow.view.live.panel import Told
from celeryflow.view.live.shown import Beside, stands
from celeryflow.view.live.where import Place, place


class Shows(Protocol):
    """What has a card, and perhaps a run that fills it in."""

    run: Run[Any] | None

    @property
    def is_over(self) -> bool:
        """Whether no more trials come."""

    def card(self, is_first: bool = False) -> Card:
        """What it comes to, or has come to so far; with `is_first` of no trial at all, and nothing is read."""

    def apart(self) -> Shows:
        """The same on a run of its own, for another thread."""


def told(found: Card) -> Told:
    """A card as a page and in words."""
    return Told(card.html(found), card.text(found))


def beside(shown: Shows) -> Beside:
    """What stands below its run: a card that fills in."""
    twin = shown.apart()
    return Beside(told(shown.card(is_first=True)), lambda: told(twin.card()))


def display(shown: Shows) -> None:
    """What IPython calls for it.

    Raises
    ------
    NotImplementedError
        If IPython is to show it as anything else.
    """
    if place() is not Place.NOTEBOOK:
        raise NotImplementedError
    if shown.run is not None and (stands(shown.run.id) or not shown.is_over):
        shown.run._ipython_display_(beside(shown))
    elif view_mode() == "text":
        from IPython.display import display

        display({"text/plain": repr(shown)}, raw=True)  # type: ignore[no-untyped-call]
    else:
        raise NotImplementedError

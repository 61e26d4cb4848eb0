"""Trials that stop when the answer is there: looks after every item, and arms that have lost are dropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from celeryflow.compare.analysis import Analysis
from celeryflow.compare.trial import Row
from celeryflow.compare.verdicts import BETTER, INCONCLUSIVE, WORSE

if TYPE_CHECKING:
    from celeryflow.compare.comparison import Outline, Prepared

Found = Row | BaseException

WAVE = 8
"""Items that workers run between two looks of theirs; what these say is counted item by item all the same."""


@dataclass(frozen=True)
class Progress:
    """How far a sequential comparison has come.

    Attributes
    ----------
    rows : dict of int to Row
        What the trials gave that count, by their places in the plan.
    alive : frozenset of int
        Algorithms that have not lost, by number.
    item : int
        How many items have been looked at.
    is_decided : bool
        Whether no more trials are needed.
    """

    rows: dict[int, Found]
    alive: frozenset[int]
    item: int = 0
    is_decided: bool = False


def begin(outline: Outline) -> Progress:
    """Nothing has run."""
    return Progress({}, frozenset(range(len(outline.question.algorithms))))


def places(outline: Outline) -> list[list[int]]:
    """Places in the plan of the trials of each item, in the order of the items."""
    numbered = groupby(enumerate(outline.planned), key=lambda pair: pair[1].item)
    return [[place for place, _ in group] for _, group in numbered]


def due(outline: Outline, progress: Progress, items: int) -> list[int]:
    """Places of the trials of the next items, of the algorithms that have not lost."""
    if progress.is_decided:
        return []
    those = places(outline)[progress.item : progress.item + items]
    return [place for group in those for place in group if outline.planned[place].algorithm in progress.alive]


def advance(outline: Outline, progress: Progress, ran: dict[int, Found]) -> Progress:
    """Look at what ran, item by item; what ran beyond the decision, or of who had lost, does not count."""
    for group in places(outline)[progress.item :]:
        mine = [place for place in group if outline.planned[place].algorithm in progress.alive]
        if progress.is_decided or not all(place in ran for place in mine):
            break
        rows = progress.rows | {place: ran[place] for place in mine}
        progress = _look(outline, replace(progress, rows=rows, item=progress.item + 1))
    return progress


def _look(outline: Outline, progress: Progress) -> Progress:
    """Drop who has lost; decided where one is left, or the verdicts between all that are left are there."""
    names = outline.question.algorithms
    rows = [progress.rows.get(place) for place in range(len(outline.planned))]
    verdicts = Analysis(outline.question, outline.results(rows, 0.0)).glance()
    alive = {names[at] for at in progress.alive}
    here = {pair: verdict for pair, verdict in verdicts.items() if set(pair) <= alive}
    lost = {b if verdict == BETTER else a for (a, b), verdict in here.items() if verdict in (BETTER, WORSE)}
    left = alive - lost
    open_pairs = [pair for pair, verdict in here.items() if verdict == INCONCLUSIVE and set(pair) <= left]
    return replace(
        progress,
        alive=frozenset(at for at in progress.alive if names[at] in left),
        is_decided=len(left) < 2 or not open_pairs,
    )


def run_here(prepared: Prepared) -> list[Found | None]:
    """The trials, run here until the answer is there; None for those that were saved."""
    outline, progress = prepared.outline, begin(prepared.outline)
    while chosen := due(outline, progress, 1):
        progress = advance(outline, progress, dict(zip(chosen, prepared.rows(chosen), strict=True)))
    return rows_of(outline, progress)


def rows_of(outline: Outline, progress: Progress) -> list[Found | None]:
    """A row for each trial that counts, in the order of the plan."""
    return [progress.rows.get(place) for place in range(len(outline.planned))]


def body(prepared: Prepared) -> Any:
    """What the workflow of a sequential comparison does: a loop of waves, each a map of trials and a look."""
    from celeryflow.control import loop
    from celeryflow.step import step
    from celeryflow.workflow import workflow

    outline = prepared.outline

    def look(progress: Progress, chosen: Sequence[int], rows: Sequence[Found]) -> Progress:
        return advance(outline, progress, dict(zip(chosen, rows, strict=True)))

    def wave(progress: Progress) -> Progress:
        chosen = due(outline, progress, WAVE)
        return step(look, name="look")(progress, chosen, prepared.mapped(chosen))

    waves = -(-len(places(outline)) // WAVE)
    return loop(workflow(wave), begin(outline), lambda progress: progress.is_decided, waves)

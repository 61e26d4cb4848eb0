"""What a comparison comes to at a glance, as a page and in words: both say the same."""

from __future__ import annotations

from functools import cache
from html import escape
from importlib.resources import files
from typing import NamedTuple

from celeryflow.view import html as page
from celeryflow.view.words import plain

STAR = "\N{BLACK STAR}"

Share = tuple[float, float, float]
"""Where an interval begins, where its middle is and where it ends, of the width that all intervals share: 0 to 1."""


class Row(NamedTuple):
    """A line of the table; a cell a column, the first of them a name."""

    cells: tuple[str, ...]
    share: Share | None = None
    is_best: bool = False


class Card(NamedTuple):
    """What there is to say.

    Attributes
    ----------
    kind : str
        What it is: a comparison, a sweep.
    state : str
        ``running``, ``success``, or empty.
    verdict : str
        In a few words: who won, nobody, or that it goes on.
    facts : str
        What it is judged by, and how many trials there were.
    answer : str
        One paragraph.
    header : tuple of str
        What the columns are; that of the intervals' picture is `pictured`.
    rows : sequence of Row
        A line each.
    more : str
        What is left out.
    calls : tuple of str
        What to type next.
    """

    kind: str
    state: str
    verdict: str
    facts: str
    answer: str
    header: tuple[str, ...]
    rows: tuple[Row, ...]
    more: str = ""
    calls: tuple[str, ...] = ()
    pictured: int = -1


def html(card: Card) -> str:
    """The card as a page of its own, light or dark as what it stands in; all that users named is escaped."""
    more = f'<p class="cf-dim">{escape(card.more)}</p>' if card.more else ""
    return (
        f'<section class="celeryflow cf-card" role="group" aria-label="{escape(card.kind)}"><style>{_style()}</style>'
        f'<div class="cf-head"><b>{escape(card.kind)}</b><span class="cf-chip {card.state}">{escape(card.verdict)}'
        f'</span><span class="cf-grow"></span><span class="cf-dim">{escape(card.facts)}</span></div>'
        f'<p class="cf-answer">{escape(card.answer)}</p>'
        f'<div class="cf-scroll"><table class="cf-summary"><thead><tr>{_head(card)}</tr></thead>'
        f"<tbody>{''.join(_row(row, card.pictured) for row in card.rows)}</tbody></table>{more}</div>"
        f'<div class="cf-aside">{page.next_calls(list(card.calls))}</div></section>'
    )


@cache
def _style() -> str:
    return page.style() + (files("celeryflow.view") / "static" / "card.css").read_text(encoding="utf-8")


def _head(card: Card) -> str:
    names = [f'<th scope="col">{escape(name)}</th>' for name in card.header]
    if card.pictured >= 0:
        names.insert(card.pictured, "<th></th>")
    return "".join(names)


def _row(row: Row, pictured: int) -> str:
    name, *others = row.cells
    star = f'<span class="cf-star">{STAR}</span> ' if row.is_best else ""
    cells = [f'<th scope="row" title="{escape(name)}">{star}{escape(plain(name, 60))}</th>']
    cells += [f"<td>{escape(cell)}</td>" for cell in others]
    if pictured >= 0:
        cells.insert(pictured, f'<td class="cf-range">{_range(row.share)}</td>')
    best = ' class="cf-best"' if row.is_best else ""
    return f"<tr{best}>{''.join(cells)}</tr>"


def _range(share: Share | None) -> str:
    """An interval as a bar with its middle; the column of numbers says the same."""
    if share is None:
        return ""
    low, middle, high = share
    return (
        f'<div class="cf-interval" aria-hidden="true"><i style="left:{low:.1%};width:{high - low:.1%}"></i>'
        f'<b style="left:{middle:.1%}"></b></div>'
    )


def text(card: Card) -> str:
    """The card in words, for a terminal."""
    table = [card.header, *(row.cells for row in card.rows)]
    widths = [max(len(cells[at]) for cells in table) for at in range(len(card.header))]
    signs = [" ", *(STAR if row.is_best else " " for row in card.rows)]
    lines = [f"{sign} {_line(cells, widths)}".rstrip() for sign, cells in zip(signs, table, strict=True)]
    head = f"{card.kind}  {card.verdict}  {card.facts}"
    return "\n".join([head, *lines, *([card.more] if card.more else []), card.answer])


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    first, *others = (
        cell.rjust(width) if at else cell.ljust(width)
        for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join([first, *others])

"""A value as HTML that is small and does nothing: the head of a frame, the corner of an array, the beginning of a text.

What a value says of itself is foreign text: it is escaped and bounded, and what raises is told. No ``_repr_html_`` is
called and no figure drawn.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import islice
from typing import Any

from celeryflow.values.gathered import Gathered
from celeryflow.view import words
from celeryflow.view.brief import brief, is_figure, kind, package

ROWS, COLUMNS, CELL_CHARS = 5, 6, 24
"""Of a frame or an array."""

ENTRIES, ENTRY_CHARS = 8, 120
"""Of a list or a dict."""

TEXT_LINES, LINE_CHARS = 12, 100

ALONE_CHARS = 600
"""Of a value that is shown by its repr."""

_UNITS = ("bytes", "kB", "MB", "GB", "TB")


class TooLarge:
    """Stands for a value that is not read to be looked at."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes

    def __repr__(self) -> str:
        return f"{size(self.size_bytes)}, not shown"


def size(size_bytes: float) -> str:
    """A size as people read it.

    Examples
    --------
    >>> [size(s) for s in (1, 999, 1_200_000, 1.2e9)]
    ['1 bytes', '999 bytes', '1.2 MB', '1.2 GB']
    """
    unit = 0
    while size_bytes >= 999.5 and unit < len(_UNITS) - 1:
        size_bytes, unit = size_bytes / 1000, unit + 1
    return f"{size_bytes:.{1 if unit and size_bytes < 99.5 else 0}f} {_UNITS[unit]}"


def preview(value: Any) -> str:
    """A value as HTML of at most some 7 kB. Never raises, whatever the value does."""
    try:
        return _preview(value, kind(value))
    except Exception as error:  # noqa: BLE001 - a subclass that is none of what it seems
        return f"<p>{_shown(kind(value), 80)}, which cannot be shown: {_shown(type(error).__name__, 80)}</p>"


def _preview(value: Any, name: str) -> str:
    if isinstance(value, TooLarge):
        return f"<p>{value!r}</p>"
    if isinstance(value, str):
        return _text(value)
    if _is(value, "pandas", "Series"):
        return _frame(value.to_frame(), f"{_shown(name, 80)} of {words.number(len(value))}, {_shown(value.dtype, 40)}")
    if _is(value, "pandas", "DataFrame"):
        return _frame(value, _shown(f"{name}, {_shape(value)}", 120))
    if _is(value, "numpy", "ndarray"):
        return _array(value)
    if isinstance(value, Gathered):
        value = value.as_dict()
    if isinstance(value, Mapping):
        return _entries(name, len(value), islice(value.items(), ENTRIES))
    if isinstance(value, list | tuple) and len(value) > 1:
        return _entries(name, len(value), enumerate(islice(value, ENTRIES)))
    note = ", not drawn here" if is_figure(value) else ""
    return f'<pre class="cf-value">{_shown(brief(value, ALONE_CHARS) + note, ALONE_CHARS + 80)}</pre>'


def _text(value: str) -> str:
    lines = words.block(value, TEXT_LINES, LINE_CHARS)
    is_whole = len(value) <= 2_000 and len(lines) <= TEXT_LINES and "…" not in (line[-1:] for line in lines)
    note = "" if is_whole else f'<p class="cf-dim">text of {words.number(len(value))} characters</p>'
    return f'{note}<pre class="cf-value">{escape(chr(10).join(lines)) or "(empty text)"}</pre>'


def _frame(frame: Any, title: str) -> str:
    head = frame.iloc[:ROWS, :COLUMNS]
    names = ["", *(_cell(name) for name in head.columns)]
    rows = [[_cell(value) for value in row] for row in head.itertuples(index=True, name=None)]
    return f'<p class="cf-dim">{title}</p>{_table(names, rows, frame.shape[1] > COLUMNS, len(frame) > ROWS)}'


def _array(array: Any) -> str:
    title = f'<p class="cf-dim">{_shown(f"{kind(array)} {array.dtype} {tuple(array.shape)}", 120)}</p>'
    if array.ndim == 0 or array.size == 0:
        return title + (f'<pre class="cf-value">{_shown(_cell(array.item()), 80)}</pre>' if array.size else "")
    plane = array[(0,) * (array.ndim - 2)] if array.ndim > 2 else array.reshape(1, -1) if array.ndim == 1 else array
    rows = [[_cell(value) for value in row] for row in plane[:ROWS, :COLUMNS]]
    return title + _table([], rows, plane.shape[1] > COLUMNS, plane.shape[0] > ROWS)


def _entries(name: str, count: int, found: Iterable[tuple[Any, Any]]) -> str:
    rows = [[_cell(key), brief(value, ENTRY_CHARS)] for key, value in found]
    title = _shown(f"{name} of {words.number(count)}", 80)
    return f'<p class="cf-dim">{title}</p>{_table([], rows, False, count > len(rows))}'


def _table(names: Sequence[str], rows: Iterable[Sequence[str]], is_wider: bool, is_longer: bool) -> str:
    more = ["…"] if is_wider else []
    found = [[*row, *more] for row in rows]
    found += [["…"] * len(found[0])] if is_longer and found else []
    head = f"<thead><tr>{''.join(f'<th>{escape(name)}</th>' for name in (*names, *more))}</tr></thead>" if names else ""
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in found)
    return f'<table class="cf-frame">{head}<tbody>{body}</tbody></table>'


def _cell(value: Any) -> str:
    """A value in a cell of a table, as pandas shows it."""
    try:
        if _is(value, "numpy", "generic"):
            value = value.item()
        if isinstance(value, float):
            return f"{value:.6g}"
        if package(value) == "pandas" and not hasattr(value, "iloc"):
            return words.plain(str(value), CELL_CHARS)  # a time or an interval
    except Exception as error:  # noqa: BLE001 - a user's __str__
        return words.plain(f"{kind(value)}: {type(error).__name__}", CELL_CHARS)
    return words.plain(value, CELL_CHARS) if isinstance(value, str) else brief(value, CELL_CHARS)


def _shape(frame: Any) -> str:
    rows, columns = frame.shape
    return f"{words.counted(rows, 'row')} {words.TIMES} {words.counted(columns, 'column')}"


def _is(value: Any, module: str, name: str) -> bool:
    """Whether a value is of a class of a library; one that is not loaded has made no value."""
    found = getattr(sys.modules.get(module), name, None)
    return isinstance(found, type) and isinstance(value, found)


def _shown(text: object, limit: int) -> str:
    return escape(words.plain(str(text), limit))

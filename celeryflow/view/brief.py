"""A value in a few words, whatever it is."""

from __future__ import annotations

import reprlib
from itertools import islice
from typing import Any

from celeryflow.view.words import TIMES, plain


class Word:
    """Stands in a value for what has only a name, and is shown as that."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def brief(value: Any, limit: int = 80) -> str:
    """A value's repr on one line: of collections the first few, of tables and arrays their shape.

    Never raises, and never looks at more of a long list, dict or string than it shows.

    Examples
    --------
    >>> brief(list(range(1000)))
    '[0, 1, 2, 3, …]'
    >>> brief({"rate": 0.5, "name": "a" * 100})
    "{'rate': 0.5, 'name': 'aaaaaaaaaaaaaa…aaaaaaaaaaaaaaa'}"
    """
    try:
        return plain(_short.repr(value), limit)
    except Exception:  # noqa: BLE001 - whatever a user's class does
        return f"<{plain(type(value).__name__, limit - 2)}>"


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdict = self.maxarray = 4
        self.maxstring, self.maxother, self.maxlong, self.fillvalue = 34, 60, 40, "…"

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        """In its own order; sorted, as elsewhere, it would be looked at as a whole."""
        if level <= 0:
            return f"{{{self.fillvalue}}}" if x else "{}"
        first = islice(x.items(), self.maxdict)
        pieces = [f"{self.repr1(key, level - 1)}: {self.repr1(value, level - 1)}" for key, value in first]
        return f"{{{', '.join([*pieces, *([self.fillvalue] if len(x) > self.maxdict else [])])}}}"

    def repr_instance(self, x: Any, level: int) -> str:
        kind = type(x)
        if isinstance(x, Word):
            return x.text
        shape = getattr(x, "shape", None)
        if isinstance(shape, tuple) and shape:
            return f"{kind.__name__} {f' {TIMES} '.join(map(str, shape))}"
        if shape == () and hasattr(x, "item"):
            return self.repr1(x.item(), level)  # a number of numpy's
        if getattr(kind, "__repr__", None) is object.__repr__:
            return f"<{kind.__name__}>"
        if callable(x) and isinstance(name := getattr(x, "__name__", None), str):
            return name
        found = repr(x)
        return found if len(found) <= self.maxother else f"{found[: self.maxother - 1]}…"


_short = _Short()

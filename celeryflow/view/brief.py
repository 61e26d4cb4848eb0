"""A value in a few words, whatever it is."""

from __future__ import annotations

import reprlib
from functools import cache
from itertools import islice
from typing import Any

from celeryflow.view.words import TIMES, number, plain


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
    "{'rate': 0.5, 'name': 'aaaaaaaaaaaaaaaaa…aaaaaaaaaaaaaaaaaa'}"
    """
    try:
        return plain(_short(limit).repr(value), limit)
    except Exception as error:  # noqa: BLE001 - whatever a user's class does
        return plain(_raises(value, error), limit)


def kind(value: Any) -> str:
    """The name of a value's class, whatever that class says of itself."""
    return str(type.__dict__["__name__"].__get__(type(value)))


def package(value: Any) -> str:
    """The package of a value's class."""
    return str(getattr(type(value), "__module__", "")).partition(".")[0]


def is_figure(value: Any) -> bool:
    """Whether a value is of a library of charts or images, whose repr may draw."""
    return package(value) in _FIGURES


_FIGURES = ("matplotlib", "plotly", "altair", "bokeh", "seaborn", "holoviews", "PIL", "IPython")


def _shape(value: Any) -> Any:
    try:
        return getattr(value, "shape", None)
    except Exception:  # noqa: BLE001 - a user's __getattr__; its repr may do nevertheless
        return None


def _raises(value: Any, error: Exception) -> str:
    return f"{kind(value)}, whose repr raises {type(error).__name__}"


class _Short(reprlib.Repr):
    def __init__(self, limit: int) -> None:
        super().__init__()
        few = 4 if limit < 100 else 6
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdict = self.maxarray = few
        self.maxlevel, self.maxdeque, self.fillvalue = 3, few, "…"
        self.maxstring = self.maxlong = max(34, limit // 2)
        self.maxother = max(60, limit)

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        """In its own order; sorted, as elsewhere, it would be looked at as a whole."""
        if level <= 0:
            return f"{{{self.fillvalue}}}" if x else "{}"
        first = islice(x.items(), self.maxdict)
        pieces = [f"{self.repr1(key, level - 1)}: {self.repr1(value, level - 1)}" for key, value in first]
        return f"{{{', '.join([*pieces, *([self.fillvalue] if len(x) > self.maxdict else [])])}}}"

    def repr_bytes(self, x: bytes | bytearray, level: int) -> str:
        """The first of them: all might be megabytes."""
        if len(x) <= self.maxstring:
            return repr(x)
        return f"{number(len(x))} bytes: {x[: self.maxstring]!r}{self.fillvalue}"

    repr_bytearray = repr_bytes

    def repr_instance(self, x: Any, level: int) -> str:
        """Of what is in a collection, too: one that raises leaves the others to be shown."""
        try:
            return self._said(x, level)
        except Exception as error:  # noqa: BLE001 - a user's class
            return f"<{_raises(x, error)}>" if level < self.maxlevel else _raises(x, error)

    def _said(self, x: Any, level: int) -> str:
        if isinstance(x, Word):
            return x.text
        if is_figure(x):
            return f"{kind(x)} of {package(x)}"
        shape = _shape(x)
        if isinstance(shape, tuple) and shape:
            return f"{kind(x)} {f' {TIMES} '.join(map(str, shape))}"
        if shape == () and hasattr(x, "item"):
            return self.repr1(x.item(), level)  # a number of numpy's
        if getattr(type(x), "__repr__", None) is object.__repr__:
            return f"<{kind(x)}>"
        if callable(x) and isinstance(name := getattr(x, "__name__", None), str):
            return name
        found = repr(x)
        return found if len(found) <= self.maxother else f"{found[: self.maxother - 1]}…"


_short = cache(_Short)

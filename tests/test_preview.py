"""Values as small, inert HTML."""

from __future__ import annotations

import re
from collections import OrderedDict
from html import unescape
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hostile import HOSTILE, assert_is_inert
from hypothesis import given, settings
from hypothesis import strategies as st

from celeryflow.values.gathered import Gathered
from celeryflow.view.brief import brief
from celeryflow.view.preview import TooLarge, preview

Figure = type("Figure", (), {"__module__": "matplotlib.figure", "_repr_html_": lambda self: 1 / 0})


def text_of(value: Any) -> str:
    page = preview(value)
    assert_is_inert(page)
    assert len(page) < 8_000
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", page))).strip()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (42, "42"),
        (None, "None"),
        (np.float64(1.5), "1.5"),
        ("a text\n  in lines", "a text in lines"),
        ("", "(empty text)"),
        (b"\x00ab", r"b'\x00ab'"),
        (b"x" * 5000, "5,000 bytes: b'xx"),
        ({"a": 1, "b": [1, 2]}, "dict of 2 a 1 b [1, 2]"),
        ([1.25, "x"], "list of 2 0 1.25 1 'x'"),
        ([7], "[7]"),
        (Gathered({0: "x", 2: "y"}, {1: "late"}), "2 0 'x' 2 'y'"),
        (OrderedDict(z=1), "OrderedDict of 1 z 1"),
        (list(range(10_000)), "list of 10,000"),
        (TooLarge(1_200_000_000), "1.2 GB, not shown"),
        (Figure(), "Figure of matplotlib, not drawn here"),
        ([Figure(), pd.DataFrame({"a": [1]})], "0 Figure of matplotlib 1 DataFrame 1 \N{MULTIPLICATION SIGN} 1"),
        (ValueError("bad"), "ValueError('bad')"),
    ],
)
def test_values_in_short(value: Any, said: str) -> None:
    assert said in text_of(value)


def test_a_frame_shows_its_size_and_its_upper_left_corner() -> None:
    frame = pd.DataFrame(
        {f"c{i}": np.arange(1000) / 3 for i in range(20)}, index=pd.date_range("2013-01-01", periods=1000)
    )

    text = text_of(frame)

    assert text.startswith(
        "DataFrame, 1,000 rows \N{MULTIPLICATION SIGN} 20 columns c0 c1 c2 c3 c4 c5 … 2013-01-01 00:00:00 0 0 0 0 0 0 …"
    )
    assert "0.333333" in text and "2013-01-06" not in text


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.arange(12).reshape(3, 4), "ndarray int64 (3, 4) 0 1 2 3 4 5 6 7 8 9 10 11"),
        (np.zeros((100, 100)), "ndarray float64 (100, 100) 0 0 0 0 0 0 …"),
        (np.arange(8), "ndarray int64 (8,) 0 1 2 3 4 5 …"),
        (np.ones((2, 3, 4)), "ndarray float64 (2, 3, 4) 1 1 1 1 1"),
        (np.array(7), "ndarray int64 () 7"),
        (np.zeros((0, 3)), "ndarray float64 (0, 3)"),
        (np.zeros((3, 0)), "ndarray float64 (3, 0)"),
        (np.array(["<b>", None], dtype=object), "ndarray object (2,) <b> None"),
        (np.array([(1, 2.0)], dtype=[("a", int), ("b", float)]), "(1,)"),
    ],
)
def test_an_array_shows_type_shape_and_a_corner(array: Any, said: str) -> None:
    assert said in text_of(array)


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame(),
        pd.DataFrame({"a": []}),
        pd.DataFrame({("x", 1): [1], ("y", 2): [pd.NaT]}),
        pd.DataFrame({"c": pd.Categorical(["u"]), "t": pd.to_datetime(["2020-01-01"], utc=True), "n": [None]}),
        pd.DataFrame([[1, 2]], columns=["same", "same"]),
        pd.DataFrame({i: [i] for i in range(300)}),
        pd.DataFrame({"deep": [pd.DataFrame({"a": [1]})]}),
        pd.Series([1, 2], name="s"),
        pd.Series([], dtype=float),
    ],
)
def test_frames_of_all_shapes_are_shown(frame: Any) -> None:
    assert "cannot be shown" not in text_of(frame)


@pytest.mark.parametrize("word", HOSTILE)
def test_hostile_words_are_text_in_every_value(word: str) -> None:
    class Named:
        def __repr__(self) -> str:
            return word

    Named.__name__ = word.replace("\x00", "").encode(errors="replace").decode() or "Named"
    frame = pd.DataFrame({word: [word, Named()], "x": 1}, index=[word, "i"])
    array = np.array([word, Named()], dtype=object)
    for value in (word, Named(), [word, Named()], {word: word}, frame, frame[word], array, ValueError(word), {word}):
        text_of(value)
        assert "\n" not in brief(value)


@settings(deadline=None)
@given(st.recursive(st.text() | st.integers() | st.binary(), lambda t: st.lists(t) | st.dictionaries(st.text(), t)))
def test_any_value_is_small_and_inert(value: Any) -> None:
    text_of(value)


class Broken:
    """Raises wherever it is asked."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __repr__(self) -> str:
        raise RecursionError("deep")

    def __len__(self) -> int:
        raise ValueError("no length")


class BrokenDict(dict[Any, Any]):
    def items(self) -> Any:
        raise RuntimeError("no items")


class BrokenFrame(pd.DataFrame):
    @property
    def iloc(self) -> Any:
        raise RuntimeError("no rows")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (Broken, "Broken, whose repr raises RecursionError"),
        (lambda: [Broken(), 1], "0 Broken, whose repr raises RecursionError 1 1"),
        (lambda: {1: [Broken(), 1]}, "1 [<Broken, whose repr raises RecursionError>, 1]"),
        (lambda: BrokenDict(a=1), "BrokenDict, which cannot be shown: RuntimeError"),
        (lambda: BrokenFrame({"a": [1]}), "BrokenFrame, which cannot be shown: RuntimeError"),
        (lambda: 10**5000, "int, whose repr raises ValueError"),
    ],
)
def test_what_raises_is_told(make: Any, said: str) -> None:
    assert said in text_of(make())

"""``workflow.draw``: what is said of each step before anything runs."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from showcase import SVG

import celeryflow as cf
from celeryflow.view.brief import brief

TIMES = "\N{MULTIPLICATION SIGN}"


@cf.step
def extract(source: str, month: int = 1) -> list[int]:
    return [1]


@cf.step(retries=3, queue="gpu", priority=9, timeout_s=90)
def train(rows: Any, rules: Any = None, *, alpha: float = 0.1, **more: Any) -> Any:
    return rows


def said(picture: Any) -> dict[str, tuple[str, str]]:
    """The second line and the title of each box, by its label."""
    root = ElementTree.fromstring(picture.svg)
    groups = [g for g in root.iter(f"{SVG}g") if g.get("class", "").startswith("node ")]
    texts = [{t.get("class"): t.text or "" for t in g.iter(f"{SVG}text")} for g in groups]
    titles = [g.findtext(f"{SVG}title") or "" for g in groups]
    return {t["label"]: (t["note"], title) for t, title in zip(texts, titles, strict=True)}


def draw(body: Any) -> dict[str, tuple[str, str]]:
    return said(cf.workflow(body).draw())


def test_a_box_says_values_and_unusual_options_and_its_title_all_of_them() -> None:
    found = draw(lambda: train(extract("flights"), {"cut": 3}, alpha=0.5))

    assert found["extract"] == (
        "source='flights'",
        "extract(source='flights'): queue default · priority 5 · no retries",
    )
    assert found["train"] == (
        "rules={'cut': 3}… · queue gpu · priority 9 · 3 retries",
        "train(rows=extract, rules={'cut': 3}, alpha=0.5): queue gpu · priority 9 · 3 retries · at most 1 min 30 s",
    )


def test_widths_of_maps_are_shown_where_they_are_known_and_what_they_go_over() -> None:
    def body() -> Any:
        raw = extract.map(["flights", "weather"], month=[1, 2])
        found = train.map(extract("x"), cf.unmapped([1, 2]), on_error="skip")
        return train.options(name="all")([raw, found])

    found = draw(body)
    assert set(found) == {f"extract {TIMES} 2", "extract-2", f"train {TIMES} ?", "all"}
    assert found[f"extract {TIMES} 2"][1].startswith(
        f"extract {TIMES} 2 (source=each of ['flights', 'weather'], month=each of [1, 2]): "
    )
    assert "rows=each of extract-2, rules=[1, 2]" in found[f"train {TIMES} ?"][1]
    assert found[f"train {TIMES} ?"][1].endswith("skips errors")
    assert "(rows=[extract, train])" in found["all"][1]


def test_the_outline_says_the_same() -> None:
    picture = cf.workflow(lambda: train(extract("flights"), alpha=0.5)).draw()

    assert picture.text.splitlines()[1:] == [
        "○ extract  (source='flights')  queue default · priority 5 · no retries",
        "○ train  ← extract  (rows=extract, alpha=0.5)  queue gpu · priority 9 · 3 retries · at most 1 min 30 s",
    ]


def test_branches_loops_gathers_and_workflows_are_drawn() -> None:
    @cf.workflow
    def inner(x: int) -> Any:
        return extract(str(x)) if x > 1 else extract("none")

    def body() -> Any:
        few = cf.gather([extract("a"), extract("b")], deadline_s=90)
        many = cf.branch(extract("c"), (bool, train), otherwise=train)
        return inner.map([1, 2]), cf.loop(train, few, until=bool, max_iterations=3), many

    found = draw(body)
    assert found["gather"] == (
        "goes on after 1 min 30 s", "gather(refs=[extract, extract-2], min_results=0): goes on after 1 min 30 s"
    ) or "1 min 30 s" in found["gather"][0]  # fmt: skip
    assert any("(x=each of [1, 2])" in title for _, title in found.values())


def test_large_and_odd_arguments_are_shown_in_short() -> None:
    class Odd:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    values = [pd.DataFrame({"a": [1] * 1000}), np.zeros((3, 4)), "x" * 10_000, list(range(10**6)), Odd(), object(), len]
    titles = [title for _, title in draw(lambda: [extract(value) for value in values]).values()]  # type: ignore[arg-type]

    assert [title.partition("source=")[2].partition("):")[0] for title in titles] == [
        f"DataFrame 1000 {TIMES} 1",
        f"ndarray 3 {TIMES} 4",
        "'xxxxxxxxxxxxxx…xxxxxxxxxxxxxxx'",
        "[0, 1, 2, 3, …]",
        "Odd, whose repr raises RuntimeError",
        "<object>",
        "len",
    ]


def test_arguments_are_not_in_the_pictures_of_a_run() -> None:
    workflow = cf.workflow(lambda: train(extract("hunter2"), rules="hunter3"))
    assert "hunter2" in str(workflow.draw().svg)
    run = workflow.run(inline=True)
    for shown in (run.draw().svg, run.draw().text, run.draw().dot, run._repr_html_(), repr(run)):
        assert "hunter" not in str(shown)


def test_foreign_arguments_are_inert_in_the_picture() -> None:
    picture = cf.workflow(lambda: extract("</title><script>alert(1)</script>\x1b[31m\u202e")).draw()
    ElementTree.fromstring(str(picture.svg))
    assert "<script" not in str(picture.svg)
    assert "\x1b" not in picture.text
    assert "\u202e" not in picture.text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ([1, [2, [3, [4]]]], "[1, [2, [3, […]]]]"),
        ({1: "a", 2: "b"}, "{1: 'a', 2: 'b'}"),
        ({i: i for i in range(9)}, "{0: 0, 1: 1, 2: 2, 3: 3, …}"),
        (np.int64(3), "3"),
        ("two\nlines\x1b[31m", r"'two\nlines\x1b[31m'"),
        ({}, "{}"),
    ],
)
def test_a_value_in_short(value: Any, shown: str) -> None:
    assert brief(value) == shown


def test_a_value_in_short_is_short() -> None:
    assert len(brief(dict.fromkeys(range(1000), "x" * 1000), limit=50)) <= 50
    assert len(brief(type("T" * 500, (), {})(), limit=50)) <= 50

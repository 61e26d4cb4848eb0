"""Words of users in the views: shown, and nothing more."""

from __future__ import annotations

import re
import sys
import time
import unicodedata
from typing import Any
from xml.etree import ElementTree

import pytest
from hostile import HOSTILE, assert_is_inert, assert_is_plain
from hypothesis import given, settings
from hypothesis import strategies as st
from showcase import SVG, named, picture_of

import celeryflow as cf
from celeryflow.view import boxes, dot, outline, svg, words
from celeryflow.view.html import html
from celeryflow.view.text import rich_text, text


def test_plain_text_is_one_line_without_control_characters() -> None:
    assert words.plain("one\ntwo\x1b[31mred\x1b[0m \u202eabc\x00") == "one twored abc"
    assert words.plain("x" * 10_000, limit=10) == "x" * 9 + "…"


@given(st.text() | st.sampled_from(HOSTILE), st.integers(1, 50))
def test_plain_text_is_bounded_and_harmless(value: str, limit: int) -> None:
    shown = words.plain(value, limit)
    assert len(shown) <= limit
    assert not any(unicodedata.category(c)[0] == "C" for c in shown)
    assert "\n" not in shown
    shown.encode()


@settings(deadline=None)
@given(st.text(max_size=40) | st.sampled_from(HOSTILE))
def test_hostile_words_are_inert_in_every_view(name: str) -> None:
    snapshot = named(name)
    assert_is_inert(html(snapshot))
    picture = picture_of(snapshot)
    assert {e.tag.removeprefix(SVG) for e in picture.iter()} <= {"svg", "style", "rect", "text", "path", "g", "title"}
    for shown in (text(snapshot), rich_text(snapshot).plain, outline.outline(snapshot.graph, snapshot)):
        assert_is_plain(shown)
        assert max(map(len, shown.splitlines())) < 1000
    assert len(html(snapshot)) < 60_000


@settings(deadline=None)
@given(st.text(max_size=40) | st.sampled_from(HOSTILE))
def test_dot_source_keeps_foreign_words_in_quoted_strings(name: str) -> None:
    source = dot.source(named(name).graph, named(name))
    outside = re.sub(r'"(?:[^"\\\n]|\\.)*"', '""', source)
    assert '"' not in outside.replace('""', "")
    assert not set(re.findall(r"[A-Za-z]{2,}", outside)) - DOT_WORDS
    for label in re.findall(r'label="((?:[^"\\\n]|\\.)*)"', source):
        assert set(re.findall(r"\\(.)", label)) <= {"\\", '"', "n"}


def words_of(line: str) -> set[str]:
    return set(line.split())


DOT_WORDS = words_of(
    "digraph rankdir LR nodesep ranksep bgcolor fontname node shape box style fontsize height edge color arrowsize "
    "subgraph cluster_ cluster label labeljust id class tooltip fillcolor fontcolor"
)


def test_what_a_layout_engine_gets_has_no_word_of_a_user() -> None:
    names = ["secret", "x; evil"]
    for name in names:
        bare = dot.bare(boxes.drawing(named(name).graph, named(name)))
        assert name not in bare
        assert re.fullmatch(r"[\sA-Za-z0-9_{}=;,.\[\]>\"-]*", bare)


@pytest.mark.parametrize("name", HOSTILE)
def test_each_of_the_fifty_is_inert_on_the_page_and_in_the_bundle_of_a_picture(name: str) -> None:
    snapshot = named(name)
    page, drawn = html(snapshot), svg.draw(snapshot.graph, snapshot)
    assert_is_inert(page)
    bundle = drawn._repr_mimebundle_()
    assert set(bundle) == {"text/html", "text/plain"}
    assert_is_inert(bundle["text/html"])
    assert_is_plain(bundle["text/plain"])
    assert_is_plain(text(snapshot))
    if drawn.svg:
        assert_is_inert_picture(drawn.svg)


def assert_is_inert_picture(source: str) -> None:
    """No element or attribute but those of the views, and no reference to anything."""
    root = ElementTree.fromstring(source)
    tags = {"svg", "style", "rect", "text", "path", "g", "title"}
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= tags
    named_ = {name for element in root.iter() for name in element.attrib}
    assert named_ <= words_of("class id transform width height rx x y d viewBox role aria-label")
    assert_is_plain("".join(root.itertext()))


@pytest.mark.usefixtures("runtime")
def test_hostile_names_outputs_and_errors_of_a_real_run_are_inert() -> None:
    @cf.step
    def say(word: str, is_bad: bool = False) -> str:
        print(word)
        if is_bad:
            raise type(re.sub(r"\W", "", word) or "Error", (ValueError,), {})(word)
        return word

    def body() -> Any:
        found = []
        for at, word in enumerate(HOSTILE):
            label = word.encode(errors="replace").decode()  # neither a function nor a phase can be called otherwise
            say.callee.function.__name__ = label or "x"
            with cf.phase(label[:50] or "phase"):
                found.append(cf.step(say.callee.function, name=f"s{at}")(word, is_bad=at % 2 == 0))
        return cf.gather(found)

    run = cf.workflow(body).run(check=True)

    assert_is_inert(run._repr_html_())
    assert_is_plain(repr(run))
    for key, shown in run.draw()._repr_mimebundle_().items():
        (assert_is_inert if key == "text/html" else assert_is_plain)(shown)


def test_a_phase_whose_name_has_no_encoding_is_refused_by_name() -> None:
    with pytest.raises(cf.WorkflowError, match=r"a phase needs a name, not '\\ud800lone'"), cf.phase("\ud800lone"):
        pass


@pytest.mark.usefixtures("runtime")
def test_words_without_an_encoding_are_taken_wherever_words_may_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    lone, written_out = "caf\udce9", r"caf\udce9"  # a file name in Latin-1, say
    monkeypatch.syspath_prepend(f"/nowhere/{lone}")

    def say(word: str, **more: Any) -> Any:
        print(word)
        return word, f"/nowhere/{lone}" in sys.path

    def body() -> Any:
        return cf.step(say).map({lone: lone}, **{lone: [1]})

    say.__name__ = body.__name__ = lone
    run = cf.workflow(body).run(check=True)

    assert run.result() == {lone: (lone, True)}
    assert run.items("caf")["key"].tolist() == run.logs()["text"].tolist() == [written_out]
    assert written_out in assert_is_inert(run._repr_html_())
    assert_is_plain(repr(run))

    run = cf.workflow(lambda: cf.step(time.sleep)(60)).submit()
    run.cancel(lone)
    assert run.wait().snapshot().reason == written_out
    with pytest.raises(cf.InvalidNameError, match=r"a run's id must be .*, not 'caf\\udce9'"):
        cf.workflow(body).submit(reuse=lone)

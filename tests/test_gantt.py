"""Who ran what when, drawn: what is in the chart, how much of it, and that foreign words in it are inert."""

from __future__ import annotations

import base64
import json
import re
import sys
import zlib
from pathlib import Path
from typing import Any

import altair as alt
import pytest
from feeds import T0, Feed, a_map, graph, node
from flows import double, fail, works
from hostile import HOSTILE
from showcase import named

import celeryflow as cf
from celeryflow.graph.model import Event, Input
from celeryflow.runtime.snapshot.fold import Snapshot
from celeryflow.view import gantt
from celeryflow.view.gantt import MAX_SPANS
from celeryflow.view.offline import SCHEMA, VEGA, packed

Spec = dict[str, Any]


def spec_of(feed: Feed) -> Spec:
    return gantt.gantt(feed.snapshot).to_dict()


def data_of(spec: Spec, layer: int) -> list[Spec]:
    return spec["datasets"][spec["layer"][layer]["data"]["name"]]  # type: ignore[no-any-return]


WAITS, BARS, PATH, LABELS, SIGNS, RESUMES = range(6)


def small() -> Feed:
    """Two workers, a failed attempt, and one that runs."""
    feed = Feed(graph(node(0, "load"), a_map(1, "clean", Input(node=0), length=2, retries=1), node(2, "apart")))
    feed.run(0, seconds=2.0, worker="host:1").after(0.5)
    feed("claimed", 1, 0, worker="host:1")("claimed", 1, 1, worker="host:2").after(1.0)
    feed("success", 1, 0, worker="host:1", durations_s=(1.0,))
    feed("retrying", 1, 1, worker="host:2", kind="exception", durations_s=(1.0,))
    return feed("claimed", 1, 1, attempt=2, worker="host:1").after(1.0)("progress")


def test_a_bar_is_an_attempt_and_the_wait_before_it_stands_apart() -> None:
    spec = spec_of(small())
    bars = data_of(spec, BARS)
    shown = [(bar["worker"], bar["step"], bar["items"], bar["outcome"], bar["attempt"]) for bar in bars]
    assert shown == [
        ("host:1", "load", None, "success", 1),
        ("host:1", "clean", "0", "success", 1),
        ("host:1", "clean", "1", "running", 2),
        ("host:2", "clean", "1", "exception", 1),
    ]
    times = [(bar["wait"], bar["begin"], bar["end"]) for bar in bars]
    assert times[0] == pytest.approx((0.0, 0.1, 2.1))
    assert times[1] == pytest.approx((2.1, 2.6, 3.6))
    assert times[2] == pytest.approx((3.6, 3.6, 4.6))
    waits, marks = spec["layer"][WAITS], spec["layer"][BARS]
    assert data_of(spec, WAITS) == bars
    assert (waits["encoding"]["x"]["field"], waits["encoding"]["x2"]["field"]) == ("wait", "begin")
    assert waits["mark"]["size"] < marks["mark"]["size"]
    assert waits["mark"]["yOffset"] < 0


def test_the_critical_path_is_marked_and_in_the_legend() -> None:
    spec = spec_of(small())
    # The item that failed and is tried again: both attempts.
    ends = [(mark["worker"], mark["begin"]) for mark in data_of(spec, PATH)]
    assert ends == [("host:1", pytest.approx(0.1)), ("host:1", pytest.approx(3.6)), ("host:2", pytest.approx(2.6))]
    assert spec["layer"][PATH]["encoding"]["color"]["datum"] == "critical path"
    domain = spec["layer"][BARS]["encoding"]["color"]["scale"]["domain"]
    assert domain == ["clean", "load", "waited in the queue", "critical path"]


def test_an_outcome_has_a_sign_besides_its_colour() -> None:
    spec = spec_of(small())
    assert [bar["label"] for bar in data_of(spec, LABELS)] == ["load", "clean[0]", "clean[1]", "clean[1]"]
    assert [bar["sign"] for bar in data_of(spec, SIGNS)] == ["", "", "▸", "✕"]


def test_the_time_between_a_run_and_its_resume_is_left_out() -> None:
    feed = Feed(graph(node(0, "a"), node(1, "b"))).run(0, seconds=2.0)
    feed("failure", 1, kind="exception", worker="w:1")("ended", status="failure").after(86_400)
    feed("started", status="running", generation=2)
    feed("claimed", 1, generation=2, attempt=2, worker="w:1").after(1.0)
    spec = spec_of(feed("success", 1, generation=2, attempt=2, worker="w:1", durations_s=(1.0,)))
    assert max(bar["end"] for bar in data_of(spec, BARS)) == pytest.approx(2.1 + 1.0)
    assert [rule["begin"] for rule in data_of(spec, RESUMES)] == pytest.approx([2.1])


def test_hours_of_waiting_for_the_first_worker_leave_room_for_what_it_did() -> None:
    feed = Feed(graph(node(0, "a"))).after(3_600).run(0, seconds=2.0)
    begin, end = spec_of(feed)["layer"][BARS]["encoding"]["x"]["scale"]["domain"]
    assert (begin, end) == pytest.approx((3_599.8, 3_602.1))
    assert data_of(spec_of(feed), BARS)[0]["waited"] == "1 h 0 min"


def large(steps: int, size: int, workers: int = 4) -> Snapshot:
    """Attempts of `steps` maps, by turns."""
    snapshot = Snapshot(graph(*(a_map(i, f"m{i}", length=size) for i in range(steps))), "etl-1")
    snapshot.apply(Event(seq=1, at=T0, event="submitted"))
    for at in range(steps * size):
        who, node, item = f"w:{at % workers}", at // workers % steps, at // (workers * steps) * workers + at % workers
        if item < size:
            ends = T0 + 0.01 * (at // workers + 1)
            times = {"node": node, "start": item, "worker": who}
            snapshot.apply(Event(seq=2 * at + 2, at=ends - 0.01, event="claimed", **times))
            snapshot.apply(Event(seq=2 * at + 3, at=ends, event="success", durations_s=(0.01,), **times))
    return snapshot


@pytest.mark.parametrize(("steps", "size"), [(1, 20_000), (40, 500)])
def test_of_thousands_of_attempts_few_bars_are_left_that_tell_of_all(steps: int, size: int) -> None:
    snapshot = large(steps, size)
    chart = gantt.gantt(snapshot).to_dict()
    bars = data_of(chart, BARS)
    assert len(bars) <= MAX_SPANS + 4
    assert len(json.dumps(chart)) < 600_000
    assert max(bar["end"] for bar in bars) == pytest.approx(steps * size / 4 * 0.01)
    if steps == 1:
        assert [bar["items"] for bar in bars] == ["5000 of them"] * 4
        assert {bar["ran"] for bar in bars} == {"50.0 s"}
    else:
        assert any("of several steps" in bar["step"] for bar in bars)


def tags(name: str, folder: Path) -> int:
    """How many tags the page has that altair writes of a run full of this name."""
    chart = gantt.gantt(named(name))
    assert "<" not in json.dumps(chart.to_dict())
    chart.save(folder / "chart.html")
    return len(re.findall(r"<[a-z/!]", (folder / "chart.html").read_text(), re.IGNORECASE))


def test_foreign_words_are_inert_in_the_page_that_altair_writes(tmp_path: Path) -> None:
    assert tags("\n".join(HOSTILE), tmp_path) == tags("harmless", tmp_path)


def test_it_holds_no_argument_and_no_result() -> None:
    @cf.step
    def keep(secret: str) -> str:
        return f"{secret}-result"

    run = cf.workflow(lambda: keep.map(["hunter2", "hunter3"])).run(inline=True)
    assert "hunter" not in json.dumps(run.gantt().to_dict())


@pytest.mark.usefixtures("runtime")
def test_the_chart_of_a_real_run_shows_every_attempt() -> None:
    @cf.workflow
    def etl() -> Any:
        return double.map(double.map([1, 2, 3])), fail.options(name="no")()

    run = etl.run()
    bars = data_of(run.gantt().to_dict(), BARS)
    assert sum(len(run.items(step)) for step in ("double", "double-2")) == 6
    assert sum(int((bar["items"] or "1").isdigit()) for bar in bars) == len(run.timeline())
    assert {bar["outcome"] for bar in bars} == {"success", "exception"}
    assert {bar["worker"] for bar in bars} == set(run.timeline()["worker"])


def test_a_notebook_gets_what_needs_no_network_and_a_picture() -> None:
    chart = gantt.gantt(small().snapshot)
    bundle, metadata = chart._repr_mimebundle_()
    assert bundle[VEGA]["$schema"] == SCHEMA
    assert "text/html" not in bundle  # altair's own fetches Vega from the net, and is preferred where it is
    png = base64.b64decode(bundle["image/png"])
    assert png.startswith(b"\x89PNG")
    assert metadata["image/png"]["width"] > gantt.WIDTH
    assert bundle["text/plain"] == "etl: 4 attempts by 2 workers, critical path 4.0 s"


def test_a_picture_is_packed_without_loss() -> None:
    pixels = b"".join(b"\0" + bytes([line, 7, 9, 255]) * 100 for line in range(100))
    loose = zlib.compress(pixels, 0)
    parts = [(b"IHDR", b"100x100"), (b"IDAT", loose[:1000]), (b"IDAT", loose[1000:]), (b"IEND", b"")]
    png = packed(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))

    data = zlib.compress(pixels, 6)
    assert png == b"\x89PNG\r\n\x1a\n" + chunk(*parts[0]) + chunk(b"IDAT", data) + chunk(*parts[-1])
    assert len(png) < len(pixels) // 10


def chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def test_without_what_draws_the_picture_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    bundle, _ = gantt.gantt(small().snapshot)._repr_mimebundle_()
    assert set(bundle) == {VEGA, "text/plain"}
    assert bundle["text/plain"].endswith('pip install "celeryflow[plot]"')


def test_a_renderer_that_the_user_chose_is_used() -> None:
    with alt.renderers.enable("json"):
        bundle = gantt.gantt(small().snapshot)._repr_mimebundle_()
    assert "application/json" in (bundle[0] if isinstance(bundle, tuple) else bundle)


def test_it_can_be_changed_and_exported_as_any_chart(tmp_path: Path) -> None:
    chart = works.run(inline=True).gantt().properties(width=300)
    for name in ("chart.svg", "chart.png", "chart.json", "chart.html"):
        chart.save(tmp_path / name)
        assert (tmp_path / name).stat().st_size > 1_000
    assert json.loads((tmp_path / "chart.json").read_text())["width"] == 300


def test_without_altair_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    run = works.run(inline=True)
    monkeypatch.setitem(sys.modules, "altair", None)
    with pytest.raises(cf.MissingExtraError, match=r'run\.gantt\(\).*pip install "celeryflow\[plot\]"'):
        run.gantt()


def test_a_run_of_which_nothing_has_run_has_an_empty_chart() -> None:
    chart = spec_of(Feed(graph(node(0, "a"))))
    assert [data_of(chart, layer) for layer in (WAITS, BARS, PATH)] == [[], [], []]

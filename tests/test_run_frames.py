"""The frames of a run: their columns, with and without rows, and large ones."""

from __future__ import annotations

import pandas as pd
import pytest
from feeds import T0, Feed, a_map, graph, pipeline, stamp, timeline

from celeryflow.graph.model import Event, Failure, LogLine
from celeryflow.graph.states import State
from celeryflow.runtime.snapshot import frames
from celeryflow.runtime.snapshot.fold import Snapshot

COLUMNS = {
    "phases": "phase status steps done failed skipped progress started_at finished_at duration_s work_s result",
    "steps": "step phase status items done failed attempts queue priority queue_wait_s duration_s output_bytes "
    "reused worker error",
    "items": "index key status attempts started_at duration_s worker error",
    "timeline": "generation step index key attempt worker ready_at claimed_at started_at finished_at outcome reason",
    "critical_path": "step index key attempts worker started_at finished_at duration_s queue_wait_s share "
    "makespan_1_s makespan_2_s makespan_4_s makespan_8_s makespan_16_s makespan_32_s makespan_64_s",
    "errors": "step index key kind error message traceback log_tail attempt worker",
    "logs": "at step index attempt worker stream text",
    "events": "seq at run event step items attempt generation worker status error",
    "history": "run workflow status stalled submitted_at duration_s steps failed tenant",
}


def all_frames(feed: Feed, is_empty: bool) -> dict[str, pd.DataFrame]:
    snapshot = feed.snapshot
    failure = Failure(kind="exception", error="ValueError", message="bad", traceback="…", worker="w:1")
    failures = [(1, 1, failure), (0, None, failure)]
    line = LogLine(at=T0, node=0, index=0, attempt=1, worker="w:1", stream="stdout", text="hello")
    run = {"run": "etl-1", "workflow": "etl", "status": "running", "submitted_at": T0}
    return {
        "phases": frames.phases(snapshot, {"extract": 7}),
        "steps": frames.steps(snapshot),
        "items": frames.items(snapshot, "clean", [f"k{i}" for i in range(6)]),
        "timeline": frames.timeline(snapshot, lambda node: ["a", "b"]),
        "critical_path": frames.critical_path(snapshot, lambda node: ["a", "b"]),
        "errors": frames.errors(snapshot, [] if is_empty else failures, lambda node: ["a", "b"]),
        "logs": frames.logs([] if is_empty else [line], snapshot.nodes),
        "events": frames.events([] if is_empty else feed.events, "etl-1", snapshot.nodes),
        "history": frames.history([] if is_empty else [run]),
    }  # fmt: skip


def test_every_frame_has_the_columns_of_the_design_and_the_same_dtypes_when_empty() -> None:
    full = all_frames(Feed(pipeline()).run(0)("claimed", 1, 0, 2, worker="w:1"), is_empty=False)
    bare = all_frames(Feed(pipeline(0)), is_empty=True)
    for name, columns in COLUMNS.items():
        assert list(full[name].columns) == columns.split()
        assert not full[name].empty
        pd.testing.assert_series_equal(full[name].dtypes, bare[name].dtypes)
    assert full["steps"]["worker"].dtype == pd.Series(["text"]).dtype
    assert str(full["timeline"]["started_at"].dtype) == "datetime64[ns, UTC]"
    assert list(full["steps"]["status"].cat.categories) == [str(s) for s in State]
    assert full["errors"]["key"].tolist()[0] == "b"
    assert full["phases"]["result"].tolist() == [7, None, None]
    assert full["logs"]["index"].isna().all()


def test_an_item_of_a_map_over_a_map_is_ready_when_the_same_item_has_ended() -> None:
    feed = Feed(pipeline()).run(0)
    ends = {}
    for item in (2, 0):
        feed("claimed", 1, item, worker="w:1").after(1.0)
        feed("success", 1, item, worker="w:1", durations_s=(1.0,))
        ends[item] = stamp(feed.now)
    feed.after(5.0)("claimed", 2, 2, worker="w:1")("claimed", 2, 0, worker="w:2")
    rows = timeline(feed).set_index(["step", "index"])
    assert rows.loc[("check", 2), "ready_at"] == ends[2]
    assert rows.loc[("check", 0), "ready_at"] == ends[0]
    assert feed.record("check").queue_wait_s == pytest.approx(6.0)


def test_keys_stand_with_their_items() -> None:
    feed = Feed(graph(a_map(0, "m", length=3)))
    feed("claimed", 0, 1, 2, worker="w:1")
    assert frames.items(feed.snapshot, "m", ["a", "b", "c"])["key"].tolist() == ["a", "b", "c"]
    assert frames.timeline(feed.snapshot, lambda n: ["a", "b", "c"])["key"].tolist() == ["b", "c"]
    assert frames.items(feed.snapshot, "m", ["a"])["key"].isna().tolist() == [False, True, True]


@pytest.mark.parametrize("chunk", [50, 1])
def test_a_hundred_thousand_items_are_folded_and_framed(chunk: int) -> None:
    size = 100_000
    events = [Event(seq=1, at=T0, event="submitted")]
    for start in range(0, size, chunk):
        at = T0 + start / 1000
        events.append(
            Event(seq=len(events) + 1, at=at, event="claimed", node=0, start=start, count=chunk, worker="w:1")
        )
        events.append(
            Event(
                seq=len(events) + 1, at=at + 0.05, event="success", node=0, start=start, count=chunk,
                worker="w:1", durations_s=(0.001,) * chunk,
            )
        )  # fmt: skip
    snapshot = Snapshot(graph(a_map(0, "m", length=size)), "etl-1")
    snapshot.apply_all(events)
    items = frames.items(snapshot, "m", None)
    assert (len(items), snapshot.steps[0].done) == (size, size)  # half a second; what is quadratic runs out of time

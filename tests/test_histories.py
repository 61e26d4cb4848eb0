"""What is known of a run after any legal history: counted, framed and timed without a contradiction."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pandas as pd
import pytest
from feeds import Feed, S, graph, no_keys, pipeline, timeline
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celeryflow.graph.states import State
from celeryflow.runtime.snapshot import frames
from celeryflow.runtime.snapshot.fold import Snapshot


class History:
    """A random legal history of a run, and the state of every item in it, kept without the fold."""

    def __init__(self, random: Random, length: int | None, planned: int) -> None:
        self.random, self.planned = random, planned
        self.feed = Feed(pipeline(length))
        self.lengths = {0: 1, 1: length, 2: length, 3: 1, 4: 1}
        self.ended: dict[int, State] = {}
        self.items = {n: dict.fromkeys(range(size or 0), S.PENDING) for n, size in self.lengths.items()}
        self.claims: list[tuple[int, int, int]] = []

    def reuse(self) -> None:
        """Begin with results of an earlier run: some steps, and some items of maps."""
        if self.lengths[1] is None and self.random.random() < 0.5:
            self.feed("length", 1, count=self.planned)
            self.know_length()
        for n, length in self.lengths.items():
            start = 0
            while start < (length or 0):
                size = self.random.randint(1, length - start)
                if self.random.random() < 0.6:
                    self.feed("reused", n, start, size, output_bytes=8, origin="etl-0")
                    self.mark(n, start, size, S.SUCCESS)
                start += size
            if n in (0, 3, 4) and self.items[n][0] is S.SUCCESS:
                self.ended[n] = S.SUCCESS
        self.settle()

    def walk(self, steps: int) -> None:
        for _ in range(steps):
            self.feed.after(self.random.random())
            self.random.choice([self.claim, self.claim, self.end_claim, self.end_claim, self.settle])()

    def claim(self) -> None:
        for n in self.random.sample(range(5), 5):
            if n in self.ended or not self.is_open(n):
                continue
            if self.lengths[n] is None:
                self.plan(n)
                return
            free = [i for i, s in self.items[n].items() if self.is_free(n, i, s)]
            if free:
                start = self.random.choice(free)
                size = 1
                while start + size in free and self.random.random() < 0.8:
                    size += 1
                self.feed("claimed", n, start, size, worker=f"w:{self.random.randrange(3)}")
                self.claims.append((n, start, size))
                self.mark(n, start, size, S.RUNNING)
                return

    def plan(self, n: int) -> None:
        if n == 1:
            self.feed("claimed", 1, -1, worker="w:0")("length", 1, count=self.planned)
            self.know_length()

    def know_length(self) -> None:
        for m in (1, 2):
            self.lengths[m] = self.planned
            self.items[m] = dict.fromkeys(range(self.planned), S.PENDING)

    def is_open(self, n: int) -> bool:
        return {1: self.ended.get(0) is S.SUCCESS, 3: self.ended.get(2) is S.SUCCESS}.get(n, True)

    def is_free(self, n: int, item: int, state: State) -> bool:
        is_given = n != 2 or self.items[1][item] is S.SUCCESS
        return is_given and state in (S.PENDING, S.RETRYING, S.READY)

    def end_claim(self) -> None:
        if not self.claims:
            return
        n, start, size = self.claims.pop(self.random.randrange(len(self.claims)))
        part = self.random.randint(1, size)
        self.finish(n, start, part)
        if part < size:
            self.feed("released", n, start + part, size - part)
            self.mark(n, start + part, size - part, S.PENDING)

    def finish(self, n: int, start: int, count: int) -> None:
        how = self.random.choice(["success"] * 4 + ["failure", "absorbed", "retrying", "lost", "released", "skipped"])
        durations = tuple(self.random.random() / 10 for _ in range(count))
        more: dict[str, Any] = {"durations_s": durations} if how not in ("lost", "released", "skipped") else {}
        if how in ("failure", "absorbed", "retrying", "lost"):
            more |= {"kind": "exception", "error": f"E: {start}", "is_absorbed": how == "absorbed"}
        self.feed("failure" if how == "absorbed" else how, n, start, count, worker="w:1", **more)
        self.mark(n, start, count, {
            "success": S.SUCCESS, "failure": S.FAILURE, "absorbed": S.FAILURE, "retrying": S.RETRYING,
            "lost": S.READY, "released": S.PENDING, "skipped": S.SKIPPED,
        }[how])  # fmt: skip
        if n in (0, 3, 4) and self.items[n][0].is_terminal:
            self.ended[n] = self.items[n][0]

    def settle(self) -> None:
        for n in (1, 2):
            states = self.items[n].values()
            if n not in self.ended and self.lengths[n] is not None and all(s.is_terminal for s in states):
                status = S.FAILURE if S.FAILURE in states else S.SUCCESS
                self.feed("settled", n, status=status)
                self.ended[n] = status

    def stop(self) -> None:
        self.feed("ended", status="cancelled")
        for n, states in self.items.items():
            for item, state in states.items():
                states[item] = state if state.is_terminal else S.CANCELLED
            self.ended.setdefault(n, S.CANCELLED)
        self.claims.clear()

    def resume(self) -> None:
        self.feed("started", status="running", generation=self.feed.snapshot.generation + 1)
        for n, state in list(self.ended.items()):
            if state is not S.SUCCESS:
                del self.ended[n]
                self.items[n] = {i: s if s is S.SUCCESS else S.PENDING for i, s in self.items[n].items()}

    def mark(self, n: int, start: int, count: int, state: State) -> None:
        self.items[n] |= dict.fromkeys(range(start, start + count), state)


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Histories that begin from nothing or with reused results, and end anywhere: in the middle, cancelled, resumed."""
    length = draw(st.one_of(st.none(), st.integers(0, 8)))
    # A seed, and not every choice, is drawn: many times as fast, and shrinking the lengths is enough.
    history = History(Random(draw(st.integers(0, 2**32))), length, draw(st.integers(0, 8)))
    if draw(st.booleans()):
        history.reuse()
    history.walk(draw(st.integers(0, 60)))
    for _ in range(draw(st.integers(0, 2))):
        history.stop()
        if draw(st.booleans()):
            history.resume()
            history.walk(draw(st.integers(0, 40)))
        else:
            break
    return history


any_history = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@any_history
@given(histories())
def test_every_item_is_counted_once_and_in_its_state(history: History) -> None:
    for record in history.feed.snapshot.steps:
        want = Counter(history.items[record.node.index].values())
        assert record.done == want[S.SUCCESS]
        assert record.failed == want[S.FAILURE]
        assert record.skipped == want[S.SKIPPED]
        assert record.cancelled == want[S.CANCELLED]
        assert record.running == want[S.RUNNING]
        assert record.retrying == want[S.RETRYING]
        assert record.pending == want[S.PENDING] + want[S.READY]
        parts = (record.ended, record.running, record.retrying, record.pending)
        assert sum(parts) == (record.length or 0) == len(history.items[record.node.index])
        status = history.ended.get(record.node.index)
        assert status is None or record.status is status
        assert 0.0 <= record.done_share + record.failed_share <= 1.0 + 1e-9


@any_history
@given(histories())
def test_the_items_frame_says_the_state_of_every_item(history: History) -> None:
    for record in history.feed.snapshot.steps:
        if record.node.is_map:
            found = frames.items(history.feed.snapshot, record.node.name, None)
            assert found["status"].tolist() == [str(s) for s in history.items[record.node.index].values()]


@any_history
@given(histories(), st.integers(0, 2**32))
def test_one_by_one_with_repeats_is_the_same_as_all_at_once(history: History, seed: int) -> None:
    random = Random(seed)
    events = history.feed.events
    at_once, bit_by_bit = Snapshot(history.feed.snapshot.graph, "etl-1"), Snapshot(history.feed.snapshot.graph, "etl-1")
    at_once.apply_all(events)
    for at, event in enumerate(events):
        bit_by_bit.apply(event)
        if random.random() < 0.3:
            bit_by_bit.apply(events[random.randint(0, at)])
    for frame in (frames.steps, lambda s: frames.timeline(s, no_keys), lambda s: frames.phases(s, {})):
        pd.testing.assert_frame_equal(frame(at_once), frame(bit_by_bit))


@any_history
@given(histories())
def test_the_frames_agree_with_each_other(history: History) -> None:
    snapshot = history.feed.snapshot
    steps, phases, rows = frames.steps(snapshot), frames.phases(snapshot, {}), frames.timeline(snapshot, no_keys)
    inside = steps[steps["phase"].notna()].groupby("phase", sort=False)[["done", "failed"]].sum()
    assert phases.set_index("phase")[["done", "failed"]].to_dict() == inside.to_dict()
    attempts = rows.groupby("step").size().reindex(steps["step"], fill_value=0)
    assert steps["attempts"].tolist() == attempts.tolist()
    for name in ("clean", "check"):
        items = frames.items(snapshot, name, None)
        assert items["attempts"].sum() == (rows["step"].eq(name) & rows["index"].notna()).sum()
    assert steps["done"].sum() == snapshot.total().done
    assert snapshot.progress == pytest.approx(sum(r.progress for r in snapshot.steps) / 5)


@any_history
@given(histories())
def test_times_of_an_attempt_are_in_order(history: History) -> None:
    rows = timeline(history.feed)
    for before, after in (("ready_at", "claimed_at"), ("claimed_at", "started_at"), ("started_at", "finished_at")):
        known = rows[before].notna() & rows[after].notna()
        assert (rows.loc[known, before] <= rows.loc[known, after] + pd.Timedelta("2us")).all()
    assert rows["finished_at"].notna().equals(rows["outcome"].notna())


@any_history
@given(histories())
def test_dtypes_are_those_of_an_empty_run(history: History) -> None:
    empty = Snapshot(graph(), "none")
    for full, bare in (
        (frames.steps(history.feed.snapshot), frames.steps(empty)),
        (frames.phases(history.feed.snapshot, {}), frames.phases(empty, {})),
        (timeline(history.feed), frames.timeline(empty, no_keys)),
        (
            frames.events(history.feed.events, "etl-1", history.feed.snapshot.nodes),
            frames.events([], "none", empty.nodes),
        ),
    ):
        pd.testing.assert_series_equal(full.dtypes, bare.dtypes)

"""The fold of a run's events, and the frames made of it: pure, without a server."""

from __future__ import annotations

import time
from collections import Counter
from random import Random
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celeryflow.errors import UnknownStepError
from celeryflow.graph.model import Edge, Event, Failure, Graph, Input, LogLine, Node, NodeKind, StepSpec
from celeryflow.graph.states import State
from celeryflow.runtime.snapshot import frames
from celeryflow.runtime.snapshot.fold import Snapshot

T0 = 1_700_000_000.0
S = State


def node(index: int, name: str, *inputs: Input, phase: str | None = None, **more: Any) -> Node:
    spec = StepSpec(name=name, label=name, retries=more.pop("retries", 0))
    return Node(index=index, name=name, spec=spec, phase=phase, inputs=inputs, **more)


def a_map(index: int, name: str, *inputs: Input, length: int | None = None, **more: Any) -> Node:
    return node(index, name, *inputs, kind=NodeKind.MAP, length=length, **more)


def graph(*nodes: Node) -> Graph:
    phases = tuple(dict.fromkeys(n.phase for n in nodes if n.phase))
    return Graph(name="etl", nodes=nodes, phases=phases)


def pipeline(length: int | None = 6) -> Graph:
    """A step, a map, a map over that map item by item, and a step that needs all of it."""
    return graph(
        node(0, "load", phase="extract"),
        a_map(1, "clean", Input(node=0), length=length, phase="transform", is_planned=length is None, retries=3),
        a_map(2, "check", Input(node=1, edge=Edge.ITEMS), source=1, phase="transform"),
        node(3, "total", Input(node=2), phase="sum"),
        node(4, "apart"),
    )


class Feed:
    """Writes events as the store does, and applies them to a snapshot."""

    def __init__(self, of: Graph) -> None:
        self.snapshot, self.now = Snapshot(of, "etl-1"), T0
        self.events: list[Event] = []
        self("submitted").after(0.1)("started", status="running")

    def __call__(self, event: str, node: int = -1, start: int = 0, count: int = 1, **more: Any) -> Feed:
        made = Event(seq=len(self.events) + 1, at=self.now, event=event, node=node, start=start, count=count, **more)
        self.events.append(made)
        self.snapshot.apply(made)
        return self

    def after(self, seconds: float) -> Feed:
        self.now += seconds
        return self

    def run(self, node: int, seconds: float = 1.0, worker: str = "w:1") -> Feed:
        """Claim a plain step, and its success after `seconds`."""
        self("claimed", node, worker=worker).after(seconds)
        return self("success", node, worker=worker, durations_s=(seconds,))

    def record(self, name: str) -> Any:
        return self.snapshot.record(name)


def stamp(seconds: float) -> pd.Timestamp:
    return pd.Timestamp(round(seconds * 1e6) * 1000, tz="UTC")


def no_keys(node: int) -> None:
    return None


def timeline(feed: Feed) -> pd.DataFrame:
    return frames.timeline(feed.snapshot, no_keys)


# --- what single events do -----------------------------------------------------------------


def test_a_run_goes_from_pending_to_its_end() -> None:
    feed = Feed(graph(node(0, "a")))
    assert feed.snapshot.status is S.RUNNING
    feed.run(0)("ended", status="success", error="")
    snapshot = feed.snapshot
    assert (snapshot.status, snapshot.progress, snapshot.submitted_at) == (S.SUCCESS, 1.0, T0)
    assert snapshot.duration_s() == pytest.approx(1.0)
    assert snapshot.counts()[S.SUCCESS] == 1


def test_a_step_is_ready_when_its_inputs_have_ended() -> None:
    feed = Feed(pipeline())
    assert [r.status for r in feed.snapshot.steps] == [S.READY, S.PENDING, S.PENDING, S.PENDING, S.READY]
    feed.run(0)
    assert feed.record("clean").status is S.READY
    feed("claimed", 1, 0, 3)("success", 1, 0, 3)
    assert feed.record("check").status is S.READY


def test_before_its_submit_nothing_of_a_run_is_ready() -> None:
    assert Snapshot(pipeline(), "etl-1").record("load").status is S.PENDING


def test_a_chunk_may_be_committed_in_parts_and_the_rest_handed_back() -> None:
    feed = Feed(graph(a_map(0, "m", length=10)))
    feed("claimed", 0, 0, 10, worker="w:1").after(1.0)
    feed("success", 0, 0, 4, durations_s=(0.1,) * 4)("failure", 0, 4, 1, kind="exception", error="E: x")
    feed("released", 0, 5, 5)
    record = feed.record("m")
    assert (record.done, record.failed, record.running, record.pending) == (4, 1, 0, 5)
    assert record.status is S.RUNNING
    assert feed.snapshot.progress == pytest.approx(0.5)


def test_an_event_in_the_middle_of_a_claim_frees_only_its_items() -> None:
    feed = Feed(graph(a_map(0, "m", length=10)))
    feed("claimed", 0, 0, 10, worker="w:1")("success", 0, 3, 4)
    assert feed.record("m").running == 6
    states = frames.items(feed.snapshot, "m", None)["status"].tolist()
    assert states == ["running"] * 3 + ["success"] * 4 + ["running"] * 3


def test_items_ran_one_after_the_other_until_their_commit() -> None:
    feed = Feed(graph(a_map(0, "m", length=3)))
    feed("claimed", 0, 0, 3, worker="w:1").after(2.0)
    feed("success", 0, 0, 3, worker="w:1", durations_s=(0.5, 0.25, 0.25))
    rows = timeline(feed)
    assert rows["started_at"].tolist() == [stamp(feed.now - s) for s in (1.0, 0.5, 0.25)]
    assert rows["finished_at"].tolist() == [stamp(feed.now - s) for s in (0.5, 0.25, 0.0)]


def test_a_start_is_never_before_the_claim_and_what_was_waited() -> None:
    feed = Feed(graph(node(0, "a")))
    feed("claimed", 0, worker="w:1").after(1.0)("success", 0, durations_s=(5.0,), waited_s=0.25)
    assert timeline(feed)["started_at"][0] == stamp(T0 + 0.35)
    assert timeline(feed)["finished_at"][0] == stamp(T0 + 1.1)


def test_steps_of_one_commit_ran_in_turn() -> None:
    chain = graph(*(node(i, f"s{i}", *([Input(node=i - 1)] if i else [])) for i in range(3)))
    feed = Feed(chain)
    for i in range(3):
        feed("claimed", i, worker="w:1")
    feed.after(0.9)
    for i in range(3):
        feed("success", i, worker="w:1", durations_s=(0.3,), waited_s=0.3 * i)
    rows = timeline(feed)
    assert rows["started_at"].tolist() == [stamp(T0 + 0.1 + 0.3 * i) for i in range(3)]
    assert feed.record("s0").duration_s(0.0) == pytest.approx(0.3)
    assert frames.steps(feed.snapshot)["queue_wait_s"].tolist() == pytest.approx([0.1, 0.0, 0.0], abs=1e-5)


def test_what_failed_comes_back_after_its_delay() -> None:
    feed = Feed(pipeline())
    feed("claimed", 0, worker="w:1").after(1.0)
    feed("retrying", 0, kind="exception", error="OSError: 503", delay_s=2.0, durations_s=(1.0,))
    assert (feed.record("load").status, feed.record("load").error) == (S.RETRYING, "OSError: 503")
    retried = feed.now
    feed.after(2.5)("claimed", 0, attempt=2, worker="w:2").after(1.0)
    feed("success", 0, attempt=2, worker="w:2", durations_s=(1.0,))
    rows = timeline(feed)
    assert rows["outcome"].tolist() == ["exception", "success"]
    assert rows["ready_at"].tolist() == [stamp(T0), stamp(retried + 2.0)]
    assert (feed.record("load").error, feed.record("load").attempts) == ("", 2)


def test_a_lost_worker_is_told_and_its_items_are_ready_again() -> None:
    feed = Feed(graph(a_map(0, "m", length=2)))
    feed("claimed", 0, 0, 2, worker="w:1").after(1.0)("lost", 0, 0, 2, error="killed by signal 9")
    record = feed.record("m")
    assert (record.is_lost, record.losses, record.status, record.pending) == (True, 1, S.READY, 2)
    feed("claimed", 0, 0, 1, worker="w:2")
    assert (record.is_lost, record.status) == (True, S.RUNNING)
    feed("claimed", 0, 1, 1, worker="w:3")
    assert not record.is_lost
    rows = timeline(feed)
    assert rows["outcome"].tolist()[:2] == ["worker_lost"] * 2
    assert rows["attempt"].tolist() == [1, 1, 2, 2]
    assert rows["reason"][0] == "killed by signal 9"
    assert rows["started_at"].isna().tolist() == [False, True, False, False]


def test_an_absorbed_failure_is_counted_and_does_not_fail_the_map() -> None:
    feed = Feed(graph(a_map(0, "m", length=2, phase="p")))
    feed("failure", 0, 0, kind="exception", error="E: x", is_absorbed=True, worker="w:1")("success", 0, 1)
    feed("settled", 0, status="success")("ended", status="success")
    record, (phase,) = feed.record("m"), feed.snapshot.phases()
    assert (record.status, record.failed, record.absorbed) == (S.SUCCESS, 1, 1)
    assert (phase.status, phase.failed, phase.progress, phase.done_share) == (S.SUCCESS, 1, 1.0, 0.5)


def test_only_absorbed_failures_are_counted_as_absorbed() -> None:
    feed = Feed(graph(a_map(0, "m", length=3)))
    feed("failure", 0, 0, 2, kind="exception", is_absorbed=True, worker="w:1")
    feed("failure", 0, 2, kind="exception", worker="w:1")
    assert (feed.record("m").failed, feed.record("m").absorbed) == (3, 2)


def test_nothing_starts_after_it_ended() -> None:
    feed = Feed(graph(node(0, "a")))
    feed("claimed", 0, worker="w:1").after(1.0)("lost", 0, waited_s=100.0)
    assert feed.record("a").started_at == feed.now


def test_an_attempt_is_ready_by_its_claim_though_an_input_ends_later() -> None:
    feed = Feed(graph(node(0, "slow"), node(1, "gather", Input(node=0))))
    feed("claimed", 0, worker="w:1").after(1.0)("claimed", 1, worker="w:2")
    claimed = feed.now
    feed.after(1.0)("success", 0, durations_s=(2.0,))
    assert timeline(feed)["ready_at"].tolist() == [stamp(T0), stamp(claimed)]


def test_the_failure_to_show_is_the_first_that_was_not_absorbed() -> None:
    feed = Feed(graph(a_map(0, "m", length=3)))
    for item, absorbed in enumerate((True, False, False)):
        feed("failure", 0, item, kind="exception", error=f"E: {item}", is_absorbed=absorbed, worker="w:1")
    failure, index = feed.snapshot.first_failure()
    assert failure is not None
    assert (failure.index, failure.error, index) == (1, "E: 1", 0)


def test_a_skipped_step_says_what_it_needed() -> None:
    feed = Feed(pipeline())
    feed("failure", 0, kind="exception", error="E: x", worker="w:1")
    feed("skipped", 1, count=6, kind="upstream", cause=0)
    feed("skipped", 2, count=6, kind="upstream", cause=1)
    feed("skipped", 3, kind="upstream", cause=2)
    steps = frames.steps(feed.snapshot).set_index("step")
    assert steps.loc["total", "error"] == "needs step 'load', which ended as failure"
    assert steps.loc["clean", "status"] == "skipped"
    assert feed.record("clean").skipped == 6
    assert set(frames.items(feed.snapshot, "clean", None)["status"]) == {"skipped"}


def test_a_length_found_at_run_time_is_that_of_maps_over_it_too() -> None:
    feed = Feed(pipeline(None)).run(0)
    assert frames.items(feed.snapshot, "clean", None).empty
    assert frames.steps(feed.snapshot)["items"].isna().tolist() == [False, True, True, False, False]
    feed("claimed", 1, -1, worker="w:1")
    assert (feed.record("clean").status, feed.record("clean").running) == (S.RUNNING, 0)
    feed.after(0.5)("length", 1, count=3)
    assert (feed.record("clean").length, feed.record("check").length) == (3, 3)
    rows = timeline(feed)
    assert rows["outcome"].tolist() == ["success", "success"]
    assert rows["index"].isna().all()


def test_reading_a_length_may_fail() -> None:
    feed = Feed(pipeline(None)).run(0)
    feed("claimed", 1, -1, worker="w:1")("failure", 1, -1, kind="exception", error="E: x", worker="w:1")
    feed("settled", 1, status="failure")("skipped", 2, kind="upstream", cause=1)
    assert (feed.record("clean").status, feed.record("clean").error) == (S.FAILURE, "E: x")
    assert feed.record("check").status is S.SKIPPED
    failure, _ = feed.snapshot.first_failure()
    assert failure is not None
    assert failure.index is None


def test_the_only_item_of_a_map_may_be_skipped_and_the_map_settles_later() -> None:
    feed = Feed(graph(a_map(0, "m", length=1)))
    feed("claimed", 0, worker="w:1")("skipped", 0, kind="omitted", worker="w:1")
    assert (feed.record("m").status, feed.record("m").skipped) == (S.RUNNING, 1)
    feed("settled", 0, status="success")
    assert (feed.record("m").status, feed.snapshot.progress) == (S.SUCCESS, 1.0)


def test_an_absorbed_failure_of_a_step_does_not_fail_its_phase() -> None:
    feed = Feed(graph(node(0, "a", phase="p"), node(1, "b", phase="p")))
    feed("failure", 0, kind="exception", error="E: 0", is_absorbed=True, worker="w:1")
    feed("failure", 1, kind="exception", error="E: 1", is_absorbed=True, worker="w:1")
    assert [p.status for p in feed.snapshot.phases()] == [S.SUCCESS]
    assert feed.record("a").status is S.FAILURE


def test_an_absorbed_failure_gives_way_to_a_later_one_of_another_step() -> None:
    feed = Feed(graph(node(0, "a"), node(1, "b")))
    feed("failure", 0, kind="exception", error="E: 0", is_absorbed=True, worker="w:1")
    assert feed.snapshot.first_failure()[1] == 0
    feed("failure", 1, kind="exception", error="E: 1", worker="w:1")
    assert feed.snapshot.first_failure()[1] == 1


def test_a_phase_has_ended_when_all_its_steps_have() -> None:
    feed = Feed(graph(node(0, "a", phase="p"), node(1, "b", phase="p"))).run(0)
    (phase,) = feed.snapshot.phases()
    assert (phase.status, phase.finished_at, phase.progress) == (S.RUNNING, None, 0.5)
    feed.run(1)
    (phase,) = feed.snapshot.phases()
    assert (phase.status, phase.finished_at) == (S.SUCCESS, feed.now)


def test_an_empty_map_is_complete_when_it_ended() -> None:
    feed = Feed(graph(a_map(0, "m", length=0)))
    assert feed.snapshot.progress == 0.0
    feed("settled", 0, status="success")
    assert (feed.snapshot.progress, feed.record("m").done_share) == (1.0, 1.0)


def test_what_is_open_when_a_run_ends_is_cancelled() -> None:
    feed = Feed(pipeline()).run(0)
    feed("claimed", 1, 0, 2, worker="w:1")("success", 1, 0, 1).after(1.0)
    feed("ended", status="cancelled", error="by the user")
    assert feed.snapshot.reason == "by the user"
    assert [r.status for r in feed.snapshot.steps] == [S.SUCCESS, *[S.CANCELLED] * 4]
    record = feed.record("clean")
    assert (record.done, record.cancelled, record.running) == (1, 5, 0)
    assert timeline(feed)["outcome"].tolist()[-1] == "cancelled"
    states = frames.items(feed.snapshot, "clean", None)["status"].tolist()
    assert states == ["success"] + ["cancelled"] * 5


def test_a_resume_keeps_what_succeeded_and_opens_the_rest() -> None:
    feed = Feed(pipeline()).run(0)
    feed("claimed", 1, 0, 6, worker="w:1")("success", 1, 0, 2)
    feed("failure", 1, 2, kind="exception", error="E: x", worker="w:1")("success", 1, 3, 3)
    feed("settled", 1, status="failure")("skipped", 3, kind="upstream", cause=2)
    feed("ended", status="failure").after(1000.0)
    feed("started", status="running", generation=2)
    record = feed.record("clean")
    assert (feed.snapshot.status, feed.snapshot.generation) == (S.RUNNING, 2)
    assert (record.status, record.done, record.failed, record.error) == (S.RUNNING, 5, 0, "")
    assert (feed.record("load").status, feed.record("total").status) == (S.SUCCESS, S.PENDING)
    states = frames.items(feed.snapshot, "clean", None)["status"].tolist()
    assert states == ["success"] * 2 + ["pending"] + ["success"] * 3
    resumed = feed.now
    feed.after(1.0)("claimed", 1, 2, worker="w:1").after(1.0)("success", 1, 2, durations_s=(1.0,))
    feed("settled", 1, status="success")
    assert record.status is S.SUCCESS
    last = timeline(feed).iloc[-1]
    assert (last["generation"], last["ready_at"]) == (2, stamp(resumed))
    assert feed.snapshot.duration_s() == pytest.approx(2.0)


def test_a_resume_may_run_again_what_had_succeeded() -> None:
    feed = Feed(graph(a_map(0, "m", length=4)))
    feed("claimed", 0, 0, 4, worker="w:1")("success", 0, 0, 4)("settled", 0, status="success")
    feed("ended", status="success")("started", status="running", generation=2)
    assert feed.record("m").done == 4
    feed("claimed", 0, 0, 2, worker="w:1", generation=2)("success", 0, 0, 1, generation=2)
    states = frames.items(feed.snapshot, "m", None)["status"].tolist()
    assert (feed.record("m").done, states) == (1, ["success", "running", "pending", "pending"])


def test_a_seen_or_unknown_event_changes_nothing() -> None:
    feed = Feed(pipeline()).run(0)
    before = frames.steps(feed.snapshot)
    for event in feed.events:
        feed.snapshot.apply(event)
    feed("something new", 1)("success", 99)
    pd.testing.assert_frame_equal(frames.steps(feed.snapshot), before)


def test_forged_counts_break_nothing() -> None:
    feed = Feed(graph(a_map(0, "m", length=3), node(1, "a")))
    feed("claimed", 0, -7, 10**12)("success", 0, 1, 10**12, durations_s=(float("nan"),))
    feed("success", 1, 5, 9, durations_s=(-1.0,))("settled", 0, status="no such state")("ended", status="pending")
    record = feed.record("m")
    assert (record.done, record.status, feed.snapshot.status) == (2, S.FAILURE, S.FAILURE)
    assert timeline(feed)["outcome"].tolist() == ["success", "success", "cancelled"]


def test_an_unknown_step_is_named_with_the_nearest() -> None:
    with pytest.raises(UnknownStepError, match=r"no step 'claen'. Did you mean 'clean'\?"):
        frames.items(Snapshot(pipeline(), "etl-1"), "claen", None)


# --- any legal history ---------------------------------------------------------------------


class History:
    """A random legal history of a run, and the state of every item in it, kept without the fold."""

    def __init__(self, random: Random, length: int | None, planned: int) -> None:
        self.random, self.planned = random, planned
        self.feed = Feed(pipeline(length))
        self.lengths = {0: 1, 1: length, 2: length, 3: 1, 4: 1}
        self.ended: dict[int, State] = {}
        self.items = {n: dict.fromkeys(range(size or 0), S.PENDING) for n, size in self.lengths.items()}
        self.claims: list[tuple[int, int, int]] = []

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
    """Histories that end anywhere: in the middle, cancelled, or resumed."""
    length = draw(st.one_of(st.none(), st.integers(0, 8)))
    # A seed, and not every choice, is drawn: many times as fast, and shrinking the lengths is enough.
    history = History(Random(draw(st.integers(0, 2**32))), length, draw(st.integers(0, 8)))
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
            frames.events(history.feed.events, "etl-1", history.feed.snapshot.graph),
            frames.events([], "none", empty.graph),
        ),
    ):
        pd.testing.assert_series_equal(full.dtypes, bare.dtypes)


# --- the frames ----------------------------------------------------------------------------

COLUMNS = {
    "phases": "phase status steps done failed skipped progress started_at finished_at duration_s work_s result",
    "steps": "step phase status items done failed attempts queue priority queue_wait_s duration_s output_bytes "
    "reused worker error",
    "items": "index key status attempts started_at duration_s worker error",
    "timeline": "generation step index key attempt worker ready_at claimed_at started_at finished_at outcome reason",
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
        "errors": frames.errors(snapshot, [] if is_empty else failures, lambda node: ["a", "b"]),
        "logs": frames.logs([] if is_empty else [line], snapshot.graph),
        "events": frames.events([] if is_empty else feed.events, "etl-1", snapshot.graph),
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
def test_a_hundred_thousand_items_are_folded_and_framed_in_moments(chunk: int) -> None:
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
    began = time.perf_counter()
    snapshot.apply_all(events)
    folded = time.perf_counter()
    items = frames.items(snapshot, "m", None)
    framed = time.perf_counter()
    assert (len(items), snapshot.steps[0].done) == (size, size)
    assert folded - began < 3.0, "about 0.5 s on an idle machine"
    assert framed - folded < 2.0, "about 0.1 s on an idle machine"

"""The fold of a run's events, one by one: pure, without a server."""

from __future__ import annotations

import pandas as pd
import pytest
from feeds import T0, Feed, S, a_map, graph, node, pipeline, stamp, timeline

from celeryflow.errors import UnknownStepError
from celeryflow.graph.model import Input
from celeryflow.runtime.snapshot import frames
from celeryflow.runtime.snapshot.fold import Snapshot


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


def test_a_lost_attempt_that_ends_after_all_came_too_late() -> None:
    feed = Feed(graph(node(0, "a")))
    feed("claimed", 0, worker="w:1").after(11.0)("lost", 0, worker="w:1", error="silent", tries=1)
    feed("claimed", 0, attempt=2, worker="w:2")("success", 0, attempt=2, worker="w:2")("stale", 0, worker="w:1")
    rows = timeline(feed)
    assert rows["outcome"].tolist() == ["stale", "success"]
    assert rows["attempt"].tolist() == [1, 2]
    assert rows["reason"][0] == "silent; its result came too late and was not stored"
    assert feed.record("a").status is S.SUCCESS


@pytest.mark.parametrize(
    ("status", "reason", "outcome"),
    [("cancelled", "by me", "cancelled"), ("failure", "deadline: it ran too long", "timeout")],
)
def test_what_was_under_way_when_the_run_ended_says_why(status: str, reason: str, outcome: str) -> None:
    feed = Feed(pipeline())
    feed("claimed", 0, worker="w:1").after(1.0)("ended", status=status, error=reason)
    assert timeline(feed)[["outcome", "reason"]].to_numpy().tolist() == [[outcome, reason]]


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

"""One line about some steps of a run: a phase, a step, a group of steps, or the run itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from celeryflow.graph.states import State
from celeryflow.runtime.snapshot.record import Again, FirstFailure, StepRecord


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts and times of some steps. Frames, text and pictures all take their numbers from it.

    Attributes
    ----------
    name : str
        Of the phase, step or group.
    status : State
        Running or retrying where one of its steps is; else how they ended together.
    nodes : tuple of int
        Indices of its steps in the graph.
    items : int
        Executions to do as far as known: 1 for a plain step, a map's length.
    is_open : bool
        A map in it has a length that is not known yet.
    done, failed, skipped, cancelled, running, retrying : int
        Items in these states.
    progress, done_share, failed_share : float
        Shares of 0 to 1, each step weighing the same: what ended, succeeded and failed.
    started_at, finished_at : float or None
        Seconds since 1970 UTC; finished once all its steps are.
    duration_s : float or None
        From start to end, or so far; None before the start.
    work_s : float
        Sum of the running times of all attempts, in seconds.
    is_lost : bool
        Items wait for another worker after theirs died.
    again : Again or None
        What is tried again, the latest of it; `retries` tells of how many items.
    again_in_s : float
        Seconds until then, 0 where it may begin.
    reused : int
        Items of those done whose results are an earlier run's.
    failure : FirstFailure or None
        The first failure that was not absorbed, else the first.
    failed_node : int
        Index of the step that `failure` is of, else -1.
    """

    name: str
    status: State
    nodes: tuple[int, ...]
    items: int
    is_open: bool
    done: int
    failed: int
    skipped: int
    cancelled: int
    running: int
    retrying: int
    progress: float
    done_share: float
    failed_share: float
    started_at: float | None
    finished_at: float | None
    duration_s: float | None
    work_s: float
    is_lost: bool
    again: Again | None
    retries: int
    again_in_s: float
    reused: int
    failure: FirstFailure | None
    failed_node: int

    @property
    def steps(self) -> int:
        """How many steps it sums up."""
        return len(self.nodes)


def summarise(name: str, records: Sequence[StepRecord], now: float) -> Summary:
    """Sum up these records; what still runs lasts until `now`."""
    started_at = min((r.started_at for r in records if r.started_at is not None), default=None)
    ends = [r.finished_at for r in records if r.finished_at is not None]
    finished_at = max(ends) if ends and len(ends) == len(records) else None
    failure, node = first_failure(records)
    tried = [list(r.again.values())[-1] for r in records if r.again]
    again = max(tried, key=lambda a: a.at, default=None)
    return Summary(
        name=name,
        status=joint_status(records),
        nodes=tuple(r.node.index for r in records),
        items=sum(r.length or 0 for r in records),
        is_open=any(r.length is None and r.ended_as is None for r in records),
        done=sum(r.done for r in records),
        failed=sum(r.failed for r in records),
        skipped=sum(r.skipped for r in records),
        cancelled=sum(r.cancelled for r in records),
        running=sum(r.running for r in records),
        retrying=sum(r.retrying for r in records),
        progress=_mean(r.progress for r in records),
        done_share=_mean(r.done_share for r in records),
        failed_share=_mean((r.failed_share for r in records), of_none=0.0),
        started_at=started_at,
        finished_at=finished_at,
        duration_s=_duration(started_at, finished_at, now),
        work_s=sum(r.work_s for r in records),
        is_lost=any(r.is_lost for r in records),
        again=again,
        retries=sum(len(r.again) for r in records),
        again_in_s=max(0.0, again.at + again.delay_s - now) if again else 0.0,
        reused=sum(r.reused for r in records),
        failure=failure,
        failed_node=node,
    )


def joint_status(records: Sequence[StepRecord]) -> State:
    """State of several steps together; an absorbed failure does not make them fail, nor what a gather left out."""
    records = [r for r in records if not r.is_unneeded] or records
    states = {State.SUCCESS if _is_absorbed(r) else r.status for r in records}
    if len(states) == 1:
        return states.pop()
    for state in (State.RUNNING, State.RETRYING):
        if state in states:
            return state
    if all(state.is_terminal for state in states):
        order = (State.FAILURE, State.CANCELLED, State.SUCCESS, State.SKIPPED)
        return next((state for state in order if state in states), State.SUCCESS)
    if states <= {State.PENDING, State.READY, State.SKIPPED}:
        return State.READY if State.READY in states else State.PENDING
    return State.RUNNING


def first_failure(records: Iterable[StepRecord]) -> tuple[FirstFailure | None, int]:
    """The failure to show of several steps, and the index of its step; None and -1 without one."""
    found = [(r.failure.is_absorbed, r.failure.seq, r.node.index, r.failure) for r in records if r.failure]
    if not found:
        return None, -1
    _, _, node, failure = min(found, key=lambda entry: entry[:3])
    return failure, node


def _duration(started_at: float | None, finished_at: float | None, now: float) -> float | None:
    if started_at is None:
        return None
    return max(0.0, (now if finished_at is None else finished_at) - started_at)


def _is_absorbed(record: StepRecord) -> bool:
    return record.failure is not None and record.failure.is_absorbed and record.status is State.FAILURE


def _mean(shares: Iterable[float], of_none: float = 1.0) -> float:
    values = list(shares)
    return sum(values) / len(values) if values else of_none

"""What made a step run, or spared it that, in words."""

from __future__ import annotations

from collections.abc import Sequence

from celeryflow.engine.link import Link
from celeryflow.runtime.reuse.compare import Comparison, Reason
from celeryflow.runtime.reuse.earlier import Earlier
from celeryflow.runtime.snapshot.fold import Snapshot
from celeryflow.runtime.snapshot.record import StepRecord

SHOWN = 10


class Explanation(str):
    """Why a step ran, as text; `reasons` has each thing that made it run: ``what``, ``old`` and ``new``."""

    __slots__ = ("reasons",)
    reasons: tuple[Reason, ...]

    def __new__(cls, text: str, reasons: Sequence[Reason] = ()) -> Explanation:
        """The text, with the reasons listed below it."""
        listed = [f"- {reason}" for reason in reasons[:SHOWN]]
        more = [f"- … and {len(reasons) - SHOWN} more"] if len(reasons) > SHOWN else []
        found = super().__new__(cls, "\n".join([text, *listed, *more]))
        found.reasons = tuple(reasons)
        return found

    def __repr__(self) -> str:
        return str(self)


def explain(link: Link, snapshot: Snapshot, step: str) -> Explanation:
    """What made a step of a run run.

    Raises
    ------
    UnknownStepError
        If there is no such step.
    """
    record = snapshot.record(step)
    while record.node.parent >= 0:
        record = snapshot.record_of(record.node.parent)
    now, name = Earlier(link, snapshot.run_id), record.node.name
    within = f"{step} is part of {name}: " if name != step else ""
    if record.is_reused:
        return Explanation(f"{within}{name} did not run: its results are those of run {record.origin}.")
    if record.is_left_out:
        return Explanation(f"{within}{name} did not run: the branch took another arm.")
    if not now.manifest.base:
        what = "no earlier run has a result" if record.node.spec.cache else "the run takes over no other one's results"
        return Explanation(f"{within}{name} ran from the beginning: {what}.")
    before = Earlier(link, now.manifest.base, with_code=now.manifest.rerun == "changed")
    if not before.with_code:
        now = Earlier(link, snapshot.run_id, with_code=False)
    reasons = Comparison(now, before, {r.node.index: r for r in snapshot.steps}).reasons(record.node)
    return Explanation(f"{within}{name} {_ran(record)}, compared with run {before.run}:", reasons)


def _ran(record: StepRecord) -> str:
    if not record.node.is_map or not record.reused:
        return "ran" if record.attempts else "is to run"
    return f"ran for {(record.length or 0) - record.reused:,} of {record.length or 0:,} items"

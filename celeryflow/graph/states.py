"""The states of runs and steps, and which may follow which."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """State of a run, a step or an item of a map."""

    PENDING = "pending"
    READY = "ready"
    RUNNING = "running"
    RETRYING = "retrying"
    SUCCESS = "success"
    FAILURE = "failure"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing but a resume changes it."""
        return not TRANSITIONS[self]


S = State

TRANSITIONS: dict[State, frozenset[State]] = {
    S.PENDING: frozenset({S.READY, S.SUCCESS, S.SKIPPED, S.CANCELLED}),
    S.READY: frozenset({S.RUNNING, S.SKIPPED, S.CANCELLED}),
    S.RUNNING: frozenset({S.SUCCESS, S.FAILURE, S.SKIPPED, S.RETRYING, S.READY, S.PENDING, S.CANCELLED}),
    S.RETRYING: frozenset({S.READY, S.PENDING, S.SKIPPED, S.CANCELLED}),
    S.SUCCESS: frozenset(),
    S.FAILURE: frozenset(),
    S.SKIPPED: frozenset(),
    S.CANCELLED: frozenset(),
}
"""What may follow each state of a step.

One claimed ahead of its input may be ``PENDING`` again; one whose result an earlier run has succeeds without running.
"""

RUN_TRANSITIONS: dict[State, frozenset[State]] = {
    S.PENDING: frozenset({S.RUNNING, S.SUCCESS, S.CANCELLED, S.FAILURE}),
    S.RUNNING: frozenset({S.SUCCESS, S.FAILURE, S.CANCELLED}),
    S.SUCCESS: frozenset(),
    S.FAILURE: frozenset(),
    S.CANCELLED: frozenset(),
}
"""What may follow each state of a run. One of empty maps alone succeeds without a start."""

STATE_BYTES: dict[str, State] = {
    ".": S.PENDING,
    "r": S.READY,
    "x": S.RUNNING,
    "t": S.RETRYING,
    "s": S.SUCCESS,
    "f": S.FAILURE,
    "k": S.SKIPPED,
    "c": S.CANCELLED,
}
"""How the store writes a node's state: one byte a node."""

"""The frozen records that a workflow is made of: StepSpec, Node, Graph and Event."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

PRIORITY = 5
"""Of steps and runs that have none of their own."""


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of the records: immutable, compared by value, encoded as msgpack or JSON."""


class StepSpec(Record, frozen=True):
    """How a step is run: the options of ``@cf.step``.

    Attributes
    ----------
    name : str
        Base name of the step's nodes, of ``[A-Za-z0-9_.-]``.
    label : str
        The function's own name, as people see it.
    outputs : int
        How many values a call unpacks into.
    retries : int
        Times that the step runs again after an exception that `retry_on` lists.
    retry_delay_s, retry_backoff, retry_jitter : float
        Wait before the first retry, factor for each further one, and the random share
        (0 to 1) by which a wait may be longer.
    timeout_s : float or None
        Hard limit of one attempt, in seconds.
    queue : str
        Queue whose workers run it.
    priority : int
        0 to 9, 9 the highest.
    max_worker_losses : int
        Workers that may die under one item before it fails as ``poisoned``.
    concurrency : int or None
        Of an ``async def``: how many of its queue a process runs at a time on its event loop, 1 to 128. None for a
        plain function.
    max_running : int or None
        How many of the step, by its name, run at a time over all workers and runs; None for any number.
    memory_limit_bytes : int or None
        Hard limit of one attempt, in bytes that its process and what it started hold for themselves.
    cache : bool
        Results of earlier runs, of whatever workflow, stand where code and inputs are the same.
    quota : (str, int) or None
        A name, and how many items of all steps with that quota may be in flight over all runs. What would be more at a
        run's submit is not run.
    """

    name: str
    label: str
    outputs: int = 1
    retries: int = 0
    retry_delay_s: float = 1.0
    retry_backoff: float = 2.0
    retry_jitter: float = 0.1
    timeout_s: float | None = None
    queue: str = "default"
    priority: int = PRIORITY
    max_worker_losses: int = 3
    concurrency: int | None = None
    max_running: int | None = None
    memory_limit_bytes: int | None = None
    cache: bool = False
    quota: tuple[str, int] | None = None


class NodeKind(StrEnum):
    """What a node is: one call, or one call an item."""

    STEP = "step"
    MAP = "map"


class Role(StrEnum):
    """What running a node means.

    ``CALL`` calls the step's function; ``DECIDE`` too, and its value is the number of the arm to run; ``PICK`` passes
    the chosen one of its inputs on; ``GATHER`` says which of its inputs are there; ``EXPAND`` traces a body with the
    values at hand, and adds what that calls to the run.
    """

    CALL = "call"
    DECIDE = "decide"
    PICK = "pick"
    GATHER = "gather"
    EXPAND = "expand"


class OnError(StrEnum):
    """What a failed item does to its map: fail it, be left out, or be passed on as a value."""

    RAISE = "raise"
    SKIP = "skip"
    RETURN = "return"


class Edge(StrEnum):
    """How a node waits for another.

    ``WHOLE`` waits for everything of it, ``ITEMS`` takes each item as it comes, ``LENGTH``
    waits until its number of items is known, ``ENDED`` waits for its end, however it ends,
    and ``CHOICE`` for a decision: another choice than ``Input.choice`` skips the node.
    """

    WHOLE = "whole"
    ITEMS = "items"
    LENGTH = "length"
    ENDED = "ended"
    CHOICE = "choice"


class Input(Record, frozen=True):
    """One edge into a node: where from, and how it waits."""

    node: int
    edge: Edge = Edge.WHOLE
    choice: int = 0


class Node(Record, frozen=True):
    """One use of a step in a workflow.

    Attributes
    ----------
    index : int
        Its place in ``Graph.nodes``.
    name : str
        Unique in the graph: ``clean``, then ``clean-2``.
    spec : StepSpec
        How it runs.
    kind : NodeKind
        A single call or a map.
    phase : str or None
        The phase that it was written in.
    inputs : tuple of Input
        What it waits for, in order of first use.
    length : int or None
        Number of items of a map, where known before the run; None for a step.
    is_planned : bool
        A worker reads the mapped values at run time and says how many items there are.
    source : int or None
        For a map over a map: the node whose keys and length are its own.
    on_error : OnError
        What a failed item does.
    role : Role
        What running it means.
    deadline_s : float or None
        Of a gather: seconds after its first input became ready until it goes on without the others.
    is_fatal : bool
        Its failure fails the run: no gather takes it in.
    depth : int
        0 for what the workflow's body called; one more for what a node added while the run went on.
    parent : int
        The node that added it, else -1.
    """

    index: int
    name: str
    spec: StepSpec
    kind: NodeKind = NodeKind.STEP
    phase: str | None = None
    inputs: tuple[Input, ...] = ()
    length: int | None = None
    is_planned: bool = False
    source: int | None = None
    on_error: OnError = OnError.RAISE
    role: Role = Role.CALL
    deadline_s: float | None = None
    is_fatal: bool = True
    depth: int = 0
    parent: int = -1

    @property
    def is_map(self) -> bool:
        """Whether it has items."""
        return self.kind is NodeKind.MAP


class Graph(Record, frozen=True):
    """A workflow with its arguments bound: what would run, and in what order.

    Nodes stand in the order in which the body called them, which is a topological order:
    every input comes before its user.

    Attributes
    ----------
    fail_fast : bool
        The first failure ends the run.
    timeout_s, deadline_s : float or None
        Seconds that the run may take: from its first step, and from its submit.
    """

    name: str
    nodes: tuple[Node, ...]
    phases: tuple[str, ...] = ()
    fail_fast: bool = False
    timeout_s: float | None = None
    deadline_s: float | None = None

    @property
    def edges(self) -> tuple[tuple[str, str], ...]:
        """Pairs of node names, from producer to user."""
        return tuple(
            (self.nodes[i.node].name, n.name) for n in self.nodes for i in n.inputs if i.edge is not Edge.LENGTH
        )

    def names(self) -> list[str]:
        """Names of all nodes, in order."""
        return [n.name for n in self.nodes]

    def __repr__(self) -> str:
        return f"<Graph {self.name}: {len(self.nodes)} steps, {len(self.edges)} edges>"


class Event(Record, frozen=True):
    """One change of a run's state, in the order of `seq`.

    Attributes
    ----------
    seq : int
        1, 2, 3 … within a run.
    at : float
        The server's time, in seconds since 1970 UTC.
    event : str
        ``submitted, started, ended`` of the run (`status` says how it ended);
        ``length`` of a map (`count` is its length); ``settled`` of a map (`status`);
        ``claimed, success, failure, skipped, retrying, lost, stale, released, expanded, reused`` of items;
        ``cancelled`` of a node that nothing needs any more (`error` says why).
    node : int
        Index of the node, -1 for the run itself.
    start, count : int
        The items it speaks of: ``range(start, start + count)``; 0 and 1 for a step.
        `start` is -1 where the attempt only reads the length of a map.
    attempt : int
        1 for the first.
    generation : int
        1, and one more for each resume.
    worker : str
        ``host:pid`` of the process.
    status : str
        Of the run or map, for ``started``, ``ended`` and ``settled``.
    kind : str
        Of a failure: exception, timeout, memory, poisoned, cancelled or deadline. Of ``skipped``: ``upstream``,
        ``omitted`` or ``branch``.
    error : str
        One line: type and message, or the reason.
    is_absorbed : bool
        The failure does not fail its map or run (``on_error``).
    waited_s : float
        From claim to the start of the first item.
    durations_s : tuple of float
        Running time of each item, one after the other from the start of the first.
    output_bytes : int
        Size of what was stored.
    delay_s : float
        For ``retrying``: the wait before the next attempt.
    tries : int
        For ``retrying`` and ``lost``: how many attempts of the item have ended so by now; 0 where nobody is charged.
    cause : int
        For ``skipped`` by the store: the node that failed, was skipped, or decided otherwise.
    part : int
        For ``expanded``: the first of the nodes that were added.
    nodes : tuple of Node
        For ``expanded``: these nodes.
    origin : str
        For ``reused``: the run that the results are of.
    """

    seq: int
    at: float
    event: str
    node: int = -1
    start: int = 0
    count: int = 1
    attempt: int = 1
    generation: int = 1
    worker: str = ""
    status: str = ""
    kind: str = ""
    error: str = ""
    is_absorbed: bool = False
    waited_s: float = 0.0
    durations_s: tuple[float, ...] = ()
    output_bytes: int = 0
    delay_s: float = 0.0
    tries: int = 0
    cause: int = -1
    part: int = -1
    nodes: tuple[Node, ...] = ()
    origin: str = ""

    def public(self, run: str, names: Mapping[int, str]) -> dict[str, Any]:
        """The event as users see it, in frames and as JSON lines."""
        step = names[self.node] if self.node >= 0 else None
        items = [self.start, self.start + self.count] if step is not None and self.start >= 0 else None
        return {
            "seq": self.seq,
            "at": self.at,
            "run": run,
            "event": self.event,
            "step": step,
            "items": items,
            "attempt": self.attempt if step is not None else None,
            "generation": self.generation,
            "worker": self.worker or None,
            "status": self.status or None,
            "error": self.error or None,
        }


class Failure(Record, frozen=True):
    """Why a step or item failed, in full: what ``run.errors()`` shows and `result` raises.

    `exception` holds the pickled original where it could be pickled.
    """

    kind: str
    error: str
    message: str
    traceback: str = ""
    log_tail: str = ""
    attempt: int = 1
    worker: str = ""
    exception: bytes = b""


class LogLine(Record, frozen=True):
    """One captured line of output: when, by which attempt, and from ``stdout``, ``stderr`` or ``log``."""

    at: float
    node: int
    index: int
    attempt: int
    worker: str
    stream: str
    text: str

"""Checkpointed work: hours of it, in four phases, which goes on where it was after whatever happened.

The scenario: last night's data is cut into chunks that take minutes each; what comes of them is joined, checked,
enriched item by item, and written. At some point a service fails, a process is killed, the notebook is closed, or
somebody finds a mistake in `transform`. Whoever runs the same job again, by hand or by a scheduler, gets what is
there and runs the rest.

::

      │   process                         │   transform             │   enrich                   │   finalize
    ──┼─> split ─> process_chunk ─> merge ┼─> transform ─> validate ┼─> enrich_item ─> aggregate ┼─> finalize ──>
      │            each chunk             │                         │   each item                │

      a checkpoint after each step, and after each item of the two maps

- ``split(data) -> chunks``: a list, or a dict by key; there may be none.
- ``process_chunk(chunk) -> result``: each by itself, on all workers.
- ``merge(results) -> merged``: gets them in the order of the chunks.
- ``transform(merged) -> data``
- ``validate(data) -> data``, or it raises; what it returns goes on.
- ``enrich_item(item) -> enriched``: for each item of the list, or dict, that there is by now.
- ``aggregate(enriched) -> data``: gets all of them in order; without `enrich_item`, the data as it is.
- ``finalize(data) -> result``

From `transform` on they may be left out; a phase without steps is listed, and done. A step that was broken off runs
again from its beginning: where it changes things elsewhere, ``cf.current().idempotency_key`` tells a second attempt
from another item.

When not to use it: where one step does all the work (it has no checkpoints inside; make it a map), or where all of it
is done within seconds and can simply be run again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celeryflow.graph.trace import phase
from celeryflow.patterns.arguments import Part, optional_part, part
from celeryflow.workflow import Workflow, workflow

PATTERN = "checkpointed"


def checkpointed(
    *,
    split: Callable[[Any], Any],
    process_chunk: Callable[[Any], Any],
    merge: Callable[[Any], Any],
    transform: Callable[[Any], Any] | None = None,
    validate: Callable[[Any], Any] | None = None,
    enrich_item: Callable[[Any], Any] | None = None,
    aggregate: Callable[[Any], Any] | None = None,
    finalize: Callable[[Any], Any] | None = None,
) -> Workflow[..., Any]:
    """A workflow in four phases that a job's runs go through once: process, transform, enrich and finalize.

    Parameters
    ----------
    split, process_chunk, merge, transform, validate, enrich_item, aggregate, finalize : callable
        Steps, workflows or functions of one argument, as the head of this file says of each.

    Returns
    -------
    Workflow
        ``.options(job_id=…).run(data)``; the result is that of the last step that was given. Of all who run one job id,
        one run goes on and all get it. Where it has failed, was cancelled or lost its notebook, the next one resumes it
        after the last finished step, and inside a map after the last finished items. Where `data` or code is another
        than it was, a new run takes over what still holds and runs the rest; ``run.explain(step)`` says what changed
        (while the earlier run is still going on, this is a `JobConflictError`).

    Raises
    ------
    ArgumentError
        At once, naming what is no function.

    Examples
    --------
    >>> totals = checkpointed(split=lambda rows: [rows[:2], rows[2:]], process_chunk=sum, merge=sum)
    >>> totals([1, 2, 3, 4])
    10
    """
    cut, process, join = (
        part(PATTERN, name, given)
        for name, given in (("split", split), ("process_chunk", process_chunk), ("merge", merge))
    )
    shape, check, enrich, collect, finish = (
        optional_part(PATTERN, name, given)
        for name, given in (
            ("transform", transform),
            ("validate", validate),
            ("enrich_item", enrich_item),
            ("aggregate", aggregate),
            ("finalize", finalize),
        )
    )

    def body(data: Any) -> Any:
        with phase("process"):
            found = join(process.map(cut(data)))
        with phase("transform"):
            found = _through(found, shape, check)
        with phase("enrich"):
            found = enrich.map(found) if enrich else found
            found = _through(found, collect)
        with phase("finalize"):
            return _through(found, finish)

    return workflow(name=PATTERN)(body)


def _through(value: Any, *parts: Part | None) -> Any:
    for each in parts:
        value = each(value) if each else value
    return value

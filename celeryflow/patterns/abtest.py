"""A/B test: run two or more algorithms on the same data and say which to take, how sure that is, and what it costs.

The scenario: there is a model in production and a new one that looks better, or three ways to clean a table. They are
to be compared on real items, by what matters (their accuracy, say), by how long a call takes and how many a second
there are, and the answer is to be one that a statistician would sign: better, equivalent, or not known yet.

::

                    ┌─> trial (a, item 1) ─┐
      data ─────────┼─> trial (b, item 1) ─┼──> report: .summary(), .pairwise(), .winner, .recommendation
      (each item,   ├─> trial (b, item 2) ─┤
       each of them)└─> trial (a, item 2) ─┘
                        in random order, each by itself in its process

- An algorithm, ``algorithm(item) -> output``: it gets a copy of the item. What it raises is a failure of that trial.
- A metric, ``metric(output, item) -> number``, or ``metric(output, truth)`` where there is a `truth`. It is called in
  the worker, beside the trial, and does not count for the latency.

All of it is ``cf.compare`` as a workflow: for a notebook, where the comparison is the end, ``cf.compare`` says the
same and fills in as it goes. This is for comparisons that are made again and again, by a scheduler or in another
workflow, under a job id, with other data.

When not to use it: to choose among many settings of one algorithm (``cf.sweep``), or where the traffic itself is to
be split and answers are to be served (a comparison throws the outputs away).
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from celeryflow.compare import compare, comparison
from celeryflow.errors import InvalidOptionError, did_you_mean

if TYPE_CHECKING:
    from celeryflow.compare.report import Report
    from celeryflow.workflow import Workflow

PATTERN = "ab_test"
OF_A_CALL = {"algorithms", "data", "metrics", "truth", "inline", "wait", "reuse", "job_id"}
"""Arguments of ``cf.compare`` that are no part of the design, or that a workflow has of its own."""


def ab_test(algorithms: Any, *, metrics: Any, truth: Any = None, **design: Any) -> Workflow[..., Report]:
    """A workflow that compares algorithms on the data that it is run with.

    Parameters
    ----------
    algorithms : dict of str to callable
        Two or more ``item -> output``, steps or functions; estimators with ``cv=``.
    metrics : dict of str to callable
        The first decides, or the one that is `primary`. Higher is better, but for those in `lower_is_better`.
    truth : sequence or callable, optional
        The truth of each item, or a function of the item.
    **design
        As of ``cf.compare``: `design`, `repeats`, `seed`, `alpha`, `rope`, `correction`, `timeout_s` and so on;
        with `sequential` it looks after every item, and stops when the answer is there.

    Returns
    -------
    Workflow
        ``.run(data).result()`` is the `Report`: ``summary()`` with a row an algorithm (its accuracy or whatever the
        metrics are, with intervals; ``latency_p50_s``, ``latency_p95_s``, ``throughput_per_s``, ``recommended``),
        ``pairwise()`` with the verdicts, ``winner`` (or None), and ``recommendation``, a paragraph that says why. An
        algorithm that fails loses rows, and never the comparison.

    Raises
    ------
    ComparisonError, InvalidOptionError
        At once, naming the argument; of the data, by ``run`` and ``submit``.

    Examples
    --------
    >>> tried = ab_test(
    ...     {"round": round, "floor": int},
    ...     metrics={"accuracy": lambda output, truth: float(output == truth)},
    ...     truth=[1, 2, 3, 4, 5, 6],
    ... )
    >>> tried
    <Workflow ab_test>
    """
    known = [name for name in inspect.signature(compare).parameters if name not in OF_A_CALL]
    for name in design:
        if name not in known:
            raise InvalidOptionError(f"{PATTERN} has no option {name!r}.{did_you_mean(name, known, 'options')}")
    return comparison.comparison(algorithms, metrics, name=PATTERN, truth=truth, **design)

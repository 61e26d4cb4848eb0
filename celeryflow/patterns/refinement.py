"""Work that is done again where it is not good enough yet, and only there.

**When.** Fits that have not converged, pages that were read badly, labels of which a model is not sure: each item is
processed and scored, the good ones are kept, the poor ones go round again from where they are, and after so many
rounds somebody is told which ones are still poor.

::

    items --> process --> score --> good enough? -- yes --> kept ---.
                 ^                       |                          |
                 '--- the poor ones -----'                          +-- all met ---> finalize
                      (max_iterations)   '-- still not --> unmet ---+-- some not --> finalize_with_warnings

**The steps.**

========================== ================================================ ========================================
step                       is called with                                   gives
========================== ================================================ ========================================
`process`                  an item; in later rounds its own previous result a result
`score`                    a result                                         a number, larger for better
`finalize`                 what came of it, if all have met the threshold   the result of the run
`finalize_with_warnings`   the same, if some have not                       the result of the run
========================== ================================================ ========================================

Within a round each item is scored as soon as it is processed; a round begins when the one before it is over.

**When not.** For one state that is improved as a whole `cf.loop` is enough. Where some items need many more rounds than
others, map a workflow with a `cf.loop` over them, so that each goes its own way and none waits for a round to end. For
a step that just fails now and then there are `retries`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from typing import Any

from celeryflow.control import branch, loop
from celeryflow.errors import ArgumentError, InvalidOptionError
from celeryflow.graph.control import LoopResult
from celeryflow.graph.trace import phase
from celeryflow.patterns.arguments import keep, listed, optional_part, part
from celeryflow.step import step
from celeryflow.workflow import Workflow, workflow

PATTERN = "progressive_refinement"


def progressive_refinement(
    *,
    process: Callable[[Any], Any],
    score: Callable[[Any], Any],
    threshold: float = 0.95,
    max_iterations: int = 3,
    finalize: Callable[[Any], Any] | None = None,
    finalize_with_warnings: Callable[[Any], Any] | None = None,
) -> Workflow[[Any], Any]:
    """A workflow that processes items again and again, until each is good enough.

    Parameters
    ----------
    process, score : step, workflow or function
        As the table at the top of this file has them.
    threshold : float
        An item is accepted, for good, at a score of at least that. NaN is less.
    max_iterations : int
        Rounds at most, 1 or more.
    finalize, finalize_with_warnings : step, workflow or function, optional
        Get the dict below, and give the result of the run: `finalize` where every item was accepted,
        `finalize_with_warnings` where some were not. Without the one that is due, the dict is the result.

    Returns
    -------
    Workflow
        ``.run(items)``, whose result is a dict, or what was made of it:

        - ``items``: the latest result of each item, in the order of the input;
        - ``iterations``: rounds that were run, 0 for no items;
        - ``scores``: for each round a list with the score of each item after it, an accepted one's as it was;
        - ``unmet``: indices of the items that are below the threshold;
        - ``converged``: whether there are none.

    Raises
    ------
    ArgumentError, InvalidOptionError
        At once, if a step is none or a number out of its range; in the run, `ArgumentError` if a score is no number.

    Examples
    --------
    >>> halves = progressive_refinement(process=lambda x: x / 2, score=lambda x: 1 / (1 + x), threshold=0.4)
    >>> found = halves([1.0, 4.0, 100.0])
    >>> found["items"], found["iterations"], found["unmet"]
    ([0.5, 1.0, 12.5], 3, [2])
    """
    _check(threshold, max_iterations)
    processed, scored = part(PATTERN, "process", process), part(PATTERN, "score", score)
    finals = optional_part(PATTERN, "finalize", finalize) or step(keep)
    warned = optional_part(PATTERN, "finalize_with_warnings", finalize_with_warnings) or step(keep)

    def improve(state: dict[str, Any]) -> Any:
        results = processed.map([state["items"][i] for i in state["unmet"]])
        return step(merge)(state, results, scored.map(results), threshold)

    def progressive_refinement(items: Any) -> Any:
        given = [*(listed(PATTERN, "items", items).items or ())]
        start = {"items": given, "scores": [], "unmet": [*range(len(given))]}
        with phase("refine"):
            done = loop(workflow(improve), start, until=all_met, max_iterations=max_iterations)
            result = step(told)(done)
        if finalize is None and finalize_with_warnings is None:
            return result
        with phase("finalize"):
            return branch(result, (has_converged, finals), otherwise=warned)

    return workflow(progressive_refinement)


def all_met(state: dict[str, Any]) -> bool:
    """Whether no item has to go round again."""
    return not state["unmet"]


def has_converged(result: dict[str, Any]) -> bool:
    """Which of the two gets the result."""
    return bool(result["converged"])


def merge(state: dict[str, Any], results: list[Any], scores: list[Any], threshold: float) -> dict[str, Any]:
    """The state after a round: results and scores of those that went round, and which of them do so again."""
    items, poor = [*state["items"]], state["unmet"]
    latest = [*(state["scores"][-1] if state["scores"] else items)]
    for i, result, score in zip(poor, results, scores, strict=True):
        items[i], latest[i] = result, _number(i, score)
    unmet = [i for i in poor if not latest[i] >= threshold]
    return {"items": items, "scores": [*state["scores"], latest], "unmet": unmet}


def told(done: LoopResult[dict[str, Any]]) -> dict[str, Any]:
    """What came of all rounds."""
    state = done.value
    return {
        "items": state["items"],
        "iterations": done.iterations,
        "scores": state["scores"],
        "unmet": state["unmet"],
        "converged": done.converged,
    }


def _number(item: int, score: Any) -> float:
    try:
        if isinstance(score, (str, bytes)):
            raise TypeError
        return float(score)
    except (TypeError, ValueError):
        raise ArgumentError(
            f"the score of item {item} is {score!r:.200}, not a number. "
            f"score= of {PATTERN} gives one, larger for better."
        ) from None


def _check(threshold: Any, max_iterations: Any) -> None:
    if isinstance(threshold, bool) or not isinstance(threshold, Real) or math.isnan(threshold):
        raise InvalidOptionError(f"threshold of {PATTERN} must be a number, not {threshold!r:.200}.")
    if isinstance(max_iterations, bool) or not isinstance(max_iterations, int) or max_iterations < 1:
        raise InvalidOptionError(
            f"max_iterations of {PATTERN} must be a whole number from 1, not {max_iterations!r:.200}."
        )

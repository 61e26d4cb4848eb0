"""Scatter-gather: ask several sources at once, take the best answer that is there in time.

The scenario: an exchange rate can be had from a fast service that is sometimes down, from a slow one that never is,
and from last night's copy. All are asked at the same moment; of the answers that come in time the most wanted is
taken, and whoever is late is stopped and gives its worker back.

::

                  ┌─> live ───┐
                  │           │   deadline_s after the scatter, for all
      request ────┼─> backup ─┼─> gather ──> select ──> {"value", "chosen", "sources"}
                  │           │
                  └─> copy ───┘

- A source, ``source(request) -> answer``: whatever it returns is an answer, None and 0 too; what it raises is its
  failure. It may be stopped at any moment, so it had better change nothing.
- `select`, ``select(answers) -> name`` of the source whose answer it is to be. The answers come as a dict by name, in
  the order of preference, and are `min_results` or more. It may also return a value, made of several answers.

When not to use it: where every answer is needed (that is ``cf.gather`` alone), where a source should be asked only
after the one before it has failed, or where asking costs money each time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from celeryflow.control import gather
from celeryflow.errors import ArgumentError, InvalidOptionError, TooFewAnswersError
from celeryflow.graph import checks
from celeryflow.graph.trace import phase
from celeryflow.patterns.arguments import Part, called, optional_part, part
from celeryflow.step import step
from celeryflow.values.gathered import MISSING, Gathered
from celeryflow.workflow import Workflow, workflow

PATTERN = "scatter_gather"


def scatter_gather(
    *,
    sources: Mapping[str, Callable[[Any], Any]],
    select: Callable[[dict[str, Any]], Any] | None = None,
    deadline_s: float = 10,
    min_results: int = 1,
) -> Workflow[..., dict[str, Any]]:
    """A workflow that asks all sources at once and takes the best answer that came in time.

    Parameters
    ----------
    sources : dict of str to callable
        Steps, workflows or functions ``request -> answer`` by name, the most wanted first.
    select : callable, optional
        Step or function that gets the answers, a dict by name in the order of `sources`, and returns the name of the
        one to take; or a value made of them, and then `chosen` is the first source whose answer equals it, or None. By
        default the most wanted is taken.
    deadline_s : float
        Seconds from the scatter, which is the submit, for all sources together: what has no answer by then is late, and
        is stopped. A source that no worker was free for is late, too.
    min_results : int
        How many answers there must be: from 1 to the number of sources.

    Returns
    -------
    Workflow
        ``.run(request).result()`` is ``{"value": …, "chosen": name, "sources": {name: "answered" | "late" |
        "failed: …"}}``. A source that fails or is late does not fail the run. Too few answers do: the cause of the
        `StepFailedError` is a `TooFewAnswersError` with the same `sources`.

    Raises
    ------
    ArgumentError, InvalidOptionError
        At once, for what could never work.

    Examples
    --------
    >>> rates = scatter_gather(sources={"live": lambda day: 1.08, "copy": lambda day: 1.07}, deadline_s=2)
    >>> rates("2026-11-21")
    {'value': 1.08, 'chosen': 'live', 'sources': {'live': 'answered', 'copy': 'answered'}}
    """
    if not isinstance(sources, Mapping) or not sources or not all(isinstance(name, str) for name in sources):
        raise ArgumentError(
            f"sources= of {PATTERN} takes a dict of names and steps, one or more, not {sources!r:.200}."
        )
    checks.check_timeout(deadline_s, f"deadline_s of {PATTERN}")
    _check_count(min_results, len(sources))
    steps = {name: called(part(PATTERN, name, source), name) for name, source in sources.items()}
    chooser = optional_part(PATTERN, "select", select)

    def body(request: Any) -> Any:
        with phase("scatter"):
            asked = {name: _ask(source, request) for name, source in steps.items()}
        with phase("gather"):
            found = gather(asked, deadline_s=deadline_s)
            told = step(tell)(found[MISSING], [*steps], min_results)
        with phase("select"):
            if chooser is None:
                return step(most_wanted)(found, told)
            return step(selected)(found, told, chooser(step(answers)(found, told)))

    return workflow(name=PATTERN)(body)


def _check_count(min_results: Any, most: int) -> None:
    is_whole = isinstance(min_results, int) and not isinstance(min_results, bool)
    if not is_whole or not 1 <= min_results <= most:
        raise InvalidOptionError(
            f"min_results of {PATTERN} must be a whole number from 1 to {most}, as many as there are sources, "
            f"not {min_results!r}."
        )


def _ask(source: Part, request: Any) -> Any:
    """One node, whatever is in it: the deadline counts from when the first node that the gather takes could start."""
    return source.map([request])[0] if isinstance(source, Workflow) else source(request)


def tell(missing: Mapping[str, str], names: list[str], min_results: int) -> dict[str, str]:
    """What became of each source."""
    told = {name: _in_words(missing[name]) if name in missing else "answered" for name in names}
    arrived = len(names) - len(missing)
    if arrived < min_results:
        listed = "; ".join(f"{name}: {what}" for name, what in told.items())
        raise TooFewAnswersError(
            f"{PATTERN} got {arrived} of the {min_results} answers that min_results asks for. Sources: {listed}.", told
        )
    return told


def _in_words(reason: str) -> str:
    """What a gather says of a missing one, as this pattern says it."""
    if reason.startswith("failed"):
        return reason
    return "failed: a step that it needs has failed" if reason == "skipped" else "late"


def answers(found: Gathered[Any], told: dict[str, str]) -> dict[str, Any]:
    """Those that are there, by name."""
    return found.as_dict()


def most_wanted(found: Gathered[Any], told: dict[str, str]) -> dict[str, Any]:
    """The answer of the first source that has one."""
    name = found.indices[0]
    return {"value": found[name], "chosen": name, "sources": told}


def selected(found: Gathered[Any], told: dict[str, str], choice: Any) -> dict[str, Any]:
    """The answer that was chosen, by its name or as it is."""
    if isinstance(choice, str) and choice in found.indices:
        return {"value": found[choice], "chosen": choice, "sources": told}
    chosen = next((name for name, answer in found.as_dict().items() if _is_same(answer, choice)), None)
    return {"value": choice, "chosen": chosen, "sources": told}


def _is_same(answer: Any, choice: Any) -> bool:
    try:
        return type(answer) is type(choice) and bool(answer == choice)
    except ValueError:  # arrays and frames compare item by item
        return False

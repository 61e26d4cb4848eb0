"""Control flow of a workflow's body: gather, branch and loop. Outside of a body they do the same with plain values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from celeryflow.errors import ArgumentError, InvalidOptionError
from celeryflow.graph import checks, trace
from celeryflow.graph.control import Again, Decide, Loop, LoopResult
from celeryflow.graph.model import StepSpec
from celeryflow.graph.refs import Ref
from celeryflow.graph.traced import Callee
from celeryflow.step import Step, step
from celeryflow.values.gathered import Gathered
from celeryflow.workflow import Workflow

T = TypeVar("T")
Predicate = Callable[[Any], Any]


def gather(refs: Iterable[T] | Mapping[Any, T], deadline_s: float | None = None, min_results: int = 0) -> Gathered[T]:
    """Go on with those results that are there: when all have ended, or at the deadline.

    A failure among them does not fail the run. What nobody else needs is cancelled at the deadline.

    Parameters
    ----------
    refs : list, tuple or dict of Ref, or a Ref to a map
        The results to wait for.
    deadline_s : float, optional
        Seconds from when the first of them could start (at the top of a workflow: from the submit).
    min_results : int
        How many must be there, 0 or more.

    Returns
    -------
    Gathered
        The values in input order, their `indices` (keys of a dict), and `missing`: a reason by index.

    Raises
    ------
    TooFewResultsError
        In the step that this becomes, if there are fewer than `min_results`.
    InvalidOptionError, ArgumentError
        At once, if it could never work.
    """
    if deadline_s is not None:
        checks.check_timeout(deadline_s, "deadline_s of cf.gather")
    given: Any = refs
    if not isinstance(given, (Ref, list, tuple, dict)):
        raise ArgumentError(f"cf.gather takes a list, tuple or dict of Refs, or a Ref to a map, not {refs!r:.200}.")
    size = None if isinstance(given, Ref) else len(given)
    is_count = isinstance(min_results, int) and not isinstance(min_results, bool) and min_results >= 0
    if not is_count or (size is not None and min_results > size):
        most = "" if size is None else f" to {size}, as many as there are"
        raise InvalidOptionError(f"min_results of cf.gather must be a whole number from 0{most}, not {min_results!r}.")
    tracer = trace.current()
    if tracer is None:
        return Gathered(given if isinstance(given, dict) else dict(enumerate(given)), {})
    _check_refs(tracer, given)
    return tracer.gather(_callee("gather", _never), given, min_results, deadline_s)  # type: ignore[return-value]


def branch(
    on: Any,
    *arms: tuple[Predicate, Callable[..., T]],
    otherwise: Callable[..., T] | None = None,
    args: Sequence[Any] = (),
) -> T:
    """Run one of several arms: the first whose predicate holds.

    Parameters
    ----------
    on : Any
        Value or Ref that the predicates get.
    *arms : (predicate, arm)
        An arm is a step, a workflow or a plain function, called with ``(on, *args)``.
    otherwise : callable, optional
        Arm for what no predicate holds for.
    args : sequence
        Further arguments of the arms.

    Returns
    -------
    The value of the arm that ran; the steps of the others are `skipped`.

    Raises
    ------
    NoBranchMatchedError
        In the step that this becomes, if no predicate holds and there is no `otherwise`.
    ArgumentError
        At once, if there is no arm, or one is no pair of functions.
    """
    for arm in arms:
        if not (isinstance(arm, tuple) and len(arm) == 2 and callable(arm[0]) and callable(arm[1])):
            raise ArgumentError(f"an arm of cf.branch is a pair (predicate, step), not {arm!r:.200}.")
    if not arms:
        raise ArgumentError("cf.branch got no arm. Give it pairs (predicate, step).")
    if not (otherwise is None or callable(otherwise)):
        raise ArgumentError(f"otherwise= of cf.branch takes a step, workflow or function, not {otherwise!r:.200}.")
    choices = [_stepped(arm) for _, arm in arms] + ([] if otherwise is None else [_stepped(otherwise)])
    decide = Decide([_plain(predicate) for predicate, _ in arms], otherwise is not None)
    tracer = trace.current()
    if tracer is None:
        return choices[decide(on)](on, *args)  # type: ignore[no-any-return]
    which = tracer.decide(_callee("branch", decide), on)
    options = []
    for number, choice in enumerate(choices):
        with tracer.gated(which, number):
            options.append(choice(on, *args))
    return tracer.pick(_callee("chosen", _never), which, options)  # type: ignore[return-value]


def loop(body: Callable[[T], T], state: T, until: Predicate, max_iterations: int) -> LoopResult[T]:
    """Run a body again and again, each time on what it gave, until a predicate holds.

    Parameters
    ----------
    body : callable
        Step, workflow or plain function, ``state -> state``.
    state : Any
        Value or Ref to begin with.
    until : callable
        Asked before each iteration, the first included, with the state.
    max_iterations : int
        Iterations at most, 0 or more.

    Returns
    -------
    LoopResult
        `value`, `iterations` and `converged`: whether `until` was met.

    Raises
    ------
    ArgumentError, InvalidOptionError
        At once, if `body` or `until` is no function or `max_iterations` no such number.
    """
    if not callable(body) or not callable(until):
        raise ArgumentError("body and until= of cf.loop take a step, workflow or function.")
    if not isinstance(max_iterations, int) or isinstance(max_iterations, bool) or max_iterations < 0:
        raise InvalidOptionError(f"max_iterations of cf.loop must be a whole number from 0, not {max_iterations!r}.")
    once = Loop(_stepped(body), _plain(until), max_iterations)
    tracer = trace.current()
    if tracer is not None:
        return tracer.expand(_callee("loop", once), (state,), {})  # type: ignore[return-value]
    iterations = 0
    while isinstance(found := once(state, iterations), Again):
        state, iterations = found.value, iterations + 1
    return found


def _check_refs(tracer: trace.Tracer, refs: Any) -> None:
    found = [refs] if isinstance(refs, Ref) else [*refs.values()] if isinstance(refs, dict) else [*refs]
    for ref in found:
        if not isinstance(ref, Ref):
            raise ArgumentError(f"cf.gather takes results of steps, not {ref!r:.200}.")
        tracer.check(ref)
    if isinstance(refs, Ref) and not tracer.is_map(refs):
        raise ArgumentError(f"cf.gather takes a list of Refs or a Ref to a map; {refs!r} is a single result.")


def _callee(name: str, function: Callable[..., Any]) -> Callee:
    return Callee(function=function, spec=StepSpec(name=name, label=name))


def _never() -> None:
    """Gathers and picks run no function."""


def _stepped(function: Callable[..., Any]) -> Callable[..., Any]:
    return function if isinstance(function, (Step, Workflow)) else step(function)


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    return function.callee.function if isinstance(function, Step) else function

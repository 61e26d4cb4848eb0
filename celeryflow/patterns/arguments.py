"""What a pattern is given: plain functions become steps, and what cannot work is refused, by name, when it is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any, TypeAlias, TypeVar

from msgspec import structs

from celeryflow.errors import ArgumentError
from celeryflow.graph import checks, trace
from celeryflow.graph.control import Decide
from celeryflow.graph.mapped import Mapped, mapped_literal
from celeryflow.graph.model import StepSpec
from celeryflow.graph.refs import Ref
from celeryflow.graph.traced import Callee
from celeryflow.step import Step, step
from celeryflow.workflow import Workflow

Part: TypeAlias = Step[..., Any] | Workflow[..., Any]
"""What a pattern wires together."""


def part(pattern: str, argument: str, given: Callable[..., Any]) -> Part:
    """A step of a pattern.

    Parameters
    ----------
    pattern, argument : str
        Names of the pattern and of its argument, for errors; a lambda is called like the argument.
    given : callable
        A step or workflow, which is kept as it is, or a function, which becomes a step.

    Raises
    ------
    ArgumentError
        If it is none of these.

    Examples
    --------
    >>> part("multi_source_etl", "extract", lambda source: source)
    <Step extract>
    """
    if isinstance(given, (Step, Workflow)):
        return given
    if not callable(given):
        raise ArgumentError(f"{argument}= of {pattern} takes a function, a step or a workflow, not {given!r:.200}.")
    made = step(given)
    if getattr(given, "__name__", "<lambda>") != "<lambda>":
        return made
    spec = structs.replace(made.spec, name=checks.slug(argument), label=argument)
    return Step(replace(made.callee, spec=spec))


P = TypeVar("P", Step[..., Any], Workflow[..., Any], Part)


def called(given: P, name: str) -> P:
    """A step under a name of the pattern's choice, where neither its user chose one nor others are counted by it."""
    if isinstance(given, Workflow) or given.callee.is_named or given.spec.max_running is not None:
        return given
    spec = structs.replace(given.spec, name=checks.slug(name), label=name)
    return Step(replace(given.callee, spec=spec))


def unnamed(given: Part) -> Part:
    """A step for a second use, without the name that its user gave it for one."""
    return Step(given.callee) if isinstance(given, Step) else given


def optional_part(pattern: str, argument: str, given: Callable[..., Any] | None) -> Part | None:
    """As `part`; None stays None."""
    return None if given is None else part(pattern, argument, given)


def listed(pattern: str, argument: str, given: Any) -> Mapped:
    """What a run of a pattern goes over: its `items`, and its `keys` where it is a dict.

    Raises
    ------
    ArgumentError
        If it is no list, tuple, range, array, Series or dict.
    RefError
        If it is a value still to come: the pattern is traced once that is there.
    """
    if isinstance(given, Ref):
        len(given)
    try:
        found = mapped_literal(argument, given)
    except ArgumentError:
        found = None
    if found is None or found.items is None:
        raise ArgumentError(f"{argument} of {pattern} must be a list, not {type(given).__name__}: {given!r:.200}.")
    return found


def as_ref(value: Any) -> Any:
    """What a part gave, as one Ref in a body: a workflow may return several, or a plain value."""
    return value if trace.current() is None or isinstance(value, Ref) else step(keep)(value)


def keep(value: Any) -> Any:
    """Nothing done to it."""
    return value


def provided(check: Callable[[Any], bool], value: Any, is_needed: bool = True) -> AbstractContextManager[None]:
    """A context whose steps run only if ``check(value)``, which becomes a step here; with `is_needed` it fails else."""
    tracer, decide = trace.current(), Decide([check], has_otherwise=not is_needed)
    if tracer is None:
        decide(value)
        return nullcontext()
    spec = StepSpec(name=check.__name__, label=check.__name__)
    return tracer.gated(tracer.decide(Callee(function=decide, spec=spec), value), 0)


@contextmanager
def at_priority(priority: int) -> Iterator[None]:
    """The steps called inside have this priority, those in workflows too, where they have none of their own."""
    tracer = trace.current()
    if tracer is None:
        yield
        return
    outer, tracer.priority = tracer.priority, priority
    try:
        yield
    finally:
        tracer.priority = outer

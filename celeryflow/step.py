"""``@step``: the plain function outside of a trace, a node of the graph inside of one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Generic, ParamSpec, TypeVar, overload

import msgspec

from celeryflow import registry
from celeryflow.errors import ArgumentError, InvalidOptionError, WorkflowError
from celeryflow.graph import checks, trace
from celeryflow.graph.mapped import check_keys, check_lengths, mapped_literal
from celeryflow.graph.model import OnError, StepSpec
from celeryflow.graph.refs import Ref, Unmapped
from celeryflow.graph.traced import Callee

K = TypeVar("K")
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

CONCURRENCY = 32
"""Async steps that a worker process runs at a time, where the step does not say."""


class Step(Generic[P, R]):
    """A function that can be part of a workflow. Called outside of one, it is the function."""

    def __init__(self, callee: Callee, name: str | None = None, after: Sequence[Any] = ()) -> None:
        self.callee = callee
        self._name, self._after = name, tuple(after)
        functools.update_wrapper(self, callee.function)
        self._signature = _signature(callee.function)

    @property
    def spec(self) -> StepSpec:
        """How the step runs."""
        return self.callee.spec

    def __repr__(self) -> str:
        return f"<Step {self.spec.label}>"

    def __key_parts__(self) -> list[Any]:
        return [self.callee.function, self.spec.outputs]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here; in a workflow's body, add a step to it and return a Ref."""
        tracer = trace.current()
        if tracer is None:
            return self.callee.function(*args, **kwargs)  # type: ignore[no-any-return]
        self._check(args, kwargs)
        return tracer.call(self.callee, args, kwargs, self._name, self._after)  # type: ignore[return-value]

    @overload
    def map(self, mapped: dict[K, Any], /, *args: Any, on_error: str = "raise", **kwargs: Any) -> dict[K, R]: ...
    @overload
    def map(self, *args: Any, on_error: str = "raise", **kwargs: Any) -> list[R]: ...
    def map(  # type: ignore[misc]  # mypy does not see that *args takes a mapped dict
        self, *args: Any, on_error: str = "raise", **kwargs: Any
    ) -> Any:
        """Call the step for each item.

        Parameters
        ----------
        *args, **kwargs
            Arguments of the step. Lists, tuples, ranges, arrays, Series and Refs are gone through together, dicts by
            their values, which keeps their keys; scalars, str, None and ``cf.unmapped(x)`` go to every call.
        on_error : {"raise", "skip", "return"}
            What a failed item does: fail the map once its other items have run, be left out downstream, or pass its
            exception on as a value.

        Returns
        -------
        list, or dict where a dict was mapped
            In a workflow's body, a Ref to that.

        Raises
        ------
        LengthMismatchError
            If the values differ in length.
        """
        how = on_error_of(self.spec.label, on_error)
        self._check(args, kwargs)
        tracer = trace.current()
        if tracer is None:
            return map_here(self.callee.function, self.spec.label, args, kwargs)
        names = list(self._signature.parameters) if self._signature else []
        return tracer.map(self.callee, args, kwargs, how, self._name, names, self._after)

    def options(self, *, name: str | None = None, after: Iterable[Any] = (), **options: Any) -> Step[P, R]:
        """The step with other options for one use.

        Parameters
        ----------
        name : str, optional
            Name of the step in the workflow, unique in it.
        after : iterable of Ref
            Steps to wait for without taking their results.
        **options
            As of ``@cf.step``.
        """
        if name is not None:
            checks.check_name(name, f"name of step {self.spec.label!r}")
        after = tuple(after)
        if not all(isinstance(ref, Ref) for ref in after):
            raise ArgumentError(
                f"after= of step {self.spec.label!r} takes a list of Refs, results of steps called before."
            )
        callee = _with_options(self.callee, options)
        return Step(callee, name or self._name, (*self._after, *after))

    def bind(self, **arguments: Any) -> Step[..., R]:
        """The step with some of its arguments given.

        Raises
        ------
        ArgumentError
            If it has no such argument.
        """
        if self._signature is not None:
            try:
                self._signature.bind_partial(**arguments)
            except TypeError as error:
                raise ArgumentError(
                    f"step {self.spec.label!r}: {error}. It is {self.spec.label}{self._signature}."
                ) from None
        return Step(
            replace(self.callee, function=functools.partial(self.callee.function, **arguments)), self._name, self._after
        )

    def _check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._signature is None:
            return
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ArgumentError(
                f"step {self.spec.label!r}: {error}. It is {self.spec.label}{self._signature}."
            ) from None


@overload
def step(function: Callable[P, R], /, **options: Any) -> Step[P, R]: ...
@overload
def step(function: None = None, /, **options: Any) -> Callable[[Callable[P, R]], Step[P, R]]: ...
def step(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a function a step of workflows.

    Parameters
    ----------
    function : callable, optional
        Any function, also an imported one: ``cf.step(pd.read_csv, retries=3)``.
    name : str, optional
        Its name in workflows, of ``[A-Za-z0-9_.-]``; by default the function's.
    outputs : int
        How many values a call unpacks into.
    retries : int
        Further attempts after an exception of `retry_on` (a type or tuple of types; default ``Exception``).
    retry_delay_s, retry_backoff, retry_jitter : float
        Seconds before the first retry (1.0), factor for each further one (2.0), random share on top (0.1).
    timeout_s : float, optional
        Hard limit of one attempt.
    queue : str
        Queue whose workers run it.
    priority : int
        0 to 9, 9 the highest; by default the run's, which is 5. Strict: whatever is ready at a higher one goes first,
        of all runs, so that a steady stream of it keeps the rest waiting. Runs of equal priority share fairly.
    max_worker_losses : int
        Worker processes that may die under one item before it fails; default 3.
    concurrency : int, optional
        For an ``async def``: how many of them one worker process runs at a time on its event loop, 1 to 128; default
        32. Each has its own timeout, retries and log. One that blocks the loop is reported in the log of its run.
    max_running : int, optional
        How many of the step run at a time over all workers and all runs, for a service that allows no more; steps of
        one name count together. The place of a worker that died is free again when its lease has run out, at the
        latest.
    memory_limit_bytes : int, optional
        Hard limit of one attempt: resident memory, files that are mapped and unchanged apart, of the step's whole
        process (a fresh one has some 60 MiB) and of those that it started. Looked at 10 times a second; the process of
        a step that is over is killed, and the step fails with kind ``memory``, or is tried again if `retry_on` has
        `StepMemoryError`. Not for an ``async def``, which shares its process.
    quota : (str, int), optional
        A name, and how many items of all steps with a quota of that name may be in flight over all runs: from the
        submit of their run to the end of the step, which counts with all its items (a plain step with one). What would
        be more is not run: a gather goes on without it and says why, and a run that needs it fails at once. How many
        items a map has must be known at the submit.
    cache : bool
        Take results of earlier runs, of whatever workflow, where code and inputs are the same; map by item. A result is
        kept as long as the newest run that has it. For steps whose result follows from their arguments alone.

    Returns
    -------
    Step
        Outside of a workflow it is the plain function.

    Raises
    ------
    InvalidOptionError, InvalidNameError
        If an option is unknown or out of range.
    """
    if function is None:
        return lambda found: step(found, **options)
    if isinstance(function, Step):
        is_another = "name" in options
        changed: Step[..., Any] = Step(_with_options(function.callee, options))
        return _registered(changed) if is_another else changed
    if not callable(function):
        raise ArgumentError(f"cf.step takes a function, not {type(function).__name__}.")
    own_name = str(getattr(function, "__name__", None) or type(getattr(function, "func", function)).__name__)
    concurrency = CONCURRENCY if inspect.iscoroutinefunction(function) else None
    spec = StepSpec(name=checks.slug(own_name), label=checks.label_of(own_name), concurrency=concurrency)
    return _registered(Step(_with_options(Callee(function=function, spec=spec), options)))


def _registered(made: Step[..., Any]) -> Step[..., Any]:
    registry.register(made, made.callee.function, made.spec.name, made.callee.is_named)
    return made


def _with_options(callee: Callee, options: dict[str, Any]) -> Callee:
    name = options.pop("name", None)
    if name is not None:
        checks.check_name(name, f"name of step {callee.spec.label!r}")
        spec = msgspec.structs.replace(callee.spec, name=name, label=name)
        callee = replace(callee, spec=spec, is_named=True)
    if not options:
        return callee
    label, retry_on = callee.spec.label, options.pop("retry_on", callee.retry_on)
    unknown = set(options) - set(StepSpec.__struct_fields__) | set(options) & {"name", "label"}
    if unknown:
        known = sorted({*StepSpec.__struct_fields__, "retry_on"} - {"name", "label"})
        raise InvalidOptionError(f"step {label!r} has no option {min(unknown)!r}. Its options: {', '.join(known)}.")
    checks.check_options(options, label)
    if callee.spec.concurrency is not None and options.get("memory_limit_bytes") is not None:
        raise InvalidOptionError(
            f"memory_limit_bytes of step {label!r} is for plain functions: as an async def it shares its process with "
            "others. Make it a plain def, or leave the option out."
        )
    if options.get("concurrency") is None:
        options.pop("concurrency", None)
    elif callee.spec.concurrency is None:
        raise InvalidOptionError(
            f"concurrency of step {label!r} is for async def steps, and {label!r} is a plain function: each of its "
            "calls has a process to itself. Make it async def, or leave the option out."
        )
    return replace(
        callee,
        spec=msgspec.structs.replace(callee.spec, **options),
        retry_on=_exception_types(retry_on, label),
        has_priority=callee.has_priority or "priority" in options,
    )


def _exception_types(retry_on: Any, label: str) -> tuple[type[BaseException], ...]:
    types = retry_on if isinstance(retry_on, tuple) else (retry_on,)
    if not all(isinstance(found, type) and issubclass(found, BaseException) for found in types):
        raise InvalidOptionError(f"retry_on of step {label!r} takes exception types, not {retry_on!r}.")
    return types


def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):  # builtins without one
        return None


def on_error_of(label: str, on_error: str) -> OnError:
    """What a failed item of a map does.

    Raises
    ------
    InvalidOptionError
        If there is no such choice.
    """
    try:
        return OnError(on_error)
    except ValueError:
        choices = ", ".join(choice.value for choice in OnError)
        raise InvalidOptionError(f"on_error of {label}.map() must be one of {choices}, not {on_error!r}.") from None


def map_here(function: Callable[..., T], label: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a map gives outside of a workflow: the calls, one after the other."""
    named = {**{f"argument {i + 1}": value for i, value in enumerate(args)}, **kwargs}
    found = {name: None if isinstance(v, Unmapped) else mapped_literal(name, v) for name, v in named.items()}
    columns = {name: mapped.items for name, mapped in found.items() if mapped and mapped.items is not None}
    if not columns:
        raise WorkflowError(f"{label}.map() got nothing to map over.")
    check_lengths(label, [(name, len(items)) for name, items in columns.items()])
    keys = [mapped.keys for mapped in found.values() if mapped and mapped.keys is not None]
    check_keys(label, keys)
    whole = {name: v.value if isinstance(v, Unmapped) else v for name, v in named.items()}
    names, count = list(named), len(next(iter(columns.values())))

    def call(index: int) -> T:
        row = {name: columns[name][index] if name in columns else whole[name] for name in names}
        return function(*(row[name] for name in names[: len(args)]), **{name: row[name] for name in names[len(args) :]})

    values = [call(index) for index in range(count)]
    return dict(zip(keys[0], values, strict=True)) if keys else values

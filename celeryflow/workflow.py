"""``@workflow``: plain Python here, a graph of steps on the workers; and ``cf.map``, which needs none."""

from __future__ import annotations

import functools
import inspect
import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from celeryflow.errors import ArgumentError, NotInWorkflowError, WorkflowError
from celeryflow.graph import checks, trace
from celeryflow.graph.model import Graph, Role, StepSpec
from celeryflow.graph.traced import Callee, Traced
from celeryflow.run.jobs import job_of, start
from celeryflow.run.options import RunOptions
from celeryflow.run.run import Run
from celeryflow.run.start import resume, run_inline, submit
from celeryflow.step import map_here, on_error_of, step

if TYPE_CHECKING:
    from celeryflow.view.svg import Picture

K = TypeVar("K")
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

RESERVED = ("check", "inline", "reuse")
"""Options of ``run``, which a workflow's own parameters may not be named."""


class Workflow(Generic[P, R]):
    """A function whose body wires steps together. Called outside of a workflow, it runs here as plain Python."""

    def __init__(self, function: Callable[P, R], name: str, options: RunOptions, is_for_a_run: bool = False) -> None:
        self.function, self.name = function, name
        self._options, self._is_for_a_run = options, is_for_a_run
        functools.update_wrapper(self, function)

    def __repr__(self) -> str:
        return f"<Workflow {self.name}>"

    def __key_parts__(self) -> list[Any]:
        return [self.function]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run here as plain Python; in another workflow's body, add the steps to it.

        There, a body that needs the value of a Ref (to decide, to count, to go over it) becomes one node, whose body is
        traced when that value is there.
        """
        tracer = trace.current()
        if tracer is None:
            return self.function(*args, **kwargs)
        self._check_is_part()
        self._check(args, kwargs)
        with tracer.attempt([args, kwargs]) as needs_values:
            found = self.function(*args, **kwargs)
        if needs_values:
            return tracer.expand(self._callee(), args, kwargs)  # type: ignore[return-value]
        return found

    def map(self, *args: Any, on_error: str = "raise", **kwargs: Any) -> list[R]:
        """Run the workflow for each item, each going its own way; arguments as of ``Step.map``."""
        self._check(args, kwargs)
        how, tracer = on_error_of(self.name, on_error), trace.current()
        if tracer is None:
            return map_here(self.function, self.name, args, kwargs)  # type: ignore[no-any-return]
        self._check_is_part()
        names = list(inspect.signature(self.function).parameters)
        return tracer.map(self._callee(), args, kwargs, how, None, names, role=Role.EXPAND)  # type: ignore[return-value]

    def options(self, **options: Any) -> Workflow[P, R]:
        """The workflow with other options for its runs.

        Parameters
        ----------
        name : str
            What the workflow is called in them.
        deadline_s, timeout_s : float
            Seconds that a run may take, from its submit (workers or none), and from its first step. Past either it is a
            `failure`, what runs is stopped, and ``result()`` raises `RunTimeoutError`. A resume counts anew.
        fail_fast : bool
            End it as soon as a step fails.
        priority : int
            0 to 9, 9 the highest: of its steps that have none of their own; default 5.
        tenant : str
            For whom it is, of ``[A-Za-z0-9_.-]``: a label in ``cf.history()``.
        job_id : str
            Idempotency key, of ``[A-Za-z0-9_.-]``: whoever submits under it gets the one run that there is, live or
            finished; one that failed, was cancelled or is stalled is resumed. Where arguments or code have changed,
            what changed is run anew once that run is over, and it is a `JobConflictError` before.

        Raises
        ------
        InvalidOptionError, InvalidNameError
            At once, if there is no such option, or it is out of range.

        Examples
        --------
        >>> from celeryflow.step import step
        >>> nightly = workflow(lambda: step(print)("done"), name="report").options(deadline_s=3600, tenant="sales")
        """
        name = options.pop("name", None)
        if name is not None:
            checks.check_name(name, f"name of workflow {self.name!r}")
        return Workflow(self.function, name or self.name, self._options.changed(options, self.name), is_for_a_run=True)

    def _check_is_part(self) -> None:
        if self._is_for_a_run:
            raise WorkflowError(
                f"workflow {self.name!r} has options of a run, and is called in another one's body. Call the workflow "
                "without .options(…) there, and give the options to the workflow that you run."
            )

    def _callee(self) -> Callee:
        return Callee(function=self.function, spec=StepSpec(name=checks.slug(self.name), label=self.name))

    def run(
        self, *args: Any, check: bool = False, inline: bool = False, reuse: Run[Any] | str | None = None, **kwargs: Any
    ) -> Run[R]:
        """Run on the workers and wait for the end.

        Parameters
        ----------
        *args, **kwargs
            Arguments of the workflow.
        check : bool
            Raise what ``.result()`` would raise.
        inline : bool
            Execute in this process instead, in order, so that a debugger reaches the steps. Time limits of the run and
            its `job_id` play no part then.
        reuse : Run, str or "latest", optional
            Take over what an earlier run (or its id, or the latest one of this workflow) has of results whose code and
            inputs are the same, item by item; the rest runs. Where there is none, everything does.

        Returns
        -------
        Run
            However it ended.
        """
        traced = self.trace(*args, **kwargs)
        if inline:
            run: Run[R] = run_inline(traced, self._run_id(), reuse)
        else:
            run = start(traced, self._run_id, self._options, reuse)
            run.wait_or_cancel()
        if check:
            run.result()
        return run

    @overload
    def submit(self, *args: P.args, **kwargs: P.kwargs) -> Run[R]: ...
    @overload
    def submit(self, *args: Any, reuse: Run[Any] | str | None, **kwargs: Any) -> Run[R]: ...
    def submit(self, *args: Any, **kwargs: Any) -> Run[R]:
        """Start on the workers and return at once; `reuse` as of `run`."""
        reuse = kwargs.pop("reuse", None)
        return start(self.trace(*args, **kwargs), self._run_id, self._options, reuse)

    def resume(self, run: Run[Any] | str, rerun: str = "changed") -> Run[R]:
        """Start again with the arguments of an earlier run and the code of now, as a run of its own.

        Parameters
        ----------
        run : Run or str
            A run of this workflow that is over, or its id.
        rerun : {"changed", "failed"}
            What runs: all that has no result, or whose code or inputs are others than they were, and what needs it; or
            what has no result alone, whatever became of the code.

        Returns
        -------
        Run
            Started; with a `job_id` among the options, as that job's run from now on. ``run.explain(step)`` says what
            made a step run.

        Raises
        ------
        RunError
            If the run is still running or being resumed, is of another workflow, or its arguments could not be stored.
        JobConflictError
            If the job's run is going on.
        InvalidOptionError
            If `rerun` is none of the two.
        """
        job = functools.partial(job_of, self._options)
        return resume(run, rerun, self._run_id(), self.trace, self.name, self._options, job)

    def graph(self, *args: P.args, **kwargs: P.kwargs) -> Graph:
        """What would run with these arguments."""
        return self.trace(*args, **kwargs).graph

    def draw(self, *args: P.args, **kwargs: P.kwargs) -> Picture:
        """Picture of what would run with these arguments; ``.save(path)`` writes it.

        A box says what the step gets that is a value, and which of its options are not the usual ones; hovering, and
        ``.text``, say all of its arguments, queue, priority and retries.
        """
        from celeryflow.view.before import draw_before

        return draw_before(self.trace(*args, **kwargs))

    def trace(self, *args: Any, **kwargs: Any) -> Traced:
        """The traced body: graph, calls and result."""
        self._check(args, kwargs)
        if trace.current() is not None:
            raise NotInWorkflowError(f"workflow {self.name!r} is run inside another one's body. Call it there instead.")
        options = self._options
        traced = trace.trace(self.name, lambda: self.function(*args, **kwargs), options.priority, **options.limits())
        return replace(traced, arguments=(args, kwargs))

    def _check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            inspect.signature(self.function).bind(*args, **kwargs)
        except TypeError as error:
            raise ArgumentError(
                f"workflow {self.name!r}: {error}. It is {self.name}{inspect.signature(self.function)}."
            ) from None

    def _run_id(self) -> str:
        return new_run_id(self.name)


@overload
def workflow(function: Callable[P, R], /) -> Workflow[P, R]: ...
@overload
def workflow(
    function: None = None,
    /,
    *,
    name: str | None = None,
    fail_fast: bool = False,
    timeout_s: float | None = None,
    deadline_s: float | None = None,
) -> Callable[[Callable[P, R]], Workflow[P, R]]: ...
def workflow(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    fail_fast: bool = False,
    timeout_s: float | None = None,
    deadline_s: float | None = None,
) -> Any:
    """Make a function a workflow: its body calls steps, and is traced with the real arguments at each run.

    Parameters
    ----------
    name : str, optional
        By default the function's.
    fail_fast : bool
        Cancel the rest as soon as a step fails; by default independent parts finish.
    timeout_s, deadline_s : float, optional
        Seconds that a run may take: from its first step, and from its submit. See ``Workflow.options``.

    Raises
    ------
    InvalidOptionError, InvalidNameError, WorkflowError
        If an option is out of range, or a parameter has the name of an option of ``run``.
    """
    limits = {"fail_fast": fail_fast, "timeout_s": timeout_s, "deadline_s": deadline_s}
    if function is None:
        return lambda found: _workflow(found, name, limits)
    return _workflow(function, name, limits)


@overload
def map_items(function: Callable[[Any], T], items: dict[K, Any], **options: Any) -> Run[dict[K, T]]: ...
@overload
def map_items(function: Callable[[Any], T], items: Any, **options: Any) -> Run[list[T]]: ...
def map_items(function: Callable[[Any], T], items: Any, **options: Any) -> Run[Any]:
    """Run a function over items on the workers: a workflow of one step.

    Parameters
    ----------
    function : callable
        A function or step of one argument.
    items : list, tuple, range, array, Series or dict
        Its arguments.
    on_error : {"raise", "skip", "return"}
        As of ``Step.map``.
    **options
        As of ``@cf.step``.

    Returns
    -------
    Run
        Started; ``.result()`` waits.
    """
    on_error = options.pop("on_error", "raise")
    mapped = step(function, **options)
    traced = trace.trace(mapped.spec.name, lambda: mapped.map(items, on_error=on_error))
    return submit(traced, new_run_id(mapped.spec.name))


def new_run_id(workflow: str) -> str:
    """A fresh id that begins with the workflow's name."""
    return f"{checks.slug(workflow)[:60]}-{secrets.token_hex(5)}"


def _workflow(function: Callable[..., Any], name: str | None, options: dict[str, Any]) -> Workflow[Any, Any]:
    if not callable(function):
        raise ArgumentError(f"cf.workflow takes a function, not {type(function).__name__}.")
    label = name or checks.label_of(str(getattr(function, "__name__", "workflow")))
    if name is not None:
        checks.check_name(name, "name of the workflow")
    taken = set(inspect.signature(function).parameters) & set(RESERVED)
    if taken:
        raise WorkflowError(
            f"workflow {label!r} has a parameter {min(taken)!r}, which is an option of run(). Give it another name."
        )
    return Workflow(function, label, RunOptions().changed(options, label))

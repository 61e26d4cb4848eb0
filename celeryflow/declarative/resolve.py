"""Task names: which step, or Celery task, they mean, and what of that which there is it accepts."""

from __future__ import annotations

import inspect
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from celeryflow import registry
from celeryflow.declarative.definition import Definition, entries_of
from celeryflow.declarative.model import INPUT, WorkflowStep
from celeryflow.engine.tasks import TaskCall, local_tasks
from celeryflow.errors import AmbiguousTaskError, ArgumentError, UnknownTaskError, did_you_mean
from celeryflow.graph import checks
from celeryflow.graph.model import StepSpec
from celeryflow.graph.traced import Callee
from celeryflow.runtime import session as sessions
from celeryflow.step import Step

PATIENCE_S, LOOK_S = 1.0, 0.1
"""How long to look for workers that have a task, and how often."""

_P = inspect.Parameter
_NAMED = (_P.POSITIONAL_ONLY, _P.POSITIONAL_OR_KEYWORD, _P.KEYWORD_ONLY)


@dataclass(frozen=True)
class Target:
    """What a task name means.

    Attributes
    ----------
    step : Step
        Of the name.
    signature : Signature or None
        What it takes; None where only a worker knows, or nobody.
    """

    step: Step[..., Any]
    signature: inspect.Signature | None

    @property
    def is_remote(self) -> bool:
        """Whether what it takes is only known where it runs."""
        return self.signature is None and isinstance(self.step.callee.function, TaskCall)

    def is_remote_without(self, tasks: Collection[str]) -> bool:
        """Whether it is a Celery task that is neither here nor among those of workers."""
        return self.is_remote and self.step.callee.function.task not in tasks  # type: ignore[attr-defined]

    def accepts(self, name: str) -> bool:
        """Whether it takes an argument of that name."""
        if self.signature is None:
            return True
        found = self.signature.parameters.get(name)
        takes_any = any(p.kind is _P.VAR_KEYWORD for p in self.signature.parameters.values())
        return takes_any if found is None or found.kind not in _NAMED else True

    def requires(self, name: str) -> bool:
        """Whether it cannot be called without an argument of that name."""
        return name in required(self.signature)


Targets = Mapping[str, Target | None]
"""What the tasks of steps mean, by the names of the steps: None where it is not known here."""


def required(signature: inspect.Signature | None) -> list[str]:
    """The parameters without a default."""
    found = signature.parameters.values() if signature else ()
    return [p.name for p in found if p.kind in _NAMED and p.default is _P.empty]


def arrange(signature: inspect.Signature | None, given: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Arguments by position and by name: of what there is that which a signature accepts."""
    if signature is None:
        return [], dict(given)
    parameters, left = signature.parameters.values(), dict(given)
    args: list[Any] = []
    for p in parameters:
        if p.kind is not _P.POSITIONAL_ONLY or p.name not in left:
            break
        args.append(left.pop(p.name))
    takes_any = any(p.kind is _P.VAR_KEYWORD for p in parameters)
    by_name = {p.name for p in parameters if p.kind in (_P.POSITIONAL_OR_KEYWORD, _P.KEYWORD_ONLY)}
    hidden = {p.name for p in parameters if p.kind is _P.POSITIONAL_ONLY}
    return args, {n: v for n, v in left.items() if n in by_name or (takes_any and n not in hidden)}


@dataclass(frozen=True)
class Fitted:
    """A Celery task, called with that which it accepts of what there is, as its worker knows."""

    call: TaskCall

    @property
    def __name__(self) -> str:
        """As of the task."""
        return self.call.__name__

    def __call__(self, /, **given: Any) -> Any:
        """Call the task here."""
        args, kwargs = arrange(self.call.signature(), given)
        return self.call(*args, **kwargs)


# --- looking names up --------------------------------------------------------------------------


def look_up(name: str, remote: Collection[str] = ()) -> Target | None:
    """What a task name means, as far as it is known here or to workers that have the `remote` tasks; else None.

    Raises
    ------
    AmbiguousTaskError
        If it is the short name of several.
    UnknownTaskError
        If its module cannot be imported.
    """
    found = registry.find(name)
    if found is None and "." in name and name not in remote:
        is_task = _can_import(name)
        found = registry.find(name) or (_step(TaskCall(name)) if is_task else None)
    return _target(found or _task(name, remote))


def _can_import(name: str) -> bool:
    """Whether a full name is that of a Celery task. Its module is imported, which registers the steps in it."""
    try:
        TaskCall(name).signature()
    except UnknownTaskError:
        return False
    except Exception as error:  # whatever a module raises
        raise UnknownTaskError(f"the module of task {name!r} cannot be imported: {error!r}.") from error
    return True


def _task(name: str, remote: Collection[str]) -> Step[..., Any] | None:
    """A Celery task by its full or short name: of a worker's app, or of one in this process."""
    local = local_tasks()
    full = sorted(task for task in {*local, *remote} if name in (task, task.rpartition(".")[2]))
    full = [name] if name in full else full
    if len(full) > 1:
        raise AmbiguousTaskError(registry.ambiguous(name, full))
    if not full:
        return None
    if full[0] in remote or _can_import(full[0]):
        return _step(TaskCall(full[0]))
    run = local[full[0]].run
    return _step(run) if inspect.isfunction(run) else None  # of a cell: it travels like any function


def _step(function: Any) -> Step[..., Any]:
    """A step that is not registered: what a task means is looked up each time."""
    label = function.__name__
    return Step(Callee(function=function, spec=StepSpec(name=checks.slug(label), label=label)))


def _target(found: Step[..., Any] | None) -> Target | None:
    if found is None:
        return None
    function = found.callee.function
    try:
        taken = function.signature() if isinstance(function, TaskCall) else inspect.signature(function)
    except (TypeError, ValueError, UnknownTaskError):
        taken = None
    return Target(found, taken)


def resolve(definition: Definition) -> dict[str, Target | None]:
    """What the tasks of a workflow mean, as far as it is known here.

    Raises
    ------
    AmbiguousTaskError
        If a short name is that of several.
    ArgumentError
        If a step needs an argument that nothing gives it.
    """
    found = {name: look_up(described.task_name) for name, described in definition.steps.items()}
    check(definition, found)
    return found


def resolve_all(definition: Definition) -> dict[str, Target | None]:
    """As `resolve`, also asking the workers. Only a step that decides among others may be left without a task.

    Raises
    ------
    UnknownTaskError
        If nobody has one, within 3 s.
    """
    found, until = resolve(definition), time.monotonic() + PATIENCE_S
    remote: list[str] = []
    while open_ := [name for name, target in found.items() if target is None or target.is_remote_without(remote)]:
        remote = _remote_tasks()
        found |= {name: look_up(definition.steps[name].task_name, remote) for name in open_}
        missing = [name for name in open_ if not _is_settled(found[name], definition.steps[name], remote)]
        if not missing:
            break
        if time.monotonic() > until:
            raise UnknownTaskError(_unknown(definition, definition.steps[missing[0]], remote))
        time.sleep(LOOK_S)
    check(definition, found)
    return found


def _remote_tasks() -> list[str]:
    workers = sessions.current().link.store.live_workers()
    return [task for facts in workers.values() for task in facts.get("tasks", "").splitlines()]


def _is_settled(target: Target | None, described: WorkflowStep, remote: Collection[str]) -> bool:
    if target is None:
        return entries_of(described) is not None
    return not target.is_remote_without(remote)


def check(definition: Definition, targets: Targets) -> None:
    """See that each step gets what it needs."""
    for name, target in targets.items():
        if target is None:
            continue
        there = {INPUT, *definition.needs[name], *definition.steps[name].parameters}
        lacks = [parameter for parameter in required(target.signature) if parameter not in there]
        if lacks:
            raise ArgumentError(
                f"step {name!r} of workflow {definition.id!r} calls {definition.steps[name].task_name!r}, which needs "
                f"{lacks[0]!r}. It gets {_listed(there)}. Add a parameter or a dependency of that name."
            )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, sorted(names)))


def _unknown(definition: Definition, described: WorkflowStep, remote: Collection[str]) -> str:
    name, known = described.task_name, [*registry.known(), *local_tasks(), *remote]
    near = {other.rpartition(".")[2] for other in known} | {*known}
    hint = did_you_mean(name, sorted(near - {name})).partition(" Its ")[0]
    return (
        f"step {described.name!r} of workflow {definition.id!r} calls {name!r}, which nobody has: no step here "
        f"and no Celery task, here or with the workers, is called so.{hint} Define it with @cf.step, import "
        "its module, or start workers that have it: celeryflow worker -A proj.app."
    )

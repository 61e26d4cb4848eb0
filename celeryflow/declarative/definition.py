"""A workflow that was described as data, once it is known to make sense: what waits for what, and what decides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from celeryflow.declarative.conditions import OWN, Condition, parse
from celeryflow.declarative.model import INPUT, WorkflowStep
from celeryflow.errors import (
    ConditionError,
    DefinitionError,
    DuplicateNameError,
    EmptyWorkflowError,
    InvalidNameError,
    InvalidOptionError,
    UnknownStepError,
    did_you_mean,
)
from celeryflow.graph import checks


@dataclass(frozen=True)
class Choice:
    """Steps of which the first whose condition holds runs, and the others are skipped.

    Attributes
    ----------
    by : str
        The step whose parameters hold the conditions; empty where each has its own.
    arms : tuple of (str, Condition)
        Names of the steps, in the order in which they are asked. One may stand there several times.
    """

    by: str
    arms: tuple[tuple[str, Condition], ...]

    @property
    def steps(self) -> list[str]:
        """Each step once, in that order."""
        return [*dict.fromkeys(name for name, _ in self.arms)]

    def sources(self) -> list[str]:
        """Names of the steps whose values decide."""
        return sorted({name for _, condition in self.arms for name in condition.steps()})


@dataclass(frozen=True)
class Definition:
    """A workflow whose steps fit together.

    Attributes
    ----------
    id : str
        Its id.
    steps : dict of str to WorkflowStep
        Its steps by name, in the order in which they were written.
    needs : dict of str to tuple of str
        What each waits for: its dependencies, what its condition looks at, and the step that decides about it.
    choices : tuple of Choice
        What decides which steps run.
    order : tuple of str
        The names such that each comes after what it needs.
    """

    id: str
    steps: dict[str, WorkflowStep]
    needs: dict[str, tuple[str, ...]]
    choices: tuple[Choice, ...]
    order: tuple[str, ...]

    def levels(self) -> dict[str, int]:
        """How many steps must be done before each, one after the other."""
        found: dict[str, int] = {}
        for name in self.order:
            found[name] = max((found[other] + 1 for other in self.needs[name]), default=0)
        return {name: found[name] for name in self.steps}


def define(workflow_id: Any, steps: Any) -> Definition:
    """The workflow of these steps.

    Raises
    ------
    WorkflowError, UnknownStepError
        If they do not fit together; the message names the step.
    """
    checks.check_name(workflow_id, "the id of a workflow")
    if isinstance(steps, (str, Mapping, WorkflowStep)) or not isinstance(steps, Iterable):
        raise DefinitionError(f"workflow {workflow_id!r} takes a list of WorkflowSteps, not {steps!r:.200}.")
    listed = [*steps]
    if not listed:
        raise EmptyWorkflowError(f"workflow {workflow_id!r} has no steps. Give it at least one WorkflowStep.")
    named: dict[str, WorkflowStep] = {}
    for number, step in enumerate(listed, 1):
        if not isinstance(step, WorkflowStep):
            raise DefinitionError(
                f"step {number} of workflow {workflow_id!r} must be a WorkflowStep, not {step!r:.200}."
            )
        checked = _checked(step, f"step {number} of workflow {workflow_id!r}")
        if checked.name in named:
            raise DuplicateNameError(f"workflow {workflow_id!r} has two steps named {checked.name!r}. Rename one.")
        named[checked.name] = checked
    choices = (*_own_conditions(named), *_routes(named))
    needs = {name: _needs(step, choices) for name, step in named.items()}
    return Definition(workflow_id, named, needs, choices, tuple(checks.order(needs)))


def _checked(step: WorkflowStep, where: str) -> WorkflowStep:
    """The step with what it holds copied, if each part of it is of the right kind."""
    name = checks.check_name(step.name, f"the name of {where}")
    if name == INPUT:
        raise InvalidNameError(
            f"{where} is named {INPUT!r}, which is what steps get as the workflow's input. Rename it."
        )
    what = f"step {name!r}"
    if not isinstance(step.task_name, str) or not step.task_name.strip():
        raise InvalidNameError(f"task_name of {what} must be the name of a step or task, not {step.task_name!r:.200}.")
    parameters = _parameters(step.parameters, what)
    depends_on = _depends_on(step.depends_on, what)
    both = [other for other in depends_on if other in parameters]
    if both:
        raise DefinitionError(
            f"{what} has a parameter {both[0]!r} and depends on a step of that name, whose result it gets so. "
            "Rename one of them."
        )
    count = step.retry_count
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise InvalidOptionError(f"retry_count of {what} must be a whole number of at least 0, not {count!r:.200}.")
    if step.timeout is not None:
        checks.check_timeout(step.timeout, f"timeout of {what}")
    checks.check_name(step.queue, f"queue of {what}")
    return replace(step, parameters=parameters, depends_on=depends_on)


def _parameters(given: Any, what: str) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
        raise DefinitionError(f"parameters of {what} must be a dict with names as keys, not {given!r:.200}.")
    return dict(given)


def _depends_on(given: Any, what: str) -> tuple[str, ...]:
    if given is None:
        return ()
    is_list = isinstance(given, Sequence) and not isinstance(given, (str, bytes))
    if not is_list or not all(isinstance(name, str) for name in given):
        raise DefinitionError(f"depends_on of {what} must be a list of names, not {given!r:.200}.")
    twice = [name for name in given if given.count(name) > 1]
    if twice:
        raise DuplicateNameError(f"depends_on of {what} lists {twice[0]!r} twice.")
    return tuple(given)


def _needs(step: WorkflowStep, choices: Sequence[Choice]) -> tuple[str, ...]:
    found = dict.fromkeys(step.depends_on)
    for choice in choices:
        if step.name in choice.steps:
            found |= dict.fromkeys([choice.by] if choice.by else choice.sources())
        elif step.name == choice.by:
            found |= dict.fromkeys(choice.sources())
    return tuple(name for name in found if name != INPUT)


def _own_conditions(steps: Mapping[str, WorkflowStep]) -> list[Choice]:
    """Steps with a condition of their own; those that look at the same fields are alternatives."""
    groups: dict[Any, list[tuple[str, Condition]]] = {}
    for step in steps.values():
        if step.condition is not None:
            only = step.depends_on[0] if len(step.depends_on) == 1 else None
            condition = parse(step.condition, f"the condition of step {step.name!r}", only)
            _check_steps(condition, steps, f"the condition of step {step.name!r}")
            groups.setdefault(condition.looks_at() or step.name, []).append((step.name, condition))
    return [Choice("", tuple(arms)) for arms in groups.values()]


def _routes(steps: Mapping[str, WorkflowStep]) -> list[Choice]:
    """Steps whose parameters hold conditions, which decide among others."""
    found: list[Choice] = []
    decided: dict[str, str] = {}
    for step in steps.values():
        entries = entries_of(step)
        if entries is None:
            continue
        arms = [_arm(step.name, name, entry, steps) for name, entry in entries.items()]
        for target, _ in arms:
            if decided.setdefault(target, step.name) != step.name:
                raise ConditionError(
                    f"whether step {target!r} runs is decided by both {decided[target]!r} and {step.name!r}. "
                    "Let one of them decide."
                )
        found.append(Choice(step.name, tuple(arms)))
    return found


def entries_of(step: WorkflowStep) -> Mapping[str, Any] | None:
    """The conditions in a step's parameters by which it decides among other steps; None where it does not."""
    found = step.parameters.get("conditions")
    is_route = isinstance(found, Mapping) and any(isinstance(e, Mapping) and "task" in e for e in found.values())
    return found if is_route else None


def _arm(by: str, name: str, entry: Any, steps: Mapping[str, WorkflowStep]) -> tuple[str, Condition]:
    what = f"condition {name!r} of step {by!r}"
    condition = parse(entry, what, OWN, also=("task",))
    target = entry.get("task")
    if not isinstance(target, str):
        raise ConditionError(f'{what} does not say what it runs. Add "task": the name of a step.')
    if target not in steps or target == by:
        known = [other for other in steps if other != by]
        raise UnknownStepError(f"{what} runs step {target!r}, which does not exist.{did_you_mean(target, known)}")
    _check_steps(condition, steps, what)
    return target, condition


def _check_steps(condition: Condition, steps: Mapping[str, WorkflowStep], what: str) -> None:
    for name in condition.steps():
        if name not in steps and name != INPUT:
            hint = did_you_mean(name, [*steps])
            raise UnknownStepError(f"{what} looks at step {name!r}, which does not exist.{hint}")

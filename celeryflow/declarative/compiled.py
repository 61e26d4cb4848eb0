"""A definition, what its tasks mean and the data to run on, made a Graph: no other engine runs it.

Each step becomes a node of its own name. Beside them stand nodes that decide (◇) which steps run, and for a step that
can do without one of its dependencies a node that passes on what there is of that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import takewhile
from typing import Any

from celeryflow.declarative.conditions import OWN
from celeryflow.declarative.definition import Choice, Definition
from celeryflow.declarative.model import INPUT
from celeryflow.declarative.resolve import Fitted, Target, Targets, arrange
from celeryflow.graph import trace
from celeryflow.graph.model import Role, StepSpec
from celeryflow.graph.refs import Ref
from celeryflow.graph.traced import Callee, Traced


class Absent(Enum):
    """What stands in the place of the result of a step that was not chosen."""

    ABSENT = "absent"


ABSENT = Absent.ABSENT


@dataclass(frozen=True)
class Present:
    """A function, called without the arguments that are absent."""

    function: Callable[..., Any]

    @property
    def __name__(self) -> str:
        """As of the function."""
        return self.function.__name__

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call it with those that are there."""
        there = takewhile(lambda value: value is not ABSENT, args)
        return self.function(*there, **{name: value for name, value in kwargs.items() if value is not ABSENT})


@dataclass(frozen=True)
class Choose:
    """The number of the step to run: that of the first condition that holds; after the last one if none does."""

    choice: Choice

    def __call__(self, values: Mapping[str, Any]) -> int:
        """Ask the conditions in order; what looks at the result of a step that did not run does not hold."""
        steps, own = self.choice.steps, values.get(OWN, [])
        if any(name == self.choice.by and value is ABSENT for name, value in own):
            return len(steps)
        there = {**values, OWN: [(name, value) for name, value in own if value is not ABSENT]}
        for name, condition in self.choice.arms:
            if all(there[step] is not ABSENT for step in condition.steps()) and condition.holds(there):
                return steps.index(name)
        return len(steps)


@dataclass(frozen=True)
class Route:
    """What a step gives that only decides: the name of the step to run; None if there is none."""

    choice: Choice

    def __call__(self, values: Mapping[str, Any]) -> str | None:
        """As of Choose."""
        return dict(enumerate(self.choice.steps)).get(Choose(self.choice)(values))


def number_of(steps: Sequence[str], chosen: Any) -> int:
    """The number of the step that was chosen by its name; after the last one if none was."""
    return steps.index(chosen) if chosen in steps else len(steps)


@dataclass(frozen=True)
class Presence:
    """When there is a result: if the decision `by`, one of `count`, is `number`."""

    by: Ref
    number: int
    count: int


def can_run(all_of: Sequence[tuple[int, int]], any_of: Sequence[tuple[int, int]]) -> int:
    """0 if a step runs, else 1: pairs of what was decided and what it should be."""
    is_met = all(found == wanted for found, wanted in all_of)
    return 0 if is_met and (not any_of or any(found == wanted for found, wanted in any_of)) else 1


def compiled(definition: Definition, targets: Targets, input_data: Any) -> Traced:
    """The workflow as a graph that is ready to be submitted."""
    tracer = trace.Tracer(definition.id)
    tracer.run(_Compiler(definition, targets, input_data, tracer).run)
    return tracer.finish(None)


@dataclass
class _Compiler:
    """Writes the nodes of one execution, in an order in which each comes after what it needs."""

    definition: Definition
    targets: Targets
    input_data: Any
    tracer: trace.Tracer
    refs: dict[str, Ref] = field(default_factory=dict)
    presences: dict[str, Presence] = field(default_factory=dict)
    chosen_by: dict[str, list[Presence]] = field(default_factory=dict)
    passed_on: dict[str, Ref] = field(default_factory=dict)

    def run(self) -> None:
        done: set[int] = set()
        for name in self.definition.order:
            for number, choice in enumerate(self.definition.choices):
                if name in choice.steps and number not in done:
                    done.add(number)
                    self._decide(choice)
            presence = self._presence(name)
            if presence is not None:
                self.presences[name] = presence
            callee, args, kwargs, after = self._step(name)
            with self.tracer.gated(presence.by, presence.number) if presence else nullcontext():
                self.refs[name] = self.tracer.call(callee, args, kwargs, name, after)

    # --- steps -----------------------------------------------------------------------------

    def _step(self, name: str) -> tuple[Callee, tuple[Any, ...], dict[str, Any], list[Ref]]:
        """What a step calls, with which arguments, and what it only waits for."""
        described, target = self.definition.steps[name], self.targets[name]
        if target is None:
            choice = next(c for c in self.definition.choices if c.by == name)
            return _callee(Route(choice), name, described.queue), (self._values(choice),), {}, []
        given, after, is_open = self._given(name, target)
        args, kwargs = arrange(target.signature, given)
        options: dict[str, Any] = {
            "retries": described.retry_count,
            "timeout_s": described.timeout,
            "queue": described.queue,
        }
        callee = target.step.options(**options).callee
        if target.is_remote:
            callee = replace(callee, function=Fitted(callee.function))  # type: ignore[arg-type]
        if is_open:
            callee = replace(callee, function=Present(callee.function))
        return callee, tuple(args), kwargs, after

    def _given(self, name: str, target: Target) -> tuple[dict[str, Any], list[Ref], bool]:
        """What there is for a step, by name, what it only waits for, and whether something may be absent."""
        given: dict[str, Any] = {INPUT: self.input_data}
        after, is_open = [], False
        for other in self.definition.needs[name]:
            is_sure = target.requires(other) or self.presences.get(other) is self.presences.get(name)
            is_optional = other in self.presences and not is_sure
            ref = self._passed_on(other) if is_optional else self.refs[other]
            if target.accepts(other):
                given[other], is_open = ref, is_open or is_optional
            else:
                after.append(ref)
        return given | dict(self.definition.steps[name].parameters), after, is_open

    def _passed_on(self, name: str) -> Ref:
        """A step's result, or that it is absent."""
        presence = self.presences.get(name)
        if presence is None:
            return self.refs[name]
        if name not in self.passed_on:
            options: list[Any] = [ABSENT] * presence.count
            options[presence.number] = self.refs[name]
            picker = _callee(can_run, self._unique(f"{name}.result"), self._queue(name))
            self.passed_on[name] = self.tracer.pick(picker, presence.by, options)
        return self.passed_on[name]

    # --- decisions -------------------------------------------------------------------------

    def _decide(self, choice: Choice) -> None:
        """Add what decides among the steps of a choice."""
        first = choice.by or choice.steps[0]
        name, queue = self._unique(f"{first}.condition"), self._queue(first)
        if choice.by and self.targets[choice.by] is None:
            value: Any = [choice.steps, self._passed_on(choice.by)]
            by = self._decision(name, queue, _Splat(number_of), value)
        else:
            by = self._decision(name, queue, Choose(choice), self._values(choice))
        for number, step in enumerate(choice.steps):
            self.chosen_by.setdefault(step, []).append(Presence(by, number, len(choice.steps) + 1))

    def _values(self, choice: Choice) -> dict[str, Any]:
        """The values that the conditions of a choice look at."""
        values = {name: self._value(name) for name in choice.sources()}
        if choice.by:
            own = [choice.by] if self.targets[choice.by] is not None else []
            others = self.definition.steps[choice.by].depends_on
            values[OWN] = [(name, self._value(name)) for name in (*own, *others)] or [(INPUT, self.input_data)]
        return values

    def _value(self, name: str) -> Any:
        return self.input_data if name == INPUT else self._passed_on(name)

    def _presence(self, name: str) -> Presence | None:
        """When a step runs; None where nothing but a failure keeps it from that."""
        target, needs = self.targets[name], self.definition.needs[name]
        maybe = {other: self.presences[other] for other in needs if other in self.presences}
        must = [p for other, p in maybe.items() if target is not None and target.requires(other)]
        must += self.chosen_by.get(name, [])
        some = [] if must or len(maybe) < len(needs) else [*maybe.values()]
        if len(must) + len(some) <= 1:
            return next(iter([*must, *some]), None)
        pairs = [[(p.by, p.number) for p in found] for found in (must, some)]
        by = self._decision(self._unique(f"{name}.ready"), self._queue(name), _Splat(can_run), pairs)
        return Presence(by, 0, 2)

    def _decision(self, name: str, queue: str, function: Callable[..., Any], value: Any) -> Ref:
        return self.tracer.call(_callee(function, name, queue), (value,), {}, role=Role.DECIDE)

    def _queue(self, name: str) -> str:
        return self.definition.steps[name].queue

    def _unique(self, name: str) -> str:
        """A name for a node beside the steps."""
        while name in self.definition.steps:
            name += "_"
        return name


@dataclass(frozen=True)
class _Splat:
    """A function of several arguments, called with a list of them."""

    function: Callable[..., Any]

    def __call__(self, arguments: Sequence[Any]) -> Any:
        return self.function(*arguments)


def _callee(function: Callable[..., Any], name: str, queue: str) -> Callee:
    return Callee(function=function, spec=StepSpec(name=name, label=name, queue=queue))

"""What decides while a run goes on: the functions behind branches and loops, and what loops give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from celeryflow.errors import NoBranchMatchedError

T = TypeVar("T")


@dataclass(frozen=True)
class LoopResult(Generic[T]):
    """How a loop ended: its last `value`, the `iterations` that it took, and whether `until` was met (`converged`)."""

    value: T
    iterations: int
    converged: bool


class Again(NamedTuple):
    """What an expanded function gives to be called again, with the value that this comes to."""

    value: Any


@dataclass(frozen=True)
class Decide:
    """Number of the first predicate that holds; of the last arm, one more, where there is an `otherwise`."""

    predicates: Sequence[Callable[[Any], Any]]
    has_otherwise: bool

    def __call__(self, value: Any) -> int:
        """Ask the predicates in order.

        Raises
        ------
        NoBranchMatchedError
            If none holds and there is no other arm.
        """
        for number, predicate in enumerate(self.predicates):
            if predicate(value):
                return number
        if not self.has_otherwise:
            raise NoBranchMatchedError(
                f"none of the {len(self.predicates)} predicates of cf.branch holds for {value!r:.200}. "
                "Add otherwise= for what is left."
            )
        return len(self.predicates)


@dataclass(frozen=True)
class Loop:
    """One look at a loop's state: its end, or another iteration."""

    body: Callable[[Any], Any]
    until: Callable[[Any], Any]
    max_iterations: int

    def __call__(self, state: Any, iterations: int = 0) -> LoopResult[Any] | Again:
        """Ask `until`, then call the body."""
        if self.until(state):
            return LoopResult(state, iterations, converged=True)
        if iterations >= self.max_iterations:
            return LoopResult(state, iterations, converged=False)
        return Again(self.body(state))

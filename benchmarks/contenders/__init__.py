"""Who takes part: each does every work in the way that its own documentation would."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib import import_module
from typing import Any, Protocol

WORKERS = 2
"""Worker processes of each contender."""

NAMES = ("celeryflow", "pool", "pool_chunked", "celery", "dask", "ray")
"""In the order of their turns; each is a module here with a ``started()``."""

Tasks = Mapping[str, tuple[list[str], float]]
"""A trace: parents and seconds by task, parents first."""


class Contender(Protocol):
    """A started contender; `cost_s` is CPU time a step. One that cannot do a work raises NotImplementedError."""

    def one(self, value: int) -> int:
        """One no-op, from submit to result."""

    def map_sum(self, items: range, cost_s: float) -> int:
        """A step an item, and the sum."""

    def chain(self, value: int, count: int, cost_s: float) -> int:
        """Steps one after the other."""

    def layers(self, values: range, count: int, cost_s: float) -> int:
        """`count` layers of steps, each with three inputs from the layer before, and the sum of the last."""

    def stages(self, items: range, count: int, cost_s: float) -> int:
        """`count` element-wise maps, one over the other, and the sum of the last."""

    def frame(self, frame: Any, count: int) -> Any:
        """A DataFrame of this process through `count` steps and back."""

    def graph(self, tasks: Tasks) -> int:
        """A trace; the depth that its tasks found."""

    def rest(self) -> None:
        """Wait until nothing of it is warm that would be cold after a pause. Not timed."""


def threes(width: int) -> list[tuple[int, int, int]]:
    """Where each node of a layer has its inputs in the layer before."""
    return [(i, (i + 1) % width, (i + 7) % width) for i in range(width)]


@contextmanager
def started(names: list[str]) -> Iterator[tuple[dict[str, Contender], dict[str, str]]]:
    """The contenders, started; and why those are missing that are not installed."""
    missing: dict[str, str] = {}
    with ExitStack() as stack:
        found: dict[str, Contender] = {}
        for name in sorted(
            names, key=lambda name: not name.startswith("pool")
        ):  # they fork, and so come before all threads
            try:
                module = import_module(f"benchmarks.contenders.{name}")
            except ModuleNotFoundError as error:
                missing[name] = str(error)
                continue
            start: Callable[[], AbstractContextManager[Contender]] = module.started
            found[name] = stack.enter_context(start())
        yield {name: found[name] for name in NAMES if name in found}, missing

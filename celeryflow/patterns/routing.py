"""Items that are not equally urgent: each goes the way of its class, and the urgent ones go first.

**When.** Alerts, requests or orders come in one heap. What is critical has to be done at once, and somebody told of it
while the rest is still going on; what is bulk may wait, and is cheaper by the batch.

::

                             .-- critical (9):  handle, handle, handle --> on_complete
    items --> classify --> sort                                                            --> combine
                             |-- standard (5):  handle, handle, handle, handle, handle
                             '-- bulk (1):      handle 50 at once, handle 50 at once

**The steps.**

============= ======================================= ================================================================
step          is called with                          gives
============= ======================================= ================================================================
`classify`    an item                                 its class, the name of a route
a route's     an item; with `batch_size` a list of up its result; with `batch_size` a list, array or the like with
              to so many                              a result for each, in their order
`on_complete` the route's results, in the order of    nothing that counts; runs when the route is done, at its priority
              the input
`combine`     all results, as below                   the result of the run
============= ======================================= ================================================================

Priorities are strict, across all runs of a queue: as long as an item of a higher one waits, no worker takes one of a
lower. What has been started is not interrupted: an urgent item waits for one item or batch at most, or for 0.1 s of
small ones.

Where a class wants several steps, give a workflow as the route's step: all of them have the route's priority, but for
those that have one of their own.

**When not.** For a decision about a single value there is `cf.branch`. Where urgent work comes in at any time, submit a
run of its own for it, with ``.options(priority=9)``: here all items are classified before the first one is handled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from celeryflow.errors import ArgumentError, InvalidOptionError, ResultCountError, UnknownRouteError, did_you_mean
from celeryflow.graph import checks
from celeryflow.graph.trace import phase
from celeryflow.patterns.arguments import Part, at_priority, listed, optional_part, part
from celeryflow.step import Step, step
from celeryflow.workflow import Workflow, workflow

PATTERN = "priority_routing"


@dataclass(frozen=True)
class Route:
    """The way of one class of items.

    Parameters
    ----------
    step : step, workflow or function
        Handles an item, or a list of them where there is a `batch_size`.
    priority : int
        0 to 9, 9 the highest, of the route's steps and of `on_complete`.
    batch_size : int, optional
        Items that `step` gets at once, at most; 1 or more.
    on_complete : step, workflow or function, optional
        Gets the list of the route's results, once, when it is done; of a route without items that is ``[]``.

    Raises
    ------
    ArgumentError, InvalidOptionError
        If a step is none, or a number out of its range.
    """

    step: Callable[[Any], Any]
    priority: int = 5
    batch_size: int | None = None
    on_complete: Callable[[list[Any]], Any] | None = None

    def __post_init__(self) -> None:
        part("Route", "step", self.step)
        optional_part("Route", "on_complete", self.on_complete)
        checks.check_priority(self.priority, "priority of a Route")
        size = self.batch_size
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
            raise InvalidOptionError(
                f"batch_size of a Route must be a whole number from 1, or None, not {size!r:.200}."
            )


def priority_routing(
    *,
    classify: Callable[[Any], Any],
    routes: Mapping[Any, Route],
    combine: Callable[[dict[str, Any]], Any] | None = None,
    otherwise: Any = None,
) -> Workflow[[Any], Any]:
    """A workflow that classifies items and handles each class by its own step, at its own priority.

    Parameters
    ----------
    classify : step, workflow or function
        ``classify(item)``, the name of a route.
    routes : dict of Route
        By name; a bare step stands for a ``Route`` of it.
    combine : step, workflow or function, optional
        Makes the result of the run out of the dict below.
    otherwise : name of a route, optional
        Which route takes items of unknown classes. Without it they are an error.

    Returns
    -------
    Workflow
        ``.run(items)``, whose result is a dict, or what `combine` makes of it:

        - ``routes``: the results of each route, empty ones too, in the order of the input;
        - ``items``: a pair ``(route, result)`` for each item, in the order of the input.

    Raises
    ------
    ArgumentError, InvalidOptionError
        At once, if a step is none, there is no route, or none of that name. In the run: `UnknownRouteError` for a class
        without a route, before anything is handled, and `ResultCountError` for a batch that gave another number of
        results than it has items.

    Examples
    --------
    >>> routes = {"odd": Route(lambda x: -x, priority=9), "even": Route(lambda xs: [x // 2 for x in xs], batch_size=50)}
    >>> routing = priority_routing(classify=lambda x: "odd" if x % 2 else "even", routes=routes)
    >>> routing([1, 2, 3, 4])["items"]
    [('odd', -1), ('even', 1), ('odd', -3), ('even', 2)]
    """
    if not isinstance(routes, Mapping) or not routes:
        raise ArgumentError(f"routes= of {PATTERN} takes a dict with a Route for each class, not {routes!r:.200}.")
    if otherwise is not None and not _is_in(otherwise, routes):
        hint = did_you_mean(otherwise, [str(name) for name in routes], "routes")
        raise InvalidOptionError(f"otherwise= of {PATTERN} names no route: {otherwise!r:.200}.{hint}")
    ways = [_way(name, route) for name, route in routes.items()]
    classified, combined = part(PATTERN, "classify", classify), optional_part(PATTERN, "combine", combine)

    def priority_routing(items: Any) -> Any:
        given = [*(listed(PATTERN, "items", items).items or ())]
        with phase("classify"):
            classes = classified.map(given)
            names, groups = step(sort, outputs=2)(given, classes, {way.name: way.batch_size for way in ways}, otherwise)
        results = {way.name: way.handle(groups[way.name], names) for way in ways}
        with phase("combine"):
            found = step(collect)(names, results)
            return found if combined is None else combined(found)

    return workflow(priority_routing)


@dataclass(frozen=True, kw_only=True)
class _Way:
    """A route with its name, and its steps made."""

    name: Any
    step: Part
    on_complete: Part | None
    priority: int
    batch_size: int | None

    def handle(self, items: Any, names: Any) -> Any:
        """The results of the route, in a body; `items` are its items, or batches of them."""
        with phase(str(self.name).strip() or repr(self.name)), at_priority(self.priority):
            results = self._urgent(self.step).map(items)
            if self.batch_size is not None:
                results = step(unbatch)(self.name, names, self.batch_size, results)
            if self.on_complete is not None:
                self._urgent(self.on_complete)(results)
        return results

    def _urgent(self, given: Part) -> Part:
        """A step at the route's priority; a workflow's steps have that of the tracer."""
        return given.options(priority=self.priority) if isinstance(given, Step) else given


def _way(name: Any, given: Any) -> _Way:
    if not isinstance(given, Route) and not callable(given):
        raise ArgumentError(f"routes[{name!r}] of {PATTERN} takes a Route or a step, not {given!r:.200}.")
    route = given if isinstance(given, Route) else Route(given)
    return _Way(
        name=name,
        step=part(PATTERN, str(name), route.step),
        on_complete=optional_part(PATTERN, f"{name} complete", route.on_complete),
        priority=route.priority,
        batch_size=route.batch_size,
    )


def sort(
    items: list[Any], classes: list[Any], batch_sizes: dict[Any, int | None], otherwise: Any
) -> tuple[list[Any], dict[Any, list[Any]]]:
    """The name of each item's route, and for each route its items, in batches where it has a size for them.

    Raises
    ------
    UnknownRouteError
        If a class has no route, and nothing takes what has none.
    """
    names = [otherwise if not _is_in(found, batch_sizes) and otherwise is not None else found for found in classes]
    groups: dict[Any, list[Any]] = {name: [] for name in batch_sizes}
    for number, (item, name) in enumerate(zip(items, names, strict=True)):
        if not _is_in(name, groups):
            raise UnknownRouteError(_unknown(number, item, name, groups))
        groups[name].append(item)
    return names, {name: _batched(group, batch_sizes[name]) for name, group in groups.items()}


def unbatch(route: Any, names: list[Any], batch_size: int, batches: list[Any]) -> list[Any]:
    """The results of all batches, one an item.

    Raises
    ------
    ResultCountError
        If a batch has not as many as it had items.
    """
    left, results = names.count(route), []
    for number, batch in enumerate(batches):
        size, found = min(batch_size, left), _as_list(batch)
        if found is None or len(found) != size:
            got = f"a {type(batch).__name__}" if found is None else f"{len(found)} results"
            raise ResultCountError(
                f"batch {number} of route {route!r} had {size} items, and its step returned {got}. "
                "A step that takes batches returns a list with a result for each item, in their order."
            )
        results += found
        left -= size
    return results


def collect(names: list[Any], results: dict[Any, list[Any]]) -> dict[str, Any]:
    """What the run gives: results by route, and pairs in the order of the input."""
    left = {name: iter(found) for name, found in results.items()}
    return {"routes": results, "items": [(name, next(left[name])) for name in names]}


def _unknown(number: int, item: Any, name: Any, groups: Mapping[Any, Any]) -> str:
    hint = did_you_mean(str(name), [str(known) for known in groups], "routes")
    return (
        f"item {number} of {PATTERN}, {item!r:.100}, is of class {name!r:.100}, for which there is no route.{hint} "
        "Say with otherwise= which route takes such items."
    )


def _as_list(batch: Any) -> list[Any] | None:
    try:
        return None if isinstance(batch, dict) else [*(listed(PATTERN, "results", batch).items or ())]
    except ArgumentError:
        return None


def _batched(items: list[Any], size: int | None) -> list[Any]:
    return items if size is None else [items[i : i + size] for i in range(0, len(items), size)]


def _is_in(name: Any, known: Mapping[Any, Any]) -> bool:
    """Whether it is a key; what cannot be one is not."""
    try:
        return name in known
    except TypeError:
        return False

"""Multi-tenant work: many customers' items through the same steps, each within limits of its own.

The scenario: a service computes for many customers. Each has bought so many items at a time; some have settings of
their own, some are in a hurry. One sends ten times what it may, one sends rubbish, and nobody else is to notice.

::

      submit            process                      aggregate               report

                    ┌─> process (acme's items) ──> aggregate (of acme's) ──┐
      quotas of ────┼─> process (bolt's items) ──> aggregate (of bolt's) ──┼──> a row a tenant
      all tenants   └─x core is over its quota ────────────────────────────┘

                        each within its time_limit_s

- ``process(item, settings) -> result``: one item, with the settings of its tenant.
- ``aggregate(results) -> result`` of a tenant, whose results come in the order of its items. It is called where all
  of them are there: what was made from a part would look like the whole.

Quotas bound the items that a tenant has in flight, over all runs of the pattern on this server. They are reserved by
the submit itself, in one script on the server, and count until the tenant's items have ended or its run is over,
however that comes about, so that nothing has to give them back. Of equal priority the tenant with the fewest items
goes first; of several runs of this pattern the shortest has three of four turns. So a flood is felt by its sender
alone. Priorities are strict.

When not to use it: where tenants may not run in the same processes (give each its workers, by ``queue=``), where they
may not see each other's data in the server's memory, or where waiting is wanted instead of a refusal (submit again
later).
"""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from celeryflow.control import gather
from celeryflow.engine import context
from celeryflow.errors import ArgumentError, InvalidOptionError, UnknownTenantError, did_you_mean
from celeryflow.graph import checks
from celeryflow.graph.refs import Ref, unmapped
from celeryflow.graph.trace import phase
from celeryflow.patterns.arguments import at_priority, called, listed, part
from celeryflow.step import Step, step
from celeryflow.values.gathered import Gathered
from celeryflow.workflow import Workflow, workflow

if TYPE_CHECKING:
    import pandas as pd

PATTERN = "multi_tenant"
STATUSES = ("success", "failure", "rejected")
SHOWN = 3


@dataclass(frozen=True)
class TenantConfig:
    """What a tenant may have.

    Parameters
    ----------
    quota_items : int
        Items that it may have in flight at a time, over all runs; 0 for none.
    priority : int
        0 to 9, 9 the highest.
    time_limit_s : float
        Seconds from the submit, within which all of its items are to be done.
    settings : dict
        What `process` gets beside each of its items.

    Raises
    ------
    InvalidOptionError
        If one is out of range.
    """

    quota_items: int
    priority: int = 5
    time_limit_s: float = 300
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        is_whole = isinstance(self.quota_items, int) and not isinstance(self.quota_items, bool)
        if not is_whole or self.quota_items < 0:
            raise InvalidOptionError(
                f"quota_items of a TenantConfig must be a whole number of 0 or more, not {self.quota_items!r}."
            )
        checks.check_priority(self.priority, "priority of a TenantConfig")
        checks.check_timeout(self.time_limit_s, "time_limit_s of a TenantConfig")
        if not isinstance(self.settings, Mapping):
            raise InvalidOptionError(f"settings of a TenantConfig must be a dict, not {self.settings!r:.200}.")


def multi_tenant(
    *, process: Callable[[Any, Any], Any], aggregate: Callable[[list[Any]], Any], config: Mapping[str, TenantConfig]
) -> Workflow[..., pd.DataFrame]:
    """A workflow that does many tenants' work side by side, each within its own limits.

    Parameters
    ----------
    process : callable
        Step or function ``(item, settings) -> result``.
    aggregate : callable
        Step or function ``results -> result`` of a tenant.
    config : dict of str to TenantConfig
        What each tenant may have. A ``defaultdict`` lets unknown ones in.

    Returns
    -------
    Workflow
        ``.run({tenant: items}).result()`` is a DataFrame with a row a tenant, in the order of the data:

        - tenant (str)
        - status (category): ``success``; ``failure`` where an item or `aggregate` failed, or the time was over;
          ``rejected`` where its items and those that it has in flight are more than its quota
        - items, failed (int): how many it sent, and how many of them have no result (0 where it was rejected)
        - result (object): of `aggregate`; None unless the status is ``success``
        - error (str): the first failures, or the figures of the rejection; missing where there was none
        - duration_s (float): seconds from the beginning of the run to its result; 0 where it was rejected, NaN where
          the run took results of an earlier one over

        The run itself is a success, whatever becomes of its tenants.

    Raises
    ------
    ArgumentError, InvalidOptionError
        At once, for what could never work.
    UnknownTenantError
        By ``run`` and ``submit``, for a tenant without a config: nothing has started then.

    Examples
    --------
    >>> prices = multi_tenant(
    ...     process=lambda item, settings: item * settings.get("rate", 1),
    ...     aggregate=sum,
    ...     config={"acme": TenantConfig(100, settings={"rate": 2}), "bolt": TenantConfig(quota_items=2)},
    ... )
    >>> prices({"acme": [1, 2], "bolt": [3]}).result.tolist()
    [6, 3]
    """
    if not isinstance(config, Mapping):
        raise ArgumentError(f"config= of {PATTERN} takes a dict of TenantConfigs by tenant, not {config!r:.200}.")
    for tenant in config:
        _config_of(config, tenant)
    work, total = _plain("process", process), _plain("aggregate", aggregate)
    row = Step[..., Any](replace(total.callee, function=partial(settle, aggregate=total.callee.function)))

    def body(data: Mapping[str, Any]) -> Any:
        tenants = _tenants(data, config)
        with phase("begin"):
            begun = step(begin, priority=9)()
        rows = {}
        for tenant, (items, limits) in sorted(tenants.items(), key=lambda entry: len(entry[1][0])):
            with at_priority(limits.priority):
                rows[tenant] = _row(work, row, tenant, items, limits, begun)
        with phase("report"):
            return step(report)(gather(rows), {tenant: len(items) for tenant, (items, _) in tenants.items()}, begun)

    return workflow(name=PATTERN)(body)


def _row(
    process: Step[..., Any], row: Step[..., Any], tenant: str, items: list[Any], limits: TenantConfig, begun: Any
) -> Any:
    """A tenant's row, but for its name and number of items."""
    with phase("process"):
        each = called(process, f"{process.spec.label}.{tenant}")
        each = each.options(quota=(tenant, limits.quota_items), priority=limits.priority)
        found = gather(each.map(items, unmapped(dict(limits.settings))), deadline_s=limits.time_limit_s)
    with phase("aggregate"):
        of_all = called(row, f"{row.spec.label}.{tenant}")
        of_all = of_all.options(timeout_s=row.spec.timeout_s or limits.time_limit_s, priority=limits.priority)
        return of_all(found, begun, limits.time_limit_s)


def _plain(argument: str, given: Any) -> Step[..., Any]:
    found = part(PATTERN, argument, given)
    if isinstance(found, Workflow):
        raise ArgumentError(f"{argument}= of {PATTERN} takes a function or a step, not the workflow {found.name!r}.")
    return Step(found.callee)  # without a name of its own in the graph, where it stands once a tenant


def _config_of(config: Mapping[str, TenantConfig], tenant: str) -> TenantConfig:
    try:
        found = config[tenant]
    except KeyError:
        known = [str(name) for name in config]
        raise UnknownTenantError(
            f"{PATTERN} has no config for tenant {tenant!r}.{did_you_mean(tenant, known, 'tenants')} "
            "Add a TenantConfig to config=, or leave the tenant out."
        ) from None
    if not isinstance(tenant, str) or not 0 < len(tenant) <= 200:
        raise ArgumentError(f"a tenant of {PATTERN} has a name of 1 to 200 characters, not {tenant!r:.250}.")
    if not isinstance(found, TenantConfig):
        raise ArgumentError(f"config= of {PATTERN} has {found!r:.200} for tenant {tenant!r}, and no TenantConfig.")
    return found


def _tenants(data: Any, config: Mapping[str, TenantConfig]) -> dict[str, tuple[list[Any], TenantConfig]]:
    """Items and limits of each tenant."""
    if isinstance(data, Ref):
        len(data)  # it is traced once that is there
    if not isinstance(data, Mapping):
        raise ArgumentError(f"{PATTERN} runs on a dict of items by tenant, not on {data!r:.200}.")
    limits = {tenant: _config_of(config, tenant) for tenant in data}
    items = {tenant: listed(PATTERN, f"the items of tenant {tenant!r}", data[tenant]).items or [] for tenant in data}
    return {tenant: ([*items[tenant]], limits[tenant]) for tenant in data}


Begun = tuple[float, str]
"""When a run began, and which."""


def begin() -> Begun:
    """The time, and the run that is going on here."""
    here = context.running()
    return time.time(), here.run_id if here else ""


def _seconds_since(begun: Begun) -> float:
    """NaN where it was another run that began then."""
    now, run = begin()
    return max(0.0, now - begun[0]) if run == begun[1] else math.nan


def settle(
    found: Gathered[Any], begun: Begun, time_limit_s: float, aggregate: Callable[[list[Any]], Any]
) -> dict[str, Any] | Awaitable[dict[str, Any]]:
    """What became of a tenant."""
    reasons = found.missing
    if not reasons:
        value = aggregate(found.values)
        return _awaited(value, begun) if inspect.isawaitable(value) else _succeeded(value, begun)
    first = next(iter(reasons.values()))
    if first.startswith("over quota"):
        return {"status": "rejected", "failed": 0, "error": first, "duration_s": 0.0}
    error = _in_words(reasons, len(reasons) + len(found), time_limit_s)
    return {"status": "failure", "failed": len(reasons), "error": error, "duration_s": _seconds_since(begun)}


async def _awaited(value: Awaitable[Any], begun: Begun) -> dict[str, Any]:
    return _succeeded(await value, begun)


def _succeeded(value: Any, begun: Begun) -> dict[str, Any]:
    return {"status": "success", "result": value, "duration_s": _seconds_since(begun)}


def _in_words(reasons: Mapping[Any, str], items: int, time_limit_s: float) -> str:
    failed = {index: reason for index, reason in reasons.items() if reason.startswith("failed: ")}
    told = []
    if failed:
        listed = [f"item {index}: {reason.removeprefix('failed: ')}" for index, reason in list(failed.items())[:SHOWN]]
        more = f"; and {len(failed) - SHOWN} more" if len(failed) > SHOWN else ""
        told.append(f"{len(failed)} of {items} items failed: {'; '.join(listed)}{more}")
    if len(failed) < len(reasons):
        late = len(reasons) - len(failed)
        told.append(f"{late} of {items} items were late: the time limit of {time_limit_s:g} s was over")
    return ". ".join(told)


def report(rows: Gathered[dict[str, Any]], items: dict[str, int], begun: Begun) -> pd.DataFrame:
    """A row a tenant."""
    import pandas as pd

    found = rows.as_dict()
    for tenant, reason in rows.missing.items():
        error = f"aggregate {reason}" if reason.startswith("failed") else f"aggregate was {reason}"
        found[tenant] = {"status": "failure", "error": error, "duration_s": _seconds_since(begun)}
    ordered = [found[tenant] for tenant in items]
    text = pd.Series(["text"]).dtype
    return pd.DataFrame(
        {
            "tenant": pd.Series([*items], dtype=text),
            "status": pd.Categorical([row["status"] for row in ordered], categories=STATUSES),
            "items": pd.Series([*items.values()], dtype="int64"),
            "failed": pd.Series([row.get("failed", 0) for row in ordered], dtype="int64"),
            "result": pd.Series([row.get("result") for row in ordered], dtype=object),
            "error": pd.Series([row.get("error") for row in ordered], dtype=text),
            "duration_s": pd.Series([row["duration_s"] for row in ordered], dtype="float64"),
        }
    )

"""How one run of a workflow goes: ``@cf.workflow(…)`` and ``workflow.options(…)``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec.structs import replace

from celeryflow.errors import InvalidOptionError, did_you_mean
from celeryflow.graph import checks
from celeryflow.graph.model import PRIORITY, Record


class RunOptions(Record, frozen=True):
    """Options of a run.

    Attributes
    ----------
    fail_fast : bool
        The first failure ends the run.
    timeout_s, deadline_s : float or None
        Seconds that it may take: from its first step, and from its submit.
    priority : int
        0 to 9, of its steps that have none of their own.
    tenant : str or None
        For whom it is: a label in ``cf.history()``.
    job_id : str or None
        Of all that is submitted under it, one run is going on.
    """

    fail_fast: bool = False
    timeout_s: float | None = None
    deadline_s: float | None = None
    priority: int = PRIORITY
    tenant: str | None = None
    job_id: str | None = None

    def changed(self, given: Mapping[str, Any], workflow: str) -> RunOptions:
        """These with others of `given`.

        Raises
        ------
        InvalidOptionError, InvalidNameError
            Naming workflow, option, value and what is allowed.
        """
        for name, value in given.items():
            if name not in _CHECKS:
                raise InvalidOptionError(
                    f"workflow {workflow!r} has no option {name!r}.{did_you_mean(name, [*_CHECKS], 'options')}"
                )
            if value is not None or name in ("fail_fast", "priority"):
                _CHECKS[name](value, f"{name} of workflow {workflow!r}")
        return replace(self, **given)

    def limits(self) -> dict[str, Any]:
        """Those that are the graph's."""
        return {name: getattr(self, name) for name in ("fail_fast", "timeout_s", "deadline_s")}


def _check_flag(value: Any, what: str) -> None:
    if not isinstance(value, bool):
        raise InvalidOptionError(f"{what} must be True or False, not {value!r}.")


_CHECKS: dict[str, Callable[[Any, str], Any]] = {
    "fail_fast": _check_flag,
    "timeout_s": checks.check_timeout,
    "deadline_s": checks.check_timeout,
    "priority": checks.check_priority,
    "tenant": checks.check_name,
    "job_id": checks.check_name,
}

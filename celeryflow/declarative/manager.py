"""WorkflowManager: what an engine knows, and what is to be done with all of its executions."""

from __future__ import annotations

import math
from typing import Any

from celeryflow.declarative.engine import WorkflowEngine
from celeryflow.declarative.model import WorkflowStatus
from celeryflow.errors import InvalidOptionError
from celeryflow.runtime import session as sessions
from celeryflow.store.collect import delete_run

HOUR_S = 3600.0


class WorkflowManager:
    """Looks after the workflows of an engine, and after the executions of the deployment.

    Parameters
    ----------
    engine : WorkflowEngine
        Whose workflows they are.
    """

    def __init__(self, engine: WorkflowEngine) -> None:
        self.engine = engine

    def list_workflows(self) -> list[str]:
        """Ids of the workflows that are registered, in order."""
        return [*self.engine.definitions]

    def get_workflow_info(self, workflow_id: str) -> dict[str, Any]:
        """A workflow as it is registered.

        Returns
        -------
        dict
            ``workflow_id``, ``total_steps`` and ``steps``: of each, in the order in which they were given, what
            `WorkflowStep` has, and its ``level``.

        Raises
        ------
        UnknownWorkflowError
            If there is none of that id.
        """
        definition = self.engine.definition(workflow_id)
        levels = definition.levels()
        steps = [
            {**vars(step), "depends_on": [*step.depends_on], "level": levels[name]}
            for name, step in definition.steps.items()
        ]
        return {"workflow_id": definition.id, "total_steps": len(steps), "steps": steps}

    def cancel_all_executions(self) -> int:
        """End all executions that are not over, of whatever workflow and process; how many that were."""
        live = (WorkflowStatus.PENDING, WorkflowStatus.RUNNING)
        found = [row["execution_id"] for row in self.engine.get_execution_history() if row["status"] in live]
        return sum(self.engine.cancel_workflow(execution) for execution in found)

    def cleanup_completed_executions(self, max_age_hours: float = 24) -> int:
        """Delete the executions that ended so long ago: succeeded, failed or cancelled, whoever started them.

        Parameters
        ----------
        max_age_hours : float
            Hours since the end, 0 or more.

        Returns
        -------
        int
            How many were deleted.

        Raises
        ------
        InvalidOptionError
            If the age is no such number.
        """
        is_number = isinstance(max_age_hours, (int, float)) and not isinstance(max_age_hours, bool)
        if not is_number or not math.isfinite(max_age_hours) or max_age_hours < 0:
            raise InvalidOptionError(f"max_age_hours must be a number of at least 0, not {max_age_hours!r:.200}.")
        store = sessions.current().link.store
        found = [row["execution_id"] for row in self.engine.get_execution_history()]
        return sum(delete_run(store, execution, max_age_hours * HOUR_S) for execution in found)

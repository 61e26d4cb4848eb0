"""WorkflowEngine: workflows that are described as data, and their executions, which are runs like all others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from celeryflow.declarative import files, shipped
from celeryflow.declarative.compiled import compiled
from celeryflow.declarative.definition import Definition, define
from celeryflow.declarative.model import WorkflowStatus, WorkflowStep
from celeryflow.declarative.resolve import resolve, resolve_all
from celeryflow.declarative.status import at, is_execution, new_execution_id, status_of
from celeryflow.errors import UnknownExecutionError, UnknownRunError, UnknownWorkflowError, did_you_mean
from celeryflow.graph.states import State
from celeryflow.run.history import history_rows
from celeryflow.run.run import Run
from celeryflow.run.start import attach, submit


class WorkflowEngine:
    """Runs workflows that are described as data, by the names of steps and Celery tasks.

    Definitions belong to the engine that they are registered with, as code does. Executions are runs of the deployment:
    every process that uses it sees the same ones, by their ids. Three workflows are there without being registered:
    ``data_processing``, ``conditional_processing`` and ``parallel_processing``.

    Examples
    --------
    >>> engine = WorkflowEngine()
    >>> engine.register_workflow("etl", [WorkflowStep("load", "proj.tasks.load", {"path": "a.csv"})])
    >>> engine.definitions["etl"].order
    ('load',)
    """

    def __init__(self) -> None:
        self.definitions: dict[str, Definition] = {}

    def register_workflow(self, workflow_id: str, steps: Iterable[WorkflowStep]) -> None:
        """Check a workflow and keep it; another one of that id is replaced.

        Parameters
        ----------
        workflow_id : str
            Its id, of ``[A-Za-z0-9_.-]``.
        steps : iterable of WorkflowStep
            Its steps, in any order.

        Raises
        ------
        EmptyWorkflowError, DuplicateNameError, CycleError, UnknownStepError, InvalidNameError, InvalidOptionError,
        ConditionError, DefinitionError
            If the steps do not fit together. Nothing is registered then.
        AmbiguousTaskError
            If a task's short name is that of several.
        ArgumentError
            If a step needs an argument that nothing gives it. A task that is not known here is looked at once it is
            executed.
        """
        definition = define(workflow_id, steps)
        resolve(definition)
        self.definitions[workflow_id] = definition

    def execute_workflow(self, workflow_id: str, input_data: Any = None) -> str:
        """Start a workflow, and do not wait.

        Parameters
        ----------
        workflow_id : str
            Of a workflow that was registered, or of one that is there anyway.
        input_data : Any
            What the steps get as ``input``.

        Returns
        -------
        str
            Id of the execution, by which every process finds it: ``cf.attach`` too, as it is that of a run.

        Raises
        ------
        UnknownWorkflowError
            If there is no such workflow.
        UnknownTaskError
            Within 3 s, if neither this process nor a worker has the task of a step.
        """
        definition = self.definition(workflow_id)
        targets = resolve_all(definition)
        return submit(compiled(definition, targets, input_data), new_execution_id(workflow_id)).id

    def get_workflow_status(self, execution_id: str) -> dict[str, Any]:
        """How an execution stands.

        Returns
        -------
        dict
            ``execution_id``, ``workflow_id``, ``status`` (a `WorkflowStatus`), ``progress`` (``completed_steps``,
            ``total_steps``, ``percentage`` from 0 to 100; what a condition left out counts as completed, what failed
            does not), ``steps``, ``submitted_at``, ``started_at``, ``finished_at`` (UTC, or None), ``duration_s`` and
            ``error``. Each of the ``steps`` has its ``status`` (pending, running, success, failure, skipped,
            cancelled), ``level`` (how many must be done before it, one after the other), ``started_at``,
            ``finished_at``, ``duration_s``, ``attempts``, ``result``, ``error`` where it failed, and ``reason`` where
            it was skipped or cancelled.

        Raises
        ------
        UnknownExecutionError
            If the server knows no such execution.
        """
        return status_of(self.run(execution_id))

    def cancel_workflow(self, execution_id: str, reason: str = "") -> bool:
        """End an execution, stopping what runs of it; False if it was over before.

        Raises
        ------
        UnknownExecutionError
            If the server knows no such execution.
        """
        run = self.run(execution_id)
        if run.snapshot().status.is_terminal:
            return False
        run.cancel(reason)
        return run.status == State.CANCELLED

    def get_execution_history(self, workflow_id: str | None = None) -> list[dict[str, Any]]:
        """The executions of this deployment, whoever started them, the latest first.

        Parameters
        ----------
        workflow_id : str, optional
            Only those of this workflow.

        Returns
        -------
        list of dict
            Each with ``execution_id``, ``workflow_id``, ``status``, ``submitted_at``, ``finished_at`` and
            ``duration_s``.
        """
        return [_told(row) for row in _rows() if workflow_id in (None, row["workflow"])]

    def definition(self, workflow_id: str) -> Definition:
        """A workflow that was registered, or is there anyway.

        Raises
        ------
        UnknownWorkflowError
            If there is none of that id.
        """
        found = self.definitions.get(workflow_id) or shipped.find(workflow_id) if isinstance(workflow_id, str) else None
        if found is None:
            hint = did_you_mean(str(workflow_id), [*self.definitions, *shipped.NAMES], "workflows")
            raise UnknownWorkflowError(f"no workflow {workflow_id!r} is registered with this engine.{hint}")
        return found

    def run(self, execution_id: str) -> Run[Any]:
        """The run that an execution is, with its pictures and frames.

        Raises
        ------
        UnknownExecutionError
            If the server knows no such execution.
        """
        if not isinstance(execution_id, str) or not is_execution(execution_id):
            raise UnknownExecutionError(f"{execution_id!r:.200} is no id of an execution: see get_execution_history().")
        try:
            return attach(execution_id)
        except UnknownRunError:
            raise UnknownExecutionError(
                f"the server knows no execution {execution_id!r}: see get_execution_history()."
            ) from None

    load = files.Loader()
    """``WorkflowEngine.load(path)`` is an engine with the workflows of a file; ``engine.load(path)`` adds them."""

    def save(self, path: Any, workflow_id: str | None = None) -> None:
        """Write the workflows of this engine, or one of them, to a ``.json``, ``.yaml`` or ``.yml`` file.

        Raises
        ------
        DefinitionError
            If something of them cannot be written so, naming it.
        UnknownWorkflowError
            If there is none of that id.
        """
        chosen = [*self.definitions.values()] if workflow_id is None else [self.definition(workflow_id)]
        files.save(path, chosen)


def _rows() -> Iterator[Mapping[str, Any]]:
    return (row for row in history_rows() if is_execution(row["run"]))


def _told(row: Mapping[str, Any]) -> dict[str, Any]:
    status, begun = WorkflowStatus(row["status"]), row["submitted_at"]
    is_over = State(row["status"]).is_terminal
    return {
        "execution_id": row["run"],
        "workflow_id": row["workflow"],
        "status": status,
        "submitted_at": at(begun),
        "finished_at": at(begun + row["duration_s"]) if is_over else None,
        "duration_s": row["duration_s"],
    }

"""Interactive workflows for notebooks: plain functions as a DAG on Celery workers, results as DataFrames."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from celeryflow.version import __version__

if TYPE_CHECKING:
    from celeryflow import patterns as patterns
    from celeryflow.compare import compare as compare
    from celeryflow.compare import load_report as load_report
    from celeryflow.compare import sweep as sweep
    from celeryflow.control import branch as branch
    from celeryflow.control import gather as gather
    from celeryflow.control import loop as loop
    from celeryflow.declarative import WorkflowEngine as WorkflowEngine
    from celeryflow.declarative import WorkflowManager as WorkflowManager
    from celeryflow.declarative import WorkflowStatus as WorkflowStatus
    from celeryflow.declarative import WorkflowStep as WorkflowStep
    from celeryflow.engine.context import Current as Current
    from celeryflow.engine.context import current as current
    from celeryflow.errors import *  # noqa: F403
    from celeryflow.graph.control import LoopResult as LoopResult
    from celeryflow.graph.model import Graph as Graph
    from celeryflow.graph.refs import unmapped as unmapped
    from celeryflow.graph.trace import phase as phase
    from celeryflow.run.history import history as history
    from celeryflow.run.monitor import monitor as monitor
    from celeryflow.run.run import Run as Run
    from celeryflow.run.start import attach as attach
    from celeryflow.runtime.session import connect as connect
    from celeryflow.runtime.session import shutdown as shutdown
    from celeryflow.step import Step as Step
    from celeryflow.step import step as step
    from celeryflow.tasks import from_task as from_task
    from celeryflow.values.gathered import Gathered as Gathered
    from celeryflow.workflow import Workflow as Workflow
    from celeryflow.workflow import map_items as _map_items
    from celeryflow.workflow import workflow as workflow

    map = _map_items  # noqa: A001

_PUBLIC = {
    "Current": "engine.context:Current",
    "Gathered": "values.gathered:Gathered",
    "Graph": "graph.model:Graph",
    "Run": "run.run:Run",
    "Step": "step:Step",
    "Workflow": "workflow:Workflow",
    "WorkflowEngine": "declarative:WorkflowEngine",
    "WorkflowManager": "declarative:WorkflowManager",
    "WorkflowStatus": "declarative:WorkflowStatus",
    "WorkflowStep": "declarative:WorkflowStep",
    "LoopResult": "graph.control:LoopResult",
    "attach": "run.start:attach",
    "branch": "control:branch",
    "compare": "compare:compare",
    "connect": "runtime.session:connect",
    "current": "engine.context:current",
    "from_task": "tasks:from_task",
    "gather": "control:gather",
    "history": "run.history:history",
    "load_report": "compare:load_report",
    "loop": "control:loop",
    "map": "workflow:map_items",
    "monitor": "run.monitor:monitor",
    "phase": "graph.trace:phase",
    "shutdown": "runtime.session:shutdown",
    "step": "step:step",
    "sweep": "compare:sweep",
    "unmapped": "graph.refs:unmapped",
    "workflow": "workflow:workflow",
}
"""Where each public name lives; the errors are those of ``celeryflow.errors``."""

_ROOMS = ("declarative", "patterns")
"""Packages with public names of their own."""

__all__ = [*_PUBLIC, *_ROOMS, "__version__"]


class _Package(ModuleType):
    """Keeps ``cf.workflow`` the decorator, though importing ``celeryflow.workflow`` binds the module to that name."""

    def __setattr__(self, name: str, value: Any) -> None:
        is_shadow = name in _PUBLIC and isinstance(value, ModuleType)
        super().__setattr__(name, getattr(value, name) if is_shadow else value)

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return importlib.import_module, (self.__name__,)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"celeryflow.{name}")
    module, _, attribute = _PUBLIC.get(name, f"errors:{name}").partition(":")
    found = importlib.import_module(f"celeryflow.{module}")
    try:
        value = getattr(found, attribute)
    except AttributeError:
        raise AttributeError(f"module 'celeryflow' has no attribute {name!r}") from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

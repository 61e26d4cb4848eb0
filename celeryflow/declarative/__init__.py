"""Workflows that are described as data, by the names of steps and Celery tasks: see ``docs/declarative.md``."""

from __future__ import annotations

from celeryflow.declarative.engine import WorkflowEngine
from celeryflow.declarative.manager import WorkflowManager
from celeryflow.declarative.model import WorkflowStatus, WorkflowStep

__all__ = ["WorkflowEngine", "WorkflowManager", "WorkflowStatus", "WorkflowStep"]

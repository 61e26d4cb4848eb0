"""Three workflows that are there under their ids: each a YAML file, and a module of the steps that it names."""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path

from celeryflow.declarative.definition import Definition

NAMES = ("data_processing", "conditional_processing", "parallel_processing")


def find(workflow_id: str) -> Definition | None:
    """The shipped workflow of that id, its steps imported; None if there is none."""
    return _find(workflow_id) if workflow_id in NAMES else None


@cache
def _find(workflow_id: str) -> Definition:
    from celeryflow.declarative.files import read

    importlib.import_module(f"{__name__}.{workflow_id}")
    (definition,) = read(Path(__file__).with_name(f"{workflow_id}.yaml"))
    return definition

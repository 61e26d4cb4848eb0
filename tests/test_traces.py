"""Ten real workflows (data/README.md): the values of a plain evaluation, and no step before its parents."""

from __future__ import annotations

import gzip
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from executions import Executions

import celeryflow as cf
from celeryflow.graph import checks

pytestmark = pytest.mark.usefixtures("runtime")

Tasks = dict[str, list[str]]


@cache
def traces() -> dict[str, Tasks]:
    """Parents by task, by workflow; tasks in an order in which they can be called."""
    data = json.loads(gzip.decompress((Path(__file__).parent / "data" / "traces.json.gz").read_bytes()))
    found = {family: {name: parents for name, (parents, _) in trace["tasks"].items()} for family, trace in data.items()}
    return {family: {name: tasks[name] for name in checks.order(tasks)} for family, tasks in found.items()}


def value_of(name: str, parents: list[str]) -> str:
    return hashlib.sha256("|".join([name, *parents]).encode()).hexdigest()


def evaluate(tasks: Tasks) -> dict[str, str]:
    """What each task gives, by plain Python."""
    values: dict[str, str] = {}
    for name, parents in tasks.items():
        values[name] = value_of(name, [values[parent] for parent in parents])
    return values


FAMILIES = [
    "helloworld/helloworld", "makeflow/blast", "nextflow/airrflow", "nextflow/chipseq", "nextflow/mag",
    "nextflow/viralrecon", "pegasus/1000genome", "pegasus/seismology", "pegasus/soykb", "pegasus/srasearch",
]  # fmt: skip


def test_there_are_ten_traces_of_10_to_1101_tasks() -> None:
    assert sorted(traces()) == FAMILIES
    assert (min(map(len, traces().values())), max(map(len, traces().values()))) == (10, 1101)


@pytest.mark.parametrize("family", FAMILIES)
def test_real_workflow_gives_the_values_of_a_plain_evaluation(family: str, executions: Executions) -> None:
    tasks = traces()[family]

    @cf.step
    def task(name: str, parents: list[str]) -> str:
        with executions.recorded():
            return value_of(name, parents)

    @cf.workflow
    def replay() -> Any:
        refs: dict[str, Any] = {}
        for name, parents in tasks.items():
            refs[name] = task.options(name=name)(name, [refs[parent] for parent in parents])
        return refs

    run = replay.run(check=True)
    done = {execution.step: execution for execution in executions.read()}

    assert run.steps()["step"].tolist() == list(tasks)
    assert run.result() == evaluate(tasks)
    given_up = run.events().query("event in ('released', 'lost')")
    assert len(executions.read()) == len(done) == len(tasks), given_up.to_string()
    for name, parents in tasks.items():
        for parent in parents:
            ended = done[parent].end
            assert ended is not None and ended <= done[name].start

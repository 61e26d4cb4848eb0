"""A kernel that dies in the middle of a run: the run waits, is shown as stalled, and goes on when resumed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from executions import Executions, wait_until

WORKFLOW = """
import time
sys.path.insert(0, {tests!r})
from executions import Executions
executions = Executions({path!r})

@cf.step
def first(x, ended):
    with executions.recorded():
        time.sleep(0.06)  # so that each item has a claim of its own
        while sum(e.end is not None for e in executions.read()) >= ended and not os.path.exists("go"):
            time.sleep(0.01)
    return x + 1

@cf.step
def total(xs):
    with executions.recorded():
        return sum(xs)

@cf.workflow
def grow(n, ended):
    return total(first.map(first.map(list(range(n)), ended), ended))
"""


@pytest.fixture
def workflow(executions: Executions) -> str:
    """Source of a workflow of 2 x 12 items, which stops after some of them until a file ``go`` is there."""
    return WORKFLOW.format(tests=str(Path(__file__).parent), path=executions.path)


def die(kernel: Callable[..., Any], workflow: str, ended: int) -> tuple[str, int]:
    """Id of a run whose kernel died when so many items had ended, and the keeper of its runtime."""
    source = f"""
{workflow}
from celeryflow.runtime import embedded
from pathlib import Path
cf.connect(workers=2)
run = grow.submit(12, {ended})
while run.steps().done.sum() < {ended} or len(executions.read()) <= {ended}:
    time.sleep(0.005)
print("\\n" + json.dumps([run.id, embedded.status(Path.cwd())["keeper"]]), flush=True)
os._exit(0)
"""
    return tuple(kernel(source))


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def once_each(executions: Executions) -> dict[tuple[str, int | None], int]:
    found: dict[tuple[str, int | None], int] = {}
    for e in executions.read():
        if e.end is not None:
            found[e.step, e.index] = found.get((e.step, e.index), 0) + 1
    return found


@pytest.mark.parametrize("ended", [0, 22])
def test_a_run_waits_for_somebody_to_resume_it(
    kernel: Callable[..., Any], workflow: str, executions: Executions, tmp_path: Path, ended: int
) -> None:
    run, keeper = die(kernel, workflow, ended)
    wait_until(lambda: is_gone(keeper))
    before = once_each(executions)
    shown = kernel(f"""
{workflow}
row = cf.history().set_index("run").loc[{run!r}]
found = cf.attach({run!r})
time.sleep(0.5)  # nothing begins by itself
answer = [str(row.status), bool(row.stalled), found.stalled, found.status, len(executions.read())]
""")
    assert shown[:4] == ["running", True, True, "running"]
    assert once_each(executions) == before
    assert shown[4] > len(before)  # a step was in mid-run
    (tmp_path / "go").touch()

    result = kernel(f"""
{workflow}
run = cf.attach({run!r}).resume()
answer = [run.result(), run.status, run.stalled, run.steps().done.tolist()]
""")

    assert result == [sum(range(12)) + 24, "success", False, [12, 12, 1]]
    after = once_each(executions)
    assert len(after) == 25
    assert set(after.values()) == {1}


def test_the_command_line_resumes(kernel: Callable[..., Any], workflow: str, tmp_path: Path) -> None:
    run, keeper = die(kernel, workflow, 5)
    wait_until(lambda: is_gone(keeper))
    (tmp_path / "go").touch()

    code = kernel(f"""
import subprocess
answer = subprocess.run([sys.executable, "-m", "celeryflow", "resume", {run!r}]).returncode
""")

    assert code == 0

"""Celery tasks that a team has already, as steps: ``cf.from_task`` and ``celeryflow worker -A``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from shell import Shell, opened
from test_own_workers import notebook, worker

import celeryflow as cf

APP = """
from celery import Celery
app = Celery("proj", broker="redis://nobody.invalid", include=["proj.tasks"])
app.conf.task_always_eager = False
"""

TASKS = """
import os
from celery.exceptions import Ignore, Reject
from proj.app import app

@app.task
def clean(x, by=2):
    print("cleaning", x)
    return x * by

@app.task(name="fleet.ship", bind=True)
def ship(self, x):
    return self.name, x, os.getppid()

@app.task(bind=True, max_retries=0)
def flaky(self, path):
    try:
        if not os.path.exists(path):
            open(path, "w").close()
            raise OSError("not yet")
    except OSError as error:
        raise self.retry(exc=error)
    return "there"

@app.task(autoretry_for=(OSError,))
def refused():
    raise OSError("gone")

@app.task
def ignored():
    raise Ignore

@app.task
def rejected():
    raise Reject("never", requeue=True)
"""


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A directory with a project that has an app and tasks."""
    with opened(tmp_path) as shell:
        project = shell.directory / "proj"
        project.mkdir()
        for name, source in {"__init__": "", "app": APP, "tasks": TASKS}.items():
            (project / f"{name}.py").write_text(source)
        yield shell


DESCRIBED = """
engine = cf.WorkflowEngine()
engine.register_workflow("etl", [
    cf.WorkflowStep("x", "proj.tasks.clean", {"x": 3, "surplus": 1}),
    cf.WorkflowStep("ship", "ship", {"surplus": 2}, ["x"]),
    cf.WorkflowStep("again", "clean", {"by": 5}, ["x", "ship"], condition={"step": "x", "type": ">", "threshold": 1}),
    cf.WorkflowStep("either", "fleet.ship", {"x": 0}, ["again"]),
])
execution_id = engine.execute_workflow("etl")
engine.run(execution_id).wait()
steps = engine.get_workflow_status(execution_id)["steps"]
engine.register_workflow("unknown", [cf.WorkflowStep("a", "cleann", {"x": 3})])
try:
    engine.execute_workflow("unknown")
except cf.UnknownTaskError as error:
    answer += [{name: step["result"] or step["error"] for name, step in steps.items()}, str(error)]
"""


def test_tasks_are_steps_of_workers_with_their_app(shell: Shell) -> None:
    """Workflows that are described know them by short names: ``ship`` can be imported nowhere, only workers know it."""
    shell("up", "-c", "0")

    with worker(shell, "-A", "proj.app", "-Q", "default,etl") as own:
        values, attempts, lines, errors, described, unknown = notebook(
            shell,
            """
clean = cf.from_task("proj.tasks.clean")

@cf.workflow
def etl():
    cleaned = clean.map(range(5), by=10)
    ship = cf.from_task("fleet.ship", queue="etl")
    flaky = cf.from_task("proj.tasks.flaky", retries=1, retry_delay_s=0.01)
    return clean(cleaned), ship(clean(1)), flaky("flag"), cf.from_task("proj.tasks.ignored")()

@cf.workflow
def bad():
    return [cf.from_task(f"proj.tasks.{name}")() for name in ("refused", "rejected", "claen")]

run, failed = etl.run(check=True), bad.run()
attempts = run.steps().set_index("step")["attempts"].to_dict()
answer = [run.result(), attempts, run.logs()["text"].tolist(), failed.errors()[["error", "message"]].values.tolist()]
"""
            + DESCRIBED,
        )

    assert values == [[0, 10, 20, 30, 40] * 2, ["fleet.ship", 2, own.pid], "there", None]
    assert (attempts["flaky"], attempts["ship"]) == (2, 1)
    assert "cleaning 3" in lines
    (refused, rejected, missing) = errors
    assert refused == ["OSError", "gone"]
    assert rejected[0] == "Reject"
    assert missing[0] == "UnknownTaskError"
    assert "'proj.tasks.claen' is not in the app 'proj' of worker" in missing[1]
    assert "Did you mean 'proj.tasks.clean'?" in missing[1]
    assert described == {"x": 6, "ship": ["fleet.ship", 6, own.pid], "again": 30, "either": ["fleet.ship", 0, own.pid]}
    assert "calls 'cleann'" in unknown and "Did you mean 'clean'" in unknown


def test_worker_without_the_app_imports_the_module_or_says_what_to_start(shell: Shell) -> None:
    value, (error, message), pid = notebook(
        shell,
        """
cf.connect(workers=1)
run = cf.workflow(lambda: cf.from_task("proj.tasks.clean")(4), name="imported").run(check=True)
failed = cf.workflow(lambda: cf.from_task("fleet.ship")(4), name="named").run()
answer = [run.result(), failed.errors()[["error", "message"]].values.tolist()[0], failed.errors()["worker"][0]]
""",
    )

    assert value == 8
    assert error == "UnknownTaskError"
    assert f"task 'fleet.ship' is unknown to worker {pid}" in message
    assert "celeryflow worker -A" in message


def test_task_is_called_here_outside_of_a_workflow(shell: Shell) -> None:
    one, many, missing, facts = notebook(
        shell,
        """
clean = cf.from_task("proj.tasks.clean", name="scrub", retries=3)
try:
    missing = cf.from_task("fleet.ship")(1)
except cf.UnknownTaskError as error:
    missing = str(error)
assert not os.path.exists(".celeryflow")
answer = [clean(3, by=4), clean.map([1, 2]), missing, [clean.spec.name, clean.spec.retries, repr(clean)]]
""",
    )

    assert (one, many) == (12, [2, 4])
    assert "'fleet.ship' is unknown to worker" in missing
    assert "No module named 'fleet'" in missing
    assert facts == ["scrub", 3, "<Step scrub>"]


@pytest.mark.parametrize("name", ["", None, 3, b"proj.tasks.clean"])
def test_what_is_no_name_is_refused(name: Any) -> None:
    with pytest.raises(cf.InvalidNameError, match=r"proj\.tasks\.clean"):
        cf.from_task(name)


@pytest.mark.parametrize(
    ("app", "complaint"),
    [
        ("proj.nothing", "no Celery app can be loaded by that name"),
        ("proj.tasks:clean", "no Celery app"),
        ("proj.pickling", "the app accepts pickle"),
        ("proj.pickling:results", "the app accepts pickle"),
    ],
)
def test_app_that_is_none_or_accepts_pickle_is_refused(shell: Shell, app: str, complaint: str) -> None:
    (shell.directory / "proj" / "pickling.py").write_text(
        "from celery import Celery\n"
        "app = Celery('unsafe')\napp.conf.accept_content = ['json', 'pickle']\n"
        "results = Celery('unsafe')\nresults.conf.result_serializer = 'pickle'\n"
    )

    done = shell("worker", "-A", app)

    assert (done.returncode, done.stdout) == (2, "")
    assert f"-A {app}: " in done.stderr
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr

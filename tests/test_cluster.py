"""A server and workers of one's own, on what could be other machines: health, status, logs, what they lack."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import deployments
import psutil
import pytest
from deployments import Cluster
from shell import wait_for

VERSIONS = f"Python {sys.version_info.major}.{sys.version_info.minor}"


@dataclass
class Site:
    """A cluster with a worker, and what that writes."""

    cluster: Cluster
    worker: subprocess.Popen[str]
    log: Path

    @property
    def name(self) -> str:
        return f"{socket.gethostname()}:{self.worker.pid}"

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines(keepends=True) if line.endswith("\n")]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    root = tmp_path_factory.mktemp("cluster")
    with deployments.opened(root) as cluster:
        # The address on the command line, as one would rather not: it must not stay there.
        given = ["--url", cluster.url, "-Q", "default,gpu", "-c", "2", "--log-format", "json"]
        with cluster.worker(*given, log=root / "log", environment={"CELERYFLOW_URL": ""}) as worker:
            yield Site(cluster, worker, root / "log")


def test_health_is_that_of_a_live_worker_of_this_host(site: Site) -> None:
    there = site.cluster.cli("health", "--worker", site.name, "-Q", "gpu")
    elsewhere = site.cluster.cli("health", "--host", "elsewhere")

    assert (there.returncode, there.stdout) == (0, "")
    assert f"Alive: {site.name}." in there.stderr
    assert (elsewhere.returncode, elsewhere.stdout) == (1, "")
    assert f"Those that were: {site.name}." in elsewhere.stderr


def test_status_shows_workers_queues_and_what_is_stuck(site: Site) -> None:
    run = site.cluster.notebook(
        """
        answer = cf.workflow(lambda: cf.step(lambda: 1, name="train", queue="tpu")(), name="etl").submit().id
        """
    )
    found = site.cluster.status()
    (worker,) = found["workers"]
    queues = {queue["queue"]: queue for queue in found["queues"]}
    text = site.cluster.cli("status").stderr
    site.cluster.cli("cancel", run)

    assert (worker["worker"], worker["host"], worker["pid"]) == (site.name, socket.gethostname(), site.worker.pid)
    assert (worker["state"], worker["queues"], worker["concurrency"]) == ("working", ["default", "gpu"], 2)
    assert f"Python {worker['python']}" == VERSIONS
    assert worker["directory"] == str(site.cluster.directory("worker"))
    assert worker["last_beat_s"] < 10
    assert (queues["tpu"]["ready"], queues["tpu"]["running"], queues["tpu"]["workers"]) == (1, 0, 0)
    assert queues["tpu"]["oldest_wait_s"] > 0
    assert queues["gpu"]["workers"] == 1
    ((stuck, why),) = ((one["run"], one["why"]) for one in found["stuck"])
    assert (stuck, len(why)) == (run, 1)
    assert why[0] in " ".join(text.split())
    assert re.fullmatch(
        "no worker serves queue 'tpu', in which 'train' waits. Start one: celeryflow worker -Q tpu", why[0]
    )


def test_what_only_the_notebook_has_is_an_error_that_names_the_worker(site: Site) -> None:
    loaded, imported, read = site.cluster.notebook(
        """
        from pathlib import Path

        mine = sys.modules["only_here"] = types.ModuleType("only_here")
        here = Path.cwd()

        def imports(_):
            import only_here

        def hold(i):
            (here / f"held-{i}").touch()
            while not (here / "go").exists():
                time.sleep(0.01)

        held = cf.map(hold, range(2))
        while len([*here.glob("held-*")]) < 2:
            time.sleep(0.01)
        Path("notebooks").mkdir()
        os.chdir("notebooks")
        Path("table.csv").touch()
        runs = [cf.map(lambda _: mine.x, [0]), cf.map(imports, [0]), cf.map(lambda _: open("table.csv").read(), [0])]
        os.chdir(here)
        Path("notebooks").rename("elsewhere")  # as on a host that never had it
        Path("go").touch()
        answer = [run.wait().errors()["message"].item() for run in runs]
        """
    )
    where = f"worker {socket.gethostname()}:"
    for message in (loaded, imported):
        assert message.startswith("No module named 'only_here'")
        assert where in message
        assert VERSIONS in message
        assert "Install" in message
    assert "'table.csv'" in read
    assert where in read
    assert f"(in {site.cluster.directory('worker')}, with {VERSIONS}." in read
    assert f"The notebook's directory {site.cluster.directory('client')}/notebooks is not on that host." in read


def test_every_line_of_a_log_in_json_is_an_object_without_secrets(site: Site) -> None:
    run = site.cluster.notebook(
        """
        answer = cf.map(lambda i: os._exit(3), [0], max_worker_losses=0, name="deadly").wait().id
        """
    )
    connection = site.cluster.connection()
    connection.config_set("requirepass", "another")
    connection.client_kill_filter(_type="normal", skipme=True)
    try:
        wait_for(lambda: "invalid username-password" in site.log.read_text())
    finally:
        connection.config_set("requirepass", site.cluster.password)
        connection.close()

    records = site.records()

    assert all({"at", "level", "logger", "worker", "message"} <= record.keys() for record in records)
    assert {record["worker"] for record in records} == {site.name}
    assert [r["step"] for r in records if r.get("run") == run] == ["deadly"]
    assert any(record["logger"].startswith("celery.") for record in records)
    assert site.cluster.leaks(site.log.read_text()) == []


def test_no_command_line_shows_a_secret(site: Site) -> None:
    with site.cluster.start("-m", "celeryflow", "health", "--url", site.cluster.url) as looking:
        wait_for(lambda: "--url" not in psutil.Process(looking.pid).cmdline())
        lines = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
        looking.communicate(timeout=60)

    assert looking.returncode == 0
    assert site.cluster.leaks(*lines) == []


PROJECT = """
import os
from celery import Celery

app = Celery("project", broker=os.environ["CELERYFLOW_URL"], backend=os.environ["CELERYFLOW_URL"])
app.conf.broker_connection_retry_on_startup = True

@app.task
def add(x, y):
    return x + y
"""


def test_celery_app_of_a_user_works_on_the_same_server_and_each_side_inspects_its_own(site: Site) -> None:
    (site.cluster.directory("project") / "project.py").write_text(PROJECT)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    command = ("-m", "celery", "-A", "project", "worker", "--pool", "solo", "--hostname", "theirs@here")
    with site.cluster.start(*command, where="project", **quiet) as theirs:
        try:
            found = site.cluster.notebook(
                """
                import warnings
                from project import add, app

                with warnings.catch_warnings(action="ignore"):
                    from celeryflow.celery import app as ours
                while not app.control.ping(timeout=0.5):
                    pass
                here = [*ours.control.inspect(timeout=1).ping()]
                inspect = ours.control.inspect(here, timeout=20)
                answer = {
                    "theirs": [*app.control.inspect(timeout=1).ping()],
                    "ours": here,
                    "active": [*inspect.active()],
                    "stats": inspect.stats(),
                    "sum": add.delay(1, 2).get(timeout=20),
                    "map": cf.map(lambda i: i + 1, range(3)).result(),
                }
                """,
                where="project",
            )
        finally:
            theirs.terminate()
    listed = site.cluster.run("-m", "celery", "-A", "celeryflow", "inspect", "ping", "--json")
    mine = site.cluster.status()["workers"][0]["celery"]

    assert found["theirs"] == ["theirs@here"]
    assert found["ours"] == found["active"] == [mine]
    assert found["stats"][mine]["pool"]["max-concurrency"] == 2
    assert (found["sum"], found["map"]) == (3, [1, 2, 3])
    assert list(json.loads(listed.stdout)) == [mine]
    assert site.cluster.leaks(json.dumps(found), listed.stdout, listed.stderr) == []

"""Workers that take neither code nor pickles: ``celeryflow worker --registered-only``."""

from __future__ import annotations

import importlib
import os
import pickle
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clusters import KEYS, Cluster
from stores import served

import celeryflow as cf
from celeryflow.runtime.session import current

STEPS = """
    import os
    import celeryflow as cf
    from celery import Celery

    app = Celery("fleet", broker="redis://nobody.invalid")

    class Flaky(Exception):
        pass

    @cf.step
    def add(x, y=1):
        return x + y

    @cf.step(outputs=2)
    def halves(xs):
        return xs[: len(xs) // 2], xs[len(xs) // 2 :]

    @cf.step
    def total(xs, **more):
        return {"sum": sum(xs), "n": len(xs), "more": more}

    @cf.step(retries=2, retry_delay_s=0.01)
    def flaky(path):
        if not os.path.exists(path):
            open(path, "w").close()
            raise Flaky("not yet")
        return path

    @cf.step
    async def later(x):
        return x * 10

    @cf.step
    def bad(x):
        raise ValueError(f"no {x}")

    @cf.step
    def a_set():
        return {1, 2}

    @app.task(name="fleet.ship", shared=False)  # with other apps of the tests' process
    def ship(x):
        return f"shipped {x}"

    def unregistered(x):
        return x
"""

OTHERS = """
    import pathlib
    import celeryflow as cf

    pathlib.Path(__file__).with_name("imported").touch()

    @cf.step
    def add(x):
        return x
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A server with one worker, which has been told of the module ``fleet_steps`` alone."""
    folder = tmp_path_factory.mktemp("cluster")
    with served() as server:
        cluster = Cluster(server, folder)
        for name, source in {"fleet_steps": STEPS, "fleet_others": OTHERS}.items():
            (cluster.directory / f"{name}.py").write_text(textwrap.dedent(source))
        with cluster.worker("--registered-only", "-A", "fleet_steps", "-Q", "default") as worker:
            yield cluster
            assert worker.poll() is None


@pytest.fixture
def steps(cluster: Cluster, elsewhere: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module, as a client has it."""
    monkeypatch.syspath_prepend(str(cluster.directory))
    monkeypatch.setattr("celeryflow.registry._entries", {})
    cluster.connect()
    yield importlib.import_module("fleet_steps")
    for name in ("fleet_steps", "fleet_others"):
        sys.modules.pop(name, None)


def refusals(run: cf.Run[Any]) -> dict[str, str]:
    """What each failed step says; none was tried twice."""
    assert run.wait().status == "failure"
    assert not run.timeline()["attempt"].gt(1).any()
    errors = run.errors()
    assert set(errors["error"]) == {"RegisteredOnlyError"}
    return dict(zip(errors["step"], errors["message"], strict=True))


def test_steps_maps_chains_gathers_and_retries_run_by_name(steps: Any, tmp_path: Path) -> None:
    @cf.workflow
    def etl(xs: list[int], path: str) -> Any:
        more = steps.add.map(steps.add.map(xs, y=10))
        low, high = steps.halves(more)
        failed = steps.bad.map([1, 2], on_error="skip")
        return {
            "sums": [steps.total(low, path=path), steps.total(high, nested={"a": [None, True, 1.5, (1, "ü")]})],
            "dict": steps.add.map({"a": 1, "b": 2}),
            "planned": steps.later.map(low),
            "late": cf.gather([steps.later(1), steps.bad(2)]),
            "failed": failed,
            "flaky": steps.flaky.options(retry_on=(steps.Flaky, OSError))(path),
            "task": cf.from_task("fleet.ship")(steps.add(1)),
        }

    run = etl.run([1, 2, 3, 4], str(tmp_path / "flag"))

    result = run.result()
    assert result.pop("late").as_dict() == {0: 10}
    assert result == {
        "sums": [
            {"sum": 25, "n": 2, "more": {"path": str(tmp_path / "flag")}},
            {"sum": 29, "n": 2, "more": {"nested": {"a": [None, True, 1.5, (1, "ü")]}}},
        ],
        "dict": {"a": 2, "b": 3},
        "planned": [120, 130],
        "failed": [],
        "flaky": str(tmp_path / "flag"),
        "task": "shipped 2",
    }
    assert run.steps().set_index("step")["attempts"]["flaky"] == 2


def test_worker_stores_no_pickle(steps: Any) -> None:
    run = cf.workflow(lambda: [steps.add(1), steps.bad("thing")]).run()

    error = run.errors().to_dict("records")[0]
    assert (error["error"], error["message"]) == ("ValueError", "no thing")
    link = current().link
    stored = link.store.client.hvals(f"celeryflow:run:{run.id}:out")
    assert stored and not any(b"\x80\x05" in record for record in stored)
    with pytest.raises(cf.StepFailedError, match="no thing"):
        run.result()


def test_what_is_refused_is_named_with_the_way_out_and_the_rest_goes_on(steps: Any) -> None:
    def cell(x: Any) -> Any:
        return x

    class Mine:
        pass

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("celeryflow.values.functions.is_local", lambda *_: False)
        run = cf.workflow(
            lambda: [
                steps.add.options(name="fine")(1),
                cf.step(cell, name="by-value")(1),
                steps.add.bind(y=2).options(name="bound")(1),
                cf.step(steps.unregistered)(1),
                cf.step(len, name="builtin")([1]),
                steps.add.options(name="pickled")(Mine()),
                steps.add.options(name="bytes")(b"x"),
                steps.add.options(name="large")(2**70),
                steps.add.options(name="mapped").map([{1}, {2}]),
                steps.a_set(),
                steps.add.options(name="again", retries=3, retry_on=Local)(1),
                cf.from_task("fleet.unknown").options(name="task")(1),
                cf.branch(1, (bool, steps.add)),
            ]
        ).submit()

    told = refusals(run)
    assert run.value("fine") == 2
    assert "--import" in told["by-value"] and "by value" in told["by-value"]
    assert "by value" in told["bound"]
    assert "'fleet_steps:unregistered'" in told["unregistered"] and "'builtins:len'" in told["builtin"]
    for name in ("pickled", "bytes", "large", "mapped"):
        assert "is pickled" in told[name], name
    assert "is of type set" in told["a_set"]
    assert ":Local'" in told["again"]
    assert "'task fleet.unknown'" in told["task"]
    assert "a decision of the workflow" in told["branch"]


class Local(Exception):
    """Of a module that the worker has not."""


def test_nothing_is_imported_for_a_client(steps: Any, cluster: Cluster) -> None:
    others = importlib.import_module("fleet_others")
    mark = cluster.directory / "imported"
    mark.unlink()
    told = refusals(cf.workflow(lambda: [others.add(1)]).submit())

    assert "'fleet_others:add'" in told["add"]
    assert not mark.exists()


class Trap:
    """Writes down in which process it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"echo $PPID >> {self.path}",)

    def sprung_in(self) -> set[int]:
        """Ids of these processes."""
        return {int(line) for line in self.path.read_text().split()}


def test_pickle_that_is_signed_and_runs_code_is_not_opened(steps: Any, tmp_path: Path) -> None:
    """As of someone who has the key: code, arguments, items, keys of a map, and results of other workers."""
    trap = Trap(tmp_path / "sprung")
    pickle.loads(pickle.dumps(trap))
    assert trap.sprung_in() == {os.getpid()}

    told = refusals(
        cf.workflow(
            lambda: [
                steps.add.options(name="argument")(trap),
                steps.add.options(name="nested")([{"a": trap}]),
                steps.add.options(name="keyword")(1, y=trap),
                steps.add.options(name="items").map([trap, trap]),
                steps.add.options(name="keys").map({trap: 1}),
                cf.gather([steps.later.options(name="async")(trap)]),
                cf.step(trap.__reduce__, name="code")(),
            ]
        ).submit()
    )

    assert {*told} >= {"argument", "nested", "keyword", "items", "code"}
    assert trap.sprung_in() == {os.getpid()}  # the worker has not


def test_result_of_another_worker_that_is_pickled_is_refused(steps: Any, cluster: Cluster) -> None:
    with cluster.worker("-Q", "any"):
        told = refusals(
            cf.workflow(
                lambda: [steps.add(steps.a_set.options(queue="any")()), steps.a_set.options(queue="any")()]
            ).submit()
        )

    assert list(told) == ["add"]
    assert "a result that it needs is pickled" in told["add"]
    assert KEYS[0] not in told["add"]


@pytest.mark.parametrize("module", ["no_such_module", "broken"])
def test_worker_whose_modules_cannot_be_imported_does_not_start(cluster: Cluster, module: str) -> None:
    (cluster.directory / "broken.py").write_text("raise RuntimeError('on purpose')")

    with (
        pytest.raises(AssertionError, match=f"--import {module}: it cannot be imported"),
        cluster.worker("--import", module),
    ):
        pass

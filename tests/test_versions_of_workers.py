"""Workers of another celeryflow or another Python than the client's."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clusters import Cluster
from executions import wait_until
from stores import served

import celeryflow as cf

MINE = f"{sys.version_info.major}.{sys.version_info.minor}"

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with served() as server:
        yield Cluster(server, tmp_path)


def of_version(folder: Path, change: str) -> dict[str, str]:
    """Variables of a process in which celeryflow is another version of itself, or Python is."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(change)
    return {"PYTHONPATH": f"{folder}:{Path(cf.__file__).parents[1]}"}


NEWER = "import celeryflow.version as v; v.__version__ = '99.1'"
OTHER_PYTHON = "import celeryflow.values.vault as v; v.PYTHON = '3.99'"


@pytest.mark.parametrize(
    ("change", "theirs"), [(NEWER, f"99.1 on Python {MINE}"), (OTHER_PYTHON, f"{cf.__version__} on Python 3.99")]
)
def test_worker_of_another_version_takes_nothing_and_who_waits_is_told(
    cluster: Cluster, tmp_path: Path, change: str, theirs: str
) -> None:
    cluster.connect()
    step = cf.step(abs, name="work")
    waiting = cf.workflow(lambda: step(-1), name="waiting").submit()
    with cluster.worker(**of_version(tmp_path / "newer", change)) as worker:
        began = time.monotonic()
        wait_until(lambda: "no worker serves" in repr(waiting) and theirs in repr(waiting))
        assert time.monotonic() - began < 3
        assert f":{worker.pid}" in repr(waiting) and f"needs celeryflow {cf.__version__} on Python {MINE}" in repr(
            waiting
        )
        (stuck,) = cluster.status()["stuck"]
        (why,) = stuck["why"]
        assert theirs.replace("Python ", "") in why and "same versions" in why
        with pytest.raises(cf.VersionMismatchError, match=theirs) as caught:
            cf.workflow(lambda: step(-1)).submit()
        assert f"{cf.__version__} on Python {MINE}" in str(caught.value)
        assert f"worker {worker_name(cluster, worker)}" in str(caught.value) and str(Path.cwd()) in str(caught.value)

        with cluster.worker() as own:
            assert waiting.result() == 1
            several = cf.map(lambda _: __import__("os").getppid(), range(20))
            assert {*several.result()} == {own.pid}
    assert waiting.timeline()["outcome"].tolist() == ["success"]


def worker_name(cluster: Cluster, worker: Any) -> str:
    return next(name for name in cluster.store.live_workers() if name.endswith(f":{worker.pid}"))

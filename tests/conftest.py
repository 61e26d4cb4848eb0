"""One embedded runtime for all tests that need workers, in a directory of its own; nothing of it is left behind."""

from __future__ import annotations

import os
import sys
import tempfile
import textwrap
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
import stores
from executions import Executions, wait_until
from kernels import Place

import celeryflow as cf
from celeryflow import registry
from celeryflow.runtime import embedded, pools
from celeryflow.runtime.session import current
from celeryflow.store.scripts import Store

WORKERS = 2


@dataclass(frozen=True)
class Runtime:
    """Where the session's runtime is."""

    directory: Path
    state: Path

    def processes(self) -> list[psutil.Process]:
        """What was started for it and still lives; the server's title hides its variables."""
        return [p for p in psutil.process_iter() if p.pid != os.getpid() and self._is_mine(p)]

    def _is_mine(self, process: psutil.Process) -> bool:
        with suppress(psutil.Error):
            return (
                process.environ().get("XDG_STATE_HOME") == str(self.state) and process.status() != psutil.STATUS_ZOMBIE
            )
        return False


class Notebook:
    """Cells that run one after the other in one namespace, as in a kernel's ``__main__``."""

    def __init__(self) -> None:
        self.namespace: dict[str, Any] = {"__name__": "__main__", "cf": cf}

    def cell(self, source: str) -> None:
        exec(compile(textwrap.dedent(source), "<cell>", "exec"), self.namespace)

    def __getitem__(self, name: str) -> Any:
        return self.namespace[name]


def failure_of(run: cf.Run[Any]) -> cf.StepFailedError:
    """What `result` raises of a run that failed."""
    with pytest.raises(cf.StepFailedError) as caught:
        run.result()
    return caught.value


def assert_all_workers_are_free(folder: Path) -> None:
    """As many steps as there are workers meet: each waits until all have come."""
    places = [folder / f"met-{i}" for i in range(WORKERS)]

    def meet(i: int) -> None:
        places[i].touch()
        wait_until(lambda: all(place.exists() for place in places))

    cf.map(meet, range(WORKERS)).result(timeout_s=5)


def stored_keys() -> set[bytes]:
    """What the server holds of runs and their code."""
    session = current()
    client, prefix = session.link.store.client, session.link.settings.prefix
    return {key for part in ("run", "code") for key in client.scan_iter(f"{prefix}:{part}:*", count=10_000)}


def blobs() -> set[Path]:
    return {path for path in Path(current().link.settings.blobs).rglob("*") if path.is_file()}


@pytest.fixture(scope="session")
def shared_runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    directory, state = tmp_path_factory.mktemp("notebook"), tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(state))
        patch.chdir(directory)
        cf.connect(workers=WORKERS)
    runtime = Runtime(directory, state)
    yield runtime
    cf.shutdown()
    wait_until(lambda: not runtime.processes())


FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


@pytest.fixture
def runtime(
    shared_runtime: Runtime, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Runtime]:
    """Workers to run on; the test works in their directory. A test that failed leaves them free for the next one."""
    monkeypatch.setenv("XDG_STATE_HOME", str(shared_runtime.state))
    monkeypatch.chdir(shared_runtime.directory)
    yield shared_runtime
    if request.node.stash.get(FAILED, False):
        store = current().link.store
        for run, _ in store.unfinished_runs():
            store.cancel(run, "its test has failed")


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The test connects where it likes; the session's runtime goes on."""
    monkeypatch.setattr("celeryflow.runtime.session._session", None)
    yield
    cf.shutdown()


@pytest.fixture
def nothing_is_written(runtime: Runtime) -> Iterator[None]:
    """The test leaves no run, no code and no blob behind."""
    before = stored_keys(), blobs(), cf.history()["run"].tolist()
    yield
    assert (stored_keys(), blobs(), cf.history()["run"].tolist()) == before


@pytest.fixture
def executions(tmp_path: Path) -> Executions:
    """A file in which steps write down their executions themselves."""
    return Executions(str(tmp_path / "executions.jsonl"))


@pytest.fixture
def notebook() -> Notebook:
    return Notebook()


@pytest.fixture
def cells(notebook: Notebook, executions: Executions) -> Notebook:
    """A notebook whose steps write down that they ran."""
    notebook.namespace["executions"] = executions
    return notebook


@pytest.fixture
def ran(executions: Executions) -> Callable[[], Counter[Any]]:
    """What ran since the last time that it was asked: steps, or steps and items."""
    seen = 0

    def since() -> Counter[Any]:
        nonlocal seen
        found = executions.read()
        fresh, seen = found[seen:], len(found)
        return Counter(e.step if e.index is None else (e.step, e.index) for e in fresh)

    return since


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Runs Python source in a process of its own, and gives what that leaves in ``answer``."""
    import json
    import subprocess

    def run(source: str, directory: Path | None = None, **environment: str) -> Any:
        home = directory or tmp_path
        script = tmp_path / "kernel.py"
        script.write_text(
            "import json, os, sys, warnings\n"
            "import celeryflow as cf\n"
            f"{textwrap.dedent(source)}\n"
            "print('\\n' + json.dumps(answer))\n"
        )
        done = subprocess.run(
            [sys.executable, "-W", "error", str(script)],
            cwd=home,
            capture_output=True,
            text=True,
            timeout=60,
            env={
                "XDG_STATE_HOME": str(tmp_path / "kernel-state"),
                **os.environ,
                "PYTHONPATH": str(Path(cf.__file__).parents[1]),
                **environment,
            },
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    yield run


@pytest.fixture(scope="module")
def client() -> Iterator[redis.Redis]:
    """A server without workers, for the tests of one file."""
    with stores.served() as connection:
        yield connection


@pytest.fixture
def store(client: redis.Redis) -> Store:
    """The runs of a deployment of the test's own."""
    return Store(client, next(stores.prefixes))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    temporary = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr(pools, "WORKER", pools.WORKER)
    place = Place(tmp_path, temporary)
    yield place
    for kernel in place.kernels:
        kernel.close()
    embedded.down(place.directory)
    left = place.processes()
    for process in left:
        process.kill()
    assert not left
    temporary.rmdir()  # fails if a socket was left


@pytest.fixture
def own_names(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of steps only those of the test's own file have names: others of this process may be called alike."""
    own = (f"{request.module.__name__}.", "celeryflow.")
    entries = {name: entry for name, entry in registry._entries.items() if name.startswith(own)}
    monkeypatch.setattr(registry, "_entries", entries)

"""Where steps run: in children of a Celery worker, in the notebook's directory, with processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from conftest import WORKERS, Runtime
from executions import Executions, wait_until

import celeryflow as cf

pytestmark = pytest.mark.usefixtures("runtime")


# --- whose children they are ---------------------------------------------------------------------------------


def test_every_execution_is_in_a_child_of_a_celery_worker_and_never_in_the_client(executions: Executions) -> None:
    @cf.step
    def work(x: Any) -> Any:
        with executions.recorded():
            time.sleep(0.01)
            return x

    @cf.workflow
    def etl() -> Any:
        return work(work.map(range(20))), [work(i) for i in range(20)]

    run = etl.run(check=True)
    done = executions.read()

    assert len(done) == 41 == len(run.timeline())
    assert {e.run for e in done} == {run.id}
    assert os.getpid() not in {pid for e in done for pid in (e.pid, e.ppid)}
    assert len({e.pid for e in done}) == WORKERS
    (parent,) = {e.ppid for e in done}
    command = psutil.Process(parent).cmdline()
    assert "celeryflow.engine.app" in command
    assert {e.pid for e in done} <= {child.pid for child in psutil.Process(parent).children()}


def test_celery_itself_counts_the_steps_processes_as_its_pool(executions: Executions, runtime: Runtime) -> None:
    from celeryflow.engine.app import make_app
    from celeryflow.runtime.session import current

    @cf.step
    def work(x: int) -> None:
        with executions.recorded():
            time.sleep(0.01)

    cf.map(work, range(10)).result()
    # Celery's own remote control, asked by way of the broker.
    with make_app(current().link.settings) as app:
        (stats,) = app.control.inspect(timeout=2).stats().values()

    assert {e.pid for e in executions.read()} == set(stats["pool"]["processes"])
    assert {e.ppid for e in executions.read()} == {stats["pid"]}
    assert stats["pool"]["implementation"].endswith("prefork:TaskPool")


def test_steps_run_in_parallel_on_all_workers(executions: Executions) -> None:
    @cf.step
    def work(x: int) -> None:
        with executions.recorded():
            wait_until(lambda: len(executions.read()) == WORKERS)

    cf.map(work, range(WORKERS)).result(timeout_s=20)

    assert len({e.pid for e in executions.read()}) == WORKERS


def test_kernel_of_another_environment_has_its_steps_run_in_its_own_pool(kernel: Any) -> None:
    first, other = kernel(
        """
        import subprocess, time

        @cf.step
        def parent(i):
            time.sleep(0.01)
            return os.getppid()

        def parents():
            return sorted(set(cf.map(parent, range(40)).result()))

        if sys.argv[1:]:
            sys.prefix = "/another/environment"
            answer = parents()
        else:
            cf.connect(workers=1)
            mine = set(parents())
            child = subprocess.Popen([sys.executable, __file__, "other"], stdout=subprocess.PIPE, text=True)
            while child.poll() is None:
                mine |= set(parents())
            answer = [sorted(mine), json.loads(child.stdout.read().splitlines()[-1])]
        """
    )

    assert len(first) == len(other) == 1
    assert first != other


# --- the directory and its modules -------------------------------------------------------------------------------


def test_steps_see_the_files_of_the_working_directory(runtime: Runtime) -> None:
    Path("table.csv").write_text("a,b\n1,2\n")

    @cf.step
    def read(name: str) -> str:
        return Path(name).read_text()

    run = cf.workflow(lambda: (read("table.csv"), cf.step(os.getcwd)())).run()

    assert run.result() == ("a,b\n1,2\n", str(runtime.directory))


def test_steps_write_files_to_the_working_directory(runtime: Runtime) -> None:
    cf.workflow(lambda: cf.step(lambda: Path("written.txt").write_text("by a step"))()).run(check=True)

    assert (runtime.directory / "written.txt").read_text() == "by a step"


def test_steps_follow_the_notebook_into_another_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = cf.workflow(lambda: cf.step(os.getcwd)())
    before = where.run().result()

    monkeypatch.chdir(tmp_path)

    assert where.run().result() == str(tmp_path) != before


@pytest.fixture
def helpers(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes a module beside the notebook, which can be imported here too."""
    monkeypatch.syspath_prepend(str(Path.cwd()))
    names: list[str] = []

    def write(name: str, source: str) -> Path:
        path = Path(f"{name}.py")
        path.write_text(source)
        names.append(name)
        return path

    yield write
    for name in names:
        sys.modules.pop(name, None)
        Path(f"{name}.py").unlink()


def test_steps_import_modules_of_the_working_directory(helpers: Any) -> None:
    helpers("helpers_one", "def answer():\n    return 41 + 1\n")

    @cf.step
    def ask() -> int:
        import helpers_one

        return helpers_one.answer()

    assert cf.workflow(lambda: ask()).run().result() == 42


def test_functions_of_a_module_beside_the_notebook_travel(helpers: Any) -> None:
    helpers("helpers_two", "SCALE = 10\ndef inner(x):\n    return SCALE * x\ndef outer(x):\n    return inner(x) + 1\n")
    import helpers_two  # type: ignore[import-not-found]

    assert cf.map(helpers_two.outer, [1, 2]).result() == [11, 21]
    assert cf.map(lambda x: helpers_two.outer(x), [1, 2]).result() == [11, 21]


def test_functions_of_a_module_that_workers_cannot_import_travel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out_of_sight.py").write_text("SCALE = 10\ndef outer(x):\n    return SCALE * x\n")
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        import out_of_sight  # type: ignore[import-not-found]

    assert cf.map(out_of_sight.outer, [1, 2]).result() == [10, 20]
    del sys.modules["out_of_sight"]


def test_module_that_changed_is_reloaded_by_running_workers(helpers: Any) -> None:
    path = helpers("helpers_three", "VALUE = 'old'\n")
    os.utime(path, (1_000_000_000, 1_000_000_000))

    @cf.step
    def ask() -> tuple[str, int]:
        import helpers_three  # type: ignore[import-not-found]

        return helpers_three.VALUE, os.getpid()

    asking = cf.workflow(lambda: [ask() for _ in range(10)])
    before = asking.run().result()
    path.write_text("VALUE = 'new'\n")
    os.utime(path, (1_000_000_000.5, 1_000_000_000.5))  # within the same second, and of the same size
    after = asking.run().result()

    assert {value for value, _ in before} == {"old"}
    assert {value for value, _ in after} == {"new"}
    assert {pid for _, pid in before} & {pid for _, pid in after}


def test_module_that_changed_before_its_run_imported_others_is_reloaded(kernel: Any) -> None:
    before, after = kernel(
        """
        from pathlib import Path

        Path("first_module.py").write_text("VALUE = 'old'\\n")
        Path("other_module.py").write_text("")
        cf.connect(workers=1)

        @cf.step
        def ask():
            import first_module

            return first_module.VALUE

        @cf.step
        def change():
            import other_module

            Path("first_module.py").write_text("VALUE = 'changed'\\n")

        def both():
            value = ask()
            change.options(after=[value])()
            return value

        answer = [cf.workflow(both).run().result(), cf.workflow(lambda: ask()).run().result()]
        """
    )

    assert (before, after) == ("old", "changed")


def test_module_that_a_changed_module_imports_is_fresh_too(helpers: Any) -> None:
    path = helpers("helpers_inner", "VALUE = 'old'\n")
    helpers("helpers_outer", "from helpers_inner import VALUE\n")

    @cf.step
    def ask() -> str:
        import helpers_outer  # type: ignore[import-not-found]

        return helpers_outer.VALUE

    asking = cf.workflow(lambda: [ask() for _ in range(4)])
    assert asking.run().result() == ["old"] * 4
    path.write_text("VALUE = 'changed'\n")

    assert asking.run().result() == ["changed"] * 4


def test_steps_have_the_import_path_of_the_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "far_away.py").write_text("def answer():\n    return 7\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    @cf.step
    def ask() -> int:
        import far_away  # type: ignore[import-not-found]

        return far_away.answer()

    assert cf.workflow(lambda: ask()).run().result() == 7


# --- processes and threads of their own ----------------------------------------------------------------------------


def test_joblib_runs_processes_inside_a_step() -> None:
    @cf.step
    def work() -> tuple[list[int], bool]:
        from joblib import Parallel, delayed

        pids = Parallel(n_jobs=2)(delayed(os.getpid)() for _ in range(8))
        return Parallel(n_jobs=2)(delayed(abs)(-i) for i in range(8)), os.getpid() in pids

    assert cf.workflow(lambda: work()).run().result() == (list(range(8)), False)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_works_inside_a_step(method: str) -> None:
    @cf.step
    def work() -> tuple[list[int], bool]:
        import multiprocessing

        with multiprocessing.get_context(method).Pool(2) as pool:
            return pool.map(abs, range(-4, 0)), pool.apply(os.getpid) == os.getpid()

    assert cf.workflow(lambda: work()).run().result() == ([4, 3, 2, 1], False)


def test_process_pool_executor_works_inside_a_step() -> None:
    @cf.step
    def work() -> list[int]:
        from concurrent.futures import ProcessPoolExecutor

        with ProcessPoolExecutor(2) as pool:
            return list(pool.map(abs, [-1, -2]))

    assert cf.workflow(lambda: work()).run().result() == [1, 2]


def test_scikit_learn_uses_n_jobs_inside_a_step() -> None:
    @cf.step
    def work() -> list[float]:
        from joblib import parallel_config
        from sklearn.linear_model import Ridge
        from sklearn.model_selection import cross_val_score

        x = np.arange(80.0).reshape(-1, 2)
        with parallel_config("multiprocessing"):  # its default starts interpreters anew, which takes seconds
            return cross_val_score(Ridge(), x, x[:, 0], cv=4, n_jobs=2).tolist()

    assert cf.workflow(lambda: work()).run().result() == pytest.approx([1.0] * 4, abs=1e-3)


def test_subprocesses_and_threads_work_inside_a_step() -> None:
    @cf.step
    def work() -> tuple[str, list[int]]:
        found: list[int] = []
        thread = threading.Thread(target=found.append, args=(1,))
        thread.start()
        thread.join()
        command = [sys.executable, "-c", "print('from a child')"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip(), found

    assert cf.workflow(lambda: work()).run().result() == ("from a child", [1])


def test_numerical_libraries_use_their_share_of_the_cores() -> None:
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    @cf.step
    def work() -> tuple[list[str | None], list[int]]:
        import numpy as np
        from threadpoolctl import threadpool_info

        np.ones((2, 2)) @ np.ones((2, 2))
        return [os.environ.get(name) for name in names], [pool["num_threads"] for pool in threadpool_info()]

    variables, threads = cf.workflow(lambda: work()).run().result()
    share = max(1, cores // WORKERS)

    assert variables == [os.environ.get(name, str(share)) for name in names]
    assert "OPENBLAS_NUM_THREADS" in os.environ or set(threads) <= {share}

"""``workflow.options(job_id=…)``: of all that is submitted under one id, a single run goes on."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Notebook, Runtime
from executions import Executions, wait_until
from flows import wait_for

import celeryflow as cf
from celeryflow.runtime.session import current

pytestmark = pytest.mark.usefixtures("runtime")

_numbers = itertools.count()


@pytest.fixture
def job() -> str:
    """An id that nobody has used."""
    return f"job-{next(_numbers)}"


@pytest.fixture
def mended(tmp_path: Path) -> Path:
    """Odd items of ``load`` fail until this file is there."""
    return tmp_path / "mended"


@pytest.fixture
def load(executions: Executions, mended: Path) -> Any:
    @cf.step
    def work(x: int) -> int:
        with executions.recorded():
            if x % 2 and not mended.exists():
                raise ValueError(x)
            return x

    @cf.workflow
    def load(xs: list[int]) -> Any:
        return work.map(xs)

    return load


def items(executions: Executions) -> list[int | None]:
    return sorted(e.index for e in executions.read())


def test_a_finished_run_is_given_again(load: Any, executions: Executions, job: str) -> None:
    first = load.options(job_id=job).run([0, 2, 4])
    again = load.options(job_id=job, tenant="somebody", deadline_s=60).run([0, 2, 4])
    later = load.options(job_id=job).submit([0, 2, 4])

    assert first.id == again.id == later.id
    assert again.result() == later.result() == [0, 2, 4]
    assert items(executions) == [0, 1, 2]
    assert load.options(job_id=f"{job}-b").run([0, 2, 4]).id != first.id
    assert load.run([0, 2, 4]).id != first.id


def test_a_live_run_is_joined(job: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    wf = cf.workflow(lambda: wait_for(str(gate)), name="long").options(job_id=job)

    first, second = wf.submit(), wf.submit()
    threading.Timer(0.2, gate.touch).start()

    assert wf.run(check=True).id == first.id == second.id
    assert first.result() == second.result() == str(gate)
    assert len(first.timeline()) == 1


def test_a_failed_run_is_resumed(load: Any, executions: Executions, mended: Path, job: str) -> None:
    first = load.options(job_id=job).run([0, 1, 2, 3])
    assert first.status == "failure"
    still = load.options(job_id=job).run([0, 1, 2, 3])
    assert (still.id, still.status, still.timeline().generation.max()) == (first.id, "failure", 2)
    mended.touch()
    again = load.options(job_id=job).run([0, 1, 2, 3])

    assert (again.id, again.result()) == (first.id, [0, 1, 2, 3])
    assert items(executions) == [0, 1, 1, 1, 2, 3, 3, 3]


def test_a_cancelled_run_is_resumed(job: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    wf = cf.workflow(lambda: wait_for(str(gate)), name="long").options(job_id=job)
    run = wf.submit()
    run.cancel()
    gate.touch()

    again = wf.run()

    assert (again.id, again.result()) == (run.id, str(gate))


def test_a_stalled_run_is_resumed(job: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    wf = cf.workflow(lambda: wait_for(str(gate)), name="long").options(job_id=job)
    run = wf.submit()
    wait_until(lambda: run.status == "running")
    current().link.store.park(run.id)  # as a runtime does that finds its notebook dead
    assert run.stalled
    gate.touch()

    again = wf.run()

    assert (again.id, again.result(), again.stalled) == (run.id, str(gate), False)
    assert again.timeline().generation.max() == 2


@pytest.mark.parametrize("change", ["arguments", "code", "captured", "wiring", "workflow"])
def test_what_changed_is_run_once_that_is_over_and_a_conflict_before(
    notebook: Notebook, job: str, change: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    source = """
        from pathlib import Path
        import time

        EXTRA = 100

        @cf.step
        def hold(path):
            while not Path(path).exists():
                time.sleep(0.01)
            return 1

        @cf.step
        def plus(x, y):
            return x + y + EXTRA

        @cf.workflow
        def wf(path, y):
            return plus(hold(path), y)
        """
    notebook.cell(source)
    first = notebook["wf"].options(job_id=job).submit(str(gate), 1)
    old, new = {
        "code": ("x + y + EXTRA", "x - y + EXTRA"),
        "captured": ("EXTRA = 100", "EXTRA = 200"),
        "wiring": ("plus(hold(path), y)", "plus(y, hold(path))"),
    }.get(change, ("", ""))
    notebook.cell(source.replace(old, new))
    wf = notebook["wf"].options(name="other" if change == "workflow" else "wf")
    y = 2 if change == "arguments" else 1

    with pytest.raises(cf.JobConflictError, match=f"job '{job}' is going on as run '{first.id}', with other"):
        wf.options(job_id=job).submit(str(gate), y)
    gate.touch()
    assert first.wait().status == "success"
    again = wf.options(job_id=job).run(str(gate), y)

    expected = {"arguments": 103, "code": 100, "captured": 202, "wiring": 102, "workflow": 102}[change]
    assert (again.result(), first.result()) == (expected, 102)
    assert again.id != first.id
    assert wf.options(job_id=job).run(str(gate), y).id == again.id


def test_what_did_not_change_is_not_run_again(load: Any, executions: Executions, job: str, mended: Path) -> None:
    first = load.options(job_id=job).run([0, 1, 2])
    mended.touch()
    again = load.options(job_id=job).run([0, 1, 4])

    assert (again.result(), again.id == first.id) == ([0, 1, 4], False)
    assert items(executions) == [0, 1, 1, 2, 2]
    assert load.options(job_id=job).run([0, 1, 2], reuse=first.id).result() == [0, 1, 2]


def test_what_resumes_a_run_is_the_job_s_run_from_then_on(
    load: Any, executions: Executions, mended: Path, job: str
) -> None:
    wf = load.options(job_id=job)
    first = wf.run([0, 1, 2])
    mended.touch()
    again = wf.resume(first).wait()

    assert (again.id != first.id, again.result()) == (True, [0, 1, 2])
    assert wf.run([0, 1, 2]).id == again.id
    assert items(executions) == [0, 1, 1, 2]


def test_a_job_that_goes_on_is_not_resumed_beside_it(job: str, tmp_path: Path) -> None:
    gates = [tmp_path / "first", tmp_path / "second"]
    wf = cf.workflow(lambda path: wait_for(path), name="gated")
    gates[0].touch()
    before = wf.run(str(gates[0]))
    live = wf.options(job_id=job).submit(str(gates[1]))

    with pytest.raises(cf.JobConflictError, match=f"job '{job}' is going on as run '{live.id}'"):
        wf.options(job_id=job).resume(before)
    gates[1].touch()
    assert live.result() == str(gates[1])
    assert wf.options(job_id=job).resume(before).result() == str(gates[0])


def test_a_cell_that_was_run_again_as_it_was_is_no_change(notebook: Notebook, job: str) -> None:
    source = "@cf.step\ndef one(x, y={'a': [1]}): return x\n\nwf = cf.workflow(lambda: one(3), name='wf')"
    notebook.cell(source)
    first = notebook["wf"].options(job_id=job).run()
    notebook.cell(source)

    assert notebook["wf"].options(job_id=job).run().id == first.id


def test_a_run_that_has_expired_makes_room(load: Any, executions: Executions, job: str) -> None:
    first = load.options(job_id=job).run([0])
    store = current().link.store
    store.client.delete(*store.client.keys(store.keys.run(first.id, "*")))

    again = load.options(job_id=job).run([0])

    assert (again.id != first.id, again.result()) == (True, [0])


def test_a_server_that_names_another_run_is_not_believed(load: Any, job: str) -> None:
    other = load.options(job_id=f"{job}-other").run([0])
    store = current().link.store
    store.client.hset(store.keys.jobs, job, other.id)

    with pytest.raises(cf.IntegrityError, match=f"run '{other.id}' is of job '{job}', which it is not"):
        load.options(job_id=job).submit([0])


PROGRAM = """
import sys, warnings
import celeryflow as cf
sys.path.insert(0, sys.argv[1])
from executions import Executions
witness = Executions(sys.argv[2])

@cf.step
def once(x):
    with witness.recorded():
        return x

@cf.workflow
def load(n):
    return once.map(list(range(n)))

cf.connect()
print("ready", flush=True)
for line in sys.stdin:
    run = load.options(job_id=line.strip()).run(3)
    print(run.id, run.result(), flush=True)
"""


@pytest.fixture
def callers(runtime: Runtime, executions: Executions) -> Iterator[list[subprocess.Popen[str]]]:
    """Two kernels that run a job for each line that they get."""
    tests = str(Path(__file__).parent)
    command = [sys.executable, "-W", "error", "-c", PROGRAM, tests, executions.path]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=runtime.directory)
        for _ in range(2)
    ]
    for process in started:
        assert answer(process) == "ready"
    yield started
    for process in started:
        process.communicate(timeout=20)
        assert process.returncode == 0


def answer(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_two_callers_never_start_two(callers: list[subprocess.Popen[str]], executions: Executions, job: str) -> None:
    for number in range(20):
        for process in callers:
            assert process.stdin is not None
            process.stdin.write(f"{job}-{number}\n")
            process.stdin.flush()
        first, second = map(answer, callers)
        assert first == second
        run, _, result = first.partition(" ")
        assert json.loads(result) == [0, 1, 2]
        assert len(executions.read(run=run)) == 3
    assert len(executions.read()) == 20 * 3


def test_two_who_find_it_failed_resume_it_once(load: Any, executions: Executions, mended: Path, job: str) -> None:
    wf = load.options(job_id=job)
    first = wf.run(list(range(20)))
    mended.touch()
    found: list[cf.Run[Any]] = []
    threads = [threading.Thread(target=lambda: found.append(wf.submit(list(range(20))))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {run.id for run in found} == {first.id}
    assert [run.result() for run in found] == [list(range(20))] * 4
    assert len(executions.read()) == 30
    assert cf.attach(first.id).timeline().generation.max() == 2


def test_the_job_of_a_run_here_plays_no_part(load: Any, job: str, kernel: Callable[..., Any]) -> None:
    wf = load.options(job_id=job)
    here = wf.run([0], inline=True)

    assert here.result() == [0]
    assert wf.run([2]).result() == [2]

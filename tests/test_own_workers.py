"""Workers that users start themselves: ``celeryflow worker``, for some queues, in the foreground."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any

import pytest
from executions import Execution, Executions
from shell import Shell, opened, wait_for

from celeryflow.runtime import embedded, server

TESTS = str(Path(__file__).parent)

BEGINNING = f"""
import json, os, sys, time
sys.path.insert(0, {TESTS!r})
import celeryflow as cf
from executions import Executions, wait_until
witness = Executions("witness")

@cf.step
def work(i=0, gate=""):
    with witness.recorded():
        if gate:
            wait_until(lambda: os.path.exists(gate), timeout_s=600)
        return os.getppid()
"""


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with opened(tmp_path) as shell:
        yield shell


@contextmanager
def worker(shell: Shell, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A worker in the foreground, at work."""
    with shell.start("worker", "-c", "1", *arguments, stderr=subprocess.STDOUT) as process:
        try:
            wait_for(lambda: is_at_work(shell, process.pid) or process.poll() is not None)
            assert process.poll() is None, process.communicate()[0]
            yield process
        finally:
            process.send_signal(signal.SIGTERM)


def is_at_work(shell: Shell, pid: int) -> bool:
    """Whether the worker's supervisor has beaten, without a command that would take the time from its start."""
    found = embedded.status(shell.directory) or {"url": ""}
    beaten = f"ZSCORE celeryflow:workers {socket.gethostname()}:{pid}"
    return server.ask(found["url"].removeprefix("unix://"), beaten).startswith(b"$1")


def notebook(shell: Shell, source: str) -> Any:
    """What a kernel leaves in `answer`."""
    done = shell(source=f"{BEGINNING}\n{source}\nprint(json.dumps(answer))")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def witness(shell: Shell) -> Executions:
    return Executions(str(shell.directory / "witness"))


def test_worker_serves_its_queues_only_and_one_without_queues_serves_all(shell: Shell) -> None:
    assert shell("up", "-c", "0").returncode == 0
    assert shell.json("ps", "--json")["workers"] == []
    each = "[work.options(queue=queue).map(range(5)) for queue in ('gpu', 'tpu', 'default')]"

    with worker(shell, "-Q", "gpu,tpu") as some:
        run = notebook(
            shell,
            f"""
run = cf.workflow(lambda: {each}, name="each").submit()
wait_until(lambda: len([e for e in witness.read() if e.end]) == 10)
answer = run.id
""",
        )
        with worker(shell) as every:
            first, second, third = notebook(shell, f"answer = cf.attach({run!r}).result()")

    assert {*first, *second} == {some.pid}
    assert {*third} == {every.pid}


def test_worker_starts_the_runtime_and_is_no_kernel(shell: Shell) -> None:
    with worker(shell) as own:
        found = shell.json("ps", "--json")
        assert (found["kernel_pids"], found["is_pinned"]) == ([], False)
        assert [one["slots"] for one in found["workers"]] == [1]

    assert own.wait(20) == 0
    wait_for(lambda: not shell.processes())


def test_run_whose_queue_nobody_serves_says_so_until_a_worker_comes(shell: Shell) -> None:
    assert shell("up", "-c", "0").returncode == 0
    run, told_s, page, warned = notebook(
        shell,
        """
import warnings

train = work.options(queue="gpu", name="train")
run = cf.workflow(lambda: [train(0, "never"), work.options(queue="default", name="rest")()], name="etl").submit()
began = time.monotonic()
wait_until(lambda: "no worker serves" in repr(run))
told_s = time.monotonic() - began
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    wait_until(lambda: run.wait(timeout_s=0.1) and len(caught) == 2)
    for _ in range(5):
        run.wait(timeout_s=0.1)
answer = [run.id, told_s, run._repr_html_(), [str(w.message) for w in caught if w.category is cf.UnservedQueueWarning]]
""",
    )
    notice = "no worker serves queue 'gpu', in which 'train' waits. Start one: celeryflow worker -Q gpu"
    assert told_s < 3
    assert escape(notice) in page
    assert sorted(warned)[1:] == [f"run {run!r}: {notice}"]
    assert notice in shell("status", run).stderr
    assert unserved(shell, run) == {"default": ["rest"], "gpu": ["train"]}

    with worker(shell, "-Q", "gpu") as gpu:
        wait_for(lambda: unserved(shell, run) == {"default": ["rest"]})
        wait_for(lambda: witness(shell).read("train"))
        gpu.send_signal(signal.SIGTERM)
        assert gpu.wait(20) == 0
        assert unserved(shell, run) == {"default": ["rest"], "gpu": ["train"]}

    assert shell("cancel", run).returncode == 0
    assert unserved(shell, run) == {}


def unserved(shell: Shell, run: str) -> Any:
    return shell.json("status", run, "--json")["unserved"]


def test_worker_that_is_told_to_end_hands_back_and_one_that_is_interrupted_finishes(shell: Shell) -> None:
    with worker(shell) as first:
        run = notebook(shell, "answer = cf.workflow(lambda: work(0, 'go'), name='long').submit().id")
        wait_for(lambda: executed_by(shell, first))
        first.send_signal(signal.SIGTERM)
        assert first.wait(20) == 0

    # The runtime is another one now, and its first worker serves the run of a notebook that has gone not yet.
    with worker(shell, "-Q", "gpu"), worker(shell) as second:
        wait_for(lambda: executed_by(shell, second))
        second.send_signal(signal.SIGINT)
        (shell.directory / "go").touch()
        assert second.wait(20) == 130

    (ended,), (finished,) = executed_by(shell, first), executed_by(shell, second)
    assert ended.end is None
    assert finished.end is not None
    assert {execution.attempt for execution in witness(shell).read(run=run)} == {1}


def executed_by(shell: Shell, own: subprocess.Popen[str]) -> list[Execution]:
    """What a worker has executed: the notebook's own may have been first, and left with it."""
    return [execution for execution in witness(shell).read() if execution.ppid == own.pid]


def test_second_interrupt_ends_a_worker_at_once_and_charges_nobody(shell: Shell) -> None:
    with worker(shell) as own:
        run = notebook(shell, "answer = cf.workflow(lambda: work(0, 'never'), name='long').submit().id")
        wait_for(lambda: witness(shell).read())

        own.send_signal(signal.SIGINT)
        assert own.stdout is not None
        wait_for(lambda: "Ctrl+C again" in own.stdout.readline())
        own.send_signal(signal.SIGINT)

        assert own.wait(10) == 130
    shell("up", "-c", "0")
    lines = [json.loads(line) for line in shell("events", run, "--jsonl").stdout.splitlines()]
    # What else claims it is the pool that the notebook had begun to start.
    assert [line["event"] for line in lines][:4] == ["submitted", "started", "claimed", "released"]
    assert {line["attempt"] for line in lines if line["event"] in ("claimed", "released")} == {1}


def test_worker_goes_when_its_runtime_is_stopped(shell: Shell) -> None:
    with worker(shell) as own:
        assert shell("down").returncode == 0

        assert own.wait(20) == 0

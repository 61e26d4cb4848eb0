"""No room for what is to be stored: the error says so by name, what was stored stays, and with room all goes on.

A disk is full for a process that may not make a file longer than it is (`RLIMIT_FSIZE`), which needs no rights.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from executions import Execution, wait_until
from shell import Shell

from celeryflow.runtime import server

from .cells import Cells
from .damage import pool_processes
from .oracle import Oracle
from .servers import client_of, pid_of

FLOW = """
oracle = Oracle("oracle.jsonl")

@cf.step
def make(size, number=0):
    with oracle.recorded():
        return bytes([number]) * size

@cf.step
def hold():
    with oracle.recorded():
        wait_until(lambda: os.path.exists("go"), timeout_s=600)

made = cf.workflow(lambda size, number=0: make(size, number), name="made")
mapped = cf.workflow(lambda size, n: [len(v) for v in []] or make.map([size] * n), name="mapped")
given = cf.workflow(lambda value: cf.step(len)(value), name="given")

def told(work):
    began = time.monotonic()
    try:
        work()
    except cf.CeleryflowError as error:
        return [type(error).__name__, str(error), time.monotonic() - began]
"""

LARGE, SMALL = 4 * 2**20, 1000


@pytest.fixture
def cells(shell: Shell) -> Iterator[Cells]:
    """A kernel with a runtime of its own, whose server bears a full disk as it would bear any, and two processes."""
    wrapper = shell.directory / "server.sh"
    wrapper.write_text(f"#!/bin/sh\ntrap '' XFSZ\nexec {server.find()} \"$@\"\n")
    wrapper.chmod(0o700)
    find = f"from celeryflow.runtime import server; server.find = lambda: {str(wrapper)!r}"
    cells = Cells(shell, f"{FLOW}\n{find}\ncf.connect(workers=2)\nearly = made.run({LARGE}, 7, check=True)")
    yield cells
    cells.close()


@contextmanager
def longest_file(limit_bytes: int, *pids: int) -> Iterator[None]:
    """None of these processes can make a file longer."""
    for pid in pids:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit_bytes, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        for pid in pids:
            if psutil.pid_exists(pid):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def check_what_was_stored(cells: Cells) -> None:
    assert cells.run("answer = [early.result()[:1] == b'\\7', cf.attach(early.id).status]") == [True, "success"]


def check_that_all_is_well(cells: Cells) -> None:
    check_what_was_stored(cells)
    assert cells.run(f"answer = [len(made.run({LARGE}, 9).result()), made.run({SMALL}).status]") == [LARGE, "success"]


def begin_what_is_held(shell: Shell, cells: Cells) -> None:
    """Start a run whose step is under way."""
    cells.run("held = cf.workflow(lambda: hold(), name='held').submit()")
    wait_until(lambda: held(shell))


def end_what_is_held(shell: Shell) -> None:
    """Let the step end, and its worker ask twice for room for the result."""
    (shell.directory / "go").touch()
    wait_until(lambda: held(shell)[0].end)
    time.sleep(1)


def held(shell: Shell) -> list[Execution]:
    return Oracle(str(shell.directory / "oracle.jsonl")).read("hold")


# --- large values -----------------------------------------------------------------------------------------


def test_result_for_which_the_disk_has_no_room_fails_its_step(shell: Shell, cells: Cells) -> None:
    pids = wait_until(lambda: len(found := pool_processes(shell.directory)) == 2 and found)
    with longest_file(2**20, *pids):
        kind, said, _ = cells.run(f"full = made.run({LARGE}, 8); answer = told(full.result)")
        assert kind == "StepFailedError"
        assert "StorageError: a value of 4.0 MiB cannot be written to" in said
        assert "celeryflow gc" in said
        assert cells.run("answer = full.errors()[['step', 'kind', 'error']].values.tolist()") == [
            ["make", "exception", "StorageError"]
        ]
        assert cells.run(f"answer = made.run({SMALL}).status") == "success"
        check_what_was_stored(cells)

    assert cells.run("answer = len(full.resume().result())") == LARGE
    check_that_all_is_well(cells)
    assert not [*Path(shell.directory, ".celeryflow", "blobs").glob("*/.*")]


def test_argument_for_which_the_disk_has_no_room_is_refused_at_once(cells: Cells) -> None:
    with longest_file(2**20, cells.process.pid):
        kind, said, _ = cells.run(f"runs = len(cf.history()); answer = told(lambda: given.run(b'x' * {LARGE}))")
        assert (kind, "cannot be written to" in said) == ("StorageError", True)
        assert cells.run("answer = len(cf.history()) - runs") == 0

    assert cells.run(f"answer = given.run(b'x' * {LARGE}).result()") == LARGE
    check_that_all_is_well(cells)


# --- the append-only file -----------------------------------------------------------------------------------


@pytest.mark.timeout(200)
def test_server_whose_disk_is_full_says_so_and_goes_on_when_there_is_room(shell: Shell, cells: Cells) -> None:
    pid = pid_of(shell.directory)
    file = max(Path(shell.directory).rglob("*.incr.aof"), key=lambda path: path.stat().st_mtime)
    begin_what_is_held(shell, cells)
    with longest_file(file.stat().st_size + 10, pid):
        kind, said, seconds = cells.run("answer = told(held.result)")
        assert (kind, "cannot write to its disk" in said) == ("ServerFullError", True)
        assert seconds < 12
        kind, said, seconds = cells.run(f"answer = told(lambda: made.run({SMALL}))")
        assert (kind, "cannot write to its disk" in said, seconds < 12) == ("ServerFullError", True, True)
        done = shell("ps", "--json")
        assert done.returncode == 0, done.stderr
        check_what_was_stored(cells)
        end_what_is_held(shell)

    assert cells.run("answer = [held.result(timeout_s=30), held.timeline().outcome.tolist()]") == [None, ["success"]]
    check_that_all_is_well(cells)
    assert pid_of(shell.directory) == pid


# --- the server's memory --------------------------------------------------------------------------------------


@pytest.mark.timeout(200)
def test_server_without_memory_says_so_and_goes_on_when_there_is_some(shell: Shell, cells: Cells) -> None:
    begin_what_is_held(shell, cells)
    with client_of(shell.directory) as client:
        client.config_set("maxmemory", 1)
        for work in ("held.result", f"lambda: made.run({SMALL})"):
            kind, said, seconds = cells.run(f"answer = told({work})")
            assert (kind, "memory limit" in said, "celeryflow gc" in said) == ("ServerFullError", True, True)
            assert seconds < 12
        assert client.ping()
        check_what_was_stored(cells)
        assert shell("gc").returncode == 0
        # What is over can be ended, and what could not be stored is not lost.
        end_what_is_held(shell)
        client.config_set("maxmemory", 0)

    assert cells.run("answer = [held.result(timeout_s=30), held.timeline().outcome.tolist()]") == [None, ["success"]]
    check_that_all_is_well(cells)


def test_run_can_be_cancelled_while_the_server_has_no_memory(shell: Shell, cells: Cells) -> None:
    begin_what_is_held(shell, cells)
    with client_of(shell.directory) as client:
        client.config_set("maxmemory", 1)
        assert cells.run("held.cancel('no room'); answer = held.status") == "cancelled"
        client.config_set("maxmemory", 0)

    check_that_all_is_well(cells)

"""How the embedded runtime ends with its kernels, and what it survives."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys

import psutil
import pytest
from kernels import KERNEL, Kernel, Place, answers, ask, wait_for

from celeryflow.errors import RuntimeStartError
from celeryflow.runtime import embedded, owners, pools, processes


def test_everything_ends_with_the_last_kernel_however_it_dies(place: Place) -> None:
    kernel = Kernel(place, "stubborn")
    children = place.report()["children"]
    assert len(place.processes()) == 3
    assert all(processes.start_mark(pid) for pid in children)
    ask(kernel.url, "SET", "kept", "yes")
    os.kill(place.status()["server"], signal.SIGSTOP)

    kernel.kill()  # and its zombie stays
    place.wait_until_gone()

    assert not any(processes.start_mark(pid) for pid in children)
    assert psutil.Process(kernel.process.pid).status() == psutil.STATUS_ZOMBIE
    assert ask(Kernel(place).url, "GET", "kept") == "$3\r\nyes\r\n"


def test_everything_ends_when_a_kernel_exits(place: Place) -> None:
    Kernel(place).process.stdin.close()

    place.wait_until_gone()
    assert embedded.status(place.directory) is None


def test_everything_ends_when_the_last_member_leaves(place: Place) -> None:
    runtime = place.join()
    place.join().leave()
    runtime.check()

    runtime.leave()

    place.wait_until_gone()
    with pytest.raises(RuntimeStartError, match="has gone"):
        runtime.check()


def test_up_stays_without_members_until_down(place: Place) -> None:
    script = KERNEL.replace("runtime = embedded.join(", "embedded.up(").replace("runtime.settings.url", "os._exit(0)")
    command = [sys.executable, "-c", script, str(place.directory), *place.worker()]
    subprocess.run(command, input="\n", text=True, check=True)
    kernel = Kernel(place)
    assert place.status()["pinned"]

    kernel.process.stdin.close()
    kernel.process.wait()
    place.await_looks()
    assert place.status()["members"] == []
    assert answers(kernel.url)

    assert embedded.down(place.directory) is True
    assert place.processes() == []
    assert embedded.down(place.directory) is False
    assert embedded.status(place.directory) is None


def test_keeper_ends_when_its_folder_is_deleted(place: Place) -> None:
    first = place.join()

    shutil.rmtree(place.home)
    second = place.join()

    status = place.status()
    known = {status["keeper"], status["server"]}
    wait_for(lambda: {p.pid for p in place.processes()} == known | set(place.status()["workers"]), 5)
    second.check()
    with pytest.raises(RuntimeStartError, match="has gone"):
        first.check()


# --- damage -------------------------------------------------------------------------------------


def test_killed_server_comes_back_at_the_same_address_with_its_data(place: Place) -> None:
    runtime = place.join()
    killed = place.status()["server"]
    ask(runtime.settings.url, "SET", "kept", "yes")

    os.kill(killed, signal.SIGKILL)

    wait_for(lambda: place.status()["server"] not in {0, killed} and answers(runtime.settings.url))
    assert ask(runtime.settings.url, "GET", "kept") == "$3\r\nyes\r\n"
    runtime.check()


def test_killed_worker_is_replaced_and_its_children_end(place: Place) -> None:
    runtime = place.join("parent")
    (killed,) = place.status()["workers"]
    children = place.report()["children"]

    os.kill(killed, signal.SIGKILL)

    wait_for(lambda: place.status()["workers"][0] not in {0, killed})
    assert not any(processes.start_mark(pid) for pid in children)
    runtime.check()


def test_worker_that_is_killed_again_and_again_at_work_is_replaced_each_time(place: Place) -> None:
    runtime = place.join()
    for _ in range(6):
        (worker,) = wait_for(lambda: [pid for pid in place.status()["workers"] if pid in place.reports()])
        ask(runtime.settings.url, "HSET", f"celeryflow:worker:{os.uname().nodename}:{worker}", "slots", "1")
        os.kill(worker, signal.SIGKILL)
        wait_for(lambda worker=worker: place.status()["workers"][0] not in {0, worker})
    runtime.check()


def test_worker_that_cannot_start_is_said_with_its_last_lines_and_tried_again_by_the_next_kernel(place: Place) -> None:
    runtime = place.join("broken")

    def failure() -> str:
        try:
            runtime.check()
        except RuntimeStartError as error:
            return str(error)
        return ""

    text = wait_for(failure)
    assert "worker" in text
    assert "exit code 1" in text
    assert "No module named 'surprise'" in text
    (place.directory / "mended").touch()
    place.join("broken").check()
    place.report()


def test_server_that_cannot_start_is_said_with_its_last_lines(place: Place) -> None:
    runtime = place.join()
    ask(runtime.settings.url, "SET", "kept", "yes")
    (log,) = place.home.rglob("*.incr.aof")
    log.write_bytes(b"*1\r\n$4\r\nnonsense" + log.read_bytes())
    os.kill(place.status()["server"], signal.SIGKILL)
    wait_for(lambda: not answers(runtime.settings.url))

    said = r"server of the embedded runtime ended \d times in a row(.|\n)*unknown command"
    with pytest.raises(RuntimeStartError, match=said):
        place.join()
    place.wait_until_gone()
    with pytest.raises(RuntimeStartError, match=said):
        runtime.check()


def test_killed_keeper_takes_its_processes_along_and_the_next_join_starts_anew(place: Place) -> None:
    kernel = Kernel(place, "parent")
    children = place.report()["children"]
    before = place.status()
    ask(kernel.url, "SET", "kept", "yes")

    os.kill(before["keeper"], signal.SIGKILL)

    if sys.platform == "linux":
        wait_for(lambda: {p.pid for p in place.processes()} <= set(children))
    with pytest.raises(AssertionError, match="exit code 1"):
        kernel.do("runtime.check()")
    runtime = place.join()
    assert runtime.settings.url == kernel.url
    assert ask(runtime.settings.url, "GET", "kept") == "$3\r\nyes\r\n"
    assert {p.pid for p in place.processes()} & {before["server"], *before["workers"], *children} == set()


def test_down_sweeps_up_after_a_killed_keeper(place: Place) -> None:
    Kernel(place, "parent")
    place.report()
    os.kill(place.status()["keeper"], signal.SIGKILL)
    wait_for(lambda: embedded.status(place.directory) is None)

    embedded.down(place.directory)

    assert place.processes() == []


def slow_keepers(place: Place, monkeypatch: pytest.MonkeyPatch, statement: str) -> None:
    """Have keepers execute a statement as soon as they start."""
    hook = f"import atexit, sys, time\nif 'celeryflow.runtime.keeper' in sys.orig_argv:\n    {statement}\n"
    (place.directory / "sitecustomize.py").write_text(hook)
    monkeypatch.syspath_prepend(place.directory)


def test_down_waits_for_a_keeper_that_ends_by_itself(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    slow_keepers(place, monkeypatch, "atexit.register(time.sleep, 1)")
    Kernel(place).process.stdin.close()
    wait_for(lambda: embedded.status(place.directory) is None)
    assert place.processes() != []

    embedded.down(place.directory)

    assert place.processes() == []


def test_down_ends_what_is_just_being_started(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    slow_keepers(place, monkeypatch, "time.sleep(1)")
    kernel = Kernel(place, start=False)
    kernel.process.stdin.write("\n")
    kernel.process.stdin.flush()
    wait_for(place.processes)
    assert embedded.status(place.directory) is None

    assert embedded.down(place.directory) is True

    assert place.processes() == []


def test_down_finds_nothing_where_the_lock_is_not_ours(place: Place) -> None:
    place.home.mkdir()
    (place.directory / "elsewhere").touch()
    (place.home / "lock").symlink_to("../elsewhere")

    assert embedded.down(place.directory) is False


def test_second_server_never_opens_the_data_of_one_that_lives(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.join()
    status = place.status()
    os.kill(status["server"], signal.SIGSTOP)  # so that it cannot end with its keeper
    os.kill(status["keeper"], signal.SIGKILL)
    (place.home / "runtime.json").unlink()
    monkeypatch.setattr(owners, "_RELEASE_S", 0.1)

    with pytest.raises(RuntimeStartError, match="data"):
        place.join()

    os.kill(status["server"], signal.SIGKILL)
    wait_for(lambda: not place.processes())
    shutil.rmtree(place.temporary)
    place.temporary.mkdir()


def test_real_worker_starts_and_ends_with_its_kernel(place: Place) -> None:
    (place.directory / "celery.py").write_text("raise ImportError('beside the notebook')")
    kernel = Kernel(place, "real")
    (worker,) = place.status()["workers"]
    wait_for(lambda: len(psutil.Process(worker).children()) == pools.cores(), 20)

    kernel.kill()

    place.wait_until_gone()

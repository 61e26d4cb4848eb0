"""Everything that a step prints or logs: attributed, in order, also when the step then crashes."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pytest
from executions import wait_until

import celeryflow as cf
from celeryflow.engine import output
from celeryflow.engine.slots import Slots
from celeryflow.store.scripts import Store

pytestmark = pytest.mark.usefixtures("runtime")


def logs_of(function: Any, *args: Any, **options: Any) -> pd.DataFrame:
    step = cf.step(function, **options)
    return cf.workflow(lambda: step(*args)).run().logs()


def test_printed_lines_are_in_the_log_in_order() -> None:
    def talk() -> None:
        for i in range(300):
            print("line", i)

    assert logs_of(talk)["text"].tolist() == [f"line {i}" for i in range(300)]


def test_lines_say_when_where_by_whom_and_from_which_stream() -> None:
    @cf.step(retries=1, retry_delay_s=0)
    def talk(i: int) -> str:
        print("out", i)
        print("err", i, file=sys.stderr)
        if cf.current().attempt == 1 and i == 1:
            raise ValueError
        return f"{os.getpid()}"

    began = pd.Timestamp.now("UTC")
    run = cf.workflow(lambda: talk.map([0, 1])).run()
    logs, ended = run.logs(), pd.Timestamp.now("UTC")

    assert logs["at"].between(began, ended).all()
    assert set(logs["step"]) == {"talk"}
    found = logs[["index", "attempt", "stream", "text"]].sort_values(["index", "attempt", "stream"]).to_numpy().tolist()
    assert found == [
        [0, 1, "stderr", "err 0"], [0, 1, "stdout", "out 0"],
        [1, 1, "stderr", "err 1"], [1, 1, "stdout", "out 1"],
        [1, 2, "stderr", "err 1"], [1, 2, "stdout", "out 1"],
    ]  # fmt: skip
    pids = [str(worker).rpartition(":")[2] for worker in logs.query("attempt == 2 or index == 0")["worker"]]
    assert set(pids) == set(run.result())


def test_line_of_a_plain_step_has_no_index() -> None:
    assert logs_of(lambda: print("x"))["index"].isna().all()


def test_log_of_one_step_alone() -> None:
    say = cf.step(print)
    run = cf.workflow(lambda: (say("a"), say("b"), say.map(["c", "d"]))).run()

    assert run.logs("print-2")["text"].tolist() == ["b"]
    assert sorted(run.logs("print-3")["text"]) == ["c", "d"]
    assert sorted(run.logs()["text"]) == ["a", "b", "c", "d"]


def test_log_records_of_any_logger_are_kept_with_level_and_name() -> None:
    def talk() -> None:
        logging.getLogger("proj.etl").warning("low %s", "disk")
        logging.info("started")
        logging.getLogger("proj").debug("not shown")

    logs = logs_of(talk)

    assert logs["stream"].tolist() == ["log", "log"]
    assert logs["text"].tolist() == ["WARNING proj.etl: low disk", "INFO root: started"]


def test_logged_exception_has_its_traceback() -> None:
    def talk() -> None:
        try:
            raise KeyError("k")
        except KeyError:
            logging.exception("oops")

    text = "\n".join(logs_of(talk)["text"])

    assert "ERROR root: oops" in text and "Traceback" in text and "KeyError: 'k'" in text


def test_warnings_are_in_the_log() -> None:
    def talk() -> None:
        warnings.warn("careful", stacklevel=1)

    assert "UserWarning: careful" in "\n".join(logs_of(talk)["text"])


def test_current_logs_and_reports_progress() -> None:
    def talk() -> None:
        cf.current().log("text")
        cf.current().progress(3, 10)

    assert logs_of(talk)[["stream", "text"]].to_numpy().tolist() == [["log", "text"], ["progress", "3 of 10"]]


def test_output_of_c_code_and_child_processes_is_in_the_log() -> None:
    def talk() -> None:
        print("python", flush=True)
        os.write(1, b"descriptor\n")
        libc = ctypes.CDLL(None)
        libc.puts(b"libc")
        libc.fflush(None)
        subprocess.run(["sh", "-c", "echo child; echo error >&2"], check=True)
        print("end")

    logs = logs_of(talk)

    assert sorted(logs["text"]) == ["child", "descriptor", "end", "error", "libc", "python"]
    assert set(logs["step"]) == {"talk"}
    assert [text for text in logs["text"] if text in ("python", "descriptor", "libc", "child", "end")] == [
        "python", "descriptor", "libc", "child", "end",
    ]  # fmt: skip


def test_unfinished_line_belongs_to_its_own_item() -> None:
    talk = cf.step(lambda i: print(f"item {i}", end=""))

    logs = cf.workflow(lambda: talk.map(range(20))).run().logs()

    assert dict(zip(logs["index"], logs["text"], strict=True)) == {i: f"item {i}" for i in range(20)}


def test_output_that_is_no_text_does_not_break_the_log() -> None:
    def talk() -> None:
        os.write(1, b"\xff\xfe raw \x00\x1e{}\n")
        print("nul \x00, record separator \x1e, surrogate \udcff, bell \x07")
        print("after")

    run = cf.workflow(lambda: cf.step(talk)()).run()

    assert run.status == "success"
    assert run.logs()["text"].tolist()[-1] == "after"


DEATHS = [lambda: os._exit(3), lambda: os.kill(os.getpid(), signal.SIGKILL), lambda: ctypes.string_at(0)]


@pytest.mark.parametrize("die", DEATHS, ids=["exit", "kill", "segfault"])
def test_output_before_a_crash_is_in_the_log(die: Any) -> None:
    def talk() -> None:
        print("last words")
        os.write(2, b"raw words\n")
        die()

    run = cf.workflow(lambda: cf.step(talk, max_worker_losses=0)()).run()
    logs = run.logs()

    assert run.errors()["kind"].tolist() == ["poisoned"]
    assert {"last words", "raw words"} <= set(logs["text"])
    assert set(logs["step"]) == {"talk"}


def test_unfinished_line_before_a_crash_is_in_the_log() -> None:
    def talk() -> None:
        print("unfinished", end="")
        os._exit(1)

    assert "unfinished" in set(logs_of(talk, max_worker_losses=0)["text"])


def test_output_is_in_the_log_while_its_step_still_runs(tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    def talk() -> None:
        print("before")
        wait_until(gate.exists)
        print("after")

    run = cf.workflow(lambda: cf.step(talk)()).submit()

    wait_until(lambda: run.logs()["text"].tolist() == ["before"], timeout_s=5)
    assert run.status == "running"
    gate.touch()
    assert run.wait().logs()["text"].tolist() == ["before", "after"]


def test_output_before_a_time_limit_is_in_the_log() -> None:
    def talk() -> None:
        print("before")
        time.sleep(60)

    run = cf.workflow(lambda: cf.step(talk, timeout_s=0.3)()).run()

    assert run.status == "failure"
    assert "before" in set(run.logs()["text"])


def test_output_before_an_exception_is_in_the_log_and_in_the_error() -> None:
    @cf.step
    def talk() -> None:
        for i in range(30):
            print("line", i)
        raise ValueError("x")

    run = cf.workflow(lambda: talk()).run()

    assert run.logs()["text"].tolist() == [f"line {i}" for i in range(30)]
    assert run.errors()["log_tail"][0].splitlines()[-1] == "line 29"


def test_output_over_1_mib_is_cut_and_says_so() -> None:
    def talk() -> None:
        for _ in range(3000):
            print("x" * 1000)

    logs = logs_of(talk)

    assert 0.9 * 2**20 < sum(map(len, logs["text"])) <= 2**20 + 1000
    assert "1 MiB" in logs["text"].iloc[-1]


def test_output_written_past_python_over_1_mib_is_cut_too() -> None:
    def talk() -> None:
        for _ in range(3000):
            os.write(1, b"x" * 1000 + b"\n")

    logs = logs_of(talk)

    assert sum(map(len, logs["text"])) <= 1.2 * 2**20
    assert "1 MiB" in " ".join(logs["text"].tail(2))


class Shipped:
    """The output of one item, taken for the log whenever that is asked for, as a supervisor does at its beats."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lines: list[str] = []
        monkeypatch.setattr(output, "append_logs", lambda _, run, lines: self.lines.extend(line.text for line in lines))
        self.file, self._slot, self._place = output.open_file(), Slots(1).slot(0), output.Place("run-1", 2, 0, 1)
        self.capture = output.Capture(self.file, self._slot, "w:1")
        self.capture.begin("run-1", 2, 0, 1)

    def take(self, is_over: bool = False, place: output.Place | None = None) -> None:
        output.ship(self.file, self._slot, cast(Store, None), place or self._place, "w:1", is_over)


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shipped]:
    found = Shipped(monkeypatch)
    yield found
    os.close(found.file)


def test_output_over_1_mib_is_cut_however_often_it_is_taken(shipped: Shipped) -> None:
    for _ in range(6):
        shipped.capture.write("stdout", f"{'x' * 999}\n" * 150)
        os.write(shipped.file, (b"x" * 999 + b"\n") * 150)
        shipped.capture.end()
        shipped.take(place=output.Place())  # as if nothing had begun when the supervisor looked
    shipped.take(is_over=True)

    assert 0.9 * 2**20 < sum(map(len, shipped.lines)) <= 2**20
    assert [line for line in shipped.lines if "x" not in line] == ["[output over 1 MiB is left out]"]


def test_line_that_is_being_written_is_taken_when_it_is_whole(
    shipped: Shipped, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "JUST_NOW_S", 60.0)
    for piece in ("first\n", "a", " ", "b"):
        shipped.capture.write("stdout", piece)
        shipped.take()
    assert shipped.lines == ["first"]
    shipped.capture.write("stdout", "\n")
    shipped.take()
    assert shipped.lines == ["first", "a b"]

    shipped.capture.write("stdout", "half of")
    shipped.capture.write("stderr", "another stream\n")
    shipped.take()
    assert shipped.lines == ["first", "a b"]
    shipped.capture.write("stdout", " a line\nhalf of a line that takes long")
    monkeypatch.setattr(output, "JUST_NOW_S", -1.0)
    shipped.take()
    assert shipped.lines[2:] == ["another stream", "half of a line", "half of a line that takes long"]


def test_cut_output_of_one_step_does_not_cut_the_next() -> None:
    def flood() -> None:
        print("x" * 2_000_000)

    later = cf.step(lambda _: print("later"), name="later")
    run = cf.workflow(lambda: later(cf.step(flood)())).run()

    assert run.logs("later")["text"].tolist() == ["later"]


def test_steps_output_does_not_appear_here(capfd: pytest.CaptureFixture[str]) -> None:
    cf.workflow(lambda: cf.step(print)("not here")).run(check=True)

    assert "not here" not in "".join(capfd.readouterr())


def test_inline_output_appears_here_and_in_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    @cf.step
    def talk() -> None:
        print("printed")
        cf.current().log("logged")

    run = cf.workflow(lambda: talk()).run(inline=True)

    assert "printed" in capfd.readouterr().out
    assert "logged" in set(run.logs()["text"])

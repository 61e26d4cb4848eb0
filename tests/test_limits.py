"""How much of anything there may be: a stranger's or a mistake's too much is an error that names it, never a hang."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Runtime, assert_all_workers_are_free

import celeryflow as cf
from celeryflow.engine import output
from celeryflow.graph import limits
from celeryflow.graph.model import LogLine
from celeryflow.store import events
from celeryflow.store.scripts import Store

LONG = "x" * 5_000_000


@cf.step
def take(x: Any = None) -> Any:
    return x


# --- before anything is submitted ------------------------------------------------------------------------------


def nested(depth: int, kind: type = list) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"in": value} if kind is dict else kind([value])
    return value


def holding_itself() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize("value", [nested(100_000), nested(5000, tuple), nested(5000, dict), holding_itself()])
def test_arguments_that_are_nested_too_deep_are_refused(value: Any) -> None:
    for body in (lambda: take(value), lambda: take.map([1, value]), lambda: (take(1), value)):
        with pytest.raises(cf.LimitError, match="300 deep"):
            cf.workflow(body).graph()


@pytest.mark.usefixtures("runtime")
def test_arguments_may_be_nested_as_deep_as_is_said() -> None:
    value = nested(limits.DEEPEST - 3)
    assert cf.workflow(lambda: take([value])).run(check=True).result() == [value]


def test_too_many_steps_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_NODES", 10)
    with pytest.raises(cf.LimitError, match=r"'many' has over 10 steps\. Map one step"):
        cf.workflow(lambda: [take(i) for i in range(11)], name="many").graph()
    cf.workflow(lambda: [take(i) for i in range(10)]).graph()


@pytest.mark.usefixtures("nothing_is_written")
def test_too_many_items_are_refused_before_they_are_made() -> None:
    with pytest.raises(cf.LimitError, match=r"take\.map\(\) got 1,000,000,000,000 items; the limit is 10,000,000"):
        cf.workflow(lambda: take.map(range(10**12))).submit()


def test_too_many_phases_and_long_names_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_PHASES", 3)

    def body() -> Any:
        for name in "abcd":
            with cf.phase(name):
                take(1)
        return take(2)

    with pytest.raises(cf.LimitError, match="phase 'd' is one of over 3"):
        cf.workflow(body).graph()
    with pytest.raises(cf.LimitError, match=r"'x{40}'… has a name of 5,000,000 characters"), cf.phase(LONG):
        pass


def test_too_many_queues_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_QUEUES", 3)
    with pytest.raises(cf.LimitError, match="'split' has steps in over 3 queues"):
        cf.workflow(lambda: [take.options(queue=f"q{i}")(i) for i in range(4)], name="split").graph()


def test_names_of_functions_are_cut() -> None:
    def function() -> None: ...

    function.__name__ = "x" * 5000
    graph = cf.workflow(lambda: cf.step(function)(), name="wf").graph()
    assert len(graph.nodes[0].spec.label) == len(graph.nodes[0].name) == 200


@pytest.mark.parametrize("name", ["a b", "a:b", "a{b}", "a\nb", "a\0b", "*", "a/b", "..\\", "ａ", "а", "", "x" * 201])  # noqa: RUF001
def test_names_that_could_leave_their_place_are_refused(name: str) -> None:
    wf = cf.workflow(lambda: take(1), name="wf")
    calls: list[Callable[[], Any]] = [
        lambda: cf.workflow(lambda: take.options(name=name)(1)).graph(),
        lambda: cf.step(queue=name)(len),
        lambda: cf.step(name=name)(len),
        lambda: wf.options(job_id=name),
        lambda: wf.options(tenant=name),
        lambda: cf.workflow(name=name)(lambda: take(1)),
    ]
    for call in calls:
        with pytest.raises(cf.InvalidNameError, match="1 to 200"):
            call()


@pytest.mark.parametrize("prefix", ["", "a b", "*", "a*", "[ab]", "a{b}", "a\n", "a\0", "x" * 101, "é"])
def test_prefixes_that_could_reach_other_keys_are_refused(prefix: str) -> None:
    with pytest.raises(cf.ConfigError, match="prefix must be"):
        cf.connect("unix:///nowhere", prefix=prefix)


def test_numbers_that_nothing_can_hold_are_refused() -> None:
    for option in ("retries", "max_running", "memory_limit_bytes", "max_worker_losses", "outputs"):
        with pytest.raises(cf.InvalidOptionError, match=option):
            cf.step(**{option: 10**30})(len)


# --- of a step that misbehaves ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("runtime")
def test_an_exception_of_megabytes_is_cut_and_the_worker_lives() -> None:
    def fail() -> None:
        raise type("F" * 5000, (ValueError,), {})("x" * 5_000_000)

    run = cf.workflow(lambda: cf.gather([cf.step(fail)()])).run()
    errors = run.errors()

    assert run.status == "success"
    assert errors["message"].str.len().max() == 10_000
    assert errors["traceback"].str.len().max() < 101_000
    assert errors["error"].str.len().max() <= 200
    assert "characters are left out" in errors["traceback"].iloc[0]
    assert sum(map(len, run._source.session.link.store.client.hvals(f"celeryflow:run:{run.id}:out"))) < 10**6
    assert len(repr(run)) < 100_000


@pytest.mark.usefixtures("runtime")
def test_a_step_that_logs_without_end_is_cut_and_others_go_on(tmp_path: Any) -> None:
    def flood() -> None:
        for _ in range(70_000):
            print()
        for number in range(20_000):
            cf.current().progress(number, 20_000)
        cf.current().log("x" * 20_000_000)
        os.write(1, b"y" * 10_000_000)

    run = cf.workflow(lambda: cf.step(flood)()).run(check=True)
    logs = run.logs()

    assert logs["text"].str.len().sum() <= 1.2 * 2**20
    assert len(logs) <= 2**20 / 16 + 10
    assert "left out" in logs["text"].iloc[-1]
    assert_all_workers_are_free(tmp_path)


def test_the_log_of_a_run_has_a_limit(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "LOG_LIMIT_BYTES", 10_000)
    line = LogLine(at=1.0, node=0, index=0, attempt=1, worker="w", stream="stdout", text="x" * 500)
    for _ in range(50):
        events.append_logs(store, "run-1", [line] * 3)

    texts = [found.text for found in events.read_logs(store, "run-1")]
    assert sum(map(len, texts)) < 10_000
    assert texts.count(events.LEFT_OUT) == 1 and texts[-1] == events.LEFT_OUT


def test_pieces_of_a_line_are_put_together_in_time_that_grows_with_them() -> None:
    place = output.Place("run-1", 0, 0, 1)
    pieces = [(place, 1.0, "stdout", ".")] * 300_000 + [(place, 2.0, "stdout", "\nend")]
    assert [text for _, _, _, text in output._joined(pieces)] == ["." * 300_000, "end"]


@pytest.mark.usefixtures("runtime")
def test_reasons_are_cut() -> None:
    run = cf.workflow(lambda: cf.step(lambda: __import__("time").sleep(60))()).submit()
    run.cancel(LONG)
    assert len(run.wait().snapshot().reason) == 1000


# --- what others wrote -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("runtime")
@pytest.mark.parametrize(
    "fields",
    [
        {"event": "success"},
        {"at": "soon", "event": "success"},
        {"at": 1, "event": "success", "node": "first"},
        {"at": 1, "event": "claimed", "node": 0, "count": 10**12},
        {"at": 1, "event": "success", "node": 0, "durations": "abc"},
    ],
)
def test_events_that_nobody_can_read_are_an_error_by_name(fields: dict[str, Any]) -> None:
    run = cf.workflow(lambda: take(1)).run()
    store = run._source.session.link.store
    store.client.xadd(store.keys.run(run.id, "events"), fields)
    with pytest.raises(cf.IntegrityError, match="events of run"):
        cf.attach(run.id).steps()


@pytest.mark.usefixtures("runtime")
@pytest.mark.parametrize("line", [b"", b"\x91" * 100_000, b"\x80", b"\xdd\xff\xff\xff\xff"])
def test_log_lines_that_nobody_can_read_are_an_error_by_name(line: bytes) -> None:
    run = cf.workflow(lambda: take(1)).run()
    store = run._source.session.link.store
    store.client.xadd(store.keys.run(run.id, "logs"), {"line": line})
    with pytest.raises(cf.IntegrityError, match="log of run"):
        cf.attach(run.id).logs()


def test_words_of_others_do_nothing_to_the_terminal(runtime: Runtime) -> None:
    def say() -> None:
        print("\x1b[2J\x1b]0;owned\x07\x9b31mred \u202eturned")
        raise ValueError("\x1b[31mred\x1b[0m\r\x08\x9bhidden")

    run = cf.workflow(lambda: cf.step(say)()).run()
    for command in (["logs", run.id], ["status", run.id], ["events", run.id], ["ps", "--all"], ["status", "\x1b[2Jx"]):
        done = subprocess.run(
            [sys.executable, "-m", "celeryflow", *command], capture_output=True, text=True, cwd=runtime.directory
        )
        shown = done.stderr + done.stdout
        assert not [c for c in shown if (c < " " and c not in "\n\t") or "\x7f" <= c < "\xa0" or c == "\u202e"]

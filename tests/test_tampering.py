"""Someone with the server's password and no key: nothing of theirs is executed or believed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attacker import Server
from executions import Executions, wait_until

import celeryflow as cf

pytestmark = pytest.mark.usefixtures("runtime")


@pytest.fixture
def server(runtime: Any) -> Server:
    return Server()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "gate"
    yield path
    path.touch()


def flipped(record: bytes, position: int = -1) -> bytes:
    changed = bytearray(record)
    changed[position] ^= 1
    return bytes(changed)


@cf.step
def make(x: Any) -> Any:
    return x


def use(executions: Executions) -> cf.Step[Any, Any]:
    return cf.step(lambda x: executions.note(f"used {x}"), name="use")


# --- results ------------------------------------------------------------------------------------------------------


def test_changed_result_is_refused_wherever_a_byte_was_flipped(server: Server) -> None:
    run = cf.workflow(lambda: make("true")).run()
    record = server.get(run, "out", "0:0")

    for position in range(0, len(record), 7):
        server.set(run, "out", "0:0", flipped(record, position))
        with pytest.raises(cf.SignatureError):
            run.value("make")
        with pytest.raises(cf.SignatureError):
            cf.attach(run.id).result()


@pytest.mark.parametrize("position", [0, 10, 40, -1])
def test_changed_input_fails_the_step_that_takes_it_and_runs_nothing(
    server: Server, executions: Executions, gate: Path, position: int
) -> None:
    hold = cf.step(lambda: wait_until(gate.exists), name="hold")

    @cf.workflow
    def etl() -> Any:
        first = make("true")
        return use(executions).options(after=[hold()])(first)

    run = etl.submit()
    wait_until(lambda: run.steps()["status"].tolist()[0] == "success")
    server.set(run, "out", "0:0", flipped(server.get(run, "out", "0:0"), position))
    gate.touch()

    assert run.wait(20).status == "failure"
    assert run.errors()["error"].tolist() == ["SignatureError"]
    assert executions.notes() == []


def test_result_spliced_from_another_run_is_refused(server: Server) -> None:
    mine, other = (cf.workflow(lambda x=x: make(x), name="same").run() for x in ("mine", "other"))

    server.set(mine, "out", "0:0", server.get(other, "out", "0:0"))

    with pytest.raises(cf.SignatureError):
        mine.value("make")


def test_result_spliced_from_another_step_is_refused(server: Server) -> None:
    run = cf.workflow(lambda: (make("first"), make("second"))).run()

    server.set(run, "out", "0:0", server.get(run, "out", "1:0"))

    with pytest.raises(cf.SignatureError):
        run.result()


def test_result_spliced_from_another_item_is_refused(server: Server) -> None:
    slow = cf.step(lambda x: (__import__("time").sleep(0.06), x)[1], name="slow")
    run = cf.workflow(lambda: slow.map(range(3))).run()

    server.set(run, "out", "0:0", server.get(run, "out", "0:1"))

    with pytest.raises(cf.SignatureError):
        run.value("slow")


def test_failure_put_in_place_of_a_value_is_refused(server: Server) -> None:
    def boom(x: int) -> int:
        if x:
            raise ValueError(x)
        return x

    good, bad = cf.map(boom, [0]).wait(), cf.map(boom, [1]).wait()

    server.set(good, "out", "0:0", server.get(bad, "out", "0:0"))

    with pytest.raises(cf.SignatureError):
        good.value("boom")


def test_missing_result_of_a_success_is_an_integrity_error(server: Server) -> None:
    run = cf.workflow(lambda: (make("x"), make.map([1, 2]))).run()

    server.client.hdel(server.key(run, "out"), "0:0")

    with pytest.raises(cf.IntegrityError, match="make"):
        run.result()
    for field in server.client.hkeys(server.key(run, "out")):
        server.client.hdel(server.key(run, "out"), field)
    with pytest.raises(cf.IntegrityError, match="make-2"):
        run.value("make-2")


def test_events_that_claim_success_are_not_enough(server: Server) -> None:
    run = cf.map(lambda x: 1 / x, [0]).wait()
    server.client.delete(server.key(run, "events"))
    told = [
        {"event": "submitted"},
        {"event": "success", "node": 0},
        {"event": "settled", "node": 0, "status": "success"},
    ]
    for number, event in enumerate([*told, {"event": "ended", "status": "success"}], 1):
        server.client.xadd(server.key(run, "events"), {"at": 1, **event}, id=f"{number}-0")

    forged = cf.attach(run.id)

    assert forged.status == "success"
    with pytest.raises(cf.IntegrityError):
        forged.result()


def test_forged_length_of_a_map_is_not_believed(server: Server) -> None:
    run = cf.workflow(lambda: make.map(make([1, 2, 3]))).run()

    server.client.hset(server.key(run, "map"), "1:n", 2)

    assert run.result() == [1, 2, 3]


# --- code, arguments, manifest ----------------------------------------------------------------------------------


def held(gate: Path, executions: Executions) -> cf.Run[Any]:
    """A run whose second step waits for its turn."""
    hold = cf.step(lambda: wait_until(gate.exists), name="hold")
    run = cf.workflow(lambda: use(executions).options(after=[hold()])("argument")).submit()
    wait_until(lambda: run.status == "running")
    return run


def assert_refused(run: cf.Run[Any], gate: Path, executions: Executions, *errors: str) -> None:
    gate.touch()
    assert run.wait(20).status == "failure"
    assert run.errors()["error"].tolist()[-1] in errors
    assert executions.notes() == []


@pytest.mark.parametrize("position", [0, 4, 36, 40, -1])
def test_changed_call_fails_its_step_and_runs_nothing(
    server: Server, gate: Path, executions: Executions, position: int
) -> None:
    run = held(gate, executions)

    server.set(run, "spec", "1", flipped(server.get(run, "spec", "1"), position))

    assert_refused(run, gate, executions, "SignatureError")


def test_call_spliced_from_another_run_fails_its_step(server: Server, gate: Path, executions: Executions) -> None:
    run = held(gate, executions)
    other = cf.workflow(lambda: (make(1), make(2))).run()

    server.set(run, "spec", "1", server.get(other, "spec", "1"))

    assert_refused(run, gate, executions, "SignatureError")


def test_call_spliced_from_another_step_fails_its_step(server: Server, gate: Path, executions: Executions) -> None:
    run = held(gate, executions)

    server.set(run, "spec", "1", server.get(run, "spec", "0"))

    assert_refused(run, gate, executions, "SignatureError")


@pytest.mark.parametrize(
    "change", [lambda code: flipped(code, 0), lambda code: flipped(code), lambda code: b"", lambda code: code + b"."]
)
def test_changed_code_fails_its_step_and_runs_nothing(
    server: Server, gate: Path, executions: Executions, change: Callable[[bytes], bytes]
) -> None:
    before = server.codes()
    run = held(gate, executions)
    mine = server.codes() - before

    for key in mine:
        server.client.set(key, change(server.client.get(key)))

    assert_refused(run, gate, executions, "IntegrityError", "SignatureError", "SerializationError")


def test_missing_code_fails_its_step(server: Server, gate: Path, executions: Executions) -> None:
    before = server.codes()
    run = held(gate, executions)

    for key in server.codes() - before:
        server.client.delete(key)

    assert_refused(run, gate, executions, "IntegrityError")


def test_changed_manifest_is_refused_by_workers_and_by_attach(
    server: Server, gate: Path, executions: Executions
) -> None:
    blockers = [held(gate, executions) for _ in range(2)]
    run = cf.workflow(lambda: use(executions)("x")).submit()
    manifest = server.get(run, "meta", "manifest")

    server.set(run, "meta", "manifest", flipped(manifest))
    with pytest.raises(cf.SignatureError):
        cf.attach(run.id)
    gate.touch()

    assert run.wait(20).status == "failure"
    for blocker in blockers:
        blocker.wait(20)
    assert not any("used x" in note for note in executions.notes())


def test_manifest_spliced_from_another_run_is_refused(server: Server) -> None:
    mine, other = cf.workflow(lambda: make("mine")).run(), cf.workflow(lambda: make("other")).run()

    server.set(mine, "meta", "manifest", server.get(other, "meta", "manifest"))

    with pytest.raises(cf.SignatureError):
        cf.attach(mine.id)


# --- blobs -------------------------------------------------------------------------------------------------------


def test_changed_blob_is_refused(server: Server) -> None:
    before = {path for path in server.blobs.rglob("*") if path.is_file()}
    run = cf.workflow(lambda: make(b"large" * 100_000)).run()
    mine = {path for path in server.blobs.rglob("*") if path.is_file()} - before

    for path in mine:
        path.write_bytes(flipped(path.read_bytes(), 1000))

    with pytest.raises(cf.IntegrityError, match=r"blob [0-9a-f]{12}.*damaged"):
        run.result()
    for path in mine:
        path.unlink()


def test_changed_blob_fails_the_step_that_takes_it(server: Server, gate: Path, executions: Executions) -> None:
    before = {path for path in server.blobs.rglob("*") if path.is_file()}
    hold = cf.step(lambda: wait_until(gate.exists), name="hold")
    large = cf.step(lambda: b"other" * 100_000, name="large")
    taking = cf.step(lambda x: executions.note("taken"), name="taking")
    run = cf.workflow(lambda: taking.options(after=[hold()])(large())).submit()
    wait_until(lambda: "success" in run.steps()["status"].tolist())

    for path in {path for path in server.blobs.rglob("*") if path.is_file()} - before:
        path.unlink()
        path.write_bytes(b"no")
    gate.touch()

    assert run.wait(20).status == "failure"
    assert run.errors()["error"].tolist() == ["SignatureError"]
    assert executions.notes() == []

"""Payloads that would write a file if they were ever unpickled, in each place where pickled bytes lie."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attacker import Server, Touch, flipped, payloads
from conftest import Runtime, assert_all_workers_are_free
from executions import Executions, wait_until
from msgspec.structs import replace

import celeryflow as cf
from celeryflow.runtime.session import current

pytestmark = pytest.mark.usefixtures("runtime")

KINDS = [*payloads(bytes(40), Path())]


@pytest.fixture
def server(runtime: Runtime) -> Server:
    return Server()


@pytest.fixture
def executed(tmp_path: Path) -> Iterator[Path]:
    """The file that is there if a payload was read."""
    path = tmp_path / "executed"
    yield path
    assert not path.exists()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "gate"
    yield path
    path.touch()


@cf.step
def make(x: Any) -> Any:
    return x


@cf.step
def hold(gate: Path) -> None:
    wait_until(gate.exists, timeout_s=60)


@cf.workflow
def inner(gate: Path, x: Any) -> Any:
    return hold.options(name="inside")(gate) if x else None


@cf.workflow
def victim(gate: Path, executions: Executions) -> Any:
    """Everything that a worker reads, each taken by a step that waits until it was changed."""
    value, large, planned = make("x"), make(os.urandom(400_000)), make.options(name="planned").map(make([1, 2]))
    both = cf.gather([make(1), make(2)])
    done = make.options(name="done", after=[value, large, planned, both])(1)
    use = cf.step(lambda *_: executions.note("used"), name="use")
    other = cf.step(lambda _: executions.note(f"its code ran at {gate}"), name="code")  # no other run has its digest
    held = hold.options(after=[done])(gate)
    late = use.options(after=[held])
    for name, taken in {"value": value, "blob": large, "chunk": planned, "arrival": both}.items():
        late.options(name=name)(taken)
    late.options(name="items").map(planned)
    late.options(name="call")(1)
    other.options(after=[held])(1)
    return inner(gate, done)


VICTIMS = ["arrival", "blob", "call", "chunk", "code", "inner", "items", "value"]


def running(run: cf.Run[Any]) -> set[str]:
    return {record.node.name for record in run.snapshot().steps if record.status == "running"}


def replace_all(server: Server, run: cf.Run[Any], kind: str, executed: Path, files: set[Path]) -> None:
    """Put a payload in the place of all that the victims read."""
    at = {node.name: node.index for node in run.graph.nodes}
    places = [("out", f"{at[name]}:0") for name in ("make", "planned", "gather")]
    places += [("out", f"{at['planned']}:1"), ("out", f"{at['planned']}:-1"), ("spec", str(at["call"]))]
    for part, field in [*places, ("expansions", f"{at['inner']}:0")]:
        record = server.client.hget(server.key(run, part), field)
        if record is not None:  # two items may lie in one chunk
            server.set(run, part, field, payloads(record, executed)[kind])
    key = server.store.keys.code(run._source.reader.call(at["code"]).code)
    server.client.set(key, payloads(server.client.get(key), executed)[kind])
    for file in server.files() - files:
        file.write_bytes(payloads(file.read_bytes(), executed)[kind])


def assert_said_without_a_secret(run: cf.Run[Any], runtime: Runtime) -> None:
    key = Path(current().link.settings.key_file).read_text().split()[0]
    log = "".join(path.read_text() for path in (runtime.directory / ".celeryflow" / "logs").glob("worker*.log"))
    assert log.count(f"refused: the record of {run.id}/") >= 5
    assert "refused: the stored code " in log
    assert "refused: blob " in log
    assert key not in log
    assert "executed" not in log


@pytest.mark.parametrize("kind", KINDS)
def test_workers_refuse_it_in_each_place_execute_nothing_and_live(
    kind: str, server: Server, gate: Path, executed: Path, executions: Executions, tmp_path: Path, runtime: Runtime
) -> None:
    before, files = server.store.refused()["worker"], server.files()
    run = victim.submit(gate, executions)
    wait_until(lambda: running(run) >= {"hold", "inner/inside"}, timeout_s=60)

    replace_all(server, run, kind, executed, files)
    gate.touch()

    assert run.wait(20).status == "failure"
    failed = run.steps().query("status == 'failure'")
    assert sorted(failed["step"]) == VICTIMS
    assert {error.partition(":")[0] for error in failed["error"]} == {"SignatureError"}
    assert executions.notes() == []
    assert server.store.refused()["worker"] >= before + len(VICTIMS)
    assert_said_without_a_secret(run, runtime)
    assert_all_workers_are_free(tmp_path)
    for file in server.files() - files:
        file.unlink()


def calls_of(run: cf.Run[Any]) -> dict[str, Any]:
    """Everything by which a client reads what is stored of a run."""
    found = cf.attach(run.id)
    steps = [node.name for node in found.graph.nodes]
    return {
        "result": found.result,
        "value": lambda: [found.value(step) for step in steps],
        "partial": lambda: [found.value(step, partial=True) for step in steps],
        "items": lambda: found.items("planned"),
        "errors": found.errors,
        "inputs": lambda: [found.inputs(step) for step in ("use", "code")],
        "replay": lambda: found.replay("code"),
        "as_completed": lambda: [*found.as_completed("planned")],
        "explain": lambda: found.explain("code"),
        "page": found._repr_html_,
        "reuse": lambda: whole.submit(reuse=run.id),
        "resume": lambda: whole.resume(run.id),
    }


@cf.workflow
def whole() -> Any:
    """A run that has one of each kind of record."""
    planned = make.options(name="planned").map(make([1, 2]))
    use = cf.step(lambda x: x, name="use")
    code = cf.step(lambda x: x, name="code")
    return code(use(cf.gather([make(1), make(os.urandom(300_000))]))), planned, inner(None, make(0))


@pytest.mark.parametrize("kind", KINDS)
def test_clients_refuse_it_in_each_place_and_execute_nothing(kind: str, server: Server, executed: Path) -> None:
    run = whole.run(check=True)
    before, good = server.store.refused()["client"], [*server.signed(run)]

    for part, field, record in good:
        server.set(run, part, field, payloads(record, executed)[kind])
    with pytest.raises(cf.SignatureError):
        cf.attach(run.id)
    for name in ("reuse", "resume"):
        with pytest.raises(cf.SignatureError):
            {"reuse": lambda: whole.submit(reuse=run.id), "resume": lambda: whole.resume(run.id)}[name]()
    server.set(run, *good[0])
    refused = set()
    for name, call in calls_of(run).items():
        try:
            call()
        except cf.SignatureError:
            refused.add(name)
    assert refused >= {"result", "value", "inputs", "replay", "reuse", "resume", "as_completed"}
    assert server.store.refused()["client"] >= before + len(refused)


def test_a_pickled_message_for_the_workers_is_dropped_unread(server: Server, executed: Path, tmp_path: Path) -> None:
    (binding,) = server.client.scan_iter(f"{server.prefix}:celery:_kombu.binding.celeryflow.*", count=10_000)
    queue = binding.decode().replace("_kombu.binding.", "", 1)
    body = base64.b64encode(payloads(bytes(40), executed)["a pickle"]).decode()
    for kind in ("application/x-python-serialize", "application/json", "pickle"):
        headers = {"lang": "py", "task": "celeryflow.drain", "id": kind}
        properties = {"delivery_tag": kind, "delivery_info": {"exchange": "", "routing_key": "x"}}
        message = {"body": body, "content-type": kind, "content-encoding": "binary", "headers": headers}
        server.client.lpush(queue, json.dumps({**message, "properties": {**properties, "body_encoding": "base64"}}))

    wait_until(lambda: not server.client.llen(queue))
    assert_all_workers_are_free(tmp_path)


def test_every_flipped_byte_and_every_cut_of_a_result_is_refused(server: Server) -> None:
    run = cf.workflow(lambda: make("true")).run()
    record = server.get(run, "out", "0:0")

    for position in range(len(record)):
        for changed in (flipped(record, position, position % 8), record[:position]):
            server.set(run, "out", "0:0", changed)
            with pytest.raises(cf.SignatureError):
                run.value("make")


# --- put back from before ------------------------------------------------------------------------------------------


def test_a_failure_of_an_earlier_generation_in_place_of_a_later_success_is_refused(
    server: Server, tmp_path: Path
) -> None:
    is_good = tmp_path / "good"

    def work() -> int:
        if not is_good.exists():
            raise ValueError("not yet")
        return 1

    run = cf.workflow(lambda: cf.step(work)()).run()
    failed = server.get(run, "out", "0:0")
    is_good.touch()
    assert run.resume().result() == 1

    server.set(run, "out", "0:0", failed)
    for reader in (run, cf.attach(run.id)):
        with pytest.raises(cf.SignatureError, match="earlier attempt"):
            reader.result()


@pytest.mark.parametrize(("attempt", "is_refused"), [(1, True), (2, False), (3, False)])
def test_a_success_of_an_earlier_attempt_in_place_of_a_later_one_is_refused(
    attempt: int, is_refused: bool, server: Server, tmp_path: Path
) -> None:
    def work() -> str:
        if cf.current().attempt == 1:
            raise ValueError("not yet")
        return "mine"

    run = cf.workflow(lambda: cf.step(work, retries=1, retry_delay_s=0)()).run(check=True)
    vault = current().link.vault

    # As of an attempt whose worker was thought dead, and whose result came too late to be stored.
    pointer = vault.point(["another's"], "it", attempt=attempt)
    server.set(run, "out", "0:0", vault.seal("value", (run.id, 0, 0), pointer))

    for reader in (run, cf.attach(run.id)):
        if is_refused:
            with pytest.raises(cf.SignatureError, match="earlier attempt"):
                reader.result()
        else:
            assert reader.result() == "another's"


@pytest.mark.parametrize("part", ["spec", "code", "out"])
def test_what_is_withheld_fails_the_step_by_name(part: str, server: Server, gate: Path, executions: Executions) -> None:
    @cf.workflow
    def taken() -> Any:
        first = make("x")
        return cf.step(lambda _: executions.note(f"taken {gate}"), name="use").options(after=[hold(gate)])(first)

    run = taken.submit()
    wait_until(lambda: "success" in run.steps()["status"].tolist())
    if part == "code":
        server.client.delete(server.store.keys.code(run._source.reader.call(2).code))
    else:
        server.client.hdel(server.key(run, part), "2" if part == "spec" else "0:0")
    gate.touch()

    assert run.wait(20).status == "failure"
    assert run.errors()["error"].tolist() == ["IntegrityError"]
    assert executions.notes() == []


# --- of another Python ---------------------------------------------------------------------------------------------


def test_a_value_of_another_python_is_refused_by_workers_and_clients(
    server: Server, gate: Path, executed: Path, executions: Executions
) -> None:
    @cf.workflow
    def taken() -> Any:
        first = make("x")
        return cf.step(lambda _: executions.note("taken"), name="use").options(after=[hold(gate)])(first)

    run, vault = taken.submit(), current().link.vault
    wait_until(lambda: "success" in run.steps()["status"].tolist())
    before = server.store.refused()
    pointer = replace(vault.point([Touch(executed)], "it"), python="3.99")
    server.set(run, "out", "0:0", vault.seal("value", (run.id, 0, 0), pointer))

    with pytest.raises(cf.VersionMismatchError, match=r"3\.99"):
        run.value("make")
    gate.touch()
    assert run.wait(20).status == "failure"
    assert run.errors()["error"].tolist() == ["VersionMismatchError"]
    assert executions.notes() == []
    after = server.store.refused()
    assert after["worker"] > before["worker"] and after["client"] > before["client"]

"""Runs whose large values are on the server, in a shared folder and on an object store; with real workers for each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import redis
from executions import Executions, wait_until
from places import SECRET, Place, buckets

import celeryflow as cf
from celeryflow.run import start
from celeryflow.runtime import session as sessions
from celeryflow.store.collect import collect, delete_run

KINDS = ("server", "folder", "s3")
ROOT = Path(__file__).parents[1]
SIZE = 300_000


@pytest.fixture(scope="module")
def places(client: redis.Redis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Place]]:
    """A deployment for each kind of place, with a worker at work."""
    folder = tmp_path_factory.mktemp("large")
    with buckets() as bucket:
        found = {kind: Place(kind, client, folder / kind, bucket) for kind in KINDS}
        workers = [work_for(place, folder / f"{place.kind}.log") for place in found.values()]
        try:
            for place in found.values():
                wait_until(lambda place=place: client.zcard(f"{place.prefix}:workers"), timeout_s=60)
            yield found
        finally:
            for worker in workers:
                worker.terminate()
            for worker in workers:
                worker.wait(20)
        for log in folder.glob("*.log"):
            assert SECRET not in log.read_text() and "Traceback" not in log.read_text(), log.read_text()


def options_of(place: Place, blobs: str | None = None) -> list[str]:
    given = ["--url", place.url, "--prefix", place.prefix, "--insecure"]
    where = place.blobs if blobs is None else blobs
    return [*given, "--blobs", where] if where else given


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "celeryflow", *arguments]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def work_for(place: Place, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as file:
        arguments = command("worker", "-c", "1", *options_of(place))
        return subprocess.Popen(arguments, cwd=log.parent, env=environment(), stdout=file, stderr=file)


def connect(place: Place, blobs: str | None = None) -> sessions.Session:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cf.InsecureWarning)
        where = place.blobs if blobs is None else blobs
        return cf.connect(place.url, prefix=place.prefix, blobs=where, insecure=True)


@contextmanager
def notebook(place: Place, blobs: str | None = None) -> Iterator[sessions.Session]:
    """This process as a client of the place's deployment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sessions, "_session", None)
        try:
            yield connect(place, blobs)
        finally:
            cf.shutdown()


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, places: dict[str, Place]) -> Iterator[Place]:
    with notebook(places[request.param]):
        yield places[request.param]


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "gate"
    yield path
    path.touch()


def collected(grace_s: float = 0.0) -> set[str]:
    link = sessions.current().link
    return {*collect(link.store, link.vault.blobs, grace_s).blobs}


make = cf.step(lambda mark, size=SIZE: mark * size, name="make")


def test_large_values_go_from_step_to_step_and_back(place: Place) -> None:
    @cf.step
    def total(frame: Any, array: Any, i: int) -> float:
        array += 1
        return float(frame["a"].sum() + array.sum() + i)

    arrays = cf.step(lambda n: [np.full(50_000, float(i)) for i in range(n)], name="arrays")
    frame = pd.DataFrame({"a": np.arange(100_000.0)})

    @cf.workflow
    def etl(frame: Any) -> Any:
        return total.map(cf.unmapped(frame), arrays(4), range(4)), make(b"x")

    before = place.names()
    totals, text = etl.run(frame).result()

    assert totals == [frame["a"].sum() + 50_000 * (i + 1) + i for i in range(4)]
    assert text == b"x" * SIZE
    assert len(place.names() - before) >= 3


def test_what_a_run_needs_is_kept_and_the_rest_is_collected(place: Place, gate: Path, executions: Executions) -> None:
    @cf.step
    def size(value: bytes, path: str = "") -> int:
        wait_until(Path(path).exists if path else lambda: True)
        executions.note("size")
        return len(value)

    before = place.names()
    kept = cf.workflow(lambda: size(make(b"k"))).run(check=True)
    needed = place.names() - before
    going = cf.workflow(lambda value: size(value, str(gate)), name="held").submit(b"g" * SIZE)
    wait_until(lambda: going.steps()["status"].tolist() == ["running"])
    needed |= place.names() - before
    stray = sessions.current().link.vault.blobs.put([b"stray" * SIZE])

    assert collected(3600.0) & {*needed, stray} == set()
    assert collected() & {*needed, stray} == {stray}
    assert needed <= place.names() and stray not in place.names()
    gate.touch()
    assert (going.result(), kept.value("make")) == (SIZE, b"k" * SIZE)
    assert cf.workflow(lambda: size(make(b"k"))).run(reuse=kept).result() == SIZE
    assert executions.notes() == ["size"] * 2

    for run in cf.history()["run"]:
        delete_run(sessions.current().link.store, run, 0.0)
    assert needed <= collected()
    assert place.names() & needed == set()


@pytest.mark.parametrize("change", ["flipped", "gone"])
def test_damaged_value_fails_the_step_that_takes_it(
    place: Place, change: str, gate: Path, executions: Executions
) -> None:
    waiting = cf.step(lambda: wait_until(gate.exists), name="waiting")
    taking = cf.step(lambda x: executions.note("taken"), name="taking")
    before = place.names()

    @cf.workflow
    def etl() -> Any:
        made = make(change.encode(), 100_000)
        return taking.options(after=[waiting.options(after=[made])()])(made)

    run = etl.submit()
    wait_until(lambda: "success" in run.steps()["status"].tolist())
    (digest,) = place.names() - before
    if change == "gone":
        place.delete(digest)
    else:
        place.write(digest, bytes([place.read(digest)[0] ^ 1]) + place.read(digest)[1:])
    gate.touch()

    assert run.wait(20).status == "failure"
    (error,) = run.errors().to_dict("records")
    name = {"flipped": "SignatureError", "gone": "IntegrityError"}[change]
    assert (error["error"], digest[:12] in error["message"]) == (name, True)
    assert executions.notes() == []
    with pytest.raises(cf.IntegrityError, match=digest[:12]):
        run.value("make")


def test_value_that_the_server_has_no_room_for_fails_its_step_alone(places: dict[str, Place]) -> None:
    place = places["server"]
    used = place.client.info("memory")["used_memory"]
    with notebook(place):
        place.client.config_set("maxmemory", used + 40 * 2**20)
        try:
            run = cf.workflow(lambda: make(b"m", 60 * 2**20)).run()
            small = cf.workflow(lambda: (make(b"s"), make(b"tiny", 1))).run().result()
            with pytest.raises(cf.StorageError, match=r"60\.0 MiB does not fit.*maxmemory.*gc.*blobs="):
                cf.workflow(lambda value: make(value, 1)).run(b"a" * 60 * 2**20)
        finally:
            place.client.config_set("maxmemory", 0)

    (error,) = run.errors().to_dict("records")
    assert (run.status, error["error"]) == ("failure", "StorageError")
    assert "60.0 MiB does not fit on the server" in error["message"] and "maxmemory" in error["message"]
    assert small == (b"s" * SIZE, b"tiny")
    assert not [*place.client.scan_iter(f"{place.prefix}:blob-new:*")]


# --- who says where -----------------------------------------------------------------------------------


def test_notebook_that_says_another_place_than_the_workers_is_told_both(places: dict[str, Place]) -> None:
    s3, folder, server = places["s3"], places["folder"], places["server"]
    for place, other, theirs, mine in (
        (s3, "", s3.blobs, "the server itself"),
        (server, s3.blobs, "the server itself", s3.blobs),
        (folder, f"{folder.blobs}2", folder.blobs, f"{folder.blobs}2"),
    ):
        with pytest.raises(cf.ConfigError) as caught, notebook(place, other):
            pass
        assert f"large values in {theirs}" in str(caught.value) and f"in {mine}:" in str(caught.value)
    assert not Path(f"{folder.blobs}2").exists()


def test_worker_that_says_another_place_is_told_both_and_goes(places: dict[str, Place], tmp_path: Path) -> None:
    arguments = command("worker", *options_of(places["s3"], str(tmp_path / "elsewhere")))
    done = subprocess.run(arguments, env=environment(), capture_output=True, text=True, timeout=60)

    assert done.returncode == 2, done.stderr
    assert places["s3"].blobs in done.stderr and str(tmp_path / "elsewhere") in done.stderr
    assert SECRET not in done.stderr


def test_run_that_was_submitted_with_another_place_fails_naming_both(
    places: dict[str, Place], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if no worker had been there at the submit."""
    monkeypatch.setattr(sessions, "agree", lambda *_: None)
    monkeypatch.setattr(start, "check_workers", lambda *_: None)
    with notebook(places["s3"], str(tmp_path)):
        run = cf.workflow(lambda value: make(value, 1)).run(b"x" * SIZE)
        (error,) = run.errors().to_dict("records")

    assert error["error"] == "ConfigError"
    assert str(tmp_path) in error["message"] and places["s3"].blobs in error["message"]


def test_collecting_by_the_command_line_leaves_alone_what_others_keep_there(places: dict[str, Place]) -> None:
    s3 = places["s3"]
    with notebook(s3) as session:
        stray = session.link.vault.blobs.put([b"another" * SIZE])
    other = s3.bucket.Object(f"{s3.prefix}/.used-by-other")
    other.put(Body=b"")

    def gc() -> Any:
        arguments = command("gc", "--json", "--grace", "0", *options_of(s3))
        return json.loads(subprocess.run(arguments, env=environment(), stdout=subprocess.PIPE, check=True).stdout)

    try:
        assert (gc()["others"], stray in s3.names()) == (["other"], True)
    finally:
        other.delete()
    assert stray in gc()["blobs"]
    assert stray not in s3.names()

"""Keys that are changed while clients and workers go on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from clusters import KEYS, Cluster
from executions import wait_until
from stores import served

import celeryflow as cf
from celeryflow.values.envelope import KEY_ID_BYTES, key_id

FORMER, NEW = KEYS


def id_of(key: str) -> str:
    return key_id(bytes.fromhex(key)).hex()


@pytest.mark.usefixtures("elsewhere")
def test_keys_are_changed_under_runs_that_go_on(tmp_path: Path) -> None:
    """The first key signs, all verify; nobody is started anew, and what a key signed ends with it."""
    gate, flag = tmp_path / "gate", tmp_path / "flag"

    @cf.step
    def wait(x: int) -> int:
        wait_until(gate.exists)
        return x

    @cf.step
    def fragile(x: int) -> int:
        if not flag.exists():
            raise ValueError("not yet")
        return x

    @cf.workflow
    def etl() -> list[int]:
        return [fragile(wait.map([1, 2])[0])]

    with served() as server:
        cluster = Cluster(server, tmp_path)
        with cluster.worker():
            cluster.connect()
            before, run = cf.map(abs, [-1]).wait(), etl.submit()
            wait_until(lambda: run.steps()["status"].tolist()[0] == "running")

            cluster.set_keys(FORMER, NEW)  # all verify with both, and then sign with the new one
            cluster.set_keys(NEW, FORMER)
            wait_until(lambda: signer(cluster, cf.map(abs, [-1])) == id_of(NEW))
            after = cf.map(abs, [-2])
            gate.touch()
            assert after.result() == [2]
            assert run.wait().status == "failure"

            cluster.set_keys(FORMER, of=cluster.client_keys)  # a client that nobody told
            with pytest.raises(cf.SignatureError, match=f"does not have .key id {id_of(NEW)}"):
                wait_until(lambda: cf.attach(after.id).result() is None)
            cluster.set_keys("", of=cluster.client_keys)  # in the middle of being written
            cluster.set_keys(NEW, FORMER, of=cluster.client_keys)
            assert cf.attach(after.id).result() == [2]

            flag.touch()
            assert run.resume().result() == [1]
            again = etl.run(reuse=run)
            assert (again.result(), Counter(again.steps()["reused"])) == ([1], {True: 2})

            cluster.set_keys(NEW)
            wait_until(lambda: refusal(before))
            assert f"key id {id_of(FORMER)}" in refusal(before)
            assert cf.attach(after.id).result() == [2]
            assert cf.map(abs, [-3]).result() == [3]
            assert before.id in cf.history()["run"].tolist()


def signer(cluster: Cluster, run: cf.Run[list[int]]) -> str:
    """Id of the key that a run is signed with."""
    return cluster.store.meta(run.id)["manifest"][:KEY_ID_BYTES].hex()


def refusal(run: cf.Run[list[int]]) -> str:
    """Why a run cannot be read; empty while it can."""
    try:
        cf.attach(run.id).result()
    except cf.SignatureError as error:
        return str(error)
    return ""

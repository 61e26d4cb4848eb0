"""Someone with the server's password and no key: no result is taken for another one."""

from __future__ import annotations

import struct
import time
from pathlib import Path
from typing import Any

import pytest
from executions import Executions

import celeryflow as cf
from celeryflow.runtime.session import current

pytestmark = pytest.mark.usefixtures("runtime")


def test_a_result_of_another_step_is_refused(executions: Executions) -> None:
    make = cf.step(lambda x: x, name="make")
    wf = cf.workflow(lambda: (make("one"), make("two"), make.options(name="all").map([1, 2])), name="spliced")
    store = current().link.store

    for field, other in [("0:0", "1:0"), ("1:0", "0:0"), ("2:0", "0:0"), ("0:0", "2:0")]:
        before = wf.run(check=True)
        out = store.keys.run(before.id, "out")
        store.client.hset(out, field, store.client.hget(out, other))
        with pytest.raises(cf.SignatureError):
            wf.run(reuse=before)
        with pytest.raises(cf.SignatureError):
            wf.resume(before)


@pytest.mark.parametrize("part", ["spec", "out"])
def test_records_of_another_run_are_refused(part: str) -> None:
    make = cf.step(lambda x: x, name="make")
    wf = cf.workflow(lambda x: make(x), name="moved")
    mine, other = wf.run("mine"), wf.run("other")
    store = current().link.store
    for field, value in store.client.hgetall(store.keys.run(other.id, part)).items():
        store.client.hset(store.keys.run(mine.id, part), field, value)
    with pytest.raises(cf.SignatureError):
        wf.run("other", reuse=mine)


def test_a_manifest_of_another_run_is_refused() -> None:
    make = cf.step(lambda x: x, name="make")
    wf = cf.workflow(lambda x: make(x), name="manifests")
    mine, other = wf.run("mine"), wf.run("other")
    store = current().link.store
    store.client.hset(store.keys.run(mine.id, "meta"), "manifest", store.meta(other.id)["manifest"])
    with pytest.raises(cf.SignatureError):
        wf.run("mine", reuse=mine.id)
    with pytest.raises(cf.SignatureError):
        wf.resume(mine.id)


def test_no_hint_makes_a_result_stand_for_another(ran: Any, executions: Executions) -> None:
    @cf.step(cache=True)
    def costly(x: int) -> int:
        with executions.recorded():
            return x

    wf = cf.workflow(lambda x: costly(x), name="hints")
    one, _two = wf.run(1), wf.run(2)
    store = current().link.store
    for key in store.client.scan_iter(store.keys.cached(b"").removesuffix(":") + ":*", count=10_000):
        store.client.zadd(key, {f"{one.id}|0|7": time.time() + 1000, "nowhere-1|x": time.time() + 2000})
    ran()
    assert [wf.run(x).result() for x in (1, 2, 3)] == [1, 2, 3]
    assert ran() == {"costly": 1}


def test_a_cached_result_that_was_changed_is_made_again(ran: Any, executions: Executions) -> None:
    @cf.step(cache=True)
    def costly(x: int) -> int:
        with executions.recorded():
            return x

    wf = cf.workflow(lambda: (costly(1), costly(2)), name="changed")
    run = wf.run(check=True)
    store = current().link.store
    out = store.keys.run(run.id, "out")
    store.client.hset(out, "0:0", store.client.hget(out, "1:0"))
    assert wf.run().result() == (1, 2)
    assert ran() == {"costly": 2, "costly-2": 2}


def test_other_marks_give_no_other_results(executions: Executions) -> None:
    slow = cf.step(lambda x: (time.sleep(0.06), x)[1], name="slow")
    wf = cf.workflow(lambda: slow.map([1, 2, 3, 4]), name="marked")
    before = wf.run(check=True)
    store = current().link.store
    key = store.keys.at(before.id, 0)
    marks = store.client.get(key)
    store.client.set(key, marks[:4] * 4)
    run = wf.run(reuse=before)
    with pytest.raises(cf.IntegrityError):
        run.result()


def test_other_marks_reach_no_further_than_what_was_taken(executions: Executions) -> None:
    wf = cf.workflow(lambda xs: cf.step(lambda x: x, name="quick").map(xs), name="reach")
    before = wf.run([*range(500)], check=True)
    chunks = before._source.reader.chunks(0, 0, 500)
    first = next(at for at in range(498) if len(set(chunks[at : at + 3])) == 1)
    run = wf.run([-1 if x == first + 2 else x for x in range(500)], reuse=before, check=True)
    taken = run._source.reader.chunks(0, 0, 500)
    assert run.result()[first + 2] == -1

    store = current().link.store
    store.client.setrange(store.keys.at(run.id, 0), 4 * (first + 2), struct.pack("<I", taken[first] + 1))
    with pytest.raises(cf.IntegrityError):
        cf.attach(run.id).result()


def test_changed_code_is_not_read(ran: Any, executions: Executions) -> None:
    @cf.step
    def work(x: int) -> int:
        with executions.recorded():
            return x

    wf = cf.workflow(lambda: work(1), name="coded")
    before = wf.run(check=True)
    store = current().link.store
    digest = before._source.reader.call(0).code
    good = store.get_code(digest)
    store.client.set(store.keys.code(digest), b"cos\nsystem\n(S'touch /tmp/pwned'\ntR.")
    # The submit puts the code there again, as its digest is the same.
    assert wf.run(reuse=before).result() == 1
    assert store.get_code(digest) == good
    assert not Path("/tmp/pwned").exists()

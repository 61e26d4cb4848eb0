"""Failover: the primary is killed or demoted, its replica takes over behind the same address, and runs go on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from executions import wait_until
from shell import Shell
from stores import served

from celeryflow.store import events
from celeryflow.store.scripts import Store

from . import figures
from .adding import FLOW, begin, check
from .cells import Cells
from .oracle import Oracle
from .replicas import Pair, replicated
from .servers import stopped


@pytest.fixture
def pair(shell: Shell) -> Iterator[Pair]:
    with replicated(shell) as pair:
        yield pair


@pytest.fixture
def kernel(shell: Shell, pair: Pair) -> Iterator[Cells]:
    cells = Cells(shell, FLOW + pair.connect)
    yield cells
    cells.close()


def test_runs_go_on_after_the_primary_was_demoted_and_then_the_new_one_killed(
    kernel: Cells, pair: Pair, witness: Oracle
) -> None:
    run = begin(kernel, 24, 0.1)
    wait_until(lambda: len(witness.read("work")) > 6)
    pair.fail_over(is_abrupt=False)
    pair.demote_former()
    check(kernel, witness, run, 24)

    run = begin(kernel, 24, 0.1)  # with workers that were idle: it takes a ticket
    wait_until(lambda: len(witness.read("work", run)) > 6)
    wait_until(lambda: pair.replica.client.info("replication")["master_link_status"] == "up")
    pair.fail_over(is_abrupt=True)
    check(kernel, witness, run, 24)


@pytest.mark.slow_fault
def test_runs_go_on_after_a_primary_that_fell_silent(kernel: Cells, pair: Pair, witness: Oracle) -> None:
    """As when its host is gone: nobody closes the connections."""
    run = begin(kernel, 40, 0.1)
    wait_until(lambda: len(witness.read("work")) > 10)
    with stopped(pair.primary.process.pid):
        pair.fail_over(is_abrupt=False)
        check(kernel, witness, run, 40)

        run = begin(kernel, 4, 0.1)
        begun = time.monotonic()
        check(kernel, witness, run, 4)

    figures.time("from a submit to its end, where the former primary is silent", time.monotonic() - begun)


@pytest.mark.slow_fault
def test_acknowledged_writes_that_a_failover_loses_are_noticed_and_run_again(
    kernel: Cells, pair: Pair, witness: Oracle
) -> None:
    run = begin(kernel, 100, 0.1)
    wait_until(lambda: len(witness.ended(run)) > 10)

    pair.replica.lag()
    before = len(witness.ended(run))
    wait_until(lambda: len(witness.ended(run)) > before + 20)
    pair.fail_over(is_abrupt=True)

    check(kernel, witness, run, 100)
    assert len(witness.repeats(run)) >= 10


@pytest.mark.slow_fault
def test_run_that_a_failover_loses_is_said_to_be_lost_and_others_go_on(
    kernel: Cells, pair: Pair, witness: Oracle
) -> None:
    pair.replica.lag()
    run = begin(kernel, 100, 0.1)
    wait_until(lambda: len(witness.ended(run)) > 10)

    pair.fail_over(is_abrupt=True)
    (name, message), _ = kernel.end()

    assert name == "RunLostError"
    assert run in message
    again = begin(kernel, 20, 0.01)
    check(kernel, witness, again, 20)
    executed = len(witness.read(run=run))
    kernel.run("time.sleep(1)")
    assert len(witness.read(run=run)) == executed


def test_history_that_becomes_another_one_while_its_next_event_is_awaited_is_read_from_its_start() -> None:
    """As on a server that was demoted, once it has the data of its new primary."""
    with served() as server, ThreadPoolExecutor(1) as thread:
        store = Store(server, "celeryflow")

        def write(*times: float) -> None:
            pipe, key = server.pipeline(), store.keys.run("etl-1", "events")
            pipe.delete(key)
            for seq, at in enumerate(times, 1):
                pipe.xadd(key, {"at": at, "event": "submitted"}, id=f"{seq}-0")
            pipe.execute()

        write(1.0, 2.0)
        found = thread.submit(events.follow, store, "etl-1", after=2, wait_s=10, at=2.0)
        wait_until(lambda: server.info("clients")["blocked_clients"])
        write(1.0, 2.5, 3.0)

        assert [event.at for event in found.result()] == [1.0, 2.5, 3.0]

"""Tickets carry no state: those that are lost are sent again, those that are doubled find nothing to do."""

import time

import pytest
from conftest import Runtime, wait_until

import celeryflow as cf
from celeryflow.engine.app import TASK, make_app, queue_name
from celeryflow.runtime.session import current


@pytest.fixture
def nobody_drains(runtime: Runtime) -> None:
    """All slots are free, so that work needs a ticket."""
    store = current().link.store
    wait_until(lambda: not store.drainers())


@cf.step
def double(x: int) -> int:
    return 2 * x


@pytest.mark.usefixtures("nobody_drains")
def test_lost_tickets_are_sent_again() -> None:
    """For every slot a ticket is on its way that will never arrive."""
    link = current().link
    tickets = f"{link.settings.prefix}:group:{link.settings.queues}:tickets"
    soon = time.time() + 1
    link.store.client.zadd(tickets, {f"lost-{i}": soon for i in range(link.settings.workers)})

    assert cf.map(double, range(10)).result(timeout_s=10) == list(range(0, 20, 2))
    assert link.store.client.zscore(tickets, "lost-0") is None


@pytest.mark.usefixtures("nobody_drains")
def test_tickets_of_nobody_are_harmless() -> None:
    settings = current().link.settings
    app = make_app(settings)
    for number in range(5):
        app.send_task(TASK, (f"doubled-{number}",), queue=queue_name(settings), ignore_result=True)
    app.close()

    assert cf.map(double, range(10)).result(timeout_s=10) == list(range(0, 20, 2))
    wait_until(lambda: not current().link.store.drainers())

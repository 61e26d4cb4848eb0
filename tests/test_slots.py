"""What a worker's main process and its pool tell each other through shared memory."""

from __future__ import annotations

from celeryflow.engine.slots import Shipped, Slots

RUN = "run-1"


def test_only_the_attempt_that_was_named_is_stopped() -> None:
    slot = Slots(2).slot(1)
    slot.hold("drainer", "first", RUN)
    slot.stop("first")
    assert slot.is_stopped

    slot.hold("drainer", "second", RUN)
    assert not slot.is_stopped


def test_stop_of_an_attempt_that_came_before_this_one_changes_nothing() -> None:
    slot = Slots(1).slot(0)
    slot.hold("drainer", "second", RUN)
    slot.stop("first")

    assert not slot.is_stopped


def test_process_that_holds_nothing_is_not_stopped() -> None:
    slot = Slots(1).slot(0)
    assert not slot.is_stopped
    slot.stop("first")
    slot.clear()

    assert not slot.is_stopped


def test_stop_is_its_own_slots_alone() -> None:
    slots = Slots(2)
    for index in (0, 1):
        slots.slot(index).hold(f"drainer {index}", "same", RUN)
    slots.slot(0).stop("same")

    assert [slots.slot(index).is_stopped for index in (0, 1)] == [True, False]
    assert slots.slot(0).shipped == Shipped()

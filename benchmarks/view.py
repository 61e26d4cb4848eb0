"""What the live view costs the kernel: CPU time, messages to the front end, and how long others wait for it."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import comm
from comm.base_comm import BaseComm

import celeryflow as cf
from benchmarks.contenders import WORKERS, celeryflow
from benchmarks.measure import Row
from benchmarks.works import LAYERS
from celeryflow.run.watch import Watch
from celeryflow.view.live.browser import Browser
from celeryflow.view.live.follower import Follower

LOOK_S = 0.001

WORKS: dict[str, tuple[str, int, Callable[[int, int], Any]]] = {
    "boxes": (
        "10 layers x 48 steps of 20 ms, each with a box", 480,
        lambda start, size: celeryflow.layered.submit(range(start, start + size // LAYERS), LAYERS, 0.02),
    ),
    "layers": (
        "10 layers x 100 steps of 10 ms", 1_000,
        lambda start, size: celeryflow.layered.submit(range(start, start + size // LAYERS), LAYERS, 0.01),
    ),
    "map": (
        "map of 100,000 items of 0.1 ms", 100_000,
        lambda start, size: celeryflow.mapped.submit(range(start, start + size), 0.0001),
    ),
}  # fmt: skip
"""Title, size, and how it is started; each takes some five seconds on two cores."""


def measure(repeats: int, divisor: int, say: Callable[[str], None] = print) -> list[Row]:
    """A row a work: medians, but the longest of all holds."""
    rows = []
    cf.connect(workers=WORKERS)
    try:
        _measured(WORKS["boxes"][2], 1, 40)  # loads what draws, once
        for work, (title, size, submit) in WORKS.items():
            found = [_measured(submit, 1_000 * (i + 2), size // divisor) for i in range(repeats)]
            middle = {name: statistics.median(one[name] for one in found) for name in found[0]}
            longest = {"longest_hold_s": max(one["longest_hold_s"] for one in found)}
            rows.append({"work": work, "title": title, "size": size // divisor, **middle, **longest})
            say(f"view of {title} measured")
    finally:
        cf.shutdown()
    return rows


def _measured(submit: Callable[[int, int], Any], start: int, size: int) -> dict[str, float]:
    with _front_end() as sent:
        run = submit(start, size)
        began, cpu_began = time.perf_counter(), _others_s()
        follower = Follower(Watch(run.id, run._source))
        browser = Browser(follower)
        follower.add(browser)
        longest_s = _longest_hold_s(lambda: follower.run.is_over)
        follower.settle(10.0)
        seconds, cpu_s = time.perf_counter() - began, _others_s() - cpu_began
        browser.close()
    run.result()
    opened, first, *updates = sent
    return {
        "seconds": seconds,
        "cpu_share": cpu_s / seconds,
        "updates_a_second": len(updates) / seconds,
        "first_bytes": opened + first,
        "bytes_an_update": statistics.mean(updates) if updates else 0.0,
        "longest_hold_s": longest_s,
    }


def _longest_hold_s(is_over: Callable[[], bool]) -> float:
    """How long this thread, woken a thousand times a second, had to wait for the interpreter at most.

    What it waited counts only as far as the other threads used the processor meanwhile: the rest is the machine's.
    """
    longest_s = 0.0
    while not is_over():
        began, cpu_began = time.perf_counter(), _others_s()
        time.sleep(LOOK_S)
        late_s = time.perf_counter() - began - LOOK_S
        longest_s = max(longest_s, min(late_s, _others_s() - cpu_began))
    return longest_s


def _others_s() -> float:
    """CPU time of this process without this thread."""
    return time.process_time() - time.thread_time()


@contextmanager
def _front_end() -> Iterator[list[int]]:
    """Collect how many bytes each message of the view for a front end has: the first brings its program."""
    sent: list[int] = []

    class Counting(BaseComm):
        def publish_msg(
            self, msg_type: str, data: Any = None, metadata: Any = None, buffers: Any = None, **_: Any
        ) -> None:
            if msg_type == "comm_msg" or (msg_type == "comm_open" and "_esm" in str(data)[:200_000]):
                sent.append(len(json.dumps(data, default=str)))

    before = comm.create_comm
    comm.create_comm = lambda *args, **kwargs: Counting(*args, **kwargs)
    try:
        yield sent
    finally:
        comm.create_comm = before

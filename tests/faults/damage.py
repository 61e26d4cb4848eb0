"""Damage to processes: which there are, and how they end."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import psutil

from celeryflow.runtime import embedded

from .oracle import Kill


def workers(directory: Path) -> list[int]:
    """Main processes of the workers that the runtime of a directory has started."""
    status = embedded.status(directory) or {"workers": []}
    return [pid for pid in status["workers"] if pid]


def pool_processes(directory: Path) -> list[int]:
    """The processes in which steps run."""
    found: list[int] = []
    for worker in workers(directory):
        with suppress(psutil.NoSuchProcess):
            found += [child.pid for child in psutil.Process(worker).children()]
    return found


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    with suppress(psutil.NoSuchProcess):
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    return []


def kill(*pids: int) -> Kill:
    """SIGKILL all of them; those that are gone are not in the record."""
    hit = set()
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            hit.add(pid)
    return Kill(time.monotonic(), frozenset(hit))


def kill_a_pool_process(directory: Path, chance: random.Random) -> Kill | None:
    """SIGKILL one process of a worker's pool, if there is any."""
    found = pool_processes(directory)
    return kill(chance.choice(found)) if found else None


def kill_a_worker(directory: Path, chance: random.Random) -> Kill | None:
    """SIGKILL the main process of a worker and everything that came from it, if there is a worker with a pool."""
    found = [all_of for worker in workers(directory) if len(all_of := family(worker)) > 1]
    return replace(kill(*chance.choice(found)), is_of_a_worker=True) if found else None


def kill_something(directory: Path, chance: random.Random) -> Kill | None:
    """SIGKILL one process of a pool, or in one case of four a whole worker: it takes 2 s to be at work again."""
    strike = kill_a_worker if chance.random() < 0.25 else kill_a_pool_process
    return strike(directory, chance)


@contextmanager
def repeated(damage: Callable[[], Kill | None], every_s: float, most: int = 1000) -> Iterator[list[Kill]]:
    """Do damage every so many seconds, at most so often; the kills so far."""
    kills: list[Kill] = []
    errors: list[BaseException] = []
    is_over = threading.Event()

    def loop() -> None:
        try:
            while len(kills) < most and not is_over.wait(every_s):
                done = damage()
                kills.extend([done] if done else [])
        except BaseException as error:  # noqa: BLE001 - raised in the test
            errors.append(error)

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield kills
    finally:
        is_over.set()
        thread.join()
    if errors:
        raise errors[0]

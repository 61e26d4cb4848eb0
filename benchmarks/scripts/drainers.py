"""Simulated drainers and supervisors: they speak to the server as real ones do, and run nothing.

Started with a JSON object as its argument (see `Orders`). It says ``ready`` once every connection stands, works until
a line comes in, and prints what it saw. Each drainer and each supervisor has its own connection; one loop serves all.
"""

from __future__ import annotations

import contextlib
import gc
import heapq
import itertools
import json
import random
import resource
import selectors
import socket
import sys
import time
from array import array
from collections.abc import Callable
from typing import Any

import hiredis
import msgspec

from celeryflow.store.claims import Result

TICK_S = 0.1


class Orders(msgspec.Struct, frozen=True):
    """What the drainers do.

    Attributes
    ----------
    workers : dict
        Names of drainers by their worker's, which beats if `is_beating`.
    seconds : float
        What a step is said to have taken: cheap ones come many in a claim.
    pause_s : float
        Wait between a claim and its commit; 0 for as fast as the server answers.
    """

    socket: str
    prefix: str
    digests: dict[str, str]
    workers: dict[str, list[str]]
    is_beating: bool
    seconds: float
    pause_s: float
    record_bytes: int


def command(*parts: bytes | str | int | float) -> bytes:
    """A command as it is on the wire."""
    encoded = [part if isinstance(part, bytes) else str(part).encode() for part in parts]
    return b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in encoded)


class Peer:
    """One connection, which waits for one reply at a time."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.reader = hiredis.Reader()
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(loop.orders.socket)
        loop.selector.register(self.socket, selectors.EVENT_READ, self)
        self.then: Callable[[Any], None]

    def verb(self, name: str) -> bytes:
        """The beginning of a call of a verb, after the number of its parts."""
        return command("EVALSHA", self.loop.orders.digests[name], 1, self.loop.orders.prefix).partition(b"\r\n")[2]

    def call(self, head: bytes, *parts: bytes | str | int | float) -> None:
        """Call a verb whose beginning is `head`."""
        body = command(*parts).partition(b"\r\n")[2]
        self.socket.sendall(b"*%d\r\n" % (4 + len(parts)) + head + body)

    def receive(self) -> None:
        """Take what has come, and go on if it is all of a reply."""
        data = self.socket.recv(1 << 18)
        if not data:
            raise ConnectionError("the server has closed a connection")
        self.reader.feed(data)
        reply = self.reader.gets()
        if reply is not False:
            if isinstance(reply, hiredis.ReplyError):
                raise reply
            self.then(reply)


class Drainer(Peer):
    """Claims, commits with the next claim, waits to be woken."""

    def __init__(self, loop: Loop, name: str, worker: str) -> None:
        super().__init__(loop)
        self.name, self.worker = name, worker
        self.tokens = (f"{name}-{number}" for number in itertools.count())
        self.token, self.run, self.units = "", b"", list[Any]()
        self.claiming, self.committing = self.verb("claim"), self.verb("commit")
        self.waiting = command("BLPOP", f"{loop.orders.prefix}:wake:{name}", 0)
        self.sent_at = 0.0
        self.then = self.woken

    def woken(self, reply: Any) -> None:
        """There is work, or this is the beginning."""
        self.then = self.claimed
        self.call(self.claiming, self.name, next(self.tokens), self.worker, "")

    def claimed(self, reply: Any) -> None:
        """A claim, or nothing: ask again, or wait."""
        more, claim = reply
        if claim:
            self.token, self.run, _, _, self.units = claim
            self.loop.later(self.loop.pause(), self.commit)
        elif more:
            self.woken(None)
        else:
            self.then = self.woken
            self.units = []
            self.socket.sendall(self.waiting)

    def commit(self) -> None:
        """Commit all that was claimed."""
        orders, bodies = self.loop.orders, list[bytes]()
        results = []
        for node, start, count, *_ in self.units:
            result = Result(node=node, start=start, count=count, seconds=orders.seconds * count, output_bytes=100)
            results.append(result.header())
            bodies += [self.loop.record, self.loop.durations[: 4 * count]]
        self.then = self.committed
        self.sent_at = time.monotonic()
        header = msgspec.msgpack.encode(results)
        self.call(self.committing, self.name, self.token, next(self.tokens), self.worker, header, *bodies)

    def committed(self, reply: Any) -> None:
        """The answer to a commit, with the next claim."""
        self.loop.note_commit(time.monotonic(), self.sent_at, sum(unit[2] for unit in self.units))
        answer, more, claim = reply
        if answer != b"committed":
            raise AssertionError(f"a commit was {answer!r}")
        self.claimed((more, claim))


class Supervisor(Peer):
    """Beats, then waits for a nudge."""

    def __init__(self, loop: Loop, worker: str, drainers: list[Drainer]) -> None:
        super().__init__(loop)
        self.worker, self.drainers, self.renewing = worker, drainers, self.verb("renew")
        self.waiting = command("BLPOP", f"{loop.orders.prefix}:group:*:nudge", TICK_S)
        self.then = self.beaten

    def beat(self) -> None:
        """Renew the leases of its drainers, and ask whether what they do is still wanted."""
        work = {b"%b|%d" % (drainer.run, unit[0]) for drainer in self.drainers for unit in drainer.units}
        names = [drainer.name for drainer in self.drainers]
        self.then = self.beaten
        self.call(self.renewing, self.worker, "*", len(names), len(names), *names, *work)

    def beaten(self, reply: Any) -> None:
        """Wait for the next beat."""
        self.loop.beats += 1
        self.then = self.nudged
        self.socket.sendall(self.waiting)

    def nudged(self, reply: Any) -> None:
        """A tick is over, or somebody is wanted."""
        self.beat()


class Loop:
    """Serves all connections in turn."""

    def __init__(self, orders: Orders) -> None:
        self.orders = orders
        self.selector = selectors.DefaultSelector()
        self.record = bytes(orders.record_bytes)
        self.durations = bytes(4 * 5000)
        self.latencies = array("d")
        self.commits = self.steps = self.beats = 0
        self.cpu_s = 0.0
        self._due: list[tuple[float, int, Any]] = []
        self._serial = itertools.count()
        self._random = random.Random(0)

    def pause(self) -> float:
        """How long a step takes, here."""
        return self.orders.pause_s * self._random.uniform(0.5, 1.5)

    def later(self, seconds: float, do: Any) -> None:
        """Do something after so many seconds."""
        if seconds > 0:
            heapq.heappush(self._due, (time.monotonic() + seconds, next(self._serial), do))
        else:
            do()

    def note_commit(self, now: float, sent_at: float, steps: int) -> None:
        """Count a commit."""
        self.latencies.append(now - sent_at)
        self.commits, self.steps = self.commits + 1, self.steps + steps

    def run(self) -> None:
        """Serve until a line comes in."""
        drainers = []
        for worker, names in self.orders.workers.items():
            mine = [Drainer(self, name, worker) for name in names]
            drainers += mine
            if self.orders.is_beating:
                self.later(TICK_S * self._random.random(), Supervisor(self, worker, mine).beat)
        self.selector.register(sys.stdin, selectors.EVENT_READ, None)
        print("ready", flush=True)
        began = time.process_time()
        for drainer in drainers:
            drainer.woken(None)
        while True:
            while self._due and self._due[0][0] <= time.monotonic():
                heapq.heappop(self._due)[2]()
            wait_s = max(0.0, self._due[0][0] - time.monotonic()) if self._due else None
            for key, _ in self.selector.select(wait_s):
                if key.data is None:
                    self.cpu_s = time.process_time() - began
                    return
                key.data.receive()


def main() -> None:
    orders = msgspec.json.decode(sys.argv[1], type=Orders)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 10_000)), hard))
    loop = Loop(orders)
    gc.disable()
    loop.run()
    print(json.dumps({
        "commits": loop.commits, "steps": loop.steps, "beats": loop.beats,
        "cpu_s": loop.cpu_s, "latencies_us": [round(1e6 * each) for each in loop.latencies],
    }))  # fmt: skip


if __name__ == "__main__":
    main()

"""The supervisor of one home: ``python -m celeryflow.runtime.keeper HOME SERVER SOCKET``.

It runs the server and the workers, in a session of its own, for as long as a process that joined is alive,
and then stops everything. It imports little, or late: a notebook's first run waits for it.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from itertools import count
from pathlib import Path
from socket import gethostname
from typing import Any

from celeryflow.runtime.children import Child
from celeryflow.runtime.files import (
    DATA,
    KEEPER_LOCK,
    LOCK,
    LOGS,
    MEMBERS,
    RECORD,
    Lock,
    make_private,
    read_record,
    write_record,
)
from celeryflow.runtime.processes import identity, is_alive, start_mark

TICK_S = 0.2
"""Between two looks at the processes: about 0.2 ms of work each."""

ANSWER_S = 0.1
"""A server that was just started is not waited for longer: it may stand still, and the end of all must not."""

WORKER_GRACE_S, SERVER_GRACE_S = 3.0, 0.5
"""How long they may take to stop by themselves, within the 5 s in which all is gone."""


class Keeper:
    """The processes of one home.

    Parameters
    ----------
    home : Path
        The home, whose `keeper.lock` it holds for life.
    server, socket : str
        The server's binary and the path of its socket.
    umask : int
        What the user's own processes are to have.
    """

    def __init__(self, home: Path, server: str, socket: str, umask: int):
        self.home, self.socket, self.umask = home, Path(socket), umask
        self.identity = {**identity(), "pid": os.getpid(), "mark": start_mark(os.getpid())}
        self.lock, self.life = Lock(home / LOCK), Lock(home / KEEPER_LOCK)
        self.launch = os.urandom(8).hex()
        self.told_to_stop = False
        self.members: dict[str, dict[str, Any]] = {}
        self.pools: dict[str, Child] = {}
        self.sizes: dict[str, int] = {}
        self.retired: list[Child] = []
        self.numbers = count(1)
        self.answered = 0
        self.server = self._server(server)

    def _server(self, binary: str) -> Child:
        # Relative paths, since the server reads its arguments as a file with quotes and escapes.
        options = (
            f"--port 0 --unixsocket {self.socket} --unixsocketperm 600 --daemonize no --dir . --logfile '' "
            "--loglevel notice --appendonly yes --appendfsync no --save '' --maxmemory-policy noeviction"
        )
        return Child(
            "server",
            [binary, *(option.strip("'") for option in options.split())],
            self.home / LOGS / "server.log",
            f"{self.launch}.server",
            {},
            lambda pid: pid == self.answered,
            env=dict(os.environ),
            cwd=make_private(self.home / DATA),
            # The lock is held for as long as either lives: no second server opens the same data.
            pass_fds=(self.life.descriptor,),
        )

    def _pool(self, request: dict[str, Any]) -> Child:
        number = next(self.numbers)
        changes: dict[str, str | None] = request["environment"]
        environment = {k: v for k, v in {**os.environ, **changes}.items() if v is not None}
        return Child(
            "worker",
            request["command"],
            self.home / LOGS / f"worker-{number}.log",
            f"{self.launch}.worker-{number}",
            {"pool": request["pool"]},
            self._was_at_work,
            env=environment,
            cwd=request["directory"],
            umask=self.umask,
        )

    def run(self, started: int) -> None:
        """Keep everything running until nobody needs it; `started` is closed once the record is written."""
        try:
            self.look()
            os.close(started)
            while True:
                time.sleep(TICK_S)
                # A full disk or too many open files may pass, and are no reason to end anybody's work.
                with suppress(OSError):
                    if self._is_over():
                        break
                    self.look()
        finally:
            self.stop()

    def on_signal(self, *_: object) -> None:
        """Stop everything at the next look, members or not."""
        self.told_to_stop = True

    def look(self) -> None:
        """One look at members and processes."""
        changes = [self.server.look(), self._see_members()]
        self._ask_server()
        changes += [pool.look() for pool in self.pools.values()]
        self._relieve()
        gone = [child for child in self.retired if child.has_ended()]
        self.retired = [child for child in self.retired if child not in gone]
        if any(changes) or gone:
            self.write_record()

    def _ask_server(self) -> None:
        """Note that a server that was started has answered."""
        from celeryflow.runtime import server

        pid = self.server.process.pid if self.server.process else 0
        if pid not in (0, self.answered) and server.answers(str(self.socket), ANSWER_S):
            self.answered = pid

    def _see_members(self) -> bool:
        """Welcome who is new and forget who is gone; whether a pool has another size now."""
        sizes = dict(self.sizes)
        paths = {path.name: path for path in (self.home / MEMBERS).glob("*.json")}
        self.members = {name: member for name, member in self.members.items() if name in paths}
        fresh = {name: read_record(paths[name]) for name in paths.keys() - self.members.keys()}
        for member in sorted(filter(self._is_here, fresh.values()), key=lambda member: member["joined_at"]):
            self._welcome(member["pool"], member)
        self.members |= fresh
        for name in [n for n, member in self.members.items() if not self._is_here(member)]:
            del self.members[name]
            paths[name].unlink(missing_ok=True)
        return sizes != self.sizes

    def _welcome(self, pool: str, member: dict[str, Any]) -> None:
        if not pool:
            return  # it is a worker itself
        size = self.sizes.get(pool)
        if size is None or (member["resizes"] and member["workers"] != size):
            self._resize(pool, member)
        elif pool in self.pools and self.pools[pool].failure:
            self.pools[pool].try_again()

    def _resize(self, pool: str, member: dict[str, Any]) -> None:
        """Another worker takes over; the steps that the former one runs come to their end in it."""
        if pool in self.pools:
            self.retired.append(self.pools.pop(pool))
        self.sizes[pool] = member["workers"]
        if member["workers"]:
            self.pools[pool] = self._pool(member)

    def _relieve(self) -> None:
        """Tell former workers to finish, once the one that takes over is at work."""
        for former in self.retired:
            pool = former.facts["pool"]
            if pool and (pool not in self.pools or self._is_at_work(self.pools[pool])):
                former.ask_to_finish()

    def _is_at_work(self, worker: Child) -> bool:
        return worker.process is not None and self._was_at_work(worker.process.pid)

    def _was_at_work(self, pid: int) -> bool:
        """Whether the worker of that process id has got so far as to say so to the server."""
        from celeryflow.runtime import server

        return server.ask(str(self.socket), f"EXISTS celeryflow:worker:{gethostname()}:{pid}") == b":1\r\n"

    def _is_here(self, member: dict[str, Any]) -> bool:
        same_boot = bool(member) and member.get("boot") == self.identity["boot"]
        return same_boot and (member["pinned"] or is_alive(member["pid"], member["mark"]))

    def _guests(self) -> list[dict[str, Any]]:
        """The workers that users started themselves; they go when the server does."""
        return [member for member in self.members.values() if self._is_here(member) and not member["pool"]]

    def _is_wanted(self) -> bool:
        return bool(self.members) and not self.told_to_stop and not self.server.failure

    def _is_over(self) -> bool:
        """Whether to stop; then the lock is held, so that whoever joins now waits and starts anew."""
        if not self.life.is_current():
            return True  # the home was moved or deleted
        if self._is_wanted() or not self.lock.take():
            return False
        self._see_members()
        if self._is_wanted():
            self.lock.give_back()
            return False
        return True

    def write_record(self) -> None:
        """Tell others what runs."""
        children = [child.entry() for child in (self.server, *self.pools.values(), *self.retired)]
        facts = {"launch": self.launch, "socket": str(self.socket), "sizes": self.sizes}
        write_record(self.home / RECORD, {**self.identity, **facts, "children": children})

    def stop(self) -> None:
        """End the workers while they can still say so to the server, then the server, then the traces."""
        import shutil

        workers = [*self.pools.values(), *self.retired]
        for worker in workers:
            worker.ask_to_end()
        for guest in self._guests():
            with suppress(ProcessLookupError):
                os.kill(guest["pid"], signal.SIGTERM)
        deadline = time.monotonic() + WORKER_GRACE_S
        for worker in workers:
            worker.end(max(0.0, deadline - time.monotonic()))
        while self._guests() and time.monotonic() < deadline:
            time.sleep(0.02)
        self.server.ask_to_end()
        self.server.end(SERVER_GRACE_S)
        shutil.rmtree(self.socket.parent, ignore_errors=True)
        if self.life.is_current():
            shutil.rmtree(self.home / MEMBERS, ignore_errors=True)
            if not self.server.failure:  # which others still want to read
                (self.home / RECORD).unlink(missing_ok=True)


def main() -> None:
    """Leave the kernel's process tree, say when the processes are started, and keep them."""
    home, server, socket = sys.argv[1:4]
    umask = os.umask(0o077)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # a kernel's thread may have blocked some
    reader, writer = os.pipe()
    if os.fork():
        os.close(writer)
        os.read(reader, 1)  # until the record is written, or the other has died
        os._exit(0)
    os.close(reader)
    keeper = Keeper(Path(home), server, socket, umask)
    if not keeper.life.take():
        sys.exit("another keeper or its server is still alive")
    signal.signal(signal.SIGTERM, keeper.on_signal)
    keeper.run(writer)


if __name__ == "__main__":
    main()

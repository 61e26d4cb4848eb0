"""One process's share of an embedded runtime."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from celeryflow.config import Settings
from celeryflow.errors import ConfigError, RuntimeStartError
from celeryflow.runtime import owners, places, pools, server
from celeryflow.runtime.files import BLOBS, LOGS, RECORD, last_lines, read_record
from celeryflow.runtime.processes import is_alive

_START_S = 120.0


class Runtime:
    """A membership: while it lasts, and its process lives, the runtime does.

    Parameters
    ----------
    home : Path
        Where the runtime keeps its state.
    member : Path
        The file by which the keeper knows of this membership.
    settings : Settings
        Where the runtime is; what its workers are given.
    """

    def __init__(self, home: Path, member: Path, settings: Settings):
        self.settings = settings
        self._home, self._member = home, member
        self._pid, self._joined_at = os.getpid(), time.time()

    def check(self) -> None:
        """See that server and workers are alive or about to be; takes 0.1 ms.

        Raises
        ------
        RuntimeStartError
            If one was given up or the runtime has gone, with the end of its log.
        """
        record = read_record(self._home / RECORD)
        for child in record.get("children", []):
            if child["failed_at"] >= self._joined_at and child.get("pool") in {None, pools.name()}:
                raise RuntimeStartError(child["failure"])
        if not owners.is_kept(record) or url(record["socket"]) != self.settings.url:
            raise RuntimeStartError(
                f"the embedded runtime of {self._home} has gone: it was stopped or killed. "
                f"Connect again to start another. {self.log_end('keeper')}"
            )

    def launch(self) -> str:
        """Which start of the runtime this is."""
        return str(read_record(self._home / RECORD).get("launch", ""))

    def goes_on_without_kernels(self) -> bool:
        """Whether ``celeryflow up`` or a user's own worker keeps it, and the runs of notebooks that have gone."""
        members = [read_record(path) for path in self._member.parent.glob("*.json")]
        return any(m["pinned"] or (not m["pool"] and is_alive(m["pid"], m["mark"])) for m in members if m)

    def has_pool(self) -> bool:
        """Whether workers are kept for kernels like this one."""
        return bool(read_record(self._home / RECORD).get("sizes", {}).get(pools.name()))

    def leave(self) -> None:
        """Say that this process needs it no longer; the last one's leaving stops everything.

        A process that ends need not. In a forked child it does nothing: the child is no member.
        """
        if os.getpid() == self._pid:
            self._member.unlink(missing_ok=True)

    def await_answer(self) -> None:
        """Wait for the server.

        Raises
        ------
        RuntimeStartError
            If it is given up, or has not loaded its data after two minutes.
        """
        deadline = time.monotonic() + _START_S
        while not server.answers(self.settings.url.removeprefix("unix://")):
            self.check()
            if time.monotonic() > deadline:
                end = self.log_end("server")
                raise RuntimeStartError(f"the server has not answered for {_START_S:.0f} s. {end}")
            time.sleep(0.003)

    def log_end(self, name: str) -> str:
        """Read the last lines of one of the logs, for a message."""
        return last_lines(self._home / LOGS / f"{name}.log")


def url(socket: Path | str) -> str:
    """Give the address of a server at a socket."""
    return f"unix://{socket}"


def settings(home: Path, socket: Path, record: dict[str, Any], workers: int | None) -> Settings:
    """Settings of the runtime whose keeper wrote the record, or that is to be started."""
    wanted = record.get("sizes", {}).get(pools.name()) if workers is None else workers
    if wanted is None:
        wanted = Settings.read().workers or pools.cores()
    if wanted < 0:
        raise ConfigError(f"CELERYFLOW_WORKERS must be 0 (one a core) or more, not {wanted}.")
    return Settings.read(
        url=url(socket),
        prefix="celeryflow",
        key_file=str(places.key_file(home)),
        blobs=str(home / BLOBS),
        workers=wanted,
        queues=pools.queues(),
        grace_s=Settings.grace_s,  # within what the keeper gives
        log_format=Settings.log_format,
    )

"""A laptop's server and workers: start or join them, leave, stop."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celeryflow.errors import RuntimeStartError
from celeryflow.runtime import member, owners, places, pools, server
from celeryflow.runtime.files import (
    BLOBS,
    LOCK,
    LOGS,
    MEMBERS,
    RECORD,
    Lock,
    make_private,
    open_log,
    read_record,
    write_record,
)
from celeryflow.runtime.member import Runtime
from celeryflow.runtime.processes import is_alive

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celeryflow.config import Settings

__all__ = ["Runtime", "attend", "down", "join", "status", "up"]

_STOP_S = 10.0


def join(directory: Path, workers: int | None = None) -> Runtime:
    """Start the runtime of `directory`, or join the one that runs.

    Parameters
    ----------
    directory : Path
        Where the notebook is.
    workers : int, optional
        Worker processes. A pool that runs already gets as many: a new worker takes over, and the former one goes
        when the steps that it runs have ended. By default one a core, or what runs already.

    Returns
    -------
    Runtime
        Once the server answers; the workers may take a second more.

    Raises
    ------
    RuntimeStartError
        If it cannot start, with the end of the log.
    """
    return _enter(directory, workers)


def up(directory: Path, workers: int | None = None) -> None:
    """Start the runtime of `directory` and let it run until `down` or the next boot; 0 workers are the server alone."""
    _enter(directory, workers, pinned=True)


def attend(directory: Path) -> Settings:
    """Join as a worker, which this process becomes: by executing another program it stays a member."""
    return _enter(directory, None, is_worker=True).settings


def down(directory: Path) -> bool:
    """Stop the runtime of `directory` whoever uses it, and say whether one ran.

    Raises
    ------
    RuntimeStartError
        If it runs where this process cannot stop it.
    """
    home = places.locate(directory.resolve())
    if (home / LOCK).exists():
        with suppress(OSError), Lock(home / LOCK) as lock:  # which cannot be opened where it came with a folder
            lock.take(_STOP_S)  # of a start, whose record is there then, or of a keeper that ends, which is gone then
    record = read_record(home / RECORD)
    owners.refuse_foreign(home, record)
    ran = owners.is_kept(record)
    if ran and not _ends(record, signal.SIGTERM):
        _ends(record, signal.SIGKILL)
    if (home / RECORD).exists():
        with places.opened(directory.resolve()) as home:
            socket = _socket(home)
            if not owners.kept_record(home):  # which swept up after a keeper that was killed
                server.remove_socket(socket)
    return ran


def status(directory: Path) -> dict[str, Any] | None:
    """Tell what runs for `directory`, by process ids; None if nothing does. Starts nothing."""
    home = places.locate(directory.resolve())
    record = read_record(home / RECORD)
    if not owners.is_kept(record):
        return None
    members = [m for path in (home / MEMBERS).glob("*.json") if (m := read_record(path))]
    kernels = [m for m in members if m["pool"] and not m["pinned"]]
    return {
        "keeper": record["pid"],
        "server": record["children"][0]["pid"],
        "workers": [child["pid"] for child in record["children"][1:]],
        "members": sorted({m["pid"] for m in kernels if is_alive(m["pid"], m["mark"])}),
        "pinned": any(m["pinned"] for m in members),
        "url": member.url(record["socket"]),
    }


def _enter(directory: Path, workers: int | None, *, pinned: bool = False, is_worker: bool = False) -> Runtime:
    if sys.platform == "win32":
        raise RuntimeStartError("the embedded runtime needs Linux, macOS or WSL2, not native Windows.")
    directory = directory.resolve()
    with places.opened(directory) as home:
        for name in (MEMBERS, LOGS, BLOBS):
            make_private(home / name)
        old_socket = _socket(home)
        record = owners.kept_record(home)
        binary = "" if record else server.find()
        # After a keeper's violent end the same address, so that clients find the new server by it.
        socket = old_socket if record or server.is_socket_place(old_socket) else server.new_socket()
        settings = member.settings(home, socket, record, workers)
        path = home / MEMBERS / f"{os.getpid()}-{secrets.token_hex(4)}.json"
        runtime = Runtime(home, path, settings)
        how = {"resizes": workers is not None, "pinned": pinned, "is_worker": is_worker}
        request = pools.request(directory, settings.workers, **how)
        write_record(path, request)
        with _left_on_error(runtime):
            if not record:
                _start_keeper(runtime, home, binary, socket, request)
    with _left_on_error(runtime):
        runtime.await_answer()
    return runtime


def _socket(home: Path) -> Path:
    return Path(read_record(home / RECORD).get("socket", ""))


def _start_keeper(runtime: Runtime, home: Path, binary: str, socket: Path, request: dict[str, Any]) -> None:
    """Start the supervisor; back once its record says what it started."""
    keeper = [sys.executable, "-P", "-m", "celeryflow.runtime.keeper"]
    changes = {**os.environ, **runtime.settings.environment(), **request["environment"]}
    environment = {name: value for name, value in changes.items() if value is not None}
    try:
        with open_log(home / LOGS / "keeper.log") as log:
            exit_code = subprocess.run(
                [*keeper, str(home), binary, str(socket)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=home,
                start_new_session=True,
                check=False,
            ).returncode
        problem = f"exit code {exit_code}" if exit_code else ""
    except OSError as error:
        problem = str(error)
    if problem:
        server.remove_socket(socket)
        raise RuntimeStartError(f"the keeper did not start: {problem}. {runtime.log_end('keeper')}")
    runtime.check()


@contextmanager
def _left_on_error(runtime: Runtime) -> Iterator[None]:
    try:
        yield
    except BaseException:
        runtime.leave()
        raise


def _ends(record: dict[str, Any], number: signal.Signals) -> bool:
    """Signal the keeper; whether it is gone in time."""
    with suppress(ProcessLookupError):
        os.kill(record["pid"], number)
    deadline = time.monotonic() + _STOP_S
    while (alive := owners.is_kept(record)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive

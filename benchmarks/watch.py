"""What a run costs the server: CPU time, memory, and how long others had to wait."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from celeryflow.runtime.session import current
from celeryflow.store import scripts

SLOW_US = 500
OWN = ("CONFIG", "INFO", "SLOWLOG")
"""Commands of this module."""


def client() -> Any:
    """The connection to the server of this process's deployment."""
    return current().link.store.client


@contextmanager
def watched() -> Iterator[dict[str, Any]]:
    """Fill a dict with what the server did inside the block."""
    server, found = client(), dict[str, Any]()
    server.config_set("slowlog-log-slower-than", SLOW_US)
    server.config_set("slowlog-max-len", 10_000)
    server.slowlog_reset()
    before = _cpu_s(server)
    with _pinging(found):
        yield found
    found["server_cpu_s"] = _cpu_s(server) - before
    entries = [entry for entry in server.slowlog_get(10_000) if verb_of(entry["command"]) not in OWN]
    slowest = max(entries, key=lambda entry: entry["duration"], default=None)
    found["slowest_command_s"] = slowest["duration"] / 1e6 if slowest else SLOW_US / 1e6
    found["slowest_command"] = verb_of(slowest["command"]) if slowest else f"none over {SLOW_US} us"


def memory_bytes(run: str) -> int:
    """What the keys of a run take, by ``MEMORY USAGE``, every element counted."""
    server = client()
    keys = list(server.scan_iter(f"{current().link.settings.prefix}:run:{run}:*", count=10_000))
    return sum(server.memory_usage(key, samples=0) for key in keys)


@contextmanager
def _pinging(found: dict[str, Any]) -> Iterator[None]:
    socket = current().link.settings.url.removeprefix("unix://")
    command = [sys.executable, "-m", "benchmarks.scripts.pinger", socket]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()  # it is ready
    try:
        yield
    finally:
        said, _ = process.communicate()
    found |= {f"ping_{name}": value for name, value in json.loads(said).items()}


def _cpu_s(server: Any) -> float:
    used = server.info("cpu")
    return float(used["used_cpu_user"] + used["used_cpu_sys"])


def verb_of(command: bytes) -> str:
    """The command, or the verb whose script it was."""
    first, _, rest = command.decode(errors="replace").partition(" ")
    return _verbs().get(rest.partition(" ")[0], first) if first.upper() == "EVALSHA" else first.upper()


@cache
def _verbs() -> dict[str, str]:
    files = (Path(scripts.__file__).parent / "lua").glob("*.lua")
    return {hashlib.sha1(scripts.source(file.stem).encode()).hexdigest(): file.stem for file in files}

"""What does not belong there: messages that are no tickets, and keys of other types. They go, and the workers stay."""

from __future__ import annotations

import base64
import json
from typing import Any

import psutil
import pytest
import redis
from executions import wait_until
from shell import Shell

from .cells import Cells
from .damage import workers

FLOW = """
@cf.step
def double(x):
    return 2 * x

def run_once():
    return cf.map(double, range(20)).result(timeout_s=30)
"""
WARM_UP = "run_once()"


def ticket(args: Any = ("stray",), **changes: Any) -> dict[str, Any]:
    """A message as Celery writes it."""
    body = base64.b64encode(json.dumps([args, {}, {}]).encode()).decode()
    headers = {
        "lang": "py",
        "task": "celeryflow.drain",
        "id": "1",
        "eta": None,
        "expires": None,
        "timelimit": [None] * 2,
    }
    info = {"exchange": "", "routing_key": "x"}
    properties = {"delivery_tag": "2", "delivery_mode": 2, "delivery_info": info, "body_encoding": "base64"}
    message = {"body": body, "content-type": "application/json", "content-encoding": "utf-8"}
    return {**message, "headers": headers, "properties": properties, **changes}


HEADERS = ticket()["headers"]
GARBAGE: list[bytes] = [
    b"not json",
    b"",
    b"\xff\xfe\x00",
    b"null",
    b"[]",
    b"{}",
    b"[" * 100_000,
    b"x" * 2**20,
    b'{"__type__": "uuid", "__value__": 5}',
    *(
        json.dumps(message).encode()
        for message in (
            {"body": "aGk="},
            ticket(properties={}),
            ticket(properties=None),
            ticket(headers=None),
            ticket(headers={}),
            ticket(headers={**HEADERS, "task": "os.system"}),
            ticket(headers={**HEADERS, "task": ["celeryflow.drain"]}),
            ticket(headers={**HEADERS, "id": None}),
            ticket(headers={**HEADERS, "timelimit": "soon"}),
            ticket(headers={**HEADERS, "eta": "2999-01-01"}),
            ticket(body="no base64!"),
            ticket(body=None),
            ticket(args=[]),
            ticket(args=[{"a": 1}]),
            ticket(args=["a", "b"]),
            ticket(**{"content-type": "application/x-python-serialize"}),
            ticket(**{"content-type": None}),
        )
    ),
]


def queue_of(client: redis.Redis) -> str:
    """The Celery queue of the pool's tickets."""
    (name,) = client.scan_iter("celeryflow:celery:_kombu.binding.celeryflow.*")
    return name.decode().removeprefix("celeryflow:celery:_kombu.binding.")


def log_of(shell: Shell) -> str:
    return "".join(path.read_text() for path in (shell.directory / ".celeryflow" / "logs").glob("worker*.log"))


def test_messages_that_are_no_tickets_are_dropped_with_a_line_in_the_log(
    shell: Shell, cells: Cells, client: redis.Redis
) -> None:
    before = workers(shell.directory), [p.pid for p in psutil.Process(workers(shell.directory)[0]).children()]
    queue = f"celeryflow:celery:{queue_of(client)}"

    client.lpush(queue, *GARBAGE)

    wait_until(lambda: not client.llen(queue))
    wait_until(lambda: log_of(shell).count("dropped a message") == len(GARBAGE))
    assert cells.run("answer = run_once()") == [2 * x for x in range(20)]
    assert (workers(shell.directory), [p.pid for p in psutil.Process(before[0][0]).children()]) == before
    assert max(map(len, log_of(shell).splitlines())) < 1000


def test_noise_on_the_channel_of_remote_control_ends_no_worker(shell: Shell, cells: Cells, client: redis.Redis) -> None:
    before = workers(shell.directory)
    channels = [name.decode() for name in client.pubsub_channels()]

    for channel in channels:
        for noise in GARBAGE:
            client.publish(channel, noise)

    assert cells.run("answer = run_once()") == [2 * x for x in range(20)]
    assert workers(shell.directory) == before


STRAYS: dict[str, tuple[Any, ...]] = {
    "an entry of what is due": ("ZADD", "celeryflow:delayed", 1, "nonsense"),
    "an entry of timers": ("ZADD", "celeryflow:timers", 1, "nonsense"),
    "an entry of deadlines": ("ZADD", "celeryflow:deadlines", 1, "nonsense"),
    "an entry of the cursors": ("RPUSH", "celeryflow:pending", "nonsense"),
    "a drainer": ("ZADD", "celeryflow:leases", 1, "nonsense"),
    "a drainer with a name of parts": ("ZADD", "celeryflow:leases", 1, "a|b|c"),
    "a worker": ("ZADD", "celeryflow:workers", 9e9, "nonsense"),
    "a group": ("SADD", "celeryflow:groups", "nonsense%~"),
    "a queue": ("SADD", "celeryflow:queues", "nonsense"),
    "a run": ("ZADD", "celeryflow:runs", 1, "nonsense"),
    "a run to expire": ("ZADD", "celeryflow:expiring", 1, "nonsense"),
    "a function": ("SET", "celeryflow:code:nonsense", "nonsense"),
    "who needs a function": ("HSET", "celeryflow:users:nonsense", "nonsense", 1),
}


@pytest.mark.parametrize("names", [tuple(STRAYS), *(pytest.param((n,), marks=pytest.mark.slow_fault) for n in STRAYS)])
def test_stray_entries_end_nothing(shell: Shell, cells: Cells, client: redis.Redis, names: tuple[str, ...]) -> None:
    before = workers(shell.directory)

    for name in names:
        client.execute_command(*STRAYS[name])

    assert cells.run("answer = run_once()") == [2 * x for x in range(20)]
    assert shell("gc").returncode == 0
    assert workers(shell.directory) == before


def test_stray_lanes_are_dropped(cells: Cells, client: redis.Redis) -> None:
    names = cells.run("""
from celeryflow.runtime.session import current
settings = current().link.settings
answer = [f"{settings.prefix}:queue:default{settings.pool}", f"default{settings.pool}"]
""")
    client.zadd(names[0], {"nonsense": 0, "gone|5": 0})
    client.sadd("celeryflow:queues", names[1])

    assert cells.run("answer = run_once()") == [2 * x for x in range(20)]
    wait_until(lambda: not client.exists(names[0]))


KEYS = (
    "pending",
    "delayed",
    "timers",
    "deadlines",
    "leases",
    "workers",
    "runs",
    "groups",
    "queues",
    "expiring",
    "ticket",
)


def test_keys_of_another_type_are_put_aside(shell: Shell, cells: Cells, client: redis.Redis) -> None:
    before = workers(shell.directory)
    names = [f"celeryflow:{name}" if name != "ticket" else f"celeryflow:celery:{queue_of(client)}" for name in KEYS]
    for name in names:
        client.set(name, "nonsense")

    wait_until(lambda: not [name for name in names if client.type(name) == b"string"], timeout_s=30)

    assert len([*client.scan_iter("celeryflow:stray:*")]) == len(KEYS)
    wait_until(lambda: log_of(shell).count("a key of another type stood in the way") == len(KEYS))
    wait_until(lambda: shell.json("ps", "--json")["workers"])
    assert cells.run("answer = run_once()") == [2 * x for x in range(20)]
    assert workers(shell.directory) == before

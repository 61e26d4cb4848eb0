"""Commands that look at a deployment as a whole: its health, and how it stands."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any

import click

from celeryflow.cli.base import DONE, RUN_FAILED, cli, deployment, say, server_options
from celeryflow.config import LEASE_S


@cli.command()
@click.option("--host", metavar="NAME", help="Workers of this host; by default of this one.")
@click.option("--worker", "name", metavar="HOST:PID", help="This worker, wherever it runs.")
@click.option("-Q", "--queue", metavar="QUEUE", help="Workers that serve this queue; of any host, if none is named.")
@server_options
def health(host: str | None, name: str | None, queue: str | None, **place: Any) -> int:
    """Whether a worker is alive: it has renewed its leases with the server within the last 10 s.

    Exit code 0 if so, 1 if none is, 3 if no server answers. In a container with a worker it needs no option.
    """
    with deployment(place) as session:
        from celeryflow.run.stuck import serves_by_name

        workers = session.link.store.live_workers()
        if name is None and queue is None:
            host = host or socket.gethostname()
        found = [
            worker
            for worker, facts in workers.items()
            if name in (None, worker)
            and host in (None, facts.get("host"))
            and (queue is None or serves_by_name(facts, queue))
        ]
    if found:
        say(f"Alive: {', '.join(found)}.")
        return DONE
    wanted = [
        f"called {name}" if name else "",
        f"of host {host}" if host else "",
        f"for queue {queue}" if queue else "",
    ]
    say(
        f"No worker {' '.join(filter(None, wanted))} was heard of within {LEASE_S:.0f} s. "
        f"Those that were: {', '.join(workers) or 'none'}."
    )
    return RUN_FAILED


def lines(found: dict[str, Any]) -> Iterator[str]:
    """How a deployment stands, for people."""
    from celeryflow.view.words import plain

    yield f"server   {found['url']}  prefix {found['prefix']}" + (f"  {found['trouble']}" if found["trouble"] else "")
    yield f"workers  {len(found['workers']) or 'none'}"
    yield from _columns([_worker(worker) for worker in found["workers"]])
    yield f"queues   {len(found['queues']) or 'none'}"
    yield from _columns([_queue(queue) for queue in found["queues"]])
    yield f"runs     {len(found['runs'])} not finished, {len(found['stuck'])} stuck"
    refused = ", ".join(f"{count} by {role}s" for role, count in found["refused"].items() if count)
    if refused:
        yield f"refused  {refused}: signed bytes that were changed, moved, or signed with another key"
    for stuck in found["stuck"]:
        yield from (f"  {stuck['run']}  {plain(why, 500)}" for why in stuck["why"])


def _worker(worker: dict[str, Any]) -> list[str]:
    since = worker["started_at"]
    return [
        worker["worker"],
        worker["state"],
        ",".join(worker["queues"]),
        f"{worker['busy']} of {worker['concurrency']} busy",
        f"celeryflow {worker['celeryflow']}, Python {worker['python']}",
        f"heard of {worker['last_beat_s']:.1f} s ago",
        time.strftime("since %Y-%m-%d %H:%M", time.localtime(since)) if since else "",
        worker["directory"] or "",
    ]


def _queue(queue: dict[str, Any]) -> list[str]:
    wait = "" if queue["oldest_wait_s"] is None else f"oldest for {queue['oldest_wait_s']:.1f} s"
    counts = [f"{queue[name]} {name}" for name in ("ready", "running", "waiting")]
    return [queue["queue"], *counts, wait, f"{queue['workers'] or 'no'} worker{'s' * (queue['workers'] > 1)}"]


def _columns(rows: list[list[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  " + "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()

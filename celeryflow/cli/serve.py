"""Commands that start and stop what runs steps."""

from __future__ import annotations

import os
import secrets
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from celeryflow.cli.base import cli, say, server_options
from celeryflow.config import LOG_FORMATS, Settings
from celeryflow.engine import logs

MAX_QUEUES_CHARS = 200
"""They are part of the names of a worker's drainers."""


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
    say(f"Up for {Path.cwd()}, until: celeryflow down")


@cli.command()
def down() -> None:
    """Stop server and workers of this directory, whoever uses them."""
    from celeryflow.runtime import embedded

    say("Stopped." if embedded.down(Path.cwd()) else "Nothing runs for this directory.")


@cli.command()
@click.option(
    "-Q", "--queue", "queues", multiple=True, metavar="QUEUE,…", help="Serve these queues only; by default every queue."
)
@click.option("-c", "--concurrency", type=click.IntRange(min=1), help="Processes; by default one a core.")
@click.option("-A", "--app", metavar="MODULE[:NAME]", help="Your Celery app, whose tasks are for cf.from_task.")
@click.option("--import", "imports", multiple=True, metavar="MODULE,…", help="Import these modules at the start.")
@click.option(
    "--registered-only",
    is_flag=True,
    default=None,
    help="Take no code and no pickles: only the steps and tasks of what --import and -A import, and JSON.",
)
@click.option(
    "--grace",
    "grace_s",
    type=click.FloatRange(min=0, max=1e9),
    metavar="SECONDS",
    help="What running steps get at SIGTERM, by default 1.5; those that have not ended then are handed back uncharged.",
)
@click.option("--log-format", type=click.Choice(LOG_FORMATS), help="Lines of text, or a JSON object a line.")
@server_options
def worker(
    queues: tuple[str, ...], concurrency: int | None, app: str | None, imports: tuple[str, ...], **options: Any
) -> None:
    """Work in the foreground until told to stop.

    For this directory, whose runtime is started where none is; or for the server that --url names, with --key-file and
    --blobs as notebooks say them, or CELERYFLOW_URL and the like.

    Ctrl-C lets the steps that are running finish, a second one hands them back at once; SIGTERM gives them --grace
    seconds.
    """
    from celeryflow.runtime import pools

    ways: dict[str, Any] = {name: options.pop(name) for name in ("grace_s", "log_format", "registered_only")}
    ways["imports"] = ",".join(imports) or None
    own = Settings.read(workers=concurrency, app=app, **ways)
    if own.log_format == "json":
        logs.set_up(own, f"{socket.gethostname()}:{os.getpid()}")
    names = [name for given in queues for name in given.split(",")]
    _check_queues(names)
    found = _place_of_work(options)
    served = ",".join(name + found.pool for name in names) or found.queues
    own_ways = {name: getattr(own, name) for name in ways}
    settings = replace(found, workers=own.workers, queues=served, app=own.app, **own_ways)
    if own.log_format == "text":
        say(f"Working on {', '.join(names) or 'every queue'}, until Ctrl-C.")
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
    except (OSError, ValueError) as error:  # a path with a zero byte in it is no path
        reason = getattr(error, "strerror", None) or error
        raise click.UsageError(f"{str(file)!r} cannot be written: {reason}.") from None
    with os.fdopen(descriptor, "w") as key:
        os.fchmod(descriptor, 0o600)
        key.write(secrets.token_hex(32) + "\n")
    say(f"Wrote {file}. Whoever has it can run code on your workers: give it to clients and workers alone.")

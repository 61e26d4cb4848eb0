"""What the commands share: their group, the options that name a server, output and exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from celeryflow import errors
from celeryflow.config import Settings
from celeryflow.version import __version__

if TYPE_CHECKING:
    from celeryflow.runtime.session import Session
    from celeryflow.runtime.snapshot.fold import Snapshot

Command = TypeVar("Command", bound=Callable[..., Any])

DONE, RUN_FAILED, WRONG_USE, NO_SERVER = 0, 1, 2, 3
"""Exit codes."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(version)s")
def cli() -> None:
    """Runs of celeryflow, in this directory or on a server.

    Standard output has JSON or nothing; what is for people goes to standard error.

    Exit codes: 0 done, 1 the run failed, 2 wrong use, 3 no server, 130 interrupted.
    """


def server_options(command: Command) -> Command:
    """The options that name a server."""
    for option in (
        click.option("--insecure", is_flag=True, default=None, help="Allow a remote server without TLS."),
        click.option("--prefix", metavar="TEXT", help="Start of every key on the server."),
        click.option(
            "--blobs",
            metavar="PLACE",
            help="Where large values are: a shared folder, or s3://bucket/prefix; by default the server.",
        ),
        click.option("--key-file", metavar="FILE", help="Keys that sign; see keygen."),
        click.option("--url", metavar="URL", help="A server; by default that of this directory."),
    ):
        command = option(command)
    return command


@contextmanager
def deployment(place: dict[str, Any], is_started: bool = False, keeps_values: bool = False) -> Iterator[Session]:
    """The server that was named, or that of this directory if it runs; where `is_started`, it is started.

    A command that `keeps_values`, or deletes them, is to say where they are as workers do.
    """
    is_here = not Settings.read(**place).url
    from celeryflow.runtime import session as sessions

    if is_started or (keeps_values and not is_here):
        session = sessions.connect(**place)
    else:
        session = sessions.visit(**_here() if is_here else place)
    try:
        yield session
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


def code_of_run(snapshot: Snapshot) -> int:
    """Exit code of a command that shows a run."""
    return RUN_FAILED if snapshot.status == "failure" else DONE


def write(*lines: str) -> None:
    """For programs."""
    _print(lines, sys.stdout)


def say(*lines: str) -> None:
    """For people: words of others are in it, and only shown."""
    from celeryflow.graph.checks import harmless

    _print([harmless(line) for line in lines], sys.stderr)


def _print(lines: Sequence[str], stream: IO[str]) -> None:
    try:
        if lines:
            click.echo("\n".join(lines), file=stream)
    except BrokenPipeError:
        # Nobody reads on, which is no failure; what is still buffered goes nowhere, in silence.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        raise click.exceptions.Exit(DONE) from None

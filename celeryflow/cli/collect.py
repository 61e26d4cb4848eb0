"""The command that deletes what nobody needs any more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from celeryflow.cli.base import cli, deployment, say, server_options, write

if TYPE_CHECKING:
    from celeryflow.store.collect import Collected


@cli.command()
@click.option("--dry-run", "is_dry", is_flag=True, help="Say what would be deleted, and delete nothing.")
@click.option(
    "--grace",
    "grace_s",
    type=click.FloatRange(min=0),
    default=3600.0,
    show_default=True,
    metavar="SECONDS",
    help="Leave large values and functions that were stored less than so long ago: a run may be about to need them.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@server_options
def gc(is_dry: bool, grace_s: float, as_json: bool, **place: Any) -> None:
    """Delete finished runs whose time is over, and what no run needs.

    Workers do so by themselves, in time. A run that goes on, or waits to be resumed, stays with all that it needs.
    """
    with deployment(place, keeps_values=True) as session:
        from celeryflow.store.collect import collect

        link = session.link
        found = collect(link.store, link.vault.blobs, grace_s, is_dry)
    if as_json:
        write(json.dumps(_record(found, is_dry)))
    else:
        say(*_lines(found, is_dry))


def _record(found: Collected, is_dry: bool) -> dict[str, Any]:
    return {
        "is_dry": is_dry,
        "runs": [*found.runs],
        "code": [*found.code],
        "blobs": [*found.blobs],
        "bytes": sum(found.blobs.values()),
        "others": [*found.others],
    }


def _lines(found: Collected, is_dry: bool) -> Iterator[str]:
    size = sum(found.blobs.values()) / 2**20
    counts = {"runs": len(found.runs), f"large values ({size:.1f} MiB)": len(found.blobs), "functions": len(found.code)}
    parts = [f"{count} {what}" for what, count in counts.items() if count]
    if parts:
        yield f"{'Would delete' if is_dry else 'Deleted'} {', '.join(parts)}."
    else:
        yield "Nothing is to be deleted."
    if found.others:
        yield (
            f"Large values were left alone: others keep values in that place, too ({', '.join(found.others)}). "
            "Give each deployment a place of its own with --blobs."
        )

"""Who keeps a home: a living keeper, here or in another container, or a dead one that left things behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celeryflow.errors import RuntimeStartError
from celeryflow.runtime.files import KEEPER_LOCK, RECORD, Lock, read_record
from celeryflow.runtime.processes import end_family, identity, is_alive

if TYPE_CHECKING:
    from pathlib import Path

_RELEASE_S = 5.0


def is_kept(record: dict[str, Any]) -> bool:
    """Whether the keeper that wrote the record is alive here."""
    return bool(record) and _is_local(record) and is_alive(record["pid"], record["mark"])


def kept_record(home: Path) -> dict[str, Any]:
    """Give the record of the living keeper; else an empty one, and then nothing of a dead one is left.

    To be called with the home's lock held.

    Raises
    ------
    RuntimeStartError
        If the keeper lives where process ids mean something else, or its server cannot be found and still has
        the data open.
    """
    record = read_record(home / RECORD)
    if is_kept(record):
        return record
    refuse_foreign(home, record)
    if record and _is_local(record):
        leaders = {child["pid"]: child["mark"] for child in record["children"] if child["pid"]}
        end_family(leaders, record["launch"])
    if not _is_free(home, _RELEASE_S):
        raise RuntimeStartError(f"a server that nobody keeps has the data of {home} open. Find and end it.")
    (home / RECORD).unlink(missing_ok=True)
    return {}


def refuse_foreign(home: Path, record: dict[str, Any]) -> None:
    """See that the record is not that of a living keeper elsewhere; what a dead boot left may be taken over.

    Raises
    ------
    RuntimeStartError
        If its keeper, or its server, still holds the home.
    """
    if record and not _is_local(record) and not _is_free(home):
        raise RuntimeStartError(
            f"the runtime of {home} was started in another machine or container, {record['host']!r}, and is "
            "still alive there. Stop it there with celeryflow down, or work in another directory."
        )


def _is_local(record: dict[str, Any]) -> bool:
    here = identity()
    return all(record.get(name) == here[name] for name in ("boot", "namespace"))


def _is_free(home: Path, within_s: float = 0.0) -> bool:
    """Whether neither a keeper nor its server is alive: both hold this lock."""
    with Lock(home / KEEPER_LOCK) as lock:
        return lock.take(within_s)

"""The command line. JSON goes to standard output and nothing else does; people read standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments : sequence of str, optional
        By default those of the process.

    Returns
    -------
    int
        0 done, 1 the run failed, 2 wrong use, 3 no server, 130 interrupted.
    """
    if arguments is None:
        _hide_address()
    try:
        from celeryflow.cli.endings import run

        return run(arguments)
    except KeyboardInterrupt:
        return INTERRUPTED


def _hide_address() -> None:
    """Begin anew where --url has a password: command lines can be read by all users, the environment by its own."""
    given, kept, found = sys.argv[1:], list[str](), ""
    while given:
        word = given.pop(0)
        name, equals, value = word.partition("=")
        if name != "--url" or not (equals or given):
            kept.append(word)
            continue
        found = value if equals else given.pop(0)
    if "@" in found:
        before = sys.orig_argv[: len(sys.orig_argv) - len(sys.argv) + 1]
        os.execve(sys.executable, [*before, *kept], {**os.environ, "CELERYFLOW_URL": found})

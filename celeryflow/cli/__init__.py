"""The command line. JSON goes to standard output and nothing else does; people read standard error."""

from __future__ import annotations

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
    try:
        from celeryflow.cli.endings import run

        return run(arguments)
    except KeyboardInterrupt:
        return INTERRUPTED

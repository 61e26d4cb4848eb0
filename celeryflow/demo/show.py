"""Runs the demo in a folder and shows what came of it."""

from __future__ import annotations

import os
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

import celeryflow as cf
from celeryflow.demo import PARTS, PATTERNS, etl, fills, tables
from celeryflow.runtime import embedded
from celeryflow.view.svg import draw
from celeryflow.view.text import LiveText

Places = dict[str, str]
"""What there is to look at, and what it is."""

WAREHOUSE = "warehouse.sqlite"
PHASES = ["phase", "status", "steps", "done", "failed", "progress", "duration_s", "work_s"]

REFRESH_S = 0.1
END_S = 10.0


def show(folder: Path, only: str | None = None) -> int:
    """Run the demo's parts in `folder`, which is made if need be; nothing runs any more afterwards.

    Parameters
    ----------
    folder : Path
        Where the warehouse, the picture and the history of the runs go.
    only : str, optional
        Run this one of `celeryflow.demo.PARTS` alone.

    Returns
    -------
    int
        0, or 1 if a run failed, and then no other has followed: that of the ETL fails unless the warehouse is verified.

    Raises
    ------
    MissingExtraError
        If the tables are not installed; nothing was started.
    """
    tables.published("flights")
    console = Console(stderr=True, highlight=False)
    console.print("[bold]celeryflow demo[/]: every flight that left New York in 2013")
    places: Places = {}
    with _working_in(folder):
        for part in [only] if only else PARTS:
            found = _SHOWN[part](console, folder)
            if found is None:
                return 1
            places |= found
        _where_next(console, places)
    return 0


@contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    """Be in the folder, where the first run starts a server and workers; in the end they are gone."""
    if not folder.exists():
        folder.mkdir(parents=True)
        (folder / ".gitignore").write_text("*\n")
    os.environ.pop("CELERYFLOW_URL", None)  # or the runs would go there
    with chdir(folder):
        try:
            yield
        finally:
            cf.shutdown()
            _await_end(Path.cwd())


def _await_end(folder: Path) -> None:
    """Wait until what this process was the last to need has stopped."""
    deadline = time.monotonic() + END_S
    while time.monotonic() < deadline:
        found = embedded.status(folder)
        if found is None or found["members"] or found["pinned"]:
            break
        time.sleep(0.02)


# --- the parts -----------------------------------------------------------------------------------


def _show_etl(console: Console, folder: Path) -> Places | None:
    _title(console, "An ETL over five tables", etl)
    run = _watch(etl.etl.submit(WAREHOUSE), console)
    picture = draw(run.graph, run.snapshot())
    saved = picture.save("etl.svg" if picture.svg else "etl.txt")
    if run.status != "success":
        console.print("[red]The warehouse is not verified.[/]")
        return None
    _block(console, "run.phases()", _text(run.phases()[PHASES].round(2)))
    _block(console, 'run.logs("clean")', "\n".join(run.logs("clean")["text"]))
    _block(console, 'run.value("verify")', _text(run.value("verify")))
    console.print(f"\n{run.result()}")
    files = {f"{folder / WAREHOUSE}": "the warehouse", f"{folder / saved}": "the ETL as it ran, drawn"}
    return files | _code_and_run(etl, run, folder)


def _show_fills(console: Console, folder: Path) -> Places | None:
    _title(console, "Two ways to fill a missing arrival delay", fills)
    run = _watch(fills.compare_fills.submit(), console)
    if run.status != "success":
        return None
    scores = run.result()
    frame = pd.DataFrame.from_dict(scores, orient="index").rename_axis("method").reset_index()
    _block(console, "run.result()", _text(frame.round(1)))
    console.print(f"\n{_verdict(scores)}")
    return _code_and_run(fills, run, folder)


def _show_pattern(name: str, console: Console, folder: Path) -> Places | None:
    module = import_module(f"celeryflow.demo.patterns.{name}")
    _title(console, str(module.__doc__).partition("\n")[0], module)
    run = _watch(module.submit(), console)
    if run.status != "success":
        return None
    _block(console, "run.phases()", _text(run.phases()[PHASES].round(2)))
    if not (logs := run.logs()).empty:
        _block(console, "run.logs()", "\n".join(logs["text"]))
    _block(console, "run.result()", module.told(run.result()))
    return {str(module.__file__): f"how cf.patterns.{name} was used"}


_SHOWN: dict[str, Callable[[Console, Path], Places | None]] = {
    "etl": _show_etl,
    "compare": _show_fills,
    **{name: partial(_show_pattern, name) for name in PATTERNS},
}
"""Each gives what there is to see afterwards, or None if its run failed."""


def _watch(run: cf.Run[Any], console: Console) -> cf.Run[Any]:
    """Show the run until it ends; an interrupt cancels it."""
    try:
        with LiveText(console) as live:
            while not run.wait(timeout_s=REFRESH_S).snapshot().status.is_terminal:
                live.update(run.snapshot(), time.time())
            live.update(run.snapshot())
    except KeyboardInterrupt:
        run.cancel("interrupted")
        console.print("Interrupted; stopping the workers.")
        raise
    return run


def _verdict(scores: dict[str, dict[str, float]]) -> str:
    """What the numbers say, and no more."""
    (one, a), (other, b) = scores.items()
    return (
        f"On the same {a['hidden']:,} hidden delays the {one} is off by {a['mean_abs_error']:.1f} minutes on average "
        f"and the {other} by {b['mean_abs_error']:.1f}; of the {a['missing']:,} delays that are really missing they "
        f"fill {a['filled']:,} and {b['filled']:,}, since a flight that never left has no delay at departure."
    )


# --- words ---------------------------------------------------------------------------------------


def _title(console: Console, text: str, module: Any) -> None:
    console.print(f"\n[bold]{text}[/]  [dim]{module.__name__}[/]", soft_wrap=True)


def _block(console: Console, call: str, text: str) -> None:
    """What a call gave, under the call."""
    console.print(f"\n{call}", style="dim", markup=False)
    console.print(textwrap.indent(text, "  "), markup=False, soft_wrap=True)


def _text(frame: pd.DataFrame) -> str:
    return frame.to_string(index=False)


def _code_and_run(module: Any, run: cf.Run[Any], folder: Path) -> Places:
    return {module.__file__: "its code", f'cf.attach("{run.id}")': f"its run, in any Python started in {folder}/"}


def _where_next(console: Console, places: Places) -> None:
    console.print("\n[bold]Where to go next[/]")
    width = max(map(len, places))
    for what, why in places.items():
        console.print(f"  {what:<{width}}", markup=False, soft_wrap=True, end="")
        console.print(f"  {why}", style="dim", markup=False, soft_wrap=True)

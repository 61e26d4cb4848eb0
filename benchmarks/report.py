"""What was measured, as tables: for the terminal and for docs/performance.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.table import Table

from benchmarks.contenders import NAMES
from benchmarks.goals import GOALS, Found, seconds

BEGIN, END = "<!-- figures: made by `python3 run.py bench --write-docs` -->", "<!-- end of figures -->"
DOCUMENT = Path(__file__).parents[1] / "docs" / "performance.md"


class Sheet(NamedTuple):
    """A table as text."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def sheets(found: Found) -> list[Sheet]:
    """A table for each part that was measured."""
    parts = (_goals, _works, _traces, _starts, _growth, _control, _scale, _verbs, _view, _page)
    return [sheet for part in parts if (sheet := part(found)).rows]


def _goals(found: Found) -> Sheet:
    rows = [(goal.work, goal.text, *goal.verdict(found)) for goal in GOALS]
    return Sheet("Goals", ("work", "goal", "measured", ""), [row for row in rows if row[2]])


def _works(found: Found) -> Sheet:
    """Seconds, and in brackets how many times longer than celeryflow, an item; smaller sizes are said."""
    rows = found.get("works", [])
    taking_part = [name for name in NAMES if any(row["contender"] == name for row in rows)]
    full = {row["work"]: max(r["size"] for r in rows if r["work"] == row["work"]) for row in rows}
    cells = {(row["work"], row["contender"]): _cell(found, row["work"], row, full[row["work"]]) for row in rows}
    titles = {row["work"]: row["title"] for row in rows}
    lines = [(title, *(cells.get((work, name), "") for name in taking_part)) for work, title in titles.items()]
    return Sheet("Works: median seconds (times celeryflow's)", ("work", *taking_part), lines)


def _cell(found: Found, work: str, row: Found, full: int) -> str:
    size = "" if row["size"] == full else f" for {row['size']:,}"
    try:
        ratio = seconds(found, work, row["contender"]) / seconds(found, work)
    except KeyError:
        return f"{_s(row['seconds'])}{size}"
    return f"{_s(row['seconds'])}{size}" + ("" if row["contender"] == "celeryflow" else f" ({ratio:,.3g}x)")


def _traces(found: Found) -> Sheet:
    rows = found.get("traces", [])
    times = {(row["title"], row["contender"]): row["seconds"] for row in rows}
    lines = []
    for row in (row for row in rows if row["contender"] == "celeryflow"):
        ours, others = row["seconds"], times.get((row["title"], "dask"))
        against = (_s(others), f"{others / ours:.2f}x") if others else ("", "")
        lines.append(
            (row["title"], f"{row['size']:,}", _s(row["bound_s"]), _s(ours), f"{ours / row['bound_s']:.2f}x", *against)
        )
    columns = ("trace", "tasks", "bound", "celeryflow", "of the bound", "dask", "of celeryflow")
    return Sheet("Real traces: median seconds, runtimes scaled to 1/10,000, 2 workers", columns, lines)


def _starts(found: Found) -> Sheet:
    rows = [(row["title"], _s(row["seconds"])) for row in found.get("starts", [])]
    return Sheet("Starts: median seconds from a process's start to its first line", ("what", "seconds"), rows)


def _growth(found: Found) -> Sheet:
    columns = (
        "shape", "nodes", "seconds", "of it submit", "us a node", "server us a node", "server MB", "bytes a node",
        "longest ping, ms", "99.9 %", "slowest command, ms",
    )  # fmt: skip
    rows = [
        (
            row["shape"], f"{row['size']:,}", _s(row["seconds"]), _s(row["submit_s"]),
            f"{1e6 * row['seconds'] / row['size']:.0f}", f"{row['server_us_a_node']:.0f}",
            f"{row['memory_bytes'] / 1e6:.2f}", f"{row['memory_bytes'] / row['size']:.0f}",
            f"{1e3 * row['longest_ping_s']:.1f}", f"{1e3 * row['ping_p999_s']:.1f}",
            f"{1e3 * row['slowest_command_s']:.1f} {row['slowest_command']}",
        )
        for row in found.get("growth", [])
    ]  # fmt: skip
    return Sheet("Cost as work grows", columns, rows)


def _control(found: Found) -> Sheet:
    columns = ("construct", "iterations, items or levels", "seconds", "ms each", "server us each", "server MB")
    rows = [
        (
            row["shape"], f"{row['size']:,}", _s(row["seconds"]), f"{1e3 * row['seconds'] / row['size']:.2f}",
            f"{row['server_us_a_node']:.0f}", f"{row['memory_bytes'] / 1e6:.2f}",
        )
        for row in found.get("control", [])
    ]  # fmt: skip
    return Sheet("Control flow that adds steps while it runs", columns, rows)


def _scale(found: Found) -> Sheet:
    columns = (
        "part", "shape", "nodes", "runs", "drainers", "commits a second", "server us a commit", "server, % of a core",
        "generator, %", "commit p50, ms", "p99, ms",
    )  # fmt: skip
    rows = [
        (
            row["part"], row["shape"], f"{row['nodes']:,}", f"{row['runs']:,}", f"{row['drainers']:,}",
            f"{row['commits_a_second']:,.0f}", f"{row['server_us_a_commit']:.0f}", f"{100 * row['server_share']:.0f}",
            f"{100 * row['generator_share']:.0f}", f"{1e3 * row['p50_s']:.2f}", f"{1e3 * row['p99_s']:.2f}",
        )
        for row in found.get("scale", [])
    ]  # fmt: skip
    return Sheet("What simulated drainers ask of the server", columns, rows)


def _verbs(found: Found) -> Sheet:
    columns = ("verb", "calls", "us each", "99 %, us", "% of the server's time")
    rows = [
        (
            verb["verb"], f"{verb['calls']:,}", f"{verb['mean_us']:.0f}", f"{verb['p99_us']:,}",
            f"{100 * verb['share']:.1f}",
        )
        for row in found.get("scale", []) for verb in row.get("verbs", [])
    ]  # fmt: skip
    return Sheet("What of it takes the server's time", columns, rows)


def _view(found: Found) -> Sheet:
    columns = ("run", "of size", "% of a core", "updates a second", "bytes an update", "first, kB", "longest hold, ms")
    rows = [
        (
            row["title"], f"{row['size']:,}", f"{100 * row['cpu_share']:.1f}", f"{row['updates_a_second']:.1f}",
            f"{row['bytes_an_update']:,.0f}", f"{row['first_bytes'] / 1e3:,.0f}", f"{1e3 * row['longest_hold_s']:.1f}",
        )
        for row in found.get("view", [])
    ]  # fmt: skip
    return Sheet("The live view's cost in the kernel", columns, rows)


def _page(found: Found) -> Sheet:
    columns = ("run", "seen after, ms", "an update, ms", "longest task, ms", "updates", "late at the end, ms")
    rows = [
        (
            row["title"], f"{1e3 * row['seen_s']:.0f}", f"{1e3 * row['update_s']:.1f}",
            f"{1e3 * row['longest_task_s']:.0f}", f"{row['updates']:,}", f"{1e3 * row['late_s']:.0f}",
        )
        for row in found.get("page", [])
    ]  # fmt: skip
    return Sheet("The live view's cost in the page (JupyterLab, its own work included)", columns, rows)


def _s(value: float) -> str:
    return f"{value:.4f}" if value < 0.1 else f"{value:.3f}" if value < 10 else f"{value:.1f}"


def facts(found: Found) -> list[str]:
    """Sentences on where and how it was measured."""
    said = [f"{name} {value}" for name, value in found["versions"].items()]
    quick = "" if found["divisor"] == 1 else f", of sizes divided by {found['divisor']} (titles name the full ones)"
    missing = [f"{name} did not take part: {why}." for name, why in found["missing"].items()]
    begin, end = found["load"]
    return [
        f"Measured {found['at']} on {found['cores']} cores ({found['processor']}, {found['system']}).",
        f"Medians of {found['repeats']} repeats{quick}.",
        f"Load average of the machine's last minute: {begin:.1f} before, {end:.1f} after.",
        f"Versions: {', '.join(said)}.",
        *missing,
    ]


def tables(those: Sequence[Sheet]) -> Iterable[Table]:
    """For the terminal."""
    for sheet in those:
        table = Table(*sheet.columns, title=sheet.title)
        for row in sheet.rows:
            table.add_row(*row)
        yield table


def markdown(found: Found) -> str:
    """For the document."""
    return "\n\n".join(["\n".join(facts(found)), *map(as_markdown, sheets(found))])


def as_markdown(sheet: Sheet) -> str:
    """A table under its title."""
    lines = [sheet.columns, ["---"] * len(sheet.columns), *sheet.rows]
    return "\n".join([f"### {sheet.title}\n", *(f"| {' | '.join(line)} |" for line in lines)])


def write(found: Found, document: Path = DOCUMENT) -> None:
    """Put the figures in their place in the document; the words around them stay."""
    replace(document, BEGIN, END, markdown(found))


def replace(document: Path, begin: str, end: str, text: str) -> None:
    """Put a text between two marks of a document."""
    before, _, rest = document.read_text().partition(begin)
    _, _, after = rest.partition(end)
    document.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}")

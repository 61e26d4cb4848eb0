"""Measures celeryflow beside what a user would pick instead, and its own cost as work grows.

Contenders take turns in one run, inputs differ in each repeat, and executions are counted in the workers.
Parts are the works (map, chain, …), "traces", "starts", "growth", "control" (loops, sub-workflows, recursion),
"scale" (what many drainers ask of a server), "view" (what the live view costs the kernel), "page" (what it costs
the page, in Chromium) and "statistics" (what ``cf.compare`` promises, against simulated truth; its tables are in
docs/comparing.md).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import growth, machine, measure, page, report, scale, starts, statistics, steps, traces, view
from benchmarks.contenders import NAMES, started
from benchmarks.goals import Found
from benchmarks.works import WORKS

ROOT = Path(__file__).parents[1]
QUICK_DIVISOR, QUICK_SIZES, QUICK_TASKS = 10, (100, 500), 150
PARTS = (
    *(work.name for work in WORKS),
    *("traces", "starts", "growth", "control", "scale", "view", "page", "statistics"),
)


def run(options: argparse.Namespace) -> Found:
    """Measure the parts that were asked for."""
    found: Found = {**machine.facts(), "repeats": options.repeats, "divisor": QUICK_DIVISOR if options.quick else 1}
    load = os.getloadavg()[0]
    found |= _works(options, found["divisor"])
    if "starts" in options.only:
        found["starts"] = starts.measure(options.repeats, _say)
    if "growth" in options.only:
        found["growth"] = growth.measure(options.repeats, QUICK_SIZES if options.quick else growth.SIZES, _say)
    if "control" in options.only:
        found["control"] = growth.measure_control(options.repeats, found["divisor"], _say)
    if "scale" in options.only:
        found["scale"] = scale.measure(options.quick, _say)
    if "view" in options.only:
        found["view"] = view.measure(options.repeats, found["divisor"], _say)
    if "page" in options.only:
        found["page"] = page.measure(_say)
    if "statistics" in options.only:
        found["statistics"] = statistics.measure(found["divisor"], _say)
    return {**found, "load": [load, os.getloadavg()[0]]}


def _works(options: argparse.Namespace, divisor: int) -> Found:
    wanted = [work for work in WORKS if work.name in options.only]
    recorded = traces.works() if "traces" in options.only else []
    recorded = [work for work in recorded if not options.quick or work.size <= QUICK_TASKS]
    if not wanted and not recorded:
        return {"missing": {}}
    with started(options.contenders) as (contenders, missing):
        rows = [measure.measure(work, contenders, options.repeats, divisor, _say) for work in wanted]
        replayed = [measure.measure(work, contenders, options.repeats, 1, _say) for work in recorded]
    bounds = {family: traces.bound_s(tasks) for family, tasks in traces.traces().items()}
    return {
        "missing": missing,
        "works": [row for part in rows for row in part],
        "traces": [{**row, "bound_s": bounds[row["title"]]} for part in replayed for row in part],
    }


def _say(text: str) -> None:
    Console(stderr=True).print(text, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def _place() -> Any:
    """A directory of its own for all that is started, which finds these modules and the counts from there."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as counts:
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        os.environ["XDG_STATE_HOME"] = folder
        os.environ[steps.PLACE] = counts
        with contextlib.chdir(folder):
            yield


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="run.py bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--contenders", nargs="+", choices=NAMES, default=list(NAMES), metavar="NAME")
    parser.add_argument("--repeats", type=int, default=5, help="of each measurement; their median counts")
    parser.add_argument("--quick", action="store_true", help="a tenth of the sizes, to see that all of it works")
    parser.add_argument("--json", type=Path, default=Path("bench.json"), help="where to write the figures")
    parser.add_argument("--read", action="store_true", help="measure nothing; take the figures of that file")
    parser.add_argument("--write-docs", action="store_true", help="put the tables into docs/performance.md")
    options = parser.parse_args(arguments)
    if options.repeats < 1:
        parser.error("--repeats must be at least 1")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    options = _options(sys.argv[1:] if arguments is None else arguments)
    target = options.json.resolve()
    if options.read:
        found = json.loads(target.read_text())
    else:
        with _place():
            found = run(options)
        target.write_text(json.dumps(found, indent=1) + "\n")
    console = Console()
    simulated = found.get("statistics", [])
    for table in report.tables([*report.sheets(found), *(statistics.sheets(simulated) if simulated else [])]):
        console.print(table)
    console.print(*report.facts(found), sep="\n", highlight=False, soft_wrap=True)
    for failure in statistics.failures(simulated):
        _say(f"off by more than three standard errors: {failure}")
    if options.write_docs and simulated:
        statistics.write(simulated)
    if options.write_docs and report.sheets(found):
        report.write(found)


if __name__ == "__main__":
    main()

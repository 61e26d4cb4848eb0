"""The goals of design, section 10, and whether what was measured holds them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.contenders import WORKERS

Found = dict[str, Any]
"""All that was measured: works, traces, starts and growth as lists of rows, beside the facts of the machine."""


@dataclass(frozen=True)
class Goal:
    """A limit, and where what it limits is found; a floor where more is better."""

    work: str
    text: str
    limit: float
    measured: Callable[[Found], float]
    is_floor: bool = False
    unit: str = "x"

    def verdict(self, found: Found) -> tuple[str, str]:
        """What was measured, and whether the goal holds or by how much it is missed."""
        try:
            value = self.measured(found)
        except (KeyError, ZeroDivisionError):
            return "", "not measured"
        holds = value >= self.limit if self.is_floor else value <= self.limit
        factor = self.limit / value if self.is_floor else value / self.limit
        return f"{value:,.3g} {self.unit}", "holds" if holds else f"missed by a factor of {factor:.2f}"


def seconds(found: Found, work: str, contender: str = "celeryflow") -> float:
    """Median seconds an item of a work."""
    for row in found.get("works", []):
        if (row["work"], row["contender"]) == (work, contender):
            return float(row["seconds"]) / int(row["size"])
    raise KeyError(work)


def _faster_than(work: str, contender: str) -> Callable[[Found], float]:
    return lambda found: seconds(found, work, contender) / seconds(found, work)


def _start_s(name: str) -> Callable[[Found], float]:
    return lambda found: {row["work"]: float(row["seconds"]) for row in found.get("starts", [])}[name]


def _grown(shape: str, size: int, field: str) -> Callable[[Found], float]:
    return lambda found: {(row["shape"], row["size"]): row[field] for row in found.get("growth", [])}[shape, size]


def _grown_by(part: str, shape: str) -> Callable[[Found], float]:
    """How many times the server's least cost of a commit is its largest, over what grows."""

    def measured(found: Found) -> float:
        rows = [row for row in found.get("scale", []) if (row["part"], row["shape"]) == (part, shape)]
        if len(rows) < 2:
            raise KeyError(part)
        costs = [float(row["server_us_a_commit"]) for row in rows]
        return max(costs) / min(costs)

    return measured


def _viewed(work: str, field: str) -> Callable[[Found], float]:
    return lambda found: {row["work"]: float(row[field]) for row in found.get("view", [])}[work]


def _paged(field: str) -> Callable[[Found], float]:
    return lambda found: {row["work"]: float(row[field]) for row in found.get("page", [])}["page"]


def _scaled(measured: Callable[[Found], float], factor: float) -> Callable[[Found], float]:
    return lambda found: factor * measured(found)


def _ratio(above: Callable[[Found], float], below: Callable[[Found], float]) -> Callable[[Found], float]:
    return lambda found: above(found) / below(found)


def _against(work: str, **floors: float) -> list[Goal]:
    said = {
        "celery": "plain Celery",
        "dask": "Dask",
        "pool": "a process pool",
        "pool_chunked": "one with chunks by hand",
        "ray": "Ray",
    }
    return [
        Goal(work, f"at least {floor:g} x as fast as {said[name]}", floor, _faster_than(work, name), is_floor=True)
        for name, floor in floors.items()
    ]


def _stalls(shape: str) -> list[Goal]:
    """Goals for how long a run of 100,000 nodes blocks the server."""
    what = f"{shape} of 100,000"
    return [
        Goal(what, f"{said} at most 10 ms", 10, _scaled(_grown(shape, 100_000, field), 1e3), unit="ms")
        for said, field in (("longest wait for a ping", "longest_ping_s"), ("slowest command", "slowest_command_s"))
    ]


def _flat() -> list[Goal]:
    """Goals for what a commit costs the server, however much of anything there is."""
    grown = [("nodes", shape, f"{shape} of 100 to 100,000 nodes") for shape in ("map", "chains", "layers", "fan-out")]
    grown += [("drainers", "layers", "layers by 1 to 1,000 drainers"), ("runs", "layers", "layers in 1 to 1,000 runs")]
    return [
        Goal(what, "a commit costs the server at most 1.5 x", 1.5, _grown_by(part, shape))
        for part, shape, what in grown
    ]


def _view(work: str, what: str) -> list[Goal]:
    """Goals for what the live view costs while a run goes on."""
    return [
        Goal(what, "at most 5 % of a core in the kernel", 5, _scaled(_viewed(work, "cpu_share"), 100), unit="%"),
        Goal(what, "at most 10 updates a second", 10, _viewed(work, "updates_a_second"), unit="a second"),
        Goal(what, "the kernel held at most 10 ms", 10, _scaled(_viewed(work, "longest_hold_s"), 1e3), unit="ms"),
    ]


def _memory(shape: str, size: int, limit_mb: float) -> Goal:
    measured = _scaled(_grown(shape, size, "memory_bytes"), 1e-6)
    return Goal(f"{shape} of {size:,}", f"at most {limit_mb:g} MB in the server", limit_mb, measured, unit="MB")


GOALS = (
    *_against("map", celery=1000, dask=20, pool=1, pool_chunked=1),
    *_against("chain", celery=50, dask=20),
    *_against("layers", celery=50, dask=10),
    Goal("stages", "at most 3 x the map of one stage", 3,
         lambda found: seconds(found, "stages") / seconds(found, "map")),
    Goal("cpu", "at least 0.95 of the ideal", 0.95,
         lambda found: 0.01 / WORKERS / seconds(found, "cpu"), is_floor=True, unit=""),
    *_against("frame", dask=1, ray=1),
    Goal("first result", "at most 2 x by hand", 2, _ratio(_start_s("fresh-celeryflow"), _start_s("fresh-celery"))),
    Goal("one", "at most 5 ms warm", 5, _scaled(lambda found: seconds(found, "one"), 1e3), unit="ms"),
    Goal("ticket", "at most 10 ms by ticket", 10, _scaled(lambda found: seconds(found, "ticket"), 1e3), unit="ms"),
    *_stalls("layers"),
    *_stalls("fan-out"),
    _memory("map", 10_000, 5),
    _memory("chain", 1_000, 2),
    *_flat(),
    *_view("boxes", "view of 480 steps"),
    *_view("layers", "view of 1,000 steps"),
    *_view("map", "view of a map of 100,000"),
    Goal("view in JupyterLab", "seen at most 100 ms after run()", 100, _scaled(_paged("seen_s"), 1e3), unit="ms"),
    Goal("view in JupyterLab", "at most 50 ms of the page an update", 50, _scaled(_paged("update_s"), 1e3), unit="ms"),
    Goal("view in JupyterLab", "at most 5 % of a core in the kernel", 5, _scaled(_paged("cpu_share"), 100), unit="%"),
    Goal("import", "at most 150 ms, Python's own start in it", 150, _scaled(_start_s("import"), 1e3), unit="ms"),
    Goal("celeryflow ps", "at most 300 ms", 300, _scaled(_start_s("ps"), 1e3), unit="ms"),
)  # fmt: skip

"""A workflow in words: what is left of a picture where nothing can draw."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from celeryflow.graph.model import Edge, Graph
from celeryflow.runtime.snapshot.fold import Snapshot
from celeryflow.runtime.snapshot.record import StepRecord
from celeryflow.view import words

MAX_LINES = 40


def outline(
    graph: Graph,
    snapshot: Snapshot | None = None,
    now: float | None = None,
    told: Mapping[int, str] = MappingProxyType({}),
) -> str:
    """Every step on a line, under its phase, with its state and inputs; long ones are cut.

    The first line says the workflow's name and size. `told` is what else is said of steps, by their indices.
    """
    seen = Snapshot(graph, "") if snapshot is None else snapshot
    at = now if now is not None else (seen.last_at or 0.0)
    steps = "step" if len(graph.nodes) == 1 else "steps"
    lines, phase = [f"{words.plain(graph.name, 80)}: {words.number(len(graph.nodes))} {steps}"], None
    for position, record in enumerate(seen.top):
        if len(lines) >= MAX_LINES:
            lines.append(f"… and {words.number(len(seen.top) - position)} more")
            break
        if record.node.phase != phase:
            phase = record.node.phase
            lines.append(words.plain(phase, 60) if phase else "(no phase)")
        lines.append(("  " if phase else "") + _line(graph, record, at, told.get(record.node.index, "")))
    return "\n".join(lines)


def _line(graph: Graph, record: StepRecord, now: float, told: str) -> str:
    given = [i.node for i in record.node.inputs if i.edge is not Edge.LENGTH]
    names = [words.plain(graph.nodes[node].name, 40) for node in given]
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    inputs = f"← {', '.join(names[:4])}{more}" if names else ""
    parts = (f"{words.GLYPHS[record.status]} {words.label(record)}", words.note(record, now), inputs, told)
    return "  ".join(part for part in parts if part)

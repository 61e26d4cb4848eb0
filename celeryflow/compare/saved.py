"""A report as a file: JSON, so that reading one executes nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import Any

from celeryflow.compare.comparison import Outline
from celeryflow.compare.contrast import Interval
from celeryflow.compare.plan import Planned
from celeryflow.compare.question import Question
from celeryflow.compare.report import Report
from celeryflow.compare.trial import Row
from celeryflow.errors import ComparisonError

FORMAT, VERSION = "celeryflow comparison", 1


def write(path: str | PathLike[str], outline: Outline, rows: Sequence[Row | None], submitted_at: float) -> None:
    """Write what a report is made of; labels of items that are no plain values become text."""
    asked = asdict(outline.question)
    asked["lower_is_better"] = sorted(asked["lower_is_better"])
    found = {
        "format": FORMAT,
        "version": VERSION,
        "question": asked,
        "labels": [_label(label) for label in outline.labels],
        "planned": outline.planned,
        "rows": rows,
        "submitted_at": submitted_at,
    }
    Path(path).write_text(json.dumps(found), encoding="utf-8")


def read(path: str | PathLike[str]) -> Report:
    """The report of a file.

    Raises
    ------
    ComparisonError
        If it is none.
    """
    try:
        found = json.loads(Path(path).read_bytes())
        if found["format"] != FORMAT or found["version"] != VERSION:
            raise ValueError(f"format {found['format']!r}, version {found['version']!r}")
        planned = tuple(Planned(*map(int, row)) for row in found["planned"])
        rows = [None if row is None else _row(*row) for row in found["rows"]]
        outline = Outline(_question(found["question"]), [_unlabel(label) for label in found["labels"]], planned)
        report = Report(outline, rows, float(found["submitted_at"]))
        report.trials()
    except OSError:
        raise
    except Exception as error:
        raise ComparisonError(f"path= {str(path)!r} holds no report of a comparison: {error!r:.200}.") from error
    return report


def _row(started_at: float, latency_s: float, peak_bytes: float, scores: list[float], error: str) -> Row:
    return Row(float(started_at), float(latency_s), float(peak_bytes), tuple(map(float, scores)), str(error))


def _question(found: dict[str, Any]) -> Question:
    ropes = {name: Interval(*map(float, ends)) for name, ends in found["rope"].items()}
    sequences = {name: tuple(found[name]) for name in ("algorithms", "metrics")}
    return Question(**{**found, **sequences, "rope": ropes, "lower_is_better": frozenset(found["lower_is_better"])})


def _label(label: Any) -> Any:
    """A label as JSON has it; a tuple, as of a groupby by several columns, as ``{"tuple": […]}``."""
    if isinstance(label, tuple):
        return {"tuple": [_label(part) for part in label]}
    plain = label.item() if hasattr(label, "item") else label
    return plain if isinstance(plain, (str, int, float, bool, type(None))) else str(label)


def _unlabel(label: Any) -> Any:
    return tuple(_unlabel(part) for part in label["tuple"]) if isinstance(label, dict) else label

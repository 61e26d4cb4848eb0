"""Who ran what when, as a chart of altair's."""

from __future__ import annotations

from typing import Any, Literal

import altair as alt

from celeryflow.graph.states import State
from celeryflow.runtime.snapshot.attempts import Outcome
from celeryflow.runtime.snapshot.expand import expand
from celeryflow.runtime.snapshot.fold import Snapshot
from celeryflow.runtime.snapshot.spans import SEVERAL, Lanes, Span, lanes
from celeryflow.runtime.snapshot.tasks import critical_path
from celeryflow.view import words
from celeryflow.view.offline import Offline, inert

MAX_SPANS = 1_000
"""Above it attempts are merged: a chart is kept whole in the notebook, with some 200 bytes a span."""

WIDTH, LANE, MOST_HEIGHT = 720, 28, 1_200
CHARACTER = 6.0

SECONDS = "seconds since the submit"
WAIT, PATH, OTHER = "waited in the queue", "critical path", "other steps"
TIPS = ["step:N", "items:N", "ran:N", "waited:N", "outcome:N", "attempt:Q", "worker:N"]
COLOURS = ("#56b4e9", "#e69f00", "#5fc29d", "#d79bbd", "#e3d64d", "#8da0cb", "#e08e5c")
"""Of steps, by the work in them; told apart by people who see few colours (after Okabe and Ito), dark text on all."""

INK, PALE, GREY = "#1c2430", "#9aa6b6", "#c7ced9"
_GLYPHS = {None: words.GLYPHS[State.RUNNING], Outcome.SUCCESS: "", Outcome.CANCELLED: words.GLYPHS[State.CANCELLED]}


class Gantt(Offline, alt.LayerChart):
    """The chart of a run."""


def gantt(snapshot: Snapshot) -> Gantt:
    """The chart of a run, with nothing in it of arguments or results."""
    rows = expand(snapshot)
    path = critical_path(snapshot, rows)
    drawn = lanes(snapshot, rows, path, MAX_SPANS)
    workers = [*dict.fromkeys(_worker(span) for span in sorted(drawn.spans, key=lambda span: span.started_s))]
    lane = min(LANE, max(4, MOST_HEIGHT // max(1, len(workers))))
    length = f"critical path {words.seconds(path.schedule.critical_path_s)}"
    name, facts = inert(snapshot.graph.name, 80), words.facts(snapshot)
    return Gantt(
        layer=_layers(drawn, snapshot, workers, lane),
        title=alt.TitleParams(name, subtitle=f"{inert(snapshot.run_id, 80)} · {facts} · {length}", anchor="start"),
        description=f"{name}: {_counted(len(rows), 'attempt')} by {_counted(len(workers), 'worker')}, {length}",
        width=WIDTH,
        height=lane * max(1, len(workers)),
        background="white",
        # Said of all text: a dark theme would have it white.
        config=alt.Config(
            axis=alt.AxisConfig(labelColor=INK, titleColor=INK),
            legend=alt.LegendConfig(labelColor=INK),
            title=alt.TitleConfig(color=INK, subtitleColor=INK),
        ),
    )


def _layers(drawn: Lanes, snapshot: Snapshot, workers: list[str], lane: int) -> list[alt.Chart]:
    """Waits above, bars with their names, the critical path below, and a line where the run was resumed."""
    steps = _coloured(drawn, snapshot)
    spans = alt.InlineData(
        values=[_record(span, snapshot, steps, drawn.length_s - drawn.shown_from_s) for span in drawn.spans]
    )
    path = alt.InlineData(values=[_ends(span) for span in drawn.critical])
    resumes = alt.InlineData(values=[{"begin": round(at, 6), "label": "resumed"} for at in drawn.resumed_s])
    y = alt.Y("worker:N", sort=workers, title=None, axis=alt.Axis(labelLimit=180, ticks=False))
    seconds = alt.Scale(domain=[drawn.shown_from_s, drawn.length_s or 1.0], nice=False)
    x, x2 = alt.X("begin:Q", title=SECONDS, scale=seconds, axis=alt.Axis(grid=False)), alt.X2("end:Q")
    domain = [*dict.fromkeys(steps.values()), WAIT, PATH]
    inks = {OTHER: GREY, WAIT: PALE, PATH: INK}
    colours = iter(COLOURS)
    scale = alt.Scale(domain=domain, range=[inks[name] if name in inks else next(colours) for name in domain])
    legend = alt.Legend(title=None, orient="bottom", columns=5)

    def bars(data: alt.InlineData, size: float, shift: float) -> alt.Chart:
        found: alt.Chart = alt.Chart(data).mark_bar(clip=True, size=max(1.0, size * lane), yOffset=shift * lane)
        return found.encode(y=y)

    def texts(data: alt.InlineData, text: str, align: Literal["left", "right"], **mark: Any) -> alt.Chart:
        found: alt.Chart = alt.Chart(data).mark_text(align=align, fontSize=10, color=INK, **mark).encode(text=text)
        return found

    layers = [
        bars(spans, 0.1, -0.38).encode(x=alt.X("wait:Q", title=SECONDS), x2=alt.X2("begin:Q"), color=alt.datum(WAIT)),
        bars(spans, 0.56, 0.0).encode(x=x, x2=x2, color=alt.Color("what:N", scale=scale, legend=legend), tooltip=TIPS),
        bars(path, 0.12, 0.4).encode(x=x, x2=x2, color=alt.datum(PATH)),
        texts(spans, "label:N", "left", dx=2).encode(y=y, x=x),
        texts(spans, "sign:N", "right", dx=-2).encode(y=y, x=alt.X("end:Q", title=SECONDS)),
    ]
    if drawn.resumed_s:
        layers.append(alt.Chart(resumes).mark_rule(strokeDash=[4, 3], color=INK).encode(x=x))
        layers.append(texts(resumes, "label:N", "left", dx=3, y=-5).encode(x=x))
    return layers


def _coloured(drawn: Lanes, snapshot: Snapshot) -> dict[str, str]:
    """What each step is called in the legend: those with the most work by their names, the others together."""
    work: dict[str, float] = {}
    for span in drawn.spans:
        work[_step(span, snapshot)] = work.get(_step(span, snapshot), 0.0) + span.busy_s
    most = [name for name in sorted(work, key=lambda name: -work[name]) if name != OTHER][: len(COLOURS)]
    return {**{name: name for name in most}, **{name: OTHER for name in work if name not in most}}


def _step(span: Span, snapshot: Snapshot) -> str:
    return OTHER if span.node == SEVERAL else inert(snapshot.nodes[span.node].spec.name, 40)


def _record(span: Span, snapshot: Snapshot, steps: dict[str, str], length_s: float) -> dict[str, Any]:
    node = None if span.node == SEVERAL else snapshot.nodes[span.node]
    name = inert(node.name, 60) if node else f"{words.number(span.count)} attempts of several steps"
    items = ""
    if node is not None and node.is_map:
        items = "its length" if span.last_item < 0 else str(span.item) if span.count == 1 else f"{span.count} of them"
    room = round((span.finished_s - span.started_s) / (length_s or 1.0) * WIDTH / CHARACTER) - 1
    said = f"{name}[{items}]" if items.isdigit() else name
    return {
        **_ends(span),
        "wait": round(span.ready_s, 6),
        "what": steps[_step(span, snapshot)],
        "label": words.plain(said, room) if room > 3 else "",
        "sign": _GLYPHS.get(span.outcome, words.GLYPHS[State.FAILURE]),
        "step": name,
        "items": items or None,
        "ran": words.seconds(span.busy_s),
        "waited": words.seconds(span.started_s - span.ready_s),
        "outcome": "running" if span.outcome is None else str(span.outcome),
        "attempt": span.attempt,
    }


def _ends(span: Span) -> dict[str, Any]:
    return {"worker": _worker(span), "begin": round(span.started_s, 6), "end": round(span.finished_s, 6)}


def _worker(span: Span) -> str:
    return inert(span.worker, 60) or "unknown"


def _counted(count: int, what: str) -> str:
    return f"{words.number(count)} {what}{'' if count == 1 else 's'}"

"""Reports and sweeps at a glance: what their cards say."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from celeryflow.compare import words
from celeryflow.compare.analysis import Analysis
from celeryflow.compare.card import STAR, Card, Row, Share
from celeryflow.compare.contrast import Floats, Interval
from celeryflow.compare.verdicts import EQUIVALENT
from celeryflow.graph.states import State
from celeryflow.view.words import GLYPHS, counted, number, seconds

MOST_ROWS, MOST_METRICS = 20, 3
CALLS = ("report.pairwise()", "report.trials()", "report.plot()")
WAITING = (
    "The verdict comes with the last trial. To judge on the way would find differences by chance; "
    "a comparison with sequential=True may."
)
LOOKING = "It looks after every item, and stops when the answer is there."
_RUNNING = ("running", f"{GLYPHS[State.RUNNING]} so far")


def of_report(analysis: Analysis, planned: int, is_over: bool) -> Card:
    """A comparison; while it goes on what was measured so far, and no verdict."""
    asked, order = analysis.question, list(range(len(analysis.question.algorithms)))
    best = asked.algorithms.index(analysis.winner) if is_over and analysis.winner is not None else None
    state, verdict = _verdict(analysis) if is_over else _RUNNING
    answer = words.recommendation(analysis) if is_over else (LOOKING if asked.is_sequential else WAITING)
    shown = _table(analysis, order, asked.algorithms, "algorithm", best)
    return shown._replace(
        kind="comparison", state=state, verdict=verdict, facts=_facts(analysis, planned), answer=answer, calls=CALLS
    )


def _verdict(analysis: Analysis) -> tuple[str, str]:
    if analysis.winner is not None:
        return "success", f"{STAR} {analysis.winner}"
    if all(pair.verdict == EQUIVALENT for pair in analysis.judged(analysis.question.primary)):
        return "", "equivalent"
    return "", "no winner"


def _facts(analysis: Analysis, planned: int) -> str:
    asked, done = analysis.question, len(analysis.results.planned)
    better = "lower" if asked.primary in asked.lower_is_better else "higher"
    trials = counted(done, "trial") if done == planned else f"{number(done)} of {counted(planned, 'trial')}"
    return f"by {asked.primary}, {better} is better · {trials}"


def _table(analysis: Analysis, order: Sequence[int], names: Sequence[str], what: str, best: int | None) -> Card:
    """A line for each of these algorithms; the card says nothing else yet."""
    asked, found = analysis.question, analysis.results
    metrics = [asked.primary, *(name for name in asked.metrics if name != asked.primary)][:MOST_METRICS]
    listed, items = list(order)[:MOST_ROWS], np.isfinite(analysis.scores(asked.primary)).sum(axis=0)
    failed = np.bincount(found.algorithms[found.is_failed], minlength=len(asked.algorithms))
    means = {metric: [analysis.mean(metric, at) for at in listed] for metric in metrics}
    columns = [[_score(*each, _places(means[metric])) for each in means[metric]] for metric in metrics]
    shares = _shares(means[asked.primary])
    rows = []
    for line, at in enumerate(listed):
        times = found.latency_s[(found.algorithms == at) & np.isfinite(found.latency_s)]
        cells = (names[at], number(int(items[at])), number(int(failed[at])), *(column[line] for column in columns))
        rows.append(Row((*cells, *_latency(times)), shares[line], at == best))
    arrows = ("\N{DOWNWARDS ARROW}" if metric in asked.lower_is_better else "\N{UPWARDS ARROW}" for metric in metrics)
    scored = [f"{metric} {arrow}" for metric, arrow in zip(metrics, arrows, strict=True)]
    header = (what, "items", "failed", *scored, "p50", "p95")
    left_out = [f"{number(len(order) - len(listed))} more {what}s"] if len(order) > len(listed) else []
    left_out += [f"{len(asked.metrics) - len(metrics)} more metrics"] if len(asked.metrics) > len(metrics) else []
    level = f"Mean over the items, with its {100 * (1 - asked.alpha):.4g} % interval; p50 and p95 are of the latency."
    more = f"{level} {' and '.join(left_out)} in summary()." if left_out else level
    return Card("", "", "", "", "", header, tuple(rows), more, pictured=4)


def _latency(times: Floats) -> tuple[str, str]:
    if not len(times):
        return "\N{EN DASH}", "\N{EN DASH}"
    p50, p95 = (_short(float(np.quantile(times, share))) for share in (0.5, 0.95))
    return p50, p95


def _short(duration_s: float) -> str:
    """A duration; a short one in units that show it.

    Examples
    --------
    >>> [_short(s) for s in (0.0000042, 0.0123, 0.5)]
    ['4.2 µs', '12 ms', '0.5 s']
    """
    if duration_s >= 0.1:
        return seconds(duration_s)
    value, unit = (duration_s * 1e6, "µs") if duration_s < 1e-3 else (duration_s * 1e3, "ms")
    return f"{value:.2g} {unit}" if value < 99.5 else f"{value:.0f} {unit}"


def _places(means: Sequence[tuple[float, Interval]]) -> int | None:
    """Decimals that show the narrowest interval with two digits; None where numbers need another form."""
    widths = [high - low for _, (low, high) in means if math.isfinite(high - low) and high > low]
    largest = max((abs(mean) for mean, _ in means if math.isfinite(mean)), default=0.0)
    places = 1 - math.floor(math.log10(min(widths) / 2)) if widths else 2
    return max(0, places) if places <= 6 and largest < 1e7 else None


def _score(mean: float, interval: Interval, places: int | None) -> str:
    if not math.isfinite(mean):
        return "\N{EN DASH}"
    low, middle, high = (_number(value, places) for value in (interval.low, mean, interval.high))
    return f"{middle} [{low}, {high}]"


def _number(value: float, places: int | None) -> str:
    if math.isinf(value):
        return "\N{MINUS SIGN}∞" if value < 0 else "∞"
    said = f"{value:.4g}" if places is None else f"{value:,.{places}f}"
    return said.replace("-", "\N{MINUS SIGN}")


def _shares(means: Sequence[tuple[float, Interval]]) -> list[Share | None]:
    """Where each interval is between the ends of all of them; None for what is not known, or endless."""
    known = [value for mean, interval in means for value in (mean, *interval) if math.isfinite(value)]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    if not high > low:
        return [None] * len(means)

    def share(value: float) -> float:
        return min(1.0, max(0.0, (value - low) / (high - low)))

    return [
        (share(interval.low), share(mean), share(interval.high)) if math.isfinite(mean) else None
        for mean, interval in means
    ]


def of_sweep(analysis: Analysis, planned: int, is_over: bool, best: str | None, recommendation: str) -> Card:
    """A sweep: its settings, the best mean first."""
    asked = analysis.question
    sign = -1.0 if asked.primary in asked.lower_is_better else 1.0
    order = np.argsort(-sign * mean_scores(analysis), kind="stable").tolist()
    at = None if best is None else asked.algorithms.index(best)
    state, verdict = _RUNNING if not is_over else ("", "no setting") if best is None else ("success", f"{STAR} {best}")
    return _table(analysis, order, asked.algorithms, "setting", at)._replace(
        kind="sweep", state=state, verdict=verdict, facts=_facts(analysis, planned), answer=recommendation,
        calls=("sweep.best_params", "sweep.trials()", "sweep.plot()"),
    )  # fmt: skip


def mean_scores(analysis: Analysis) -> Floats:
    """Mean of the primary metric of each algorithm over the items that have it; NaN for none."""
    scores = analysis.scores(analysis.question.primary)
    known = np.isfinite(scores)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, scores, 0.0).sum(axis=0) / known.sum(axis=0), dtype=np.float64)

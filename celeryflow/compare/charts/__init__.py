"""Comparisons and sweeps in charts of altair's."""

from __future__ import annotations

from celeryflow.compare.analysis import Analysis
from celeryflow.compare.charts.differences import differences
from celeryflow.compare.charts.distributions import distributions
from celeryflow.compare.charts.look import Charts, stacked
from celeryflow.compare.charts.pareto import pareto
from celeryflow.compare.charts.ranks import ranks


def charts(analysis: Analysis, metric: str, is_over: bool) -> Charts:
    """Differences, distributions, latency against the metric; of three algorithms or more the average ranks."""
    found = [draw(analysis, metric) for draw in (differences, distributions, pareto, ranks)]
    names = ", ".join(analysis.question.algorithms)
    title = (
        f"{metric} of {names}" if len(names) <= 80 else f"{metric} of {len(analysis.question.algorithms)} algorithms"
    )
    return stacked([chart for chart in found if chart is not None], title if is_over else f"So far: {title}")

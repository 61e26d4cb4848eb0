"""Frames of a comparison: fixed columns and real dtypes, the same when empty."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from celeryflow.compare.analysis import Analysis
from celeryflow.compare.verdicts import VERDICTS, Judged

STATUS = pd.CategoricalDtype(["success", "failure"])
VERDICT = pd.CategoricalDtype(list(VERDICTS))
TEXT = pd.Series(["text"]).dtype


def trials(analysis: Analysis, labels: Sequence[Any]) -> pd.DataFrame:
    """A row a trial that has ended, in the order of the plan."""
    asked, found = analysis.question, analysis.results
    planned = found.planned
    return pd.DataFrame(
        {
            "item": pd.Series([labels[trial.item] for trial in planned], dtype=None if planned else object),
            "repeat": _whole(trial.repeat for trial in planned),
            "algorithm": _texts(asked.algorithms[trial.algorithm] for trial in planned),
            "block": _whole(trial.block for trial in planned),
            "order": _whole(trial.order for trial in planned),
            **{name: _reals(found.values[:, at]) for at, name in enumerate(asked.metrics)},
            "latency_s": _reals(found.latency_s),
            "queue_wait_s": _reals(found.queue_wait_s),
            "peak_memory_bytes": _reals(found.peak_bytes),
            "status": pd.Series(pd.Categorical.from_codes(found.is_failed.astype(np.int8), dtype=STATUS)),
            "error": _texts(error or None for error in found.errors),
        }
    )


def summary(analysis: Analysis, recommended: str | None) -> pd.DataFrame:
    """A row an algorithm: its scores, time and failures."""
    asked, found = analysis.question, analysis.results
    names, whose = asked.algorithms, found.algorithms
    times = [found.latency_s[(whose == at) & np.isfinite(found.latency_s)] for at in range(len(names))]
    columns: dict[str, pd.Series[Any]] = {
        "algorithm": _texts(names),
        "n": _whole(np.isfinite(analysis.scores(asked.primary)).sum(axis=0).tolist()),
        "failures": _whole(int(np.sum(found.is_failed[whose == at])) for at in range(len(names))),
    }
    for metric in asked.metrics:
        means = [analysis.mean(metric, at) for at in range(len(names))]
        columns[f"{metric}_mean"] = _reals(mean for mean, _ in means)
        columns[f"{metric}_ci_low"] = _reals(interval.low for _, interval in means)
        columns[f"{metric}_ci_high"] = _reals(interval.high for _, interval in means)
        columns[f"{metric}_rank"] = _reals(analysis.ranks(metric))
    columns["latency_p50_s"] = _reals(_quantile(seconds, 0.5) for seconds in times)
    columns["latency_p95_s"] = _reals(_quantile(seconds, 0.95) for seconds in times)
    columns["throughput_per_s"] = _reals(len(s) / float(np.sum(s)) if np.sum(s) > 0 else np.nan for s in times)
    columns["recommended"] = pd.Series([name == recommended for name in names], dtype=bool)
    return pd.DataFrame(columns)


def pairwise(analysis: Analysis) -> pd.DataFrame:
    """A row a metric and pair of algorithms: difference, effect, test and verdict."""
    rows = [(metric, pair) for metric in analysis.question.metrics for pair in analysis.judged(metric)]
    found: list[Judged] = [pair for _, pair in rows]
    return pd.DataFrame(
        {
            "metric": _texts(metric for metric, _ in rows),
            "a": _texts(pair.a for pair in found),
            "b": _texts(pair.b for pair in found),
            "n_pairs": _whole(pair.contrast.n for pair in found),
            "estimand": _texts(pair.contrast.estimand for pair in found),
            "difference": _reals(pair.contrast.difference for pair in found),
            "ci_low": _reals(pair.interval.low for pair in found),
            "ci_high": _reals(pair.interval.high for pair in found),
            "effect_name": _texts(pair.effect.name for pair in found),
            "effect_size": _reals(pair.effect.size for pair in found),
            "effect_low": _reals(pair.effect.low for pair in found),
            "effect_high": _reals(pair.effect.high for pair in found),
            "p_value": _reals(pair.p_value for pair in found),
            "p_adjusted": _reals(pair.p_adjusted for pair in found),
            "test": _texts(pair.contrast.test for pair in found),
            "verdict": pd.Series(pd.Categorical([pair.verdict for pair in found], dtype=VERDICT)),
        }
    )


def omnibus(analysis: Analysis) -> pd.DataFrame:
    """A row a metric: whether any of three or more algorithms differ."""
    rows = [(m, found) for m in analysis.question.metrics if (found := analysis.omnibus(m)) is not None]
    return pd.DataFrame(
        {
            "metric": _texts(metric for metric, _ in rows),
            "test": _texts(found.test for _, found in rows),
            "statistic": _reals(found.statistic for _, found in rows),
            "p_value": _reals(found.p_value for _, found in rows),
            "n_items": _whole(found.n_items for _, found in rows),
            "n_algorithms": _whole(found.n_algorithms for _, found in rows),
        }
    )


def _quantile(seconds: Any, share: float) -> float:
    return float(np.quantile(seconds, share)) if len(seconds) else float("nan")


def _texts(values: Iterable[str | None]) -> pd.Series[Any]:
    return pd.Series(list(values), dtype=TEXT)


def _whole(values: Iterable[int]) -> pd.Series[Any]:
    return pd.Series(list(values), dtype="int64")


def _reals(values: Iterable[float]) -> pd.Series[Any]:
    return pd.Series(list(values), dtype="float64")

"""One algorithm with many settings on the same items: which does best, and what that is worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from celeryflow.compare import card, cards, frames, shown
from celeryflow.compare.analysis import Analysis
from celeryflow.compare.comparison import Prepared, design
from celeryflow.compare.grid import Setting, bound, labelled
from celeryflow.compare.report import Report
from celeryflow.errors import ComparisonError
from celeryflow.view.live.shown import settle

if TYPE_CHECKING:
    import altair as alt

    from celeryflow.compare.card import Card
    from celeryflow.run.run import Run


OPTIMISTIC = "The best of several scores is partly luck, and so far it is the best of few items."


class Sweep:
    """What came of a sweep; while its run goes on, what has come so far.

    Attributes
    ----------
    run : Run or None
        The run whose items are the trials; None where it ran in this process.
    """

    def __init__(self, settings: dict[str, Setting], report: Report) -> None:
        self._settings, self._report = settings, report
        self._held: list[Report] = []
        self.run: Run[Any] | None = report.run

    def hold(self, report: Report) -> None:
        """Take what the best setting gives on the items held out, and wait for it."""
        if report.run is not None:
            report.run.wait_or_cancel()
        self._held.append(report)
        if self.run is not None:
            settle(self.run.id)

    def trials(self) -> pd.DataFrame:
        """A row a trial that has ended: a column a parameter, then as of ``Report.trials``."""
        found = self._report.analysis()
        names, frame = list(self._settings), frames.trials(found, self._report.labels)
        return self._with_settings(frame, [names[trial.algorithm] for trial in found.results.planned])

    def summary(self) -> pd.DataFrame:
        """A row a setting, the best first: its parameters, then as of ``Report.summary``."""
        found = self._report.analysis()
        frame = frames.summary(found, recommended=self._best(found))
        frame = self._with_settings(frame, list(self._settings))
        metric = found.question.primary
        is_rising = metric in found.question.lower_is_better
        return frame.sort_values(f"{metric}_mean", ascending=is_rising, kind="stable", ignore_index=True)

    @property
    def best_params(self) -> Setting:
        """The setting with the best mean of the primary metric over its items; of those that failed in a trial none.

        Raises
        ------
        ComparisonError
            If every setting failed.
        """
        best = self._best(self._report.analysis())
        if best is None:
            errors = self._report.trials()["error"].dropna()
            raise ComparisonError(f"params= has no setting without a failure. The first: {next(iter(errors), 'none')}.")
        return dict(self._settings[best])

    @property
    def holdout(self) -> pd.DataFrame | None:
        """What the best setting gave on the items held out, as of ``summary``; None where there were none."""
        if not self._held:
            return None
        return frames.summary(self._held[0].analysis(), recommended=None).drop(columns="recommended")

    @property
    def recommendation(self) -> str:
        """One paragraph: the best setting, and what its score is worth."""
        found = self._report.analysis()
        best, metric, names = self._best(found), found.question.primary, list(self._settings)
        if best is None:
            return "No recommendation: every setting failed in some trial."
        mean, interval = found.mean(metric, names.index(best))
        said = (
            f"{'' if self._report.is_over else 'So far: '}{best} has the best {metric} of {len(names)} settings: "
            f"mean {mean:.4g} [{interval.low:.4g}, {interval.high:.4g}]. That is optimistic, as the best of several "
            "scores is partly luck"
        )
        if not self._held:
            return f"{said}: give holdout= items that no setting was chosen by."
        alone, ends = self._held[0].analysis().mean(metric, 0)
        return f"{said}; on the items held out it is {alone:.4g} [{ends.low:.4g}, {ends.high:.4g}]."

    def plot(self, metric: str | None = None) -> alt.VConcatChart:
        """Charts of a metric, by default of the primary one; ``.save(path)`` writes ``.html``, ``.svg`` or ``.png``.

        The mean score against each parameter; of two parameters a heat map, of more a line a setting through all of
        them. The best setting is marked, and what it gave on the items held out.

        Raises
        ------
        MissingExtraError
            If altair is not installed.
        UnknownError
            If there is no such metric.
        """
        from celeryflow.view.extra import require_altair

        require_altair("sweep.plot()")
        from celeryflow.compare.charts.settings import Tried, charts

        found, name = self._report.analysis(), self._report.metric(metric)
        means = [found.mean(name, at) for at in range(len(self._settings))]
        best, names = self._best(found), list(self._settings)
        tried = Tried(
            name,
            name in found.question.lower_is_better,
            list(self._settings.values()),
            [mean for mean, _ in means],
            [interval for _, interval in means],
            None if best is None else names.index(best),
            self._held[0].analysis().mean(name, 0) if self._held else None,
        )
        return charts(tried, self.is_over)

    def wait(self, timeout_s: float | None = None) -> Sweep:
        """Wait for the last trial, or for `timeout_s` seconds; the sweep itself."""
        if self.run is not None:
            self.run.wait(timeout_s)
        return self

    @property
    def is_over(self) -> bool:
        """Whether no more trials come."""
        return self._report.is_over

    def card(self, is_first: bool = False) -> Card:
        """As of Report."""
        is_over = not is_first and self.is_over
        found = self._report.blank() if is_first else self._report.analysis()
        best = self._best(found) if is_over else None
        answer = self.recommendation if is_over else OPTIMISTIC
        return cards.of_sweep(found, self._report.size, is_over, best, answer)

    def apart(self) -> Sweep:
        """As of Report."""
        twin = Sweep(self._settings, self._report.apart())
        twin._held = self._held
        return twin

    def __repr__(self) -> str:
        return card.text(self.card())

    def _repr_html_(self) -> str:
        return card.html(self.card())

    def _ipython_display_(self) -> None:
        shown.display(self)

    def _with_settings(self, frame: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
        parameters = next(iter(self._settings.values()))
        columns = {parameter: [self._settings[name][parameter] for name in names] for parameter in parameters}
        clash = set(columns) & set(frame.columns)
        given = pd.DataFrame({f"param_{n}" if n in clash else n: pd.Series(v, dtype=None) for n, v in columns.items()})
        return pd.concat([given, frame], axis=1)

    def _best(self, found: Analysis) -> str | None:
        asked = found.question
        sign = -1.0 if asked.primary in asked.lower_is_better else 1.0
        means = sign * cards.mean_scores(found)
        means[[found.failure_rates[name] > asked.max_failure_rate for name in asked.algorithms]] = np.nan
        return None if np.all(np.isnan(means)) else asked.algorithms[int(np.nanargmax(means))]


def prepare(
    function: Any, data: Any, settings: Sequence[Setting], metrics: Any, **options: Any
) -> tuple[Any, Prepared]:
    """Settings by their labels, and the trials of all of them."""
    if not callable(function):
        raise ComparisonError(f"wf_or_fn= takes a function, step or workflow, not {type(function).__name__}.")
    labels = labelled(settings)
    algorithms = {label: bound(function, setting) for label, setting in labels.items()}
    return labels, design(algorithms, metrics, least=1, **options).prepare(data)

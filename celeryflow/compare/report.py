"""The report of a comparison: frames, the winner, and what to do."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from celeryflow.compare import card, cards, frames, shown, words
from celeryflow.compare.analysis import Analysis
from celeryflow.compare.comparison import STEP, Outline
from celeryflow.compare.question import Question, between
from celeryflow.compare.results import as_row
from celeryflow.compare.trial import NOT_A_NUMBER, Row
from celeryflow.errors import ComparisonError, ComparisonWarning, UnknownError
from celeryflow.graph.states import State

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

    from celeryflow.compare.card import Card
    from celeryflow.run.run import Run


class Report:
    """What came of a comparison; while its run goes on, what has come so far.

    Attributes
    ----------
    run : Run or None
        The run whose items are the trials; None where it ran in this process, or was loaded from a file.
    """

    def __init__(
        self,
        outline: Outline,
        rows: Sequence[Row | BaseException | None] | None = None,
        submitted_at: float = 0.0,
        run: Run[Any] | None = None,
    ) -> None:
        self._outline, self._given, self._submitted_at, self.run = outline, rows or [], submitted_at, run
        self._final: tuple[int, Analysis] | None = None
        self._warned_of: Analysis | None = None

    def __getstate__(self) -> dict[str, Any]:
        rows, submitted_at = self._plain()
        kept = {"_outline": self._outline, "_given": rows, "_submitted_at": submitted_at}
        return {**kept, "run": None, "_final": None, "_warned_of": None}

    def _plain(self) -> tuple[list[Row | None], float]:
        """Rows without exceptions, which may not pickle."""
        asked, (rows, submitted_at) = self._outline.question, self._read()
        found = [None if row is None else as_row(row, len(asked.metrics), asked.timeout_s) for row in rows]
        return found, submitted_at

    def plot(self, metric: str | None = None) -> alt.VConcatChart:
        """Charts of a metric, by default of the primary one; ``.save(path)`` writes ``.html``, ``.svg`` or ``.png``.

        Differences with their intervals and the region of equivalence, distributions, latency against the metric with
        its Pareto front, and for three algorithms or more the critical-difference diagram.

        Raises
        ------
        MissingExtraError
            If altair is not installed.
        """
        from celeryflow.view.extra import require_altair

        require_altair("report.plot()")
        from celeryflow.compare.charts import charts

        return charts(self._analysis(), self.metric(metric), self.is_over)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the report to a file (JSON), which ``cf.load_report(path)`` reads; the run is not in it."""
        from celeryflow.compare.saved import write

        write(path, self._outline, *self._plain())

    # --- how far it is -----------------------------------------------------------------------

    @property
    def size(self) -> int:
        """Trials that were planned."""
        return len(self._outline.planned)

    @property
    def is_over(self) -> bool:
        """Whether no more trials come."""
        return self.run is None or self.run.snapshot().status.is_terminal

    def wait(self, timeout_s: float | None = None) -> Report:
        """Wait for the last trial, or for `timeout_s` seconds; the report itself."""
        if self.run is not None:
            self.run.wait(timeout_s)
        if self.is_over:
            self._analysis()
        return self

    # --- what came of it ---------------------------------------------------------------------

    def trials(self) -> pd.DataFrame:
        """A row a trial that has ended, in the order in which they were to run.

        Returns
        -------
        DataFrame
            item, repeat, algorithm, block, order, a column a metric, latency_s (the call alone), queue_wait_s (from
            submit to start), peak_memory_bytes (above what the process held before), status
            (success or failure), error.
        """
        return frames.trials(self._analysis(), self._outline.labels)

    def summary(self) -> pd.DataFrame:
        """A row an algorithm.

        Returns
        -------
        DataFrame
            algorithm, n (items with a score of the primary metric), failures (trials), for each metric its mean over
            the items, the t interval of that at 1 - alpha, and the average rank (1 the best); latency_p50_s and
            latency_p95_s, throughput_per_s (trials a second of calls, on one core), recommended.
        """
        found = self._analysis()
        return frames.summary(found, found.winner)

    def pairwise(self) -> pd.DataFrame:
        """A row a metric and pair of algorithms.

        Returns
        -------
        DataFrame
            metric, a, b, n_pairs (values of both, where items are split), estimand, difference (a - b, raw) with its
            simultaneous interval ci_low to ci_high (Bonferroni over the pairs of the metric), effect_name, effect_size
            (positive favours a) with its interval, p_value, p_adjusted, test, verdict of a against b: better, worse,
            equivalent or inconclusive.
        """
        return frames.pairwise(self._analysis())

    def omnibus(self) -> pd.DataFrame:
        """A row a metric, of three or more algorithms: whether any differ (Friedman). It decides nothing here.

        Returns
        -------
        DataFrame
            metric, test, statistic, p_value, n_items, n_algorithms; empty for two algorithms, and for cross-validation,
            whose folds share data.
        """
        return frames.omnibus(self._analysis())

    def critical_difference(self, metric: str | None = None) -> float:
        """Average ranks that lie further apart than this differ by Nemenyi's test; by default of the primary metric."""
        return self._analysis().critical_difference(self.metric(metric))

    def power(self, effect: float, power: float = 0.8, metric: str | None = None) -> int:
        """Items that a further comparison needs, to find a difference of the size that matters to you.

        For every pair, at the adjusted alpha (alpha over the number of pairs), with the largest spread that any pair
        has here. It says nothing of the differences found here: power of the effect that was observed would only repeat
        its p value (Hoenig and Heisey, 2001, "The abuse of power").

        Parameters
        ----------
        effect : float
            The smallest difference that matters, in the metric's unit; not 0.
        power : float
            Chance to find it, between alpha and 1.
        metric : str, optional
            By default the primary one.

        Returns
        -------
        int
            Items of the whole comparison: where they are split, those of all algorithms together.

        Raises
        ------
        ComparisonError
            If an argument is out of range, there are fewer than two items, or folds were compared: more folds of the
            same data are no more data.
        """
        asked = self._outline.question
        if asked.test_over_train is not None:
            raise ComparisonError("cv= compares folds of the same data: more folds are no more data.")
        size = abs(between("effect", effect, -math.inf, math.inf))
        if not size:
            raise ComparisonError("effect= is 0. Give the smallest difference that matters, in the metric's unit.")
        chance = between("power", power, asked.alpha, 1.0)
        return self._analysis().items_needed(self.metric(metric), size, chance)

    @property
    def winner(self) -> str | None:
        """The algorithm that is better than every other one on the primary metric; None where there is none."""
        return self._analysis().winner

    @property
    def recommendation(self) -> str:
        """One paragraph: what to take and why, with the numbers."""
        text = words.recommendation(self._analysis())
        return text if self.is_over else f"So far ({self._progress()}): {text}"

    @property
    def labels(self) -> Sequence[Any]:
        """What the items are called."""
        return self._outline.labels

    @property
    def question(self) -> Question:
        """How the trials were made and are judged."""
        return self._outline.question

    # --- how it is shown ---------------------------------------------------------------------

    def card(self, is_first: bool = False) -> Card:
        """What it comes to at a glance; while its run goes on, so far. With `is_first` as it is before any trial."""
        if is_first:
            return cards.of_report(self.blank(), self.size, is_over=False)
        is_over = self.is_over
        return cards.of_report(self.analysis(), self.size, is_over)

    def blank(self) -> Analysis:
        """The statistics of no trial at all."""
        return Analysis(self.question, self._outline.results([None] * self.size, 0.0))

    def apart(self) -> Report:
        """The same on a run of its own: for another thread."""
        return self if self.run is None else Report(self._outline, run=self.run.apart())

    def __repr__(self) -> str:
        return card.text(self.card())

    def _repr_html_(self) -> str:
        return card.html(self.card())

    def _ipython_display_(self) -> None:
        shown.display(self)

    # --- how it is read ----------------------------------------------------------------------

    def metric(self, metric: str | None) -> str:
        """The metric of this name; by default the primary one."""
        asked = self._outline.question
        if metric is not None and metric not in asked.metrics:
            raise UnknownError(f"no metric {metric!r}. The metrics: {', '.join(asked.metrics)}.")
        return metric or asked.primary

    def _progress(self) -> str:
        done = len(self._analysis().results.planned)
        return f"{done} of {self.size} trials"

    def _analysis(self) -> Analysis:
        found = self.analysis()
        if self.is_over and self._warned_of is not found:
            self._warned_of = found
            self._warn(found)
        return found

    def analysis(self) -> Analysis:
        """The statistics of what has come; nobody is warned of anything."""
        generation = 0 if self.run is None else self.run.snapshot().generation
        if self._final is not None and self._final[0] == generation:  # a resume begins a new one
            return self._final[1]
        is_over = self.is_over
        found = Analysis(self._outline.question, self._outline.results(*self._read()))
        if is_over:
            self._refuse_no_numbers(found)
            self._final = generation, found
        return found

    def _read(self) -> tuple[Sequence[Row | BaseException | None], float]:
        if self.run is None:
            return self._given, self._submitted_at
        ended = self._looked_at() if self.question.is_sequential else self.run.value(STEP, partial=True).as_dict()
        rows = [ended.get(at) for at in range(len(self._outline.planned))]
        return rows, self.run.snapshot().submitted_at or 0.0

    def _looked_at(self) -> dict[int, Row | BaseException]:
        """What counted at the latest look of a sequential comparison."""
        assert self.run is not None
        done = [step.node.name for step in self.run.snapshot().steps if step.status is State.SUCCESS]
        looks = [name for name in done if name.rpartition("/")[2].startswith("look")]
        return max((self.run.value(name).rows for name in looks), key=len, default={})

    def _refuse_no_numbers(self, found: Analysis) -> None:
        """A metric that never gave a number is wrong, not the trials."""
        for name in found.question.metrics:
            start = f"metric {name!r}: TypeError: {NOT_A_NUMBER} "
            errors = found.results.errors
            if errors and all(error.startswith(start) for error in errors):
                raise ComparisonError(
                    f"metrics= has {name!r}, which returns {errors[0].removeprefix(start)}, no number."
                )

    def _warn(self, found: Analysis) -> None:
        notes = {
            note
            for metric in found.question.metrics
            for pair in found.judged(metric)
            for note in pair.contrast.notes
            if not note.startswith("assumes")
        }
        for note in sorted(notes):
            warnings.warn(
                f"comparison of {', '.join(found.question.algorithms)}: {note}.", ComparisonWarning, stacklevel=6
            )

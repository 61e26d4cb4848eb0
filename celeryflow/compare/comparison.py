"""A comparison as a workflow: one mapped step, whose items are the trials, and a step that makes the report of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from celeryflow.compare import crossval, sequential
from celeryflow.compare.data import MADE_ITEMS, Items, read_items, read_truth
from celeryflow.compare.plan import Planned, plan
from celeryflow.compare.question import Named, Question, check, check_metrics, named, whole
from celeryflow.compare.results import Results, collect
from celeryflow.compare.trial import Row, Trial
from celeryflow.errors import ComparisonError
from celeryflow.graph.refs import Unmapped
from celeryflow.graph.trace import phase
from celeryflow.step import step
from celeryflow.workflow import Workflow, workflow

STEP = "trial"
"""Name of the mapped step."""


class Outline(NamedTuple):
    """What is known of a comparison before any trial; all that its report needs besides their rows."""

    question: Question
    labels: Sequence[Any]
    planned: tuple[Planned, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Items and algorithms."""
        return len(self.labels), len(self.question.algorithms)

    def results(self, rows: Sequence[Row | BaseException | None], submitted_at: float) -> Results:
        """What has come of the trials, in their order; None where one has not ended."""
        return collect(self.planned, rows, len(self.question.metrics), self.size, submitted_at, self.question.timeout_s)


class Prepared(NamedTuple):
    """A comparison that could run: its outline, the step, and the mapped arguments of each trial."""

    outline: Outline
    trial: Trial
    items: Sequence[Any]
    timeout_s: float | None
    table: Any = None

    def arguments(self, places: Sequence[int] | None = None) -> tuple[list[int], list[Any], list[int]]:
        """Algorithm, item and seed of each trial, or of those at these places in the plan."""
        planned = self.outline.planned if places is None else [self.outline.planned[place] for place in places]
        return [t.algorithm for t in planned], [self.items[t.item] for t in planned], [t.seed for t in planned]

    def rows(self, places: Sequence[int] | None = None) -> list[Row | BaseException]:
        """The trials, run here one after the other."""
        found: list[Row | BaseException] = []
        for algorithm, item, seed in zip(*self.arguments(places), strict=True):
            try:
                found.append(self.trial(algorithm, item, seed, self.table))
            except (Exception, SystemExit) as error:  # noqa: BLE001 - a failure of the trial
                found.append(error)
        return found

    def mapped(self, places: Sequence[int] | None = None) -> Any:
        """The trials, as a map of a workflow's body."""
        options = {} if self.timeout_s is None else {"timeout_s": self.timeout_s}
        return step(self.trial, name=STEP, **options).map(
            *self.arguments(places), Unmapped(self.table), on_error="return"
        )


class Design(NamedTuple):
    """All of a comparison but its data, checked."""

    algorithms: Named
    metrics: Named
    question: Question
    truth: Any = None
    stratify: Any = None
    warmup: int = 1
    max_trials: int | None = None
    is_inline: bool = False
    cv: Any = None

    def prepare(self, data: Any) -> Prepared:
        """The trials on `data`.

        Raises
        ------
        ComparisonError
            If data, truth or strata do not fit.
        """
        return self._prepare_items(data) if self.cv is None else self._prepare_folds(data)

    def _prepare_items(self, data: Any) -> Prepared:
        asked, algorithms = self.question, len(self.algorithms)
        items = read_items(data, self._made(), asked.seed)
        count = len(items.values)
        truth_of, truths = read_truth(self.truth, count)
        check_metrics(self.metrics, self._examples(items, truth_of, truths))
        if asked.design == "split" and count < algorithms:
            raise ComparisonError(
                f'data= has {count} items; design="split" needs at least one for each of {algorithms}.'
            )
        values = items.values if truths is None else list(zip(items.values, truths, strict=True))
        trial = self._trial(truth=truth_of, make=items.make, has_truth=truths is not None)
        return self._prepared(items.labels, values, trial, asked, self._strata(items))

    def _prepare_folds(self, data: Any) -> Prepared:
        asked, table = self.question, crossval.read_table(data)
        check_metrics(self.metrics, [table[1]])
        found = crossval.folds(self.cv, table, [estimator for _, estimator in self.algorithms], asked.seed)
        fitted = tuple((name, crossval.Fitting(estimator)) for name, estimator in self.algorithms)
        asked = replace(asked, test_over_train=crossval.test_over_train(found))
        return self._prepared(range(len(found)), found, self._replace(algorithms=fitted)._trial(), asked, None, table)

    def _trial(self, **more: Any) -> Trial:
        of_all: dict[str, Any] = {"warmup": self.warmup, "timeout_s": self.question.timeout_s}
        return Trial(self.algorithms, self.metrics, is_inline=self.is_inline, **of_all, **more)

    def _prepared(
        self,
        labels: Sequence[Any],
        values: Sequence[Any],
        trial: Trial,
        asked: Question,
        strata: list[Hashable] | None,
        table: Any = None,
    ) -> Prepared:
        algorithms = len(self.algorithms)
        planned = plan(len(values), algorithms, asked.repeats, asked.design, asked.seed, strata, self.max_trials)
        if not planned:
            raise ComparisonError(
                f"max_trials= is {self.max_trials}; one item alone takes {algorithms * asked.repeats}."
            )
        limit = None if asked.timeout_s is None else asked.timeout_s * (1 + self.warmup)
        return Prepared(Outline(asked, list(labels), tuple(planned)), trial, values, limit, table)

    def _made(self) -> int:
        """Items that a function of a seed is to make."""
        each = self.question.repeats * (len(self.algorithms) if self.question.design == "paired" else 1)
        return MADE_ITEMS if self.max_trials is None else max(1, self.max_trials // each)

    def _examples(
        self, items: Items, truth_of: Callable[..., Any] | None, truths: Sequence[Any] | None
    ) -> Sequence[Any]:
        """What a metric may be tried on before there is an output."""
        if truths is not None:
            return truths[:1]
        return [] if truth_of is not None or items.make is not None else items.values[:1]

    def _strata(self, items: Items) -> list[Hashable] | None:
        if self.stratify is None:
            return None
        if self.question.design != "split":
            raise ComparisonError('stratify= deals items out evenly; it needs design="split".')
        if callable(self.stratify):
            return [self.stratify(item if items.make is None else items.make(item)) for item in items.values]
        if not hasattr(self.stratify, "__len__") or len(self.stratify) != len(items.values):
            raise ComparisonError(
                f"stratify= takes a value for each of {len(items.values)} items, or a function of one."
            )
        return list(self.stratify)


def design(
    algorithms: Any,
    metrics: Any,
    *,
    truth: Any = None,
    stratify: Any = None,
    warmup: int = 1,
    max_trials: int | None = None,
    inline: bool = False,
    cv: Any = None,
    least: int = 2,
    **asked: Any,
) -> Design:
    """All of a comparison but its data; arguments as of ``cf.compare``.

    Raises
    ------
    ComparisonError
        Naming the argument that cannot be used.
    """
    of_algorithms, of_metrics = named("algorithms", algorithms, least), named("metrics", metrics, 1)
    question = check(of_algorithms, of_metrics, **asked)
    if cv is None:
        _check_functions(of_algorithms)
    else:
        crossval.check_estimators(of_algorithms)
        _check_folds(question, truth)
    check_metrics(of_metrics, [])
    return Design(
        of_algorithms,
        of_metrics,
        question,
        truth,
        stratify,
        whole("warmup", warmup, 0),
        None if max_trials is None else whole("max_trials", max_trials, 1),
        inline,
        cv,
    )


def _check_functions(algorithms: Named) -> None:
    for name, function in algorithms:
        if not callable(function):
            raise ComparisonError(f"algorithms= has the estimator {name!r}, and no cv= to fit it. Give cv=5, say.")


def _check_folds(question: Question, truth: Any) -> None:
    """What does not go together with cross-validation."""
    if question.is_sequential:
        raise ComparisonError("sequential= needs items that are independent; with cv= folds share data.")
    if question.design != "paired":
        raise ComparisonError('design= is "paired" with cv=: every estimator sees every fold.')
    if question.estimand != "mean" or question.method != "t":
        raise ComparisonError("estimand= is the mean, by the corrected t test, with cv=: folds share data.")
    if truth is not None:
        raise ComparisonError("truth= is y with cv=. Leave it out.")


def comparison(algorithms: Any, metrics: Any, name: str = "compare", **options: Any) -> Workflow[..., Any]:
    """A workflow of one parameter, the data, whose result is the `Report`; for comparisons that are made again.

    Parameters
    ----------
    algorithms, metrics, **options
        As of ``cf.compare``, but `inline`, `wait`, `reuse` and `job_id`, which a workflow has of its own.
    name : str
        Of the workflow.

    Raises
    ------
    ComparisonError
        Naming the argument that cannot be used; for `data`, when the workflow is run.
    """
    designed = design(algorithms, metrics, **options)

    def compare(data: Any) -> Any:
        prepared = designed.prepare(data)
        with phase("trials"):
            begun = step(begin, priority=9)()
            rows = trials(prepared)
        with phase("report"):
            return step(report)(prepared.outline, rows, begun)

    return workflow(name=name)(compare)


def trials(prepared: Prepared) -> Any:
    """All trials of a comparison, or those that a sequential one needs, in a workflow's body."""
    return sequential.body(prepared) if prepared.outline.question.is_sequential else prepared.mapped()


def begin() -> float:
    """The time, since when trials wait for a worker. As a step, so that the same comparison stays the same job."""
    return time.time()


def report(outline: Outline, rows: Any, begun: float) -> Any:
    """What came of the trials: a row each, or how far a sequential comparison has come."""
    from celeryflow.compare.report import Report

    found = sequential.rows_of(outline, rows.value) if outline.question.is_sequential else rows
    return Report(outline, found, begun)

"""Comparing algorithms: trials as the items of one run, and statistics that one can rely on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celeryflow.compare.comparison import Prepared
    from celeryflow.compare.report import Report
    from celeryflow.compare.trial import Row
    from celeryflow.run.run import Run


def compare(
    algorithms: Any,
    data: Any,
    metrics: Any,
    truth: Any = None,
    lower_is_better: Any = (),
    primary: str | None = None,
    estimand: str = "mean",
    design: str = "paired",
    cv: Any = None,
    repeats: int = 1,
    seed: int = 0,
    alpha: float = 0.05,
    rope: Any = None,
    correction: str = "holm",
    stratify: Any = None,
    warmup: int = 1,
    max_failure_rate: float = 0.0,
    sequential: bool = False,
    max_trials: int | None = None,
    timeout_s: float | None = None,
    inline: bool = False,
    wait: bool = True,
    method: str = "t",
    reuse: Report | Run[Any] | str | None = None,
) -> Report:
    """Which of several algorithms is better, by trials on the workers.

    Every trial is an item of one mapped step of one run: they run in parallel, show themselves, can be resumed
    (``report.run.resume()``) and taken over (`reuse`). Algorithms that fail lose rows, never the comparison.

    Parameters
    ----------
    algorithms : dict of str to callable
        Two or more: ``item -> output``, functions or steps; with arguments by ``functools.partial`` or ``a_step.bind``.
    data : list, mapping, array, DataFrame, groupby or callable
        The items. Of a DataFrame its rows (Series), of a groupby its groups; a callable makes an item of a seed (30 of
        them, or as many as `max_trials` allows). An algorithm gets a copy: it may change what it gets.
    metrics : dict of str to callable
        ``(output, item) -> float``, or ``(output, truth) -> float`` where there is a `truth`. One whose first parameter
        is called ``y_true``, as scikit-learn's, gets the truth first. A score that is not finite is a failure.
    truth : sequence or callable, optional
        The truth of each item, or a function of the item.
    lower_is_better : sequence of str
        Metrics of which less is better; of the others more is.
    primary : str, optional
        The metric that decides; by default the first.
    estimand : {"mean", "median"}
        What intervals and p values are about: the mean difference (paired t; Welch's t), or its median (Wilcoxon's
        signed ranks with the Hodges-Lehmann estimate, which assume symmetric differences; Brunner and Munzel's test).
    design : {"paired", "split"}
        Whether every algorithm sees every item, or the items are shuffled and dealt out.
    repeats : int
        Trials of each item and algorithm, averaged: the number of items is what counts.
    seed : int
        Of the order of trials, the split, and of ``random`` and ``numpy.random`` in each trial. Same seed, same trials.
    alpha : float
        Chance of any false verdict of a metric, in (0, 0.5).
    rope : float, (low, high), or dict of metric to one of them, optional
        Region of practical equivalence: differences that make no difference. A number is of the primary metric.
    correction : {"holm", "bh"}
        How the p values of all pairs of one metric are adjusted.
    stratify : sequence or callable, optional
        Of ``design="split"``: what each item belongs to; each stratum is dealt out evenly.
    warmup : int
        Calls of each algorithm in each process that are not measured, before the first that is.
    max_failure_rate : float
        An algorithm that fails in more of its trials wins only if it also wins with the worst score for each failure.
    max_trials : int, optional
        At most so many: whole blocks, in their random order.
    timeout_s : float, optional
        A call that takes longer has failed, and is stopped (here, with `inline`, in the main thread alone).
    inline : bool
        Run the trials here, one after the other, without workers.
    wait : bool
        Whether to come back with all trials, or at once with a report that fills in.
    method : {"t", "permutation"}
        Of ``estimand="mean"`` and ``"paired"``: Student's t, or the sign-flip permutation test and its interval.
    reuse : Report, Run, str or "latest", optional
        Take the trials that an earlier comparison has, where nothing that they depend on has changed.

    Returns
    -------
    Report
        ``summary()``, ``pairwise()``, ``winner``, ``recommendation``, ``trials()`` and more.

    Raises
    ------
    ComparisonError
        Before anything runs, if an argument cannot be used: its message begins with the argument's name.

    Warns
    -----
    ComparisonWarning
        If there are so few items, or differences so alike, that another test stands in.

    Examples
    --------
    >>> from statistics import mean
    >>> samples = [[1.0, 2.0, 6.1], [2.0, 4.0, 9.2], [0.0, 1.0, 2.5], [1.0, 1.5, 4.0], [3.0, 4.0, 7.3], [2.0, 3.0, 7.5]]
    >>> report = compare(
    ...     {"mean": mean, "first": lambda values: values[0]},
    ...     samples,
    ...     {"off": lambda guess, values: abs(guess - values[1])},
    ...     lower_is_better=["off"],
    ...     inline=True,
    ... )
    >>> report.pairwise()[["a", "b", "n_pairs", "verdict"]].to_dict("records")
    [{'a': 'mean', 'b': 'first', 'n_pairs': 6, 'verdict': 'inconclusive'}]
    """
    from celeryflow.compare.comparison import design as designed

    prepared = designed(
        algorithms, metrics, truth=truth, stratify=stratify, warmup=warmup, max_trials=max_trials, timeout_s=timeout_s,
        inline=inline, lower_is_better=lower_is_better, primary=primary, estimand=estimand, method=method,
        design=design, repeats=repeats, seed=seed, alpha=alpha, rope=rope, correction=correction,
        max_failure_rate=max_failure_rate,
    ).prepare(data)  # fmt: skip
    return _here(prepared) if inline else _on_workers(prepared, wait, reuse)


def _here(prepared: Prepared) -> Report:
    from celeryflow.compare.report import Report

    rows: list[Row | BaseException] = []
    started = time.time()
    for algorithm, item, seed in zip(*prepared.arguments(), strict=True):
        try:
            rows.append(prepared.trial(algorithm, item, seed))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a failure of the trial
            rows.append(error)
    return Report(prepared.outline, rows, _no_wait(rows, started)).wait()


def _no_wait(rows: Sequence[Row | BaseException], started: float) -> float:
    """Nothing waits in a queue here: every trial is submitted when it begins."""
    return max([started, *(row.started_at for row in rows if isinstance(row, tuple))])


def _on_workers(prepared: Prepared, wait: bool, reuse: Report | Run[Any] | str | None) -> Report:
    from celeryflow.compare.report import Report
    from celeryflow.workflow import Workflow, workflow

    trials: Workflow[[], Any] = workflow(prepared.mapped, name="compare")  # type: ignore[call-overload]
    run = trials.submit(reuse=reuse.run if isinstance(reuse, Report) else reuse)
    report = Report(prepared.outline, run=run)
    if wait:
        run.wait_or_cancel()
        report.wait()
    return report

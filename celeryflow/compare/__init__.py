"""Comparing algorithms: trials as the items of one run, and statistics that one can rely on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any

from celeryflow.errors import ComparisonError

if TYPE_CHECKING:
    from celeryflow.compare.comparison import Prepared
    from celeryflow.compare.report import Report
    from celeryflow.compare.swept import Sweep
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
    job_id: str | None = None,
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
    cv : int or splitter of scikit-learn, optional
        With ``data=(X, y)`` and estimators for algorithms: each is cloned, fitted and predicts on every fold, and
        `metrics` get predictions and targets. A number of folds is shuffled by `seed`, and stratified for classifiers.
        Scores of folds that share data are judged by Nadeau's and Bengio's corrected t test.
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
    sequential : bool
        Look after every item by a test that is valid however often one looks (a sign-symmetry e-process with its
        confidence sequence; Bonferroni over all pairs), drop who has lost, and stop when the answer is there.
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
    job_id : str, optional
        Whoever asks the same under it gets the one run that there is, live or finished; one that failed, was cancelled
        or is stalled goes on. As of ``Workflow.options``; not with `inline`.

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
    from celeryflow.compare.report import Report
    from celeryflow.compare.shown import beside

    prepared = designed(
        algorithms, metrics, truth=truth, stratify=stratify, warmup=warmup, max_trials=max_trials, timeout_s=timeout_s,
        inline=inline, cv=cv, sequential=sequential,
        lower_is_better=lower_is_better, primary=primary, estimand=estimand, method=method,
        design=design, repeats=repeats, seed=seed, alpha=alpha, rope=rope, correction=correction,
        max_failure_rate=max_failure_rate,
    ).prepare(data)  # fmt: skip
    earlier = reuse.run if isinstance(reuse, Report) else reuse
    report = _submitted(prepared, inline, earlier, "compare", job_id)
    if wait and report.run is not None:
        report.run.wait_or_cancel(beside(report))
    return report.wait() if wait or inline else report


def sweep(
    wf_or_fn: Any,
    data: Any,
    params: Mapping[str, Any],
    metrics: Any,
    lower_is_better: Any = (),
    n_samples: int | None = None,
    seed: int = 0,
    primary: str | None = None,
    truth: Any = None,
    holdout: Any = None,
    repeats: int = 1,
    alpha: float = 0.05,
    warmup: int = 0,
    max_failure_rate: float = 0.0,
    timeout_s: float | None = None,
    inline: bool = False,
    wait: bool = True,
    reuse: Sweep | Run[Any] | str | None = None,
    job_id: str | None = None,
) -> Sweep:
    """Which setting of one algorithm does best, by trials on the workers: every setting on every item.

    Like a comparison it is one run, whose items are the trials. The best score of many is optimistic: `holdout` says
    what the chosen setting gives on items that it was not chosen by.

    Parameters
    ----------
    wf_or_fn : callable
        Function, step or workflow: ``(item, **setting) -> output``.
    data, metrics, lower_is_better, primary, truth, repeats, warmup, max_failure_rate, timeout_s, inline, wait
        As of ``cf.compare``.
    params : dict of str to sequence
        Values of each parameter; with `n_samples` also distributions, as of ``scipy.stats``.
    n_samples : int, optional
        So many settings at random, all different where lists alone are given; by default the whole grid.
    seed : int
        Of the settings, of the order of trials and of the generators in them.
    holdout : as data, optional
        Items on which the best setting runs once the others are done; needs ``wait=True``, and a function for `truth`.
    alpha : float
        The intervals are at 1 - alpha.
    reuse : Sweep, Run, str or "latest", optional
        Take the trials that an earlier sweep has.
    job_id : str, optional
        As of ``cf.compare``; the items held out are a job of their own, ``{job_id}.holdout``.

    Returns
    -------
    Sweep
        ``trials()``, ``summary()``, ``best_params``, ``holdout`` and ``recommendation``.

    Raises
    ------
    ComparisonError
        Before anything runs, if an argument cannot be used: its message begins with the argument's name.

    Examples
    --------
    >>> found = sweep(
    ...     lambda x, power: x**power, [1.0, 2.0, 3.0], {"power": [1, 2, 3]}, {"off": lambda out, x: abs(out - x * x)},
    ...     lower_is_better=["off"], inline=True,
    ... )
    >>> found.best_params
    {'power': 2}
    """
    from celeryflow.compare import grid
    from celeryflow.compare.question import whole
    from celeryflow.compare.shown import beside
    from celeryflow.compare.swept import Sweep, prepare

    samples = None if n_samples is None else whole("n_samples", n_samples, 1)
    if holdout is not None and not wait:
        raise ComparisonError("holdout= runs once the best setting is known; with wait=False that is later.")
    if holdout is not None and truth is not None and not callable(truth):
        raise ComparisonError("truth= is of data= alone. With holdout= give a function of the item.")
    tried = grid.settings(params, samples, whole("seed", seed, 0))
    options: dict[str, Any] = {
        "lower_is_better": lower_is_better, "primary": primary, "repeats": repeats, "seed": seed, "alpha": alpha,
        "warmup": warmup, "max_failure_rate": max_failure_rate, "timeout_s": timeout_s, "inline": inline,
    }  # fmt: skip
    settings, prepared = prepare(wf_or_fn, data, tried, metrics, truth=truth, **options)
    if holdout is not None:
        prepare(wf_or_fn, holdout, tried[:1], metrics, truth=truth, **options)  # its mistakes are said before any trial
    earlier = reuse.run if isinstance(reuse, Sweep) else reuse
    found = Sweep(settings, _submitted(prepared, inline, earlier, "sweep", job_id))
    if wait and found.run is not None:
        found.run.wait_or_cancel(beside(found))
    if holdout is not None:
        _, held = prepare(wf_or_fn, holdout, [found.best_params], metrics, truth=truth, **options)
        found.hold(_submitted(held, inline, None, "holdout", None if job_id is None else f"{job_id}.holdout"))
    return found


def load_report(path: str | PathLike[str]) -> Report:
    """The report that ``report.save(path)`` wrote: its frames, verdicts and recommendation, without its run.

    Parameters
    ----------
    path : str or path
        A file; it is text (JSON), and nothing in it is executed.

    Raises
    ------
    ComparisonError
        If it is no report.
    OSError
        If it cannot be read.
    """
    from celeryflow.compare.saved import read

    return read(path)


def _submitted(prepared: Prepared, inline: bool, reuse: Run[Any] | str | None, name: str, job_id: str | None) -> Report:
    """The report of the trials: run here, or submitted to workers."""
    from celeryflow.compare.comparison import trials
    from celeryflow.compare.report import Report
    from celeryflow.compare.sequential import run_here
    from celeryflow.workflow import Workflow, workflow

    traced: Workflow[..., Any] = workflow(name=name)(partial(trials, prepared)).options(job_id=job_id)
    if inline:
        started = time.time()
        rows = run_here(prepared) if prepared.outline.question.is_sequential else prepared.rows()
        # Nothing waits in a queue here: every trial is submitted when it begins.
        return Report(
            prepared.outline, rows, max([started, *(row.started_at for row in rows if isinstance(row, tuple))])
        )
    return Report(prepared.outline, run=traced.submit(reuse=reuse))

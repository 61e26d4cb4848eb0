"""What the statistics of ``cf.compare`` promise, against simulated truth: errors, coverage, power, and trials saved.

Each figure is a share of simulated comparisons, with its standard error. Where the truth is "no difference" the scores
of all algorithms have one distribution; a family is all pairs of one comparison.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import simulate
from benchmarks.report import Sheet, as_markdown, replace
from benchmarks.simulate import SPREADS, VALUES, Floats, holm, pairs
from celeryflow.compare import choice
from celeryflow.compare.always import SignSymmetry
from celeryflow.compare.contrast import Interval
from celeryflow.compare.power import RANKS, each_needed, pairs_needed
from celeryflow.compare.verdicts import Rules, judge

Row = dict[str, Any]

BEGIN, END = (
    "<!-- figures: made by `python3 run.py bench --only statistics --write-docs` -->",
    "<!-- end of figures -->",
)
DOCUMENT = Path(__file__).parents[1] / "docs" / "comparing.md"

ALPHA, SIMULATIONS = 0.05, 4_000
ITEMS, ALGORITHMS, LOOKS = (6, 10, 30, 100), (2, 3, 4, 5, 6), 200
TESTS = (("paired", "mean"), ("paired", "median"), ("split", "mean"), ("split", "median"))


def measure(divisor: int, say: Callable[[str], None] = print) -> list[Row]:
    """A row a figure; of `SIMULATIONS` over `divisor` comparisons each."""
    random, count = np.random.default_rng(2026), SIMULATIONS // divisor
    rows: list[Row] = []
    for part in (families, powers, equivalences, folds, sequences):
        rows += part(random, count)
        say(f"{part.__name__} simulated")
    return rows


def _row(table: str, test: str, values: str, items: int, is_found: npt.NDArray[Any], **more: Any) -> Row:
    rate, count = float(np.mean(is_found)), len(is_found)
    error = math.sqrt(max(rate * (1.0 - rate), ALPHA * (1.0 - ALPHA)) / count)
    return {"table": table, "test": test, "values": values, "items": items, "rate": rate, "error": error,
            "simulations": count, **more}  # fmt: skip


# --- no difference -----------------------------------------------------------------------------


def families(random: np.random.Generator, count: int) -> Iterator[Row]:
    """How often a family has a false difference, and of two algorithms how often the interval holds the true one, 0."""
    for design, estimand in TESTS:
        for values, draw in VALUES.items():
            for items in ITEMS:
                # Of ties each sample has permutations of its own, which take a while.
                is_slow = design == "split" and values.startswith(
                    "tied" if estimand == "mean" else ("tied", "discrete")
                )
                scores = draw(random, (count // 20 if is_slow else count, max(ALGORITHMS), items))
                yield from _family(scores, design, estimand, values)


def _family(scores: Floats, design: str, estimand: str, values: str) -> Iterator[Row]:
    test, items = f"{design}, {estimand}", scores.shape[2]
    near: dict[tuple[int, int], Floats] = {}
    far: dict[tuple[int, int], Floats] = {}  # of levels at which another test is chosen
    for k in ALGORITHMS:
        level = ALPHA / len(pairs(k))
        known = far if test == "split, median" and level < 0.01 else near
        for i, j in pairs(k):
            if (i, j) not in known:
                known[i, j] = _p_values(scores[:, i], scores[:, j], design, estimand, level)
        p_adjusted = holm([known[pair] for pair in pairs(k)])
        yield _row("families", test, values, items, np.min(p_adjusted, axis=0) <= ALPHA, algorithms=k)
        if k == 2:
            yield _row("coverage", test, values, items, _holds(scores, known[0, 1], design, estimand))


def _p_values(a: Floats, b: Floats, design: str, estimand: str, level: float) -> Floats:
    if design == "paired":
        return simulate.paired(a - b, estimand)
    return simulate.unpaired(a, b, estimand, level)


def _holds(scores: Floats, p_values: Floats, design: str, estimand: str) -> Floats:
    """Whether each interval holds 0: where its test does not reject that, as is seen on some of them."""
    holds = p_values > ALPHA
    for at in range(min(simulate.LOOKED_AT, len(scores))):
        a, b = scores[at, 0], scores[at, 1]
        test = choice.paired(a - b, estimand) if design == "paired" else choice.unpaired(a, b, estimand)
        low, high = test.interval(1.0 - ALPHA)
        if bool(low <= 0.0 <= high) != bool(holds[at]):
            raise simulate.NotTheLibrarysError(f"{test.test}: p = {p_values[at]}, and the interval is {low} to {high}.")
    return np.asarray(holds, dtype=np.float64)


# --- a difference ------------------------------------------------------------------------------


def powers(random: np.random.Generator, count: int) -> Iterator[Row]:
    """How often a difference of half a standard deviation is found with as many items as ``report.power`` says."""
    for design, estimand in TESTS:
        for k in (2, 3):
            alpha, ranked = ALPHA / len(pairs(k)), RANKS if estimand == "median" else 1.0
            needed = pairs_needed if design == "paired" else each_needed
            items = math.ceil(ranked * needed(0.5, 1.0, 0.8, alpha))
            scores = random.normal(size=(count, k, items))
            scores[:, 0] += 0.5 * (math.sqrt(2.0) if design == "paired" else 1.0)
            tests = [_p_values(scores[:, i], scores[:, j], design, estimand, alpha) for i, j in pairs(k)]
            yield _row("power", f"{design}, {estimand}", "normal", items, holm(tests)[0] <= ALPHA, algorithms=k)


def equivalences(random: np.random.Generator, count: int) -> Iterator[Row]:
    """How often algorithms are called equivalent whose difference is the end of the rope: half a deviation."""
    for values, spread in SPREADS.items():
        for items in ITEMS[1:]:
            for k in (2, 3):
                edge = 0.5 * spread * math.sqrt(2.0)
                scores = VALUES[values](random, (count, k, items))
                scores[:, 0] += edge
                tests = {(i, j): _equivalence(scores[:, i] - scores[:, j], edge) for i, j in pairs(k)}
                false = [at for at, (i, _) in enumerate(tests) if i == 0]
                p_adjusted = holm(list(tests.values()))
                _check_equivalence(scores, p_adjusted, edge)
                yield _row("equivalence", "paired, mean", values, items,
                           np.min(p_adjusted[false], axis=0) <= ALPHA, algorithms=k)  # fmt: skip


def _equivalence(differences: Floats, edge: float) -> Floats:
    """p values of two one-sided t tests."""
    from scipy import special

    n = differences.shape[1]
    mean, error = differences.mean(axis=1), differences.std(axis=1, ddof=1) / math.sqrt(n)
    below = special.stdtr(n - 1, -(mean + edge) / error)
    return np.asarray(np.maximum(below, special.stdtr(n - 1, (mean - edge) / error)))


def _check_equivalence(scores: Floats, p_adjusted: Floats, edge: float) -> None:
    for at in range(min(simulate.LOOKED_AT, len(scores))):
        rows = {(str(i), str(j)): choice.paired(scores[at, i] - scores[at, j]) for i, j in pairs(scores.shape[1])}
        found = [pair.p_equivalent for pair in judge(rows, Rules(rope=Interval(-edge, edge)))]
        if not np.allclose(found, p_adjusted[:, at], atol=1e-9):
            raise simulate.NotTheLibrarysError(f"equivalence: {p_adjusted[:, at]} in bulk, {found} in the library.")


# --- folds -------------------------------------------------------------------------------------


def folds(random: np.random.Generator, count: int) -> Iterator[Row]:
    """False differences of models that are as good as each other, by the scores of folds of 100 rows.

    The target is the sum of independent features and noise; each model is a least-squares line on one of them.
    """
    rows = 100
    for number in (5, 10):
        for k in (2, 3):
            x = random.normal(size=(count, k, rows))
            y = x.sum(axis=1, keepdims=True) + random.normal(size=(count, 1, rows))
            scores = np.stack([_error(x, y, at, rows // number) for at in range(0, rows, rows // number)], axis=2)
            ratio = 1.0 / (number - 1)
            tests = [_corrected(scores[:, i] - scores[:, j], ratio) for i, j in pairs(k)]
            yield _row("folds", f"{number} folds", "normal", rows, np.min(holm(tests), axis=0) <= ALPHA, algorithms=k)


def _error(x: Floats, y: Floats, start: int, size: int) -> Floats:
    """Mean squared error of each model on a fold, trained on the others; shape (samples, models)."""
    is_test = np.zeros(x.shape[2], dtype=bool)
    is_test[start : start + size] = True
    of_x, of_y = x[..., ~is_test], y[..., ~is_test]
    mean_x, mean_y = of_x.mean(axis=2, keepdims=True), of_y.mean(axis=2, keepdims=True)
    slope = np.sum((of_x - mean_x) * (of_y - mean_y), axis=2, keepdims=True)
    slope /= np.sum((of_x - mean_x) ** 2, axis=2, keepdims=True)
    missed = y[..., is_test] - mean_y - slope * (x[..., is_test] - mean_x)
    return np.asarray(np.mean(missed**2, axis=2))


def _corrected(differences: Floats, ratio: float) -> Floats:
    from scipy import special

    n = differences.shape[1]
    error = differences.std(axis=1, ddof=1) * math.sqrt(1.0 / n + ratio)
    found = 2.0 * special.stdtr(n - 1, -np.abs(differences.mean(axis=1) / error))
    return simulate.checked(np.asarray(found), lambda at: choice.folds(differences[at], ratio))


# --- looking on --------------------------------------------------------------------------------


def sequences(random: np.random.Generator, count: int) -> Iterator[Row]:
    """False winners of 200 looks, a look an item; and trials saved where there is a difference."""
    some = count // 4
    for values, draw in VALUES.items():
        for k in (2, 3):
            scores, level = draw(random, (some, k, LOOKS)), ALPHA / len(pairs(k))
            ever = [any(SignSymmetry(row[i] - row[j]).p_value() <= level for i, j in pairs(k)) for row in scores]
            yield _row("looks", "paired, mean", values, LOOKS, np.array(ever), algorithms=k)
    for effect in (0.25, 0.5, 1.0, 2.0):
        stops = np.array([_stop(row) for row in random.normal(effect, 1.0, (some, LOOKS))])
        saved = 1.0 - float(np.mean(np.minimum(stops, LOOKS))) / LOOKS
        fixed = pairs_needed(effect, 1.0, 0.8, ALPHA)
        median = float(np.median(stops)) if np.mean(stops <= LOOKS) > 0.5 else math.nan
        yield _row("saved", f"{effect:g} deviations", "normal", LOOKS, stops <= LOOKS, saved=saved, median=median,
                   fixed=fixed)  # fmt: skip


def _stop(differences: Floats) -> float:
    """The item at which zero is rejected; more than there are where it is not."""
    above, below = SignSymmetry(differences).evidence()
    is_over = np.logaddexp(above, below) - math.log(2.0) >= -math.log(ALPHA)
    return float(np.argmax(is_over)) + 1.0 if np.any(is_over) else math.inf


# --- as tables ---------------------------------------------------------------------------------


def sheets(rows: Sequence[Row]) -> list[Sheet]:
    """A table for each kind of figure."""
    return [_families(rows), _coverage(rows), _powers(rows), _others(rows), _saved(rows)]


def write(rows: Sequence[Row], document: Path = DOCUMENT) -> None:
    """Put the figures in their place in the document."""
    most = max(row["simulations"] for row in rows)
    said = f"Of {most:,} simulated comparisons each, where they are slow of fewer; ± is a standard error."
    replace(document, BEGIN, END, "\n\n".join([said, *map(as_markdown, sheets(rows))]))


def failures(rows: Sequence[Row]) -> list[str]:
    """What is off by more than three standard errors."""
    found = []
    for row in rows:
        over = row["rate"] - ALPHA
        if row["table"] == "coverage":  # an interval of few values that are alike may hold too often
            most = 0.97 if row["values"] in SPREADS else 1.0
            over = max(0.93 - row["rate"], row["rate"] - most) if row["items"] >= 30 else 0.0
        elif row["table"] == "power":
            over = 0.78 - row["rate"]
        elif row["table"] == "saved":
            over = 0.0
        if over > 3.0 * row["error"]:
            found.append(f"{row['table']}: {row['test']}, {row['values']}, {row['items']} items: {_percent(row)}")
    return found


def _percent(row: Row) -> str:
    return f"{100 * row['rate']:.1f} ± {100 * row['error']:.1f}"


def _families(rows: Sequence[Row]) -> Sheet:
    lines = []
    for test, values in _named(rows, "families"):
        cells = []
        for items in ITEMS:
            those = [r for r in rows if _is(r, "families", test, values) and r["items"] == items]
            most = max(those, key=lambda row: row["rate"])
            cells.append(f"{_percent(most)} ({most['algorithms']})")
        lines.append((test, values, *cells))
    columns = ("test", "scores", *(f"{items} items" for items in ITEMS))
    title = "Families with a false difference, %: the most of 2 to 6 algorithms (how many), at alpha = 5 %"
    return Sheet(title, columns, lines)


def _coverage(rows: Sequence[Row]) -> Sheet:
    lines = []
    for test, values in _named(rows, "coverage"):
        those = {row["items"]: row for row in rows if _is(row, "coverage", test, values)}
        lines.append((test, values, *(_percent(those[items]) for items in ITEMS)))
    columns = ("test", "scores", *(f"{items} items" for items in ITEMS))
    return Sheet("95 % intervals that hold the true difference of two algorithms, %", columns, lines)


def _powers(rows: Sequence[Row]) -> Sheet:
    lines = [
        (row["test"], str(row["algorithms"]), str(row["items"]), _percent(row))
        for row in rows
        if row["table"] == "power"
    ]
    columns = ("test", "algorithms", "items an algorithm", "found, %")
    return Sheet("Differences of half a deviation found with the items that report.power(…, 0.8) says", columns, lines)


def _others(rows: Sequence[Row]) -> Sheet:
    said = {
        "equivalence": "equivalence of what differs by the end of the rope",
        "folds": "a false difference by cross-validation",
        "looks": f"a false difference at any of {LOOKS} looks",
    }
    lines = [
        (said[row["table"]], row["test"], row["values"], str(row["items"]), str(row["algorithms"]), _percent(row))
        for row in rows
        if row["table"] in said
    ]
    return Sheet("Other errors, % (at most 5)", ("error", "test", "scores", "items", "algorithms", "%"), lines)


def _saved(rows: Sequence[Row]) -> Sheet:
    lines = [
        (row["test"], _percent(row), f"{row['median']:g}", str(row["fixed"]), f"{100 * row['saved']:.0f}")
        for row in rows
        if row["table"] == "saved"
    ]
    columns = ("difference", "decided, %", "median items until then", "items of a t test with power 0.8", "saved, %")
    return Sheet(f"sequential=True: two algorithms, at most {LOOKS} items", columns, lines)


def _named(rows: Sequence[Row], table: str) -> list[tuple[str, str]]:
    return list(dict.fromkeys((row["test"], row["values"]) for row in rows if row["table"] == table))


def _is(row: Row, table: str, test: str, values: str) -> bool:
    return (row["table"], row["test"], row["values"]) == (table, test, values)

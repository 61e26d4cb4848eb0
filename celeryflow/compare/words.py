"""What a comparison comes to, in one paragraph; and what has to be said before anybody relies on it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from celeryflow.compare.analysis import Analysis
from celeryflow.compare.verdicts import BETTER, EQUIVALENT, WORSE, Judged


def recommendation(analysis: Analysis) -> str:
    """Who to take and why, with the numbers; or why nobody."""
    asked = analysis.question
    judged = analysis.judged(asked.primary)
    if analysis.winner is not None:
        first = f"Use {analysis.winner}: on {asked.primary} it is better than {_others(analysis, analysis.winner)}."
        shown = [pair for pair in judged if analysis.winner in (pair.a, pair.b)]
    else:
        first, shown = _no_winner(analysis, judged), judged
    said = [first, *(_pair(analysis, pair) for pair in shown[:6])]
    if len(shown) > 6:
        said.append(f"{len(shown) - 6} more pairs are in pairwise().")
    return " ".join([*said, *_saved(analysis), *cautions(analysis)])


def _saved(analysis: Analysis) -> list[str]:
    """What a sequential comparison did not have to run."""
    if not analysis.question.is_sequential:
        return []
    (items, algorithms), ran = analysis.results.size, len(analysis.results.planned)
    saved = items * algorithms * analysis.question.repeats - ran
    return [f"It looked after every item, and saved {saved} of {ran + saved} trials."]


def cautions(analysis: Analysis) -> list[str]:
    """What a reader must know of the numbers: failures, few items, tests that could not reject."""
    return [*_failures(analysis), *_notes(analysis)]


def _others(analysis: Analysis, name: str) -> str:
    others = [other for other in analysis.question.algorithms if other != name]
    return others[0] if len(others) == 1 else f"each of {', '.join(others)}"


def _no_winner(analysis: Analysis, judged: list[Judged]) -> str:
    asked = analysis.question
    if analysis.leader is not None:
        rate = analysis.failure_rates[analysis.leader]
        return (
            f"No recommendation: {analysis.leader} is better than every other on {asked.primary} where it has scores, "
            f"but {rate:.0%} of its trials failed (max_failure_rate={asked.max_failure_rate:g}), and with the worst "
            "score for each failure it does not win."
        )
    if all(pair.verdict == EQUIVALENT for pair in judged):
        return (
            f"No winner on {asked.primary}: {_listed(asked.algorithms)} are equivalent within the rope. "
            "Take the cheapest or simplest."
        )
    losers = {pair.a if pair.verdict == WORSE else pair.b for pair in judged if pair.verdict in (BETTER, WORSE)}
    left = [name for name in asked.algorithms if name not in losers]
    beaten = f" {_listed(sorted(losers))} can be left out." if losers else ""
    return (
        f"No winner on {asked.primary}: {_listed(left or asked.algorithms)} are not told apart by these data.{beaten}"
    )


def _pair(analysis: Analysis, pair: Judged) -> str:
    asked, test = analysis.question, pair.contrast
    level = 1.0 - asked.alpha / len(analysis.judged(asked.primary))
    verdict = {BETTER: "better than", WORSE: "worse than", EQUIVALENT: "equivalent to"}.get(
        pair.verdict, "not told apart from"
    )
    p = f"p = {pair.p_adjusted:.2g}"
    if pair.verdict == EQUIVALENT:
        p = f"equivalence p = {pair.p_equivalent:.2g}"
    number = "pairs" if asked.design == "paired" else "values"
    # An end that its own test rejects is left out by the least that a float can: of zero that is nothing to read.
    low, high = (0.0 if abs(end) < 1e-320 else end for end in pair.interval)
    return (
        f"{pair.a} is {verdict} {pair.b}: {test.estimand} difference {test.difference:.4g} "
        f"[{low:.4g}, {high:.4g}] ({level:.4g} interval), {p} ({test.test}, {test.n} {number})."
    )


def _failures(analysis: Analysis) -> Iterator[str]:
    whose, failed = analysis.results.algorithms, analysis.results.is_failed
    for at, name in enumerate(analysis.question.algorithms):
        count, total = int(np.sum(failed[whose == at])), int(np.sum(whose == at))
        if count:
            yield f"{name} failed in {count} of {total} trials."


def _notes(analysis: Analysis) -> Iterator[str]:
    """Notes of the primary metric's tests, each once."""
    asked, notes = analysis.question, dict[str, list[str]]()
    judged = analysis.judged(asked.primary)
    alpha = asked.alpha / len(judged)
    for pair in judged:
        for note in pair.contrast.notes:
            notes.setdefault(
                f"the {pair.contrast.test} test {note}" if note.startswith("assumes") else note, []
            ).append(f"{pair.a} and {pair.b}")
        if pair.contrast.smallest_p > alpha:
            least = pair.contrast.smallest_p
            note = f"so few data can give no p value below {least:.3g}, and the adjusted alpha is {alpha:.3g}"
            notes.setdefault(note, []).append(f"{pair.a} and {pair.b}")
    for note, those in notes.items():
        where = "" if len(those) == len(judged) else f" ({'; '.join(those)})"
        yield f"Note: {note}{where}."


def _listed(names: object) -> str:
    found = list(names)  # type: ignore[call-overload]
    return " and ".join(found) if len(found) < 3 else f"{', '.join(found[:-1])} and {found[-1]}"

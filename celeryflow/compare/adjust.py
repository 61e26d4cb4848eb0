"""p values of a family of hypotheses, adjusted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from celeryflow.compare.contrast import Floats

CORRECTIONS = ("holm", "bh")


def adjusted(p_values: Sequence[float], correction: str) -> Floats:
    """Adjusted p values, in the order given: a hypothesis is rejected where its own is at most alpha.

    Parameters
    ----------
    p_values : sequence of float, shape (m,)
        Of one family, in [0, 1].
    correction : {"holm", "bh", "bonferroni"}
        What is kept at alpha: the chance of any false rejection (Holm, 1979, "A simple sequentially rejective multiple
        test procedure"), or the expected share of false ones among the rejections (Benjamini and Hochberg, 1995).
        Bonferroni's is for looks again and again, where the other p values of the family are of other moments.

    Examples
    --------
    >>> adjusted([0.01, 0.04, 0.03], "holm").round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    given = np.asarray(p_values, dtype=np.float64)
    if not len(given):
        return given
    if correction == "bh":
        from scipy import stats

        return np.asarray(stats.false_discovery_control(given, method="bh"), dtype=np.float64)
    if correction == "bonferroni":
        return np.asarray(np.minimum(len(given) * given, 1.0), dtype=np.float64)
    order = np.argsort(given, kind="stable")
    stepped = np.maximum.accumulate((len(given) - np.arange(len(given))) * given[order])
    found = np.empty_like(given)
    found[order] = np.minimum(stepped, 1.0)
    return found

"""Estimators compared by cross-validation: the folds, and one fit and prediction on a fold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from celeryflow.errors import ComparisonError, MissingExtraError

Indices = npt.NDArray[np.int64]


class Fold(NamedTuple):
    """Positions of the rows that are trained on, and of those that are predicted."""

    train: Indices
    test: Indices


class Fitting:
    """An estimator as an algorithm: a clone of it is fitted to a fold's training rows and predicts its test rows."""

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    def __call__(self, rows: tuple[Any, Any, Any]) -> Any:
        """Predictions, shape (test rows, …), from training rows, their targets and the test rows."""
        from sklearn.base import clone

        x_train, y_train, x_test = rows
        return clone(self.estimator).fit(x_train, y_train).predict(x_test)


def cut(fold: Fold, table: tuple[Any, Any]) -> tuple[tuple[Any, Any, Any], Any]:
    """What `Fitting` gets of a fold of ``(X, y)``, and the truth of what it is to predict."""
    x, y = table
    return (_rows(x, fold.train), _rows(y, fold.train), _rows(x, fold.test)), _rows(y, fold.test)


def read_table(data: Any) -> tuple[Any, Any]:
    """``(X, y)`` whose rows can be picked.

    Raises
    ------
    ComparisonError
        If `data` is no such pair, is empty, or its parts have different lengths.
    """
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise ComparisonError(f"data= takes (X, y) where there is a cv=, not {type(data).__name__}.")
    x, y = (part if hasattr(part, "shape") else np.asarray(part) for part in data)
    if x.shape[0] != y.shape[0]:
        raise ComparisonError(f"data= has {x.shape[0]} rows in X and {y.shape[0]} targets in y.")
    if not x.shape[0]:
        raise ComparisonError("data= is empty. Cross-validation needs rows.")
    return x, y


def folds(cv: Any, table: tuple[Any, Any], estimators: Sequence[Any], seed: int) -> list[Fold]:
    """The folds of a splitter, or of a number of them, shuffled by `seed` (stratified for classifiers).

    Raises
    ------
    ComparisonError
        If `cv` is no number of folds and no splitter, or does not fit the data.
    MissingExtraError
        If scikit-learn is not installed.
    """
    try:
        from sklearn.base import is_classifier
        from sklearn.model_selection import KFold, StratifiedKFold
    except ImportError as error:
        raise MissingExtraError(
            "cv= clones and splits with scikit-learn, which is not installed. Run: pip install scikit-learn"
        ) from error
    if isinstance(cv, bool) or not (isinstance(cv, int) or hasattr(cv, "get_n_splits")):
        raise ComparisonError(f"cv= takes a number of folds or a splitter of scikit-learn, not {cv!r:.80}.")
    try:
        if isinstance(cv, int):
            kind = StratifiedKFold if all(map(is_classifier, estimators)) else KFold
            cv = kind(cv, shuffle=True, random_state=seed)
        found = [Fold(np.asarray(train), np.asarray(test)) for train, test in cv.split(*table)]
    except ValueError as error:
        raise ComparisonError(f"cv= does not fit the data: {error}") from error
    if len(found) < 2:
        raise ComparisonError(f"cv= gives {len(found)} fold; at least 2 are needed.")
    return found


def check_estimators(algorithms: Sequence[tuple[str, Any]]) -> None:
    """See that all can be fitted and predict."""
    for name, estimator in algorithms:
        if isinstance(estimator, type) or not (hasattr(estimator, "fit") and hasattr(estimator, "predict")):
            raise ComparisonError(
                f"algorithms= has {name!r}, which is no estimator; with cv= each has fit and predict, as Ridge() has."
            )


def test_over_train(found: Sequence[Fold]) -> float:
    """Rows of a test fold for each row that is trained on, on average."""
    return float(np.mean([len(fold.test) / len(fold.train) for fold in found]))


def _rows(table: Any, at: Indices) -> Any:
    return table.iloc[at] if hasattr(table, "iloc") else table[at]

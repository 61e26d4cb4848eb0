"""Decoders under arbitrary bytes and words: a value or an error by name, and never anything else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fuzzing
import pytest

EXAMPLES = 300


@pytest.mark.slow_fault
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("target", fuzzing.TARGETS, ids=lambda target: target.__name__)
def test_decoders_give_a_value_or_an_error_by_name(target: Callable[[int], Any]) -> None:
    target(EXAMPLES)

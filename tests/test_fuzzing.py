"""A little of what ``run.py faults`` does at length: decoders under arbitrary bytes and words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fuzzing
import pytest


@pytest.mark.parametrize("target", fuzzing.TARGETS, ids=lambda target: target.__name__)
def test_decoders_give_a_value_or_an_error_by_name(target: Callable[[int], Any]) -> None:
    target(40)

"""What all patterns have in common: they say when to take them, and their examples are true."""

from __future__ import annotations

import doctest
import inspect
import re
import sys
from pathlib import Path

import documents
import pytest
from conftest import Notebook

import celeryflow as cf

PAGE = documents.ROOT / "docs" / "patterns.md"
PATTERNS = [name for name in cf.patterns.__all__ if inspect.isfunction(getattr(cf.patterns, name))]


@pytest.mark.parametrize("name", PATTERNS)
def test_each_opens_with_a_drawing_and_when_not_to_take_it_and_its_examples_are_true(name: str) -> None:
    module = sys.modules[getattr(cf.patterns, name).__module__]

    assert "\n::\n" in (module.__doc__ or "")
    assert re.search(r"^(\*\*)?When not", module.__doc__ or "", re.MULTILINE)
    found = doctest.testmod(module)
    assert found.attempted
    assert not found.failed


def test_the_examples_of_the_page_are_true(runtime: object, notebook: Notebook, tmp_path: Path) -> None:
    source = documents.script(PAGE, tmp_path)

    notebook.cell(source.replace("cf.shutdown()", ""))

    assert source.count("\nassert ") >= 12

"""The summary of a comparison below its run, in JupyterLab: so far, and at the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Locator, expect

from .pages import Notebook

CELL = """
def fast(item):
    wait_for(GATE if item == 29 else "")
    return item


def slow(item):
    return item + 2


def distance(output, item):
    return abs(output - item) + 0.01 * (item % 7)


report = cf.compare({"fast": fast, "slow <b>one</b>": slow}, list(range(30)), metrics=distance,
                    lower_is_better=["distance"], wait=False)
report
"""


def test_the_summary_of_a_comparison_fills_in_and_ends_with_a_verdict(
    notebook: Notebook, screenshot: Callable[[Locator, str], Path]
) -> None:
    gate = notebook.gate()
    cell = notebook.run(f"GATE = {gate!r}\n{CELL}")
    card = cell.output.locator("section.cf-card")

    expect(card).to_have_count(1)
    expect(card).to_contain_text("so far")
    expect(card.get_by_role("row", name="fast")).to_contain_text("0.0")
    expect(card).not_to_contain_text("is better than")

    notebook.open_gate(gate)
    expect(card).not_to_contain_text("so far")
    expect(card).to_contain_text("fast is better than slow <b>one</b>")
    expect(card.locator("tr.cf-best")).to_contain_text("fast")
    expect(card).to_have_count(1)
    expect(cell.output.locator("script")).to_have_count(0)
    screenshot(card, "comparison-card")

"""What is shown can be read: contrasts of WCAG level AA, worked out from the style sheets, in light and dark themes."""

from __future__ import annotations

import re
from itertools import product

import pytest

from celeryflow.view import svg
from celeryflow.view.html import style

TEXT, GRAPHIC = 4.5, 3.0
"""Least contrast of text, and of what shows a state without words."""

Colour = tuple[float, float, float]

JUPYTERLAB = {
    "light": {
        "--jp-layout-color1": "#ffffff", "--jp-layout-color2": "#eeeeee", "--jp-border-color2": "#e0e0e0",
        "--jp-ui-font-color1": "#212121",
    },
    "dark": {
        "--jp-layout-color1": "#212121", "--jp-layout-color2": "#424242", "--jp-border-color2": "#424242",
        "--jp-ui-font-color1": "#e2e2e2",
    },
}  # fmt: skip
"""What JupyterLab 4's own themes say; of their text (white or black at 87 %) the palest that comes of it."""


def channel(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def colour(code: str) -> Colour:
    digits = code.removeprefix("#")
    digits = "".join(c * 2 for c in digits) if len(digits) == 3 else digits
    red, green, blue = (int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4))
    return red, green, blue


def luminance(code: str) -> float:
    red, green, blue = map(channel, colour(code))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def palette(theme: str, is_jupyter: bool) -> dict[str, str]:
    """The page's colours by name, within JupyterLab's theme or with their fallbacks."""
    light, dark, _ = re.findall(r"\{[^{}]*--cf-bg:[^{}]*\}", style())
    found = {}
    for name, jupyter, code in re.findall(
        r"--cf-([a-z0-9-]+): (?:var\((--jp-[a-z0-9-]+), )?(#[0-9a-f]+)\)?;", light if theme == "light" else dark
    ):
        found[name] = JUPYTERLAB[theme][jupyter] if is_jupyter and jupyter else code
    return found


def test_contrast_is_as_wcag_has_it() -> None:
    assert contrast("#000", "#fff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("is_jupyter", [False, True])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_pages_text_can_be_read_in_every_theme(theme: str, is_jupyter: bool) -> None:
    found = palette(theme, is_jupyter)
    assert len(found) == 13, "a colour is not written as this test reads it"
    pairs = [
        *product(("fg", "dim", "bad"), ("bg", "bg2")),
        *((state, "bg") for state in ("ok", "run", "retry")),
        *((state, f"{state}-bg") for state in ("ok", "run", "retry", "bad")),
        ("fg", "line"),
    ]
    low = {pair: contrast(found[pair[0]], found[pair[1]]) for pair in pairs}
    assert {pair: ratio for pair, ratio in low.items() if ratio < TEXT} == {}
    assert min(contrast(found[state], found["line"]) for state in ("ok", "run", "bad")) >= GRAPHIC, (
        "bars on their track"
    )


def rules(sheet: str) -> dict[str, dict[str, str]]:
    """Declarations by selector."""
    found: dict[str, dict[str, str]] = {}
    for selectors, body in re.findall(r"([^{}]+)\{([^{}]*)\}", sheet):
        for selector in selectors.split(","):
            found.setdefault(selector.strip(), {}).update(re.findall(r"([a-z-]+): ([^;]+);", body))
    return found


STATES = ("pending", "ready", "running", "retrying", "success", "failure", "skipped", "cancelled")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_pictures_text_can_be_read_in_every_state(theme: str) -> None:
    sheet = re.sub(r"/\*.*?\*/", "", svg.style(), flags=re.DOTALL)
    light, dark = sheet.split("@media (prefers-color-scheme: dark) {")
    found = rules(light)
    if theme == "dark":
        for selector, body in rules(dark.rstrip().removesuffix("}")).items():
            found.setdefault(selector, {}).update(body)

    def of(state: str, part: str, what: str = "fill") -> str:
        return found.get(f".cf-dag .{state} .{part}", {}).get(what) or found[f".cf-dag .{part}"][what]

    grounds = ("#ffffff", "#f6f7f9", "#eeeeee") if theme == "light" else ("#14181f", "#212121")
    for state in STATES:
        inside = of(state, "box")
        for part in ("label", "note", "glyph"):
            assert contrast(of(state, part), inside) >= TEXT, (state, part)
        if state in ("running", "retrying", "success", "failure"):
            assert min(contrast(of(state, "box", "stroke"), ground) for ground in grounds) >= GRAPHIC, state
    assert min(contrast(found[".cf-dag .phase-name"]["fill"], ground) for ground in grounds) >= TEXT


def test_colour_is_never_the_only_sign() -> None:
    from celeryflow.graph.states import State
    from celeryflow.view.words import GLYPHS

    ended = [GLYPHS[state] for state in State if state.is_terminal]
    assert set(GLYPHS) == set(State)
    assert len({*ended, GLYPHS[State.RUNNING], GLYPHS[State.RETRYING], GLYPHS[State.PENDING]}) >= 6

"""``report.plot()``: what the charts show, without a network, and with names that are nobody's tags."""

import json
import sys
from typing import Any

import numpy as np
import pytest

import celeryflow as cf
from celeryflow.compare.charts.pareto import optimum, placed
from celeryflow.compare.charts.ranks import cliques
from celeryflow.view.offline import SCHEMA, VEGA

ITEMS = [float(x) for x in np.random.default_rng(0).normal(10.0, 1.0, 12)]


def report(names: tuple[str, ...], **options: Any) -> Any:
    algorithms = {name: lambda x, by=at: x + by + 0.1 * np.sin(9 * x + by) for at, name in enumerate(names)}
    return cf.compare(algorithms, ITEMS, {"score": lambda output, x: output}, inline=True, **options)


@pytest.fixture(scope="module")
def many() -> dict[str, Any]:
    """Charts of twelve algorithms, two of them with long names that begin alike."""
    names = tuple(f"algorithm {at}" for at in range(10))
    alike = ("gradient boosted trees that are shallow", "gradient boosted trees that are deep")
    return drawn(report((*names, *alike), rope=50.0))


def drawn(found: Any) -> dict[str, Any]:
    """The charts of a report or sweep, each with its data in it."""
    chart: dict[str, Any] = found.plot().to_dict()
    sets = chart.pop("datasets", {})

    def filled(part: Any) -> Any:
        if isinstance(part, list):
            return [filled(each) for each in part]
        if not isinstance(part, dict):
            return part
        if set(part) == {"name"} and part["name"] in sets:
            return {"values": sets[part["name"]]}
        return {name: filled(each) for name, each in part.items()}

    return filled(chart)  # type: ignore[no-any-return]


def rows(chart: dict[str, Any], field: str) -> list[dict[str, Any]]:
    """The rows of a chart's data that have this field, each once."""
    data = [part.get("data", {}).get("values", []) for part in (chart, *chart.get("layer", []))]
    return list({json.dumps(row): row for values in data for row in values if field in row}.values())


def domain(chart: dict[str, Any], axis: str) -> list[float]:
    return next(layer["encoding"][axis]["scale"]["domain"] for layer in chart["layer"] if axis in layer["encoding"])


def test_charts_show_differences_distributions_latency_and_ranks() -> None:
    two, three = (drawn(report(names, rope=0.1)) for names in (("a", "b"), ("a", "b", "c")))
    titles = [[chart["title"]["text"] for chart in each["vconcat"]] for each in (two, three)]
    assert titles[0] == ["Differences, first \N{MINUS SIGN} second", "Every item", "Latency against score"]
    assert titles[1] == [*titles[0], "Average ranks"]
    text = json.dumps(three, ensure_ascii=False)
    for shown in ("simultaneous 95 % intervals", "median latency of a call in", "critical difference", "better"):
        assert shown in text


def test_a_difference_is_drawn_with_its_whole_region_of_equivalence() -> None:
    chart = drawn(report(("a", "b"), rope=3.0))["vconcat"][0]
    low, high = domain(chart, "x")
    assert low < -3.0 and high > 3.0
    assert [(row["from"], row["to"]) for row in rows(chart, "from")] == [(-3.0, 3.0)]
    [row] = rows(chart, "verdict")
    assert row["verdict"] == "equivalent"


def test_a_region_that_dwarfs_the_differences_is_cut_and_its_ends_are_said(many: dict[str, Any]) -> None:
    chart = many["vconcat"][0]
    assert domain(chart, "x")[1] < 50.0
    assert "\N{MINUS SIGN}50 to 50" in chart["title"]["subtitle"]


def test_of_many_pairs_those_with_the_best_are_drawn(many: dict[str, Any]) -> None:
    pairs = rows(many["vconcat"][0], "verdict")
    assert len(pairs) == 11
    assert all("…that are deep" in row["pair"] for row in pairs)
    assert "11 of 66 pairs" in many["vconcat"][0]["title"]["subtitle"]


def test_long_names_stay_apart(many: dict[str, Any]) -> None:
    shown = {row["algorithm"] for row in rows(many["vconcat"][1], "median")}
    assert len(shown) == 12
    assert max(map(len, shown)) <= 36


def test_no_name_lies_on_another_or_on_a_point() -> None:
    points = [(5.0, 100.0), (60.0, 100.0), (64.0, 104.0), (555.0, 100.0), (300.0, 5.0), (300.0, 5.0)]
    sides = placed(points, ["edge", "one", "another", "the other edge", "on top", "of each other"], "above")
    assert sides == ["right", "above", "right", "left", "below", ""]


def test_what_is_not_known_is_said_and_not_drawn() -> None:
    def fails(x: float) -> float:
        raise ValueError

    metrics = {"score": lambda output, x: output}
    with pytest.warns(cf.ComparisonWarning):
        found = cf.compare({"a": fails, "b": fails}, ITEMS, metrics, inline=True)
    [chart] = drawn(found)["vconcat"]
    [row] = rows(chart, "verdict")
    assert row["unknown"] == "nothing is known: no item has scores of both"
    assert row["low"] is row["high"] is row["middle"] is None


def test_an_endless_interval_goes_from_edge_to_edge() -> None:
    functions, metrics = {"a": lambda x: x, "b": lambda x: x + 1}, {"score": lambda output, x: output}
    with pytest.warns(cf.ComparisonWarning):
        found = cf.compare(functions, [1.0], metrics, inline=True)
    chart = drawn(found)["vconcat"][0]
    [row] = rows(chart, "verdict")
    assert [row["low"], row["high"]] == pytest.approx(domain(chart, "x"))
    assert row["interval"] == "\N{MINUS SIGN}∞ to ∞"


def test_charts_leave_the_ground_to_the_page() -> None:
    """Light or dark: text in a chart goes by the background, and that is the theme's."""
    chart = drawn(report(("a", "b", "c")))
    assert "background" not in chart
    texts = [layer["mark"] for each in chart["vconcat"] for layer in each["layer"] if layer["mark"]["type"] == "text"]
    assert len(texts) > 5
    assert all("luminance(background)" in mark["color"]["expr"] for mark in texts)


# --- sweeps -----------------------------------------------------------------------------------------


def swept(params: dict[str, Any], **options: Any) -> Any:
    def tried(x: float, alpha: float = 1.0, depth: int = 3, kernel: str = "rbf") -> float:
        return x + abs(np.log10(alpha)) + abs(depth - 3) + len(kernel)

    metrics = {"loss": lambda output, x: output}
    return cf.sweep(tried, ITEMS, params, metrics, lower_is_better=["loss"], inline=True, **options)


ALPHA, DEPTH, KERNEL = {"alpha": [0.01, 0.1, 1.0, 10.0]}, {"depth": [2, 3, 4]}, {"kernel": ["rbf", "linear"]}


def test_a_sweep_of_one_parameter_is_drawn_with_its_best_and_what_was_held_out() -> None:
    chart = drawn(swept(ALPHA, holdout=[20.0, 21.0]))
    [panels] = chart["vconcat"]
    [panel] = panels["concat"]
    marks = {layer["mark"].get("shape"): layer["data"]["values"] for layer in panel["layer"]}
    assert [row["setting"] for row in marks["diamond"]] == ["alpha=1"]
    assert [row["mean"] for row in marks["square"]] == ["23.5"]
    assert panel["layer"][0]["encoding"]["x"]["scale"]["type"] == "log"
    assert "square: the same on the items held out, 23.5" in chart["title"]["subtitle"]


def test_a_sweep_of_two_parameters_has_a_heat_map_of_its_grid() -> None:
    chart = drawn(swept(ALPHA | DEPTH))
    panels, heat = chart["vconcat"]
    assert len(panels["concat"]) == 2
    assert heat["layer"][0]["mark"]["type"] == "rect"
    assert len(heat["layer"][0]["data"]["values"]) == 12
    [best] = heat["layer"][-1]["data"]["values"]
    assert (best["x"], best["y"]) == ("1", "3")
    assert "optimistic" in chart["title"]["subtitle"]


def test_settings_at_random_are_points() -> None:
    heat = drawn(swept(ALPHA | DEPTH, n_samples=7))["vconcat"][1]
    assert [layer["mark"]["type"] for layer in heat["layer"]] == ["point", "point"]


def test_a_sweep_of_more_parameters_has_a_line_a_setting() -> None:
    chart = drawn(swept(ALPHA | DEPTH | KERNEL))
    panels, lines = chart["vconcat"]
    assert len(panels["concat"]) == 3
    assert len({row["line"] for row in rows(lines, "line")}) == 24
    assert [row["axis"] for row in lines["layer"][1]["data"]["values"]] == ["alpha", "depth", "kernel", "loss"]


def test_a_sweep_without_any_score_is_drawn_too() -> None:
    def fails(x: float, alpha: float) -> float:
        raise ValueError

    found = cf.sweep(fails, ITEMS, ALPHA, {"loss": lambda output, x: output}, inline=True)
    assert "no setting without a failure" in drawn(found)["title"]["subtitle"]


# --- anywhere ---------------------------------------------------------------------------------------


def test_a_notebook_draws_the_charts_without_a_network() -> None:
    bundle, _ = report(("a", "b")).plot()._repr_mimebundle_()
    assert bundle[VEGA]["$schema"] == SCHEMA
    assert "score of a, b" in bundle["text/plain"]


def test_names_are_inert_in_a_page() -> None:
    assert "<" not in json.dumps(drawn(report(("</script><b>", "b"))))


def test_without_altair_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "altair", None)
    with pytest.raises(cf.MissingExtraError, match="plot"):
        report(("a", "b")).plot()


def test_the_front_is_what_nobody_beats_in_time_and_quality() -> None:
    latency, quality = np.array([1.0, 2.0, 3.0, 1.5, np.nan]), np.array([1.0, 3.0, 2.0, 0.5, 9.0])
    assert optimum(latency, quality) == [0, 1]


def test_cliques_are_the_longest_runs_within_the_distance() -> None:
    assert cliques([1.0, 1.5, 2.6, 3.0], 1.2) == [(0, 1), (1, 2), (2, 3)]
    assert cliques([1.0, 3.0], 1.0) == []

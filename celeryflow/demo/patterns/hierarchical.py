"""A fleet, its manufacturers, their models: seats counted from the leaves to the root."""

from __future__ import annotations

from typing import Any

import pandas as pd

import celeryflow as cf
from celeryflow.demo import tables

Node = tuple[str, ...]
"""Nothing for the fleet; a manufacturer; a manufacturer and a model."""

LARGE = 100
"""Planes of a manufacturer that is looked at."""


def planes(node: Node) -> pd.DataFrame:
    """Those of a node."""
    table = pd.read_csv(tables.published("planes"))
    for column, value in zip(("manufacturer", "model"), node, strict=False):
        table = table[table[column] == value]
    return table


def children(node: Node) -> list[Node]:
    """The manufacturers of the fleet, or the models of a manufacturer."""
    if len(node) == 2:
        return []
    counts = planes(node)["manufacturer" if not node else "model"].value_counts()
    return [(*node, name) for name in sorted(counts[counts >= LARGE].index if not node else counts.index)]


def leaf(node: Node) -> dict[str, Any]:
    """A model."""
    found = planes(node)
    return {"name": node[-1], "planes": len(found), "seats": int(found["seats"].sum())}


def aggregate(node: Node, values: list[dict[str, Any]]) -> dict[str, Any]:
    """A manufacturer, or the fleet."""
    sums = {key: sum(value[key] for value in values) for key in ("planes", "seats")}
    return {"name": node[-1] if node else "fleet", **sums, "parts": values}


def submit() -> cf.Run[Any]:
    """Start it."""
    return cf.patterns.hierarchical(children=children, leaf=leaf, aggregate=aggregate).submit(())


def told(result: dict[str, Any]) -> str:
    """A row a manufacturer, and the fleet."""
    rows = [{"models": len(part["parts"]), **part} for part in result["parts"]]
    fleet = {**result, "models": sum(row["models"] for row in rows)}
    return pd.DataFrame([*rows, fleet])[["name", "models", "planes", "seats"]].to_string(index=False)

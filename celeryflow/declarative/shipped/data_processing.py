"""Steps of ``data_processing``: a table is validated, cleaned, transformed, analysed, reported and told of."""

from __future__ import annotations

from typing import Any

import pandas as pd

from celeryflow.declarative.shipped.tables import groups, numbers, table_of
from celeryflow.engine.context import current
from celeryflow.errors import ArgumentError
from celeryflow.step import step


@step
def validate(input: Any = None) -> dict[str, Any]:  # noqa: A002 - what the engine calls it
    """The table, and what is wrong with it; one without rows is refused."""
    table = table_of(input)
    if table.empty:
        raise ArgumentError("the input has no rows: there is nothing to process.")
    hashable = table[[name for name in table if not table[name].map(lambda v: isinstance(v, (list, dict, set))).any()]]
    found = {
        "rows": len(table),
        "columns": [str(name) for name in table.columns],
        "missing": int(table.isna().sum().sum()),
        "duplicates": int(hashable.duplicated().sum()),
        "negative": int((numbers(table) < 0).sum().sum()),
    }
    return {"table": table, **found}


@step
def clean(validate: dict[str, Any]) -> pd.DataFrame:
    """Rows once each, text trimmed, missing numbers as the median of their column, counts below zero dropped."""
    table: pd.DataFrame = validate["table"].copy()
    for name in table.columns:
        if table[name].map(lambda value: isinstance(value, str)).any():
            table[name] = table[name].map(lambda value: value.strip() if isinstance(value, str) else value)
        if table[name].map(lambda value: isinstance(value, (list, dict, set))).any():
            table[name] = table[name].map(repr)
    table = table.drop_duplicates(ignore_index=True)
    if "quantity" in table:
        table = table[~(table["quantity"] < 0)].reset_index(drop=True)
    measured = numbers(table)
    return table.fillna({name: measured[name].median() for name in measured if measured[name].notna().any()})


@step
def transform(clean: pd.DataFrame) -> pd.DataFrame:
    """The table with the revenue of orders, and how far each number is from its mean, in standard deviations."""
    table = clean.copy()
    if {"quantity", "price"} <= {*table.columns}:
        table["revenue"] = table["quantity"] * table["price"]
    measured = numbers(table)
    spread = measured.std(ddof=0)
    scores = (measured - measured.mean()) / spread.where(spread > 0)
    return table.join(scores.fillna(0.0).add_suffix("_z"))


@step
def analyse(transform: pd.DataFrame) -> dict[str, Any]:
    """What the columns are like, what goes with what, by which groups they differ, and which rows stand out."""
    measured = numbers(transform)
    plain = measured[[name for name in measured if not str(name).endswith("_z")]]
    scores = measured[[name for name in measured if str(name).endswith("_z")]]
    return {
        "summary": plain.describe() if len(plain.columns) else pd.DataFrame(),
        "correlations": plain.corr(),
        "groups": {name: plain.groupby(transform[name]).mean() for name in groups(transform)},
        "outliers": int((scores.abs() > 3).any(axis=1).sum()),
    }


@step
def report(validate: dict[str, Any], clean: pd.DataFrame, analyse: dict[str, Any], title: str = "Report") -> str:
    """A page of Markdown."""
    counted = f"{validate['rows']} rows of {len(validate['columns'])} columns, {len(clean)} of them kept"
    trouble = ", ".join(f"{validate[what]} {what}" for what in ("duplicates", "missing", "negative"))
    lines = [
        f"# {title}",
        "",
        f"{counted}: {trouble}.",
        f"{analyse['outliers']} rows have a number more than three standard deviations from its mean.",
        "",
    ]
    means = analyse["summary"].loc["mean"] if len(analyse["summary"]) else pd.Series(dtype=float)
    lines += [f"- {name}: {value:.2f} on average" for name, value in means.items()]
    lines += [f"- by {name}: {', '.join(map(str, found.index))}" for name, found in analyse["groups"].items()]
    return "\n".join(lines) + "\n"


@step
def notify(report: str, recipients: list[str]) -> dict[str, Any]:
    """The message, which is also in the log of the run."""
    title, body = report.splitlines()[0].lstrip("# "), report.splitlines()[2]
    message = {"to": recipients, "subject": f"{title} is done", "body": body}
    current().log(f"to {', '.join(recipients)}: {message['subject']}. {body}")
    return message

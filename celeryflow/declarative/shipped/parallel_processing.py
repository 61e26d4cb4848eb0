"""Steps of ``parallel_processing``: a shop's orders, customers and products, prepared and analysed side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from celeryflow.declarative.shipped.tables import PRODUCTS, REGIONS, options, orders
from celeryflow.step import step


@step
def initialise(input: Any = None) -> dict[str, int]:  # noqa: A002 - what the engine calls it
    """How many orders to make up, and from which seed."""
    return {"rows": 500, "seed": 7, **options(input)}


@step
def prepare_orders(initialise: dict[str, int]) -> pd.DataFrame:
    """Orders that can be counted: each once, with a price and a quantity."""
    table = orders(**initialise).drop_duplicates("order")
    return table[(table["quantity"] > 0) & table["price"].notna()].reset_index(drop=True)


@step
def prepare_customers(initialise: dict[str, int]) -> pd.DataFrame:
    """The customers, where they live and since when they are."""
    count = max(2, initialise["rows"] // 5)
    rng = np.random.default_rng(initialise["seed"] + 1)
    since = pd.Timestamp("2025-01-01") + pd.to_timedelta(rng.integers(0, 365, count), unit="D")
    home = np.array(REGIONS)[rng.integers(0, len(REGIONS), count)]
    return pd.DataFrame({"customer": np.arange(1, count + 1), "home": home, "since": since})


@step
def prepare_products(initialise: dict[str, int]) -> pd.DataFrame:
    """The products, with what they cost this quarter."""
    rng = np.random.default_rng(initialise["seed"] + 2)
    return PRODUCTS.assign(unit_cost=np.round(PRODUCTS["unit_cost"] * rng.uniform(0.95, 1.1, len(PRODUCTS)), 2))


@step
def analyse_products(prepare_orders: pd.DataFrame, prepare_products: pd.DataFrame) -> pd.DataFrame:
    """Revenue, profit and margin of each product."""
    sold = prepare_orders.merge(prepare_products, on="product")
    sold = sold.assign(
        revenue=sold["quantity"] * sold["price"], profit=sold["quantity"] * (sold["price"] - sold["unit_cost"])
    )
    found = sold.groupby("product")[["quantity", "revenue", "profit"]].sum()
    return found.assign(margin=found["profit"] / found["revenue"]).sort_values("revenue", ascending=False)


@step
def analyse_customers(prepare_orders: pd.DataFrame, prepare_customers: pd.DataFrame) -> pd.DataFrame:
    """Orders, revenue and the day of the last order of each customer who ordered."""
    bought = prepare_orders.assign(revenue=prepare_orders["quantity"] * prepare_orders["price"])
    found = bought.groupby("customer").agg(orders=("order", "count"), revenue=("revenue", "sum"), last=("day", "max"))
    return found.join(prepare_customers.set_index("customer")).sort_values("revenue", ascending=False)


@step
def integrate(analyse_products: pd.DataFrame, analyse_customers: pd.DataFrame) -> dict[str, Any]:
    """One picture of both."""
    revenue = float(analyse_products["revenue"].sum())
    best = analyse_customers["revenue"].head(max(1, len(analyse_customers) // 10)).sum()
    return {
        "revenue": revenue,
        "profit": float(analyse_products["profit"].sum()),
        "customers": len(analyse_customers),
        "share_of_best_tenth": float(best / revenue) if revenue else 0.0,
        "by_product": analyse_products,
        "by_home": analyse_customers.groupby("home")["revenue"].sum(),
    }


@step
def dashboard(integrate: dict[str, Any]) -> str:
    """The picture as lines of text, with a bar for each product."""
    products = integrate["by_product"]["revenue"]
    most = products.max() if len(products) else 1.0
    lines = [
        f"{integrate['customers']} customers, revenue {integrate['revenue']:,.0f}, profit {integrate['profit']:,.0f}"
    ]
    lines += [f"{name:>8} {'█' * max(1, round(30 * value / most))} {value:,.0f}" for name, value in products.items()]
    return "\n".join(lines)


@step
def alerts(integrate: dict[str, Any], least_margin: float, most_share: float) -> list[str]:
    """What somebody should look at: products with a thin margin, and too much revenue from few customers."""
    margins = integrate["by_product"]["margin"]
    found = [
        f"{name}: a margin of {margin:.0%} is under {least_margin:.0%}"
        for name, margin in margins.items()
        if margin < least_margin
    ]
    share = integrate["share_of_best_tenth"]
    if share > most_share:
        found.append(f"a tenth of the customers brings {share:.0%} of the revenue")
    return found

"""Price features: returns, realised volatility, drawdown."""

from __future__ import annotations

import polars as pl

from oihedge.features import rolling

HOURS_PER_YEAR = 8760
DAY, WEEK = 24, 168


def with_prices(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Add what the spot price says.

    Returns:
        `rows` with log_return, log_return_4h, log_return_24h (log changes that end at ts), volatility and
        volatility_168h (annual, from the hourly returns of a day and a week, about a zero mean), drawdown (share below
        the highest close of a week, 0 at the peak).
    """
    price = pl.col("spot_price").log()
    rows = rows.with_columns(
        (price - price.shift(1)).alias("log_return"),
        (price - price.shift(4)).alias("log_return_4h"),
        (price - price.shift(DAY)).alias("log_return_24h"),
    )
    squared = pl.col("log_return") * pl.col("log_return")
    return rows.with_columns(
        (rolling.mean(squared, DAY) * HOURS_PER_YEAR).sqrt().alias("volatility"),
        (rolling.mean(squared, WEEK) * HOURS_PER_YEAR).sqrt().alias("volatility_168h"),
        (1.0 - pl.col("spot_price") / rolling.highest(pl.col("spot_price"), WEEK)).alias("drawdown"),
    )


def with_basis(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Add `basis`: the log of the perp's price over the spot's."""
    return rows.with_columns((pl.col("perp_price").log() - pl.col("spot_price").log()).alias("basis"))

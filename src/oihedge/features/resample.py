"""Hourly bars from minute bars."""

from __future__ import annotations

import polars as pl

from oihedge.core.tables import OHLCV

MINUTES = 60


def hourly(bars: pl.LazyFrame) -> pl.LazyFrame:
    """Return the hourly bars that whole hours of minute bars make.

    An hour that lacks a minute has no bar: its high, low and volume would be guesses.

    Args:
        bars: rows of `ohlcv` with timeframe 1m, one per key, in any order.

    Returns:
        Rows of `ohlcv` with timeframe 1h; available when the last of their minutes is, `filled` if one of them was.
    """
    series = [name for name in OHLCV.key if name not in ("ts", "timeframe")]
    whole = bars.sort("ts").group_by(*series, "asset", pl.col("ts").dt.truncate("1h"))
    return (
        whole.agg(
            pl.col("open").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").last(),
            pl.col("volume").sum(),
            pl.col("filled").any(),
            pl.col("available_at").max(),
            pl.len().alias("minutes"),
        )
        .filter(pl.col("minutes") == MINUTES)
        .drop("minutes")
        .with_columns(timeframe=pl.lit("1h"))
    )

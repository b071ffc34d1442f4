"""Short gaps of a series, interpolated between the two real rows around them and marked as such.

A filled row is available when the later of the two is: nobody could have drawn the line before. Whoever reads as of an
earlier instant sees the gap. A real row that arrives later is a revision of the filled one.
"""

from __future__ import annotations

import polars as pl

from oihedge.core.tables import OHLCV, Table
from oihedge.quality.measures import TIMEFRAMES_US

_AT = "__at"


def filled_rows(good: pl.DataFrame, spec: Table, step: str, longest: int) -> pl.DataFrame:
    """Return the rows that close gaps of at most `longest` steps.

    Args:
        good: validated rows, one per key, in time the newest known; filled ones among them count as missing.
        spec: ohlcv or open_interest.
        step: the grid, e.g. `1h`; only rows on it are looked at, of bars those of this timeframe.
        longest: how many rows in a row may be missing.

    Returns:
        Rows of `spec` with both stamps (those of the later neighbour) and filled = true. Open interest lies on a
        straight line in coins and in USD; bars join the earlier close to the later open and have no volume.
    """
    if longest < 1 or good.is_empty():
        return good.clear().select(*spec.schema)
    us = TIMEFRAMES_US[step]
    series = [name for name in spec.key if name != "ts"]
    real = good.filter(~pl.col("filled").fill_null(False), pl.col("ts").dt.epoch("us") % us == 0)
    if spec is OHLCV:
        real = real.filter(pl.col("timeframe") == step)
    real = real.select(*spec.schema).sort(*series, "ts")
    before = [pl.col(name).shift(1).over(series).alias(f"_{name}") for name in real.columns if name not in series]
    ends = real.with_columns(before).with_columns(
        missing=(pl.col("ts") - pl.col("_ts")).dt.total_microseconds() // us - 1
    )
    holes = ends.filter(pl.col("missing").is_between(1, longest))
    points = holes.with_columns(pl.int_ranges(1, pl.col("missing") + 1).alias(_AT)).explode(_AT)
    share = pl.col(_AT) / (pl.col("missing") + 1)
    values = _bars() if spec is OHLCV else [_line(name, f"_{name}", name, share) for name in ("oi_base", "oi_usd")]
    when = pl.col("_ts") + pl.duration(microseconds=pl.col(_AT) * us)
    late = [pl.max_horizontal(name, f"_{name}").alias(name) for name in ("available_at", "ingested_at")]
    return points.with_columns(*values, when.alias("ts"), *late, filled=pl.lit(True)).select(
        pl.col(name).cast(dtype) for name, dtype in spec.schema.items()
    )


def _line(name: str, start: str, end: str, share: pl.Expr) -> pl.Expr:
    return (pl.col(start) + (pl.col(end) - pl.col(start)) * share).alias(name)


def _bars() -> list[pl.Expr]:
    """Cut the line from the earlier close to the later open into as many bars as are missing."""
    first, last = (
        pl.col("_close") + (pl.col("open") - pl.col("_close")) * (pl.col(_AT) - back) / pl.col("missing")
        for back in (1, 0)
    )
    return [
        first.alias("open"), last.alias("close"), pl.max_horizontal(first, last).alias("high"),
        pl.min_horizontal(first, last).alias("low"), pl.lit(None, pl.Float64()).alias("volume"),
    ]  # fmt: skip

"""What is missing from a series: holes in its grid, and a newest row that is too old. Told, never judged."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import polars as pl

from oihedge.core.tables import EVENTS, FUNDING, Table
from oihedge.quality.measures import TIMEFRAMES_US
from oihedge.quality.neighbours import line_ids

_HOUR_US = 3_600_000_000
_COLUMNS = ("table", "series", "found", "missing", "longest_h", "first", "last")


def gaps(rows: pl.DataFrame, earlier: pl.DataFrame, spec: Table) -> list[dict[str, Any]]:
    """Return, per series with holes, how many rows its grid misses before rows of this slice.

    The grid is the timeframe of a bar, the interval of a payment, and else the median step of the series itself.

    Args:
        rows: the slice, columns of `spec`.
        earlier: rows of the same table before it.
        spec: their table; events have no grid.

    Returns:
        table, series (its key, joined), found (`gaps`), missing (rows), longest_h, first and last (instants around
        the holes).
    """
    if spec is EVENTS or rows.is_empty():
        return []
    series = [name for name in spec.key if name != "ts"]
    step = "interval_h" if spec is FUNDING else None
    columns = [*series, "ts", *([step] if step else [])]
    both = [
        earlier.select(columns).with_columns(new=pl.lit(False)),
        rows.select(columns).with_columns(new=pl.lit(True)),
    ]
    told = pl.concat(both).drop_nulls("ts")
    told = told.with_columns(line=line_ids(told, series)).sort("line", "ts", "new")
    since = (pl.col("ts").diff().dt.total_microseconds()).over("line").alias("since")
    told = told.with_columns(since, before=pl.col("ts").shift(1).over("line")).filter(pl.col("since") > 0)
    told = told.with_columns(step=_step(spec))
    holes = told.filter("new", pl.col("since") > 1.5 * pl.col("step"))
    counted = holes.group_by("line").agg(
        *(pl.col(name).first() for name in series),
        missing=((pl.col("since") / pl.col("step")).round() - 1).sum().cast(pl.Int64),
        longest_h=pl.col("since").max() / _HOUR_US,
        first=pl.col("before").min(),
        last=pl.col("ts").max(),
    )
    named = counted.with_columns(table=pl.lit(spec.name), series=_joined(series), found=pl.lit("gaps"))
    return named.select(_COLUMNS).sort("series").to_dicts()


def stale(newest: pl.DataFrame, spec: Table, as_of: datetime, most_h: float) -> list[dict[str, Any]]:
    """Return the series whose newest row is older than `most_h` hours at `as_of`.

    Args:
        newest: per series its key columns and `ts`, the newest; a bar's age counts from its close.
        spec: their table.
        as_of: the present.
        most_h: hours.
    """
    series = [name for name in spec.key if name != "ts"]
    closes = pl.col("timeframe").replace_strict(TIMEFRAMES_US, default=0) if "timeframe" in spec.columns else pl.lit(0)
    since = pl.col("ts") + pl.duration(microseconds=closes)
    age = (pl.lit(as_of) - since).dt.total_microseconds() / _HOUR_US
    old = newest.with_columns(longest_h=age, first=since, last=pl.lit(as_of)).filter(pl.col("longest_h") > most_h)
    named = old.with_columns(table=pl.lit(spec.name), series=_joined(series), found=pl.lit("stale"), missing=None)
    return named.select(_COLUMNS).sort("series").to_dicts()


def _step(spec: Table) -> pl.Expr:
    if "timeframe" in spec.columns:
        return pl.col("timeframe").replace_strict(TIMEFRAMES_US, default=None, return_dtype=pl.Int64).cast(pl.Float64)
    if spec is FUNDING:
        return pl.col("interval_h") * _HOUR_US
    return pl.col("since").median().over("line")


def _joined(series: list[str]) -> pl.Expr:
    return pl.concat_str(series, separator=" ", ignore_nulls=True)

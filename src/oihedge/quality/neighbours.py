"""Jumps: each row against the last good row of its series.

Comparing with the row before would quarantine the normal row after a spike too. Comparing with the last good row for
ever would shut out a price that crashed and stays there. So: a row within the allowed factor of the last good one is
good; another is a jump, unless the last good row is older than `neighbour_h` and no jump came since. A spike costs its
own row; a gap costs nothing. A level that persists is kept out for `neighbour_h` hours, in which validation complains,
and is accepted from then on where levels `settle` (prices). Open interest does not: a tenfold level that stays is a
venue that changed its unit, and it stays out until a person releases it. What is accepted leaves a hole before it, so
no hourly change is ever taken across the shift. The first row of a series has
nothing to be compared with and is trusted. Only the past is looked at: a later row never changes a verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import polars as pl

from oihedge.core.tables import STAMPS, Table

_ROW, _HOURS, _LINE = "__row", "__hours", "__line"


def context_for(rows: pl.DataFrame, spec: Table, *, good: pl.DataFrame, raw: pl.DataFrame) -> pl.DataFrame:
    """Return the earlier rows that judging `rows` needs, so that judging hour by hour gives what judging at once gives.

    Args:
        rows: the slice to be judged, in one piece or scattered.
        spec: its table.
        good: validated rows, as far back as there may be a last good one.
        raw: raw rows over the same time, good and bad.

    Returns:
        Per series of `rows`: its newest good row before the slice, and the raw rows from there to the slice's end that
        are not in it.
    """
    series = [name for name in spec.key if name != "ts"]
    ends = rows.group_by(series).agg(__first=pl.col("ts").min(), __last=pl.col("ts").max())
    columns = [name for name in spec.columns if name not in spec.optional]
    earlier = good.select(columns).join(ends, on=series).filter(pl.col("ts") < pl.col("__first"))
    newest = earlier.sort("ts").unique(series, keep="last", maintain_order=True)
    since = newest.select(*series, __since="ts")
    around = raw.select(columns).join(ends, on=series).join(since, on=series, how="left")
    after = pl.col("__since").is_null() | (pl.col("ts") > pl.col("__since"))
    between = around.filter(after & (pl.col("ts") < pl.col("__last"))).join(rows, on=spec.key, how="anti")
    return pl.concat([newest.select(columns), between.select(columns)])


def move_factors(
    rows: pl.DataFrame,
    value: str,
    series: Sequence[str],
    context: pl.DataFrame | None,
    *,
    most: float,
    neighbour_h: float,
    settles: bool,
) -> pl.Series:
    """Return per row how many times larger or smaller it is than the last good row of its series.

    Args:
        rows: series columns, ts, `value`, and `sane`: False for rows that other rules keep out; those judge nothing.
            Of several rows at one ts (revisions) the one with the later stamps, where there are some, comes later.
        value: the column to compare; only finite values above 0 are.
        series: columns that name a series.
        context: earlier rows (series, ts, value), of which the oldest of each series counts as good.
        most: the largest factor of a good row.
        neighbour_h: hours after which a last good row stops being a neighbour.
        settles: whether a jump that agrees with the one before it is accepted then.

    Returns:
        Factors >= 1 in the order of `rows`; null where there is nothing to compare with.
    """
    known = [name for name in STAMPS if name in rows.columns]
    sane = rows.with_row_index(_ROW).filter("sane").select(_ROW, *series, "ts", value, *known)
    timeline = pl.concat([*_before(sane, value, series, context), sane], how="diagonal")
    hours = (pl.col("ts").dt.epoch("us") / timedelta(hours=1).total_seconds() / 1e6).alias(_HOURS)
    timeline = timeline.filter(pl.col(value).is_finite() & (pl.col(value) > 0)).with_columns(hours)
    timeline = timeline.with_columns(line_ids(timeline, series).alias(_LINE)).sort(_LINE, "ts", *known, _ROW)
    same = pl.col(_LINE) == pl.col(_LINE).shift(1)
    ratio = pl.when(same).then(pl.col(value) / pl.col(value).shift(1))
    timeline = timeline.with_columns(pl.max_horizontal(ratio, 1 / ratio).alias("factor"))
    jumping = timeline.filter(pl.col("factor") > most)[_LINE].unique().implode()
    walked = [
        part.with_columns(factor=_walk(part[_HOURS].to_list(), part[value].to_list(), most, neighbour_h, settles))
        for part in timeline.filter(pl.col(_LINE).is_in(jumping)).partition_by(_LINE, maintain_order=True)
    ]
    calm = timeline.filter(~pl.col(_LINE).is_in(jumping))
    factors = pl.concat([calm, *walked]).filter(pl.col(_ROW).is_not_null()).select(_ROW, "factor")
    order = pl.DataFrame({_ROW: pl.arange(rows.height, dtype=pl.UInt32, eager=True)})
    return order.join(factors, on=_ROW, how="left", maintain_order="left")["factor"]


def line_ids(rows: pl.DataFrame, series: Sequence[str]) -> pl.Series:
    """Return a number per row that is the same for the rows of one series, missing names included.

    Rows mostly come series by series, so only the heads of their runs are compared as text.
    """
    runs = rows.select(pl.struct(series).rle_id()).to_series()
    heads = rows.select(series).filter(runs != runs.shift(1, fill_value=-1))
    return heads.select(pl.struct(series).rank("dense")).to_series().gather(runs)


def _before(sane: pl.DataFrame, value: str, series: Sequence[str], context: pl.DataFrame | None) -> list[pl.DataFrame]:
    if context is None or context.is_empty():
        return []
    earlier = context.select(*series, "ts", value).join(sane.select(*series, "ts"), on=[*series, "ts"], how="anti")
    return [earlier.with_columns(pl.lit(None, dtype=pl.UInt32).alias(_ROW))]


def _walk(hours: list[float], values: list[float], most: float, neighbour_h: float, settles: bool) -> pl.Series:
    """Step through one series that has a jump; None where a row is accepted without a neighbour."""
    factors: list[float | None] = []
    good, good_at = values[0], hours[0]
    rejected: float | None = None
    for at, value in zip(hours, values, strict=True):
        factor = _factor(value, good)
        agrees = rejected is None or (settles and _factor(value, rejected) <= most)
        new_level = factor > most and at - good_at > neighbour_h and agrees
        if factor <= most or new_level:
            good, good_at, rejected = value, at, None
        else:
            rejected = value
        factors.append(None if new_level else factor)
    return pl.Series("factor", factors, dtype=pl.Float64)


def _factor(value: float, other: float) -> float:
    return max(value / other, other / value)

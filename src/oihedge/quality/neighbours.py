"""Jumps: each row against the last good row of its series.

Comparing with the row before would quarantine the normal row after a spike too. Comparing with the last good row for
ever would shut out a price that crashed and stays there. So: a row within the allowed factor of the last good one is
good; another is a jump, unless the last good row is older than `neighbour_h` and no jump came since. A spike costs its
own row; a gap costs nothing. A level that persists is kept out for `neighbour_h` hours, in which validation complains,
and is accepted from then on where levels `settle` (prices). Open interest does not: a tenfold level that stays is a
venue that changed its unit, and it stays out until a person releases it. What is accepted leaves a hole before it, so
no hourly change is ever taken across the shift.

The first row of a series, and the first after a gap, has nothing to be compared with and is trusted, but not for ever:
until a later good row agrees with it, it stands alone, and `OUTVOTED_BY` rows in a row that disagree with it and agree
with one another outvote it. The last of them is good, those before it stay out, and it in turn stands alone. Only the
past is looked at: a later row never changes a verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import polars as pl

from oihedge.core.tables import STAMPS, Table

OUTVOTED_BY = 3
"""Two that agree may be one mistake told twice, which would be one word against one; three are a majority."""
_ROW, _HOURS, _LINE, _GOOD = "__row", "__hours", "__line", "__good"


def context_for(rows: pl.DataFrame, spec: Table, *, good: pl.DataFrame, raw: pl.DataFrame) -> pl.DataFrame:
    """Return the earlier rows that judging `rows` needs, so that judging hour by hour gives what judging at once gives.

    Args:
        rows: the slice to be judged, in one piece or scattered.
        spec: its table.
        good: validated rows, as far back as there may be a last good one.
        raw: raw rows over the same time, good and bad.

    Returns:
        Per series of `rows`: its two newest good rows before the slice, marked `__good` (whether they agree says
        whether the newest stands alone), and the raw rows from there to the slice's end that are not in it.
    """
    series = [name for name in spec.key if name != "ts"]
    ends = rows.group_by(series).agg(__first=pl.col("ts").min(), __last=pl.col("ts").max())
    columns = [name for name in spec.columns if name not in spec.optional]
    earlier = good.select(columns).join(ends, on=series).filter(pl.col("ts") < pl.col("__first"))
    newest = earlier.sort("ts").group_by(series, maintain_order=True).tail(2)
    since = newest.group_by(series).agg(__since=pl.col("ts").max())
    around = raw.select(columns).join(ends, on=series).join(since, on=series, how="left")
    after = pl.col("__since").is_null() | (pl.col("ts") > pl.col("__since"))
    between = around.filter(after & (pl.col("ts") < pl.col("__last"))).join(rows, on=spec.key, how="anti")
    return pl.concat(
        [part.select(*columns, pl.lit(told).alias(_GOOD)) for part, told in ((newest, True), (between, False))]
    )


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
        context: earlier rows (series, ts, value); good are those marked so and, in any case, the oldest of a series.
        most: the largest factor of a good row.
        neighbour_h: hours after which a last good row stops being a neighbour.
        settles: whether a jump that agrees with the one before it is accepted then.

    Returns:
        Factors >= 1 in the order of `rows`; null where there is nothing to compare with.
    """
    known = [name for name in STAMPS if name in rows.columns]
    sane = rows.with_row_index(_ROW).filter("sane").select(_ROW, *series, "ts", value, *known)
    timeline = pl.concat([sane.with_columns(pl.lit(False).alias(_GOOD)), *_before(sane, value, series, context)],
                         how="diagonal")  # fmt: skip
    hours = (pl.col("ts").dt.epoch("us") / timedelta(hours=1).total_seconds() / 1e6).alias(_HOURS)
    timeline = timeline.filter(pl.col(value).is_finite() & (pl.col(value) > 0)).with_columns(hours)
    timeline = timeline.with_columns(line_ids(timeline, series).alias(_LINE)).sort(_LINE, "ts", *known, _ROW)
    same = pl.col(_LINE) == pl.col(_LINE).shift(1)
    ratio = pl.when(same).then(pl.col(value) / pl.col(value).shift(1))
    timeline = timeline.with_columns(pl.max_horizontal(ratio, 1 / ratio).alias("factor"))
    jumping = timeline.filter(pl.col("factor") > most)[_LINE].unique().implode()
    walked = [
        part.with_columns(factor=_walk(part.select(_HOURS, value, _GOOD), most, neighbour_h, settles))
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
    known = [_GOOD] if _GOOD in context.columns else []
    earlier = context.select(*series, "ts", value, *known)
    return [earlier.join(sane.select(*series, "ts"), on=[*series, "ts"], how="anti")]


def _walk(rows: pl.DataFrame, most: float, neighbour_h: float, settles: bool) -> pl.Series:
    """Step through one series (hours, values, whether known to be good) that has a jump.

    Returns:
        The factors; None where a row is accepted that does not agree with the last good one.
    """
    factors: list[float | None] = []
    (good_at, good, _), alone = rows.row(0), True
    rejected, rejected_at, agreeing = good, good_at, 0
    for at, value, known in rows.iter_rows():
        factor = _factor(value, good)
        if factor <= most:
            alone = alone and at == good_at
            good, good_at, agreeing = value, at, 0
            factors.append(factor)
            continue
        agrees = agreeing > 0 and _factor(value, rejected) <= most
        settled = at - good_at > neighbour_h and (agreeing == 0 or (settles and agrees))
        agreeing = agreeing + (at > rejected_at) if agrees else 1
        rejected, rejected_at = value, at
        accepted = known or settled or (alone and agreeing >= OUTVOTED_BY)
        if accepted:
            good, good_at, alone, agreeing = value, at, True, 0
        factors.append(None if accepted else factor)
    return pl.Series("factor", factors, dtype=pl.Float64)


def _factor(value: float, other: float) -> float:
    return max(value / other, other / value)

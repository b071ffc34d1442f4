"""Which raw rows have no verdict yet, in blocks that fit into memory, and what judging them needs beside them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import polars as pl

from oihedge.core.tables import UTC_TIME, Table
from oihedge.lake.store import Lake
from oihedge.quality.neighbours import context_for
from oihedge.quality.quarantine import places, source_keys
from oihedge.quality.quorum import LOOKBACK, VALUES

BLOCK_ROWS = 250_000
_DAY = timedelta(days=1)
_HOUR = timedelta(hours=1)


def blocks(lake: Lake, spec: Table) -> Iterator[tuple[datetime, datetime]]:
    """Yield [start, end) of whole days that may have rows without a verdict, oldest first, about BLOCK_ROWS each.

    A day is settled when every raw row of it was either validated or quarantined.
    """
    raw = _per_day(lake.rows("raw", spec.name), "raw")
    validated = _per_day(judged_rows(lake, spec), "validated")
    held = _held(lake, spec).unique("source_key")
    parts = [
        raw,
        validated,
        _per_day(held, "held"),
        _per_day(held.filter(pl.col("released_at").is_not_null()), "released"),
    ]
    days = parts[0]
    for part in parts[1:]:
        days = days.join(part, on="day", how="left")
    counted = days.fill_null(0).sort("day").collect(engine="streaming")
    open_days = counted.filter(pl.col("raw") != pl.col("validated") + pl.col("held") - pl.col("released"))
    start: datetime | None = None
    size, end = 0, None
    for day, rows in open_days.select("day", "raw").iter_rows():
        if start is not None and size + rows > BLOCK_ROWS and end is not None:
            yield start, end
            start, size = None, 0
        start, size, end = start or day, size + rows, day + _DAY
    if start is not None and end is not None:
        yield start, end


def pending_rows(lake: Lake, spec: Table, start: datetime, end: datetime) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the raw rows (every revision) with start <= ts < end that have no verdict yet, and those that have one."""
    identity = [*spec.key, "available_at", "ingested_at"]
    within = (pl.col("ts") >= start) & (pl.col("ts") < end)
    raw = lake.rows("raw", spec.name).filter(within).collect()
    settled = [
        judged_rows(lake, spec).filter(within).select(identity).collect(),
        _held_among(raw, _held(lake, spec).filter(within).collect(), spec).select(identity),
    ]
    known = pl.concat(settled)
    if known.is_empty():
        return raw, raw.clear()
    pending = raw.join(known, on=identity, how="anti", nulls_equal=True)
    return pending, raw.join(known, on=identity, how="semi", nulls_equal=True)


def released(lake: Lake, spec: Table, start: datetime, end: datetime) -> pl.DataFrame:
    """Return the quarantine rows with start <= ts < end that were let go, whether they are in validated/ yet or not."""
    within = (pl.col("ts") >= start) & (pl.col("ts") < end)
    return _held(lake, spec).filter(within, pl.col("released_at").is_not_null()).collect()


def around(
    lake: Lake, spec: Table, pending: pl.DataFrame, settled: pl.DataFrame, start: datetime
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return what judging a block's pending rows needs: (context for jumps, raw rows of all venues beside them).

    The context is empty for tables whose rows are not compared.

    Args:
        lake: the lake.
        spec: the table.
        pending: rows without a verdict, all with ts >= start.
        settled: the block's other raw rows.
        start: the block's first instant.
    """
    first, last = pending["ts"].min(), pending["ts"].max()
    assert isinstance(first, datetime)
    assert isinstance(last, datetime)
    since = first - LOOKBACK
    before = lake.rows("raw", spec.name).filter(pl.col("ts") >= since, pl.col("ts") < start).collect()
    raw = pl.concat([before, settled.filter(pl.col("ts") >= since).select(before.columns)])
    if spec.name not in VALUES:
        return raw.clear(), raw
    newest = raw.sort("available_at", "ingested_at").unique(spec.key, keep="last", maintain_order=True)
    good = _sent(spec, lake.read("validated", spec.name, start=since, end=last + _HOUR)).select(raw.columns).collect()
    older = _beyond(lake, spec, pending, good, since)
    return context_for(pending, spec, good=pl.concat([older[0], good]), raw=pl.concat([older[1], newest])), raw


def _beyond(
    lake: Lake, spec: Table, pending: pl.DataFrame, good: pl.DataFrame, since: datetime
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the rows before `since` that jumps are judged by: the two newest good ones, and the raw ones from there.

    Only of series that have fewer than two good rows since then: new ones, and those that were bad or silent for long.
    A level that is kept out would otherwise be let in as soon as nobody remembers what it was before.
    """
    series = [name for name in spec.key if name != "ts"]
    firsts = pending.group_by(series).agg(first=pl.col("ts").min())
    near = good.join(firsts, on=series).filter(pl.col("ts") < pl.col("first")).group_by(series).len()
    lone = firsts.join(near.filter(pl.col("len") > 1), on=series, how="anti")
    if lone.is_empty():
        return good.clear(), good.clear()
    named = pl.all_horizontal(pl.col(name).is_in(lone[name].unique().implode()) for name in series)
    older = _sent(spec, lake.read("validated", spec.name, end=since, where=named))
    newest = older.join(lone.lazy(), on=series, how="semi").sort("ts").group_by(series).tail(2).collect()
    start = newest["ts"].min()
    if not isinstance(start, datetime):
        return good.clear(), good.clear()
    raw = lake.read("raw", spec.name, start=start, end=since, where=named)
    return newest.select(good.columns), raw.join(newest.lazy(), on=series, how="semi").select(good.columns).collect()


def _held_among(raw: pl.DataFrame, held: pl.DataFrame, spec: Table) -> pl.DataFrame:
    """Return the raw rows that are in quarantine, found by place first: naming a row by its content is slow."""
    if held.is_empty():
        return raw.clear()
    place = ["venue", "symbol", "ts"]
    marked = raw.with_columns(column.alias(f"__{n}") for n, column in zip(place, places(spec), strict=True))
    named = held.select(pl.col(name).alias(f"__{name}") for name in place)
    suspects = marked.join(named, on=named.columns, how="semi", nulls_equal=True).select(raw.columns)
    return suspects.filter(source_keys(spec.name, suspects).is_in(held["source_key"].implode()))


def judged_rows(lake: Lake, spec: Table) -> pl.LazyFrame:
    """Return the validated rows, revisions included, that a source sent."""
    return _sent(spec, lake.rows("validated", spec.name))


def _sent(spec: Table, rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.filter(~pl.col("filled").fill_null(False)) if "filled" in spec.columns else rows


def _held(lake: Lake, spec: Table) -> pl.LazyFrame:
    return lake.read("derived", "quarantine", where=pl.col("table") == spec.name)


def _per_day(rows: pl.LazyFrame, name: str) -> pl.LazyFrame:
    day = pl.col("ts").dt.truncate("1d").cast(UTC_TIME).alias("day")
    return rows.group_by(day).agg(pl.len().cast(pl.Int64).alias(name))

"""Holes in the lake's series: instants of their grid for which no venue's row is there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from oihedge.core.clock import HOUR, TIMEFRAMES
from oihedge.core.tables import MEASURES, UTC_TIME, Table, table
from oihedge.lake.store import Lake
from oihedge.market.settings import Market, Venue
from oihedge.market.venues import REACH, reach

HOURLY = ("open_interest", "long_short")
GRIDDED = (*HOURLY, "ohlcv", "liquidations", "implied_vol", "funding")
"""Tables whose rows stand on a grid; the others hold what was seen whenever someone looked."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NOTHING = pl.DataFrame(schema={"ts": UTC_TIME, "step": pl.Duration("us")})


@dataclass(frozen=True)
class Line:
    """One series of a table: the values of its key without ts, and the span in which the lake has rows of it."""

    table: str
    key: tuple[tuple[str, Any], ...]
    first: datetime
    last: datetime
    rows: int

    @property
    def named(self) -> dict[str, Any]:
        """Return the key by name."""
        return dict(self.key)

    @property
    def series(self) -> str:
        """Return what tells it from the symbol's other series of the table."""
        return " ".join(str(value) for name, value in self.key if name not in ("venue", "symbol"))


@dataclass(frozen=True)
class Hole:
    """Instants [start, end) of a series, `rows` of them, without a row; `held`: raw/ has them, validated/ does not."""

    line: Line
    start: datetime
    end: datetime
    rows: int
    held: bool = False


def series_of(lake: Lake, layer: Any, name: str) -> list[Line]:
    """Return every series that a layer has of a table, by key."""
    spec = table(name)
    by = [column for column in spec.key if column != "ts"]
    told = lake.rows(layer, name).group_by(by).agg(pl.col("ts").min(), last=pl.col("ts").max(), rows=pl.len())
    return [
        Line(name, tuple(zip(by, key, strict=True)), first, last, rows)
        for *key, first, last, rows in told.sort(by).collect().iter_rows()
    ]


def tracked_series(market: Market, venue: Venue, name: str) -> list[tuple[tuple[str, ...], ...]]:
    """Return the series that these settings read of a symbol in a venue's table, by its key between symbol and ts.

    Those that come in one answer stand together; there are none where the venue has no such table.
    """
    offers = reach(venue.id, venue.kind).of(name)
    if name == "ohlcv":
        trades = {"ohlcv": venue.kind}
        wanted = ("trade",) if venue.kind == "spot" else market.price_kinds
        kinds = [trades.get(one, one) for one in offers if ("trade" if one in trades else one) in wanted]
        return [((kind, timeframe),) for kind in kinds for timeframe in market.timeframes]
    if name == "long_short":
        told = [one.partition(":")[2] for one in offers]
        return [((measure,),) if measure else tuple((one,) for one in MEASURES) for measure in told]
    return [(("1h",) if "timeframe" in table(name).key else (),)] if offers else []


def keeps_interest(venue: str) -> bool:
    """Return whether a venue has a history of open interest; its rows then stand on the hour."""
    of = REACH.get((venue, "perp"))
    return of is not None and "open_interest" in of.offers


def holes(
    lake: Lake, layer: Any, line: Line, start: datetime | None = None, end: datetime | None = None
) -> Iterator[Hole]:
    """Yield the holes of one series, oldest first; one series is in memory at a time.

    Args:
        lake: where to look.
        layer: raw or validated; in validated, rows that were only interpolated are holes too.
        line: the series.
        start: from here instead of its first row.
        end: to before here instead of its last row.
    """
    spec, step = table(line.table), step_of(line)
    if step is None and line.table != "funding":
        return
    have = _rows(lake, layer, line, spec)
    begin, until = start or line.first, end or line.last
    if step is not None:
        begin, until = floor(begin, step), end or floor(line.last, step) + step
    if step is None:
        found = _skipped_payments(have.collect(), begin, until)
    else:
        found = _absent(have.select("ts").collect()["ts"], begin, until, step)
    if found.is_empty():
        return
    if layer == "raw":
        marked = found.with_columns(held=pl.lit(False))
    else:
        raw = _rows(lake, "raw", line, spec).select("ts").collect()["ts"]
        marked = found.with_columns(held=pl.col("ts").is_in(raw.implode()))
    for row in _runs(marked).iter_rows():
        yield Hole(line, *row)


def step_of(line: Line) -> timedelta | None:
    """Return the distance of a series' rows; None where they have no grid, or one that changes."""
    if line.table in HOURLY:
        return HOUR
    return TIMEFRAMES.get(line.named.get("timeframe", ""))


def _rows(lake: Lake, layer: Any, line: Line, spec: Table) -> pl.LazyFrame:
    mine = pl.all_horizontal(pl.col(name) == value for name, value in line.key)
    rows = lake.rows(layer, line.table).filter(mine)
    if "filled" in spec.columns:
        rows = rows.filter(~pl.col("filled").fill_null(False))
    more = ["interval_h"] if line.table == "funding" else []
    hour = pl.col("ts").dt.truncate("1h")
    if line.table == "open_interest" and keeps_interest(line.named["venue"]):
        rows = rows.filter(pl.col("ts") == hour)  # the venue has the row on the hour: a snapshot does not replace it
    elif line.table in HOURLY:  # a snapshot of the present is stamped when it was taken, and stands for its hour
        rows = rows.with_columns(hour)
    return rows.select("ts", *more).unique("ts").sort("ts")


def floor(at: datetime, step: timedelta) -> datetime:
    """Return the last point of the grid at or before `at`."""
    return at - (at - _EPOCH) % step


def _absent(have: pl.Series, begin: datetime, until: datetime, step: timedelta) -> pl.DataFrame:
    return _grid(begin, until, step).filter(~pl.col("ts").is_in(have.implode()))


def _skipped_payments(have: pl.DataFrame, begin: datetime, until: datetime) -> pl.DataFrame:
    """Payments that must have been where two, or the last and `until`, are further apart than their interval."""
    last = have.tail(1).with_columns(ts=pl.lit(until, UTC_TIME))
    spaced = pl.concat([have, last]).with_columns(
        step=pl.duration(minutes=pl.col("interval_h") * 60), before=pl.col("ts").shift(1)
    )
    lost = spaced.filter(pl.col("ts") - pl.col("before") > pl.col("step"))
    spans = [_grid(before + step, at, step) for at, step, before in lost.select("ts", "step", "before").iter_rows()]
    every = pl.concat([_NOTHING, *spans])
    return every.filter(pl.col("ts").is_between(begin, until, closed="left"))


def _grid(begin: datetime, until: datetime, step: timedelta) -> pl.DataFrame:
    instants = pl.datetime_range(begin, until, step, closed="left", time_unit="us", time_zone="UTC", eager=True)
    return pl.DataFrame({"ts": instants}).with_columns(step=pl.lit(step, dtype=pl.Duration("us")))


def _runs(marked: pl.DataFrame) -> pl.DataFrame:
    """Join instants that follow one another and are alike."""
    breaks = (pl.col("ts").diff() != pl.col("step")) | (pl.col("held") != pl.col("held").shift(1))
    runs = marked.sort("ts").with_columns(run=breaks.fill_null(True).cum_sum())
    return runs.group_by("run", maintain_order=True).agg(
        start=pl.col("ts").min(), end=(pl.col("ts") + pl.col("step")).max(), rows=pl.len(), held=pl.col("held").first()
    ).drop("run")  # fmt: skip

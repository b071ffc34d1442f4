"""Venues against one another: which one departs from the others, stands still while they move, or says nothing.

A row is compared with the other venues' rows of its own instant: bars of less than an hour each at their place in the
hour (`slot`: the minute of a minute bar), all else once an hour; of several rows in one place the first, as it was
first told, stands for its venue. The distance of a venue is its log price (for open interest: its log change over
`hours`) less the median over the venues, and what it usually is comes from the venue's own past: median and median
absolute deviation over the `window_h` hours before, of which each is spoken for by its first row. Whatever the
timeframe, windows are in hours, and so is being apart in a row: at one slot, from hour to hour.
With fewer than three venues there is no majority, and nothing is measured. Everything is a function of raw rows of the
past and of the same instant, never of earlier verdicts: judging hour by hour gives what judging at once gives.

A venue that departs is not averaged away but set aside: its rows of that place go to quarantine, whole and with their
reason, where they can be looked at and released. A mean with a wrong venue in it would look like data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oihedge.core.clock import TIMEFRAMES
from oihedge.core.tables import OHLCV, OPEN_INTEREST, Table
from oihedge.quality.neighbours import line_ids
from oihedge.quality.rules import APART, ASIDE, FROZEN, RETURN_Z
from oihedge.quality.settings import Quality

VALUES: Mapping[str, str] = MappingProxyType({OHLCV.name: "close", OPEN_INTEREST.name: "oi_base"})
"""The tables whose venues are compared, and by which column."""
MEASURED = (APART, ASIDE, FROZEN, RETURN_Z)
LOOKBACK = timedelta(days=7)
"""How much past the measures need: twice the longest window, and the longest change."""
_HOUR_US = 3_600_000_000
_SLOTS_US = {name: step // timedelta(microseconds=1) for name, step in TIMEFRAMES.items() if step < timedelta(hours=1)}
_GAUSS = 1.4826
_LEAST_HISTORY = 24
_QUORUM = 3
Matrix = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True)
class _Group:
    """One asset's venues: hours (H), slots (S), and per hour, slot and line (H x S x L) what was told and follows."""

    hours: Index
    slots: Index
    lines: Index
    first_ts: Index
    value: Matrix
    distance: Matrix
    returns: Matrix
    scale: Matrix
    frozen: Matrix

    def at(self, rows: pl.DataFrame) -> tuple[Index, Index, Index]:
        """Return where the rows' hours, slots and lines lie."""
        return _places(rows, self.hours, self.slots, self.lines)


def compare(
    rows: pl.DataFrame, spec: Table, settings: Quality, around: pl.DataFrame | None
) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
    """Measure every row against the other venues of its asset.

    Args:
        rows: the slice: the table's columns and both stamps.
        spec: ohlcv or open_interest.
        settings: the limits.
        around: raw rows of all venues over the slice and `LOOKBACK` before it; without, the slice speaks for itself.

    Returns:
        The columns MEASURED in the order of `rows`, null where there is nothing to say; and what was found, by asset
        and venue: table, asset, venue, verdict, hours, first, last.
    """
    by = ["asset", *(name for name in ("kind", "timeframe") if name in spec.columns)]
    value = VALUES[spec.name]
    mine = _binnable(rows.with_row_index("row"), by, value)
    told = mine if around is None else pl.concat([_binnable(around, by, value), mine], how="diagonal")
    told = told.with_columns(line=line_ids(told, [*by, "venue", "symbol"]))
    ordered = told.sort("line", "ts", "available_at", "ingested_at", nulls_last=True)
    bins = ordered.filter(pl.struct("line", "hour", "slot").rle_id().diff().fill_null(1) != 0)
    mine = told.filter(pl.col("row").is_not_null())
    lines = bins.unique("line", keep="first", maintain_order=True).select("line", *by, "venue")
    parts, found = [], []
    for named in lines.partition_by(by, maintain_order=True):
        ids = named["line"].implode()
        own = mine.filter(pl.col("line").is_in(ids)) if lines.height > named.height else mine
        if own.is_empty():
            continue
        of_group = bins.filter(pl.col("line").is_in(ids)) if lines.height > named.height else bins
        group = _group(of_group, named, spec, settings)
        measured = _rows(own, group, spec, settings)
        parts.append(measured)
        where = {"table": spec.name, **named.select(by).row(0, named=True)}
        found += _found(group, named["venue"].to_list(), measured, where, settings)
    blank = pl.DataFrame({"row": pl.arange(rows.height, dtype=pl.UInt32, eager=True)})
    schema = {"row": pl.UInt32(), **dict.fromkeys(MEASURED, pl.Float64())}
    every = pl.concat([part.select(*schema) for part in parts]) if parts else pl.DataFrame(schema=schema)
    return blank.join(every, on="row", how="left", maintain_order="left").select(*MEASURED), found


def _binnable(rows: pl.DataFrame, by: list[str], value: str) -> pl.DataFrame:
    kept = pl.col(value).is_finite() & (pl.col(value) > 0) & pl.col("available_at").is_not_null()
    named = pl.all_horizontal(pl.col(*by, "venue", "symbol", "ts").is_not_null())
    stamp = pl.col("ingested_at") if "ingested_at" in rows.columns else pl.lit(None, pl.Datetime("us", "UTC"))
    columns = [*(["row"] if "row" in rows.columns else []), *by, "venue", "symbol", "ts", "available_at"]
    us = pl.col("ts").dt.epoch("us")
    slot = pl.lit(0, pl.Int64)
    if "timeframe" in by:
        slot = us % _HOUR_US // pl.col("timeframe").replace_strict(_SLOTS_US, default=_HOUR_US, return_dtype=pl.Int64)
    places = [(us // _HOUR_US).alias("hour"), slot.alias("slot")]
    return rows.filter(kept & named).select(*columns, stamp.alias("ingested_at"), pl.col(value).alias("value"), *places)


def _group(bins: pl.DataFrame, named: pl.DataFrame, spec: Table, settings: Quality) -> _Group:
    """Lay one asset's bins out and measure them; `first_ts` is the instant (us) each bin stands on."""
    hours, slots = (np.unique(bins[name].to_numpy()) for name in ("hour", "slot"))
    lines = named["line"].to_numpy()
    shape, at = (len(hours), len(slots), len(lines)), _places(bins, hours, slots, lines)
    value, first_ts = np.full(shape, np.nan), np.full(shape, -1, dtype=np.int64)
    value[at] = bins["value"].to_numpy()
    first_ts[at] = bins["ts"].dt.epoch("us").to_numpy()
    venues, log = np.array(named["venue"].to_list()), np.log(value)
    level = log if spec.name == OHLCV.name else log - _before(log, hours, settings.quorum.hours)
    middle, votes = _majority(level, venues)
    returns = log - _before(log, hours, 1)
    scale = _GAUSS * _rolling(_hourly(np.abs(returns)), hours, settings.quorum.window_h)
    moved, movers = _majority(np.abs(returns), venues)
    frozen = _streak((returns == 0) & (movers >= _QUORUM) & (moved > 0), hours)
    frozen = np.minimum(np.where(frozen > 0, frozen + 1.0, 0.0), settings.frozen_h)
    distance = np.where(votes >= _QUORUM, level - middle, np.nan)
    return _Group(hours, slots, lines, first_ts, value, distance, returns, scale, frozen)


def _places(rows: pl.DataFrame, *axes: Index) -> tuple[Index, Index, Index]:
    hour, slot, line = (
        np.searchsorted(axis, rows[name].to_numpy()) for name, axis in zip(("hour", "slot", "line"), axes, strict=True)
    )
    return hour, slot, line


def _usual(group: _Group, furthest: float, spec: Table, settings: Quality) -> tuple[Matrix, Matrix]:
    """Return each line's usual distance and how far from it is allowed.

    Where nothing is further away than half of what is always allowed, nothing can be too far from its median either,
    and the slow part is left out: the usual distance is then given as 0.
    """
    quorum = settings.quorum
    limits = quorum.price if spec.name == OHLCV.name else quorum.open_interest
    if not furthest > limits.least / 2:
        return np.zeros((1, 1, 1)), np.full((1, 1, 1), limits.least)
    distance = _hourly(group.distance)
    usual = _rolling(distance, group.hours, quorum.window_h)
    spread = _rolling(np.abs(distance - usual), group.hours, quorum.window_h)
    return usual, np.maximum(limits.z * _GAUSS * spread, limits.least)


def _rows(own: pl.DataFrame, group: _Group, spec: Table, settings: Quality) -> pl.DataFrame:
    """Give each row its place's measure; a revision of the row that stands there is measured by its own value."""
    at = group.at(own)
    stands = own["ts"].dt.epoch("us").to_numpy() == group.first_ts[at]
    shift = np.where(stands, np.log(own["value"].to_numpy() / group.value[at]), 0.0)
    distance = group.distance[at] + shift
    both = (np.abs(part) for part in (distance, group.distance))
    furthest = max(float(np.max(part, initial=0.0, where=~np.isnan(part))) for part in both)
    usual, allowed = _usual(group, furthest, spec, settings)
    departs = np.abs(group.distance - usual) / allowed > 1
    usual, allowed, scale = (np.broadcast_to(each, departs.shape)[at] for each in (usual, allowed, group.scale))
    before = np.nan_to_num(_before(_streak(departs, group.hours), group.hours, 1)[at])
    apart = np.abs(distance - usual) / allowed
    streak = np.minimum(np.where(apart > 1, before + 1.0, 0.0), settings.quorum.hours)
    with np.errstate(divide="ignore", invalid="ignore"):
        return_z = np.where(scale > 0, (group.returns[at] + shift) / scale, np.nan)
    measured = {
        APART: apart / settings.quorum.outlier,
        ASIDE: np.where(np.isnan(apart), np.nan, streak),
        FROZEN: np.where(shift == 0, group.frozen[at], 0.0),
        RETURN_Z: return_z,
    }
    numbers = pl.DataFrame(measured).with_columns(pl.all().fill_nan(None))
    return pl.concat([own.select("row", "hour"), numbers], how="horizontal").with_columns(column=pl.Series(at[2]))


def _majority(level: Matrix, venues: NDArray[Any]) -> tuple[Matrix, Index]:
    """Return per hour and slot (H x S x 1) the median of the venues' values and the number of venues that have one.

    The venue in question votes too: of three, one that is wrong would drag the middle of the other two along.
    """
    each = [venues == venue for venue in np.unique(venues)]
    # A venue that lists an asset under several symbols has one vote.
    votes = np.sort(np.stack([np.fmin.reduce(level[..., mine], axis=-1) for mine in each], axis=-1), axis=-1)
    count = (~np.isnan(votes)).sum(axis=-1, keepdims=True)
    lower, upper = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, len(each) - 1)
    median = (np.take_along_axis(votes, lower, axis=-1) + np.take_along_axis(votes, upper, axis=-1)) / 2
    return median, count


def _before(level: Matrix, hours: Index, lag: int) -> Matrix:
    """Return the values of `lag` hours before; NaN where that hour is not there."""
    at = np.searchsorted(hours, hours - lag)
    return np.where((hours[at] == hours - lag)[:, None, None], level[at], np.nan)


def _hourly(level: Matrix) -> Matrix:
    """Return each hour's first value (H x 1 x L)."""
    return np.take_along_axis(level, (~np.isnan(level)).argmax(axis=1)[:, None, :], axis=1)


def _rolling(level: Matrix, hours: Index, window_h: int) -> Matrix:
    """Return the median over the hours before each hour, of at least `_LEAST_HISTORY`; the hour itself is left out."""
    frame = pl.DataFrame(level.reshape(len(hours), -1)).with_columns(pl.all().fill_nan(None), hour=pl.Series(hours))
    medians = pl.all().exclude("hour").rolling_median_by(
        "hour", f"{window_h}i", closed="left", min_samples=_LEAST_HISTORY
    )  # fmt: skip
    return frame.select(medians).cast(pl.Float64).fill_null(np.nan).to_numpy().reshape(level.shape)


def _streak(flags: NDArray[np.bool_], hours: Index) -> Matrix:
    """Return for how many hours in a row, up to each, the flag has been up; an hour that is missing ends a streak."""
    index = np.arange(len(hours))[:, None, None]
    starts = np.diff(hours, prepend=hours[0] - 2) != 1
    last_down = np.maximum.accumulate(np.where(flags, -1, index), axis=0)
    run_start = np.maximum.accumulate(np.where(starts, index[:, 0, 0], 0))[:, None, None] - 1
    return np.where(flags, index - np.maximum(last_down, run_start), 0).astype(np.float64)


def _found(
    group: _Group, venues: list[str], measured: pl.DataFrame, where: dict[str, Any], settings: Quality
) -> list[dict[str, Any]]:
    if len(set(venues)) < _QUORUM:
        told = f"{len(set(venues))} venues: no majority, nothing is set aside"
        return [_line(where, ", ".join(sorted(set(venues))), told, np.unique(measured["hour"].to_numpy()))]
    verdicts = {
        "set aside: disagrees": (pl.col(ASIDE) >= settings.quorum.hours) | (pl.col(APART) > 1),
        "set aside: frozen": pl.col(FROZEN) >= settings.frozen_h,
    }
    out = []
    spoken = ~np.isnan(group.value).all(axis=1)
    last_word = np.maximum.accumulate(np.where(spoken, group.hours[:, None], -(10**9)), axis=0)
    within = group.hours[:, None] - last_word <= LOOKBACK.days * 24
    silent = ~spoken & within & (spoken.sum(axis=1) >= 2)[:, None]
    asked = np.isin(group.hours, measured["hour"].to_numpy())
    for column, venue in enumerate(venues):
        own = measured.filter(pl.col("column") == column)
        for name, broken in verdicts.items():
            out.append(_line(where, venue, name, np.unique(own.filter(broken)["hour"].to_numpy())))
        out.append(_line(where, venue, "silent", group.hours[asked & silent[:, column]]))
    return [line for line in out if line["hours"]]


def _line(where: dict[str, Any], venue: str, verdict: str, hours: Index) -> dict[str, Any]:
    ends = [datetime.fromtimestamp(int(hour) * 3600, UTC) for hour in hours[[0, -1]]] if len(hours) else [None, None]
    return {**where, "venue": venue, "verdict": verdict, "hours": len(hours), "first": ends[0], "last": ends[1]}

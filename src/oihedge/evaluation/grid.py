"""Prices and funding laid on one hourly grid, as arrays that every strategy is run against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oihedge.core.clock import HOUR, floor_hour, iso
from oihedge.core.errors import DataError, SchemaError
from oihedge.core.tables import UTC_TIME

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

PRICES = ("asset", "ts", "spot_open", "perp_open")
FUNDING = ("asset", "ts", "rate")
EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


@dataclass(frozen=True)
class AssetGrid:
    """One asset: n + 1 opens and the n hours between them.

    `tradable` says at which of the n opens a bar is there to be filled; a missing bar is valued at the last price.
    `funding_rate` sums the rates paid in (open, next open].
    """

    quantity: float
    spot: Floats
    perp: Floats
    tradable: NDArray[np.bool_]
    funding_rate: Floats


@dataclass(frozen=True)
class MarketGrid:
    """All assets over the opens `instants` (microseconds since the epoch, n + 1 of them)."""

    instants: Ints
    assets: Mapping[str, AssetGrid]
    cash: float

    @property
    def hours(self) -> int:
        """Return n, the number of hours."""
        return int(self.instants.size - 1)

    @property
    def ends(self) -> pl.Series:
        """Return the n instants at which the hours end."""
        return pl.Series("ts", self.instants[1:]).cast(UTC_TIME)


def require_columns(frame: pl.DataFrame, columns: tuple[str, ...], name: str) -> None:
    """Refuse a frame that lacks one of `columns`.

    Raises:
        SchemaError: naming the column.
    """
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        got = ", ".join(frame.columns)
        raise SchemaError(f"{name} lack column {missing[0]!r}", expected=", ".join(columns), got=got)


def micros(instant: datetime) -> int:
    """Return `instant` in whole microseconds since the epoch."""
    return (instant - EPOCH) // timedelta(microseconds=1)


def lay_grid(
    prices: pl.DataFrame,
    funding: pl.DataFrame,
    holdings: Mapping[str, float],
    *,
    start: datetime,
    end: datetime,
    cash: float = 0.0,
) -> MarketGrid:
    """Lay opens and funding on the hours of [start, end], or up to the newest bar where that is earlier.

    Args:
        prices: asset, ts (bar open), spot_open, perp_open, in quote per coin.
        funding: asset, ts (payment instant; a stamp late by seconds counts for its minute), rate of the hedge leg.
        holdings: coins held per asset.
        start: first open.
        end: last open, where the last hour ends.
        cash: money beside the coins.

    Raises:
        SchemaError: if a column is missing.
        DataError: if an asset has no price in the window.
    """
    require_columns(prices, PRICES, "prices")
    require_columns(funding, FUNDING, "funding rows")
    first, last = floor_hour(start), floor_hour(end)
    prices = prices.filter(pl.col("asset").is_in(list(holdings)), pl.col("ts").is_between(first, last))
    if not holdings or prices.is_empty():
        raise DataError("no prices to backtest on", expected=f"hourly opens in {iso(first)} .. {iso(last)}", got="none")
    newest: datetime = prices["ts"].max()  # type: ignore[assignment]
    count = (min(last, newest) - first) // HOUR
    if count < 1:
        raise DataError("the backtest window is empty", expected="two hourly opens or more", got=iso(first))
    instants = micros(first) + np.arange(count + 1, dtype=np.int64) * 3_600_000_000
    assets = {name: _asset(name, held, prices, funding, instants) for name, held in holdings.items()}
    return MarketGrid(instants, assets, cash)


def _asset(name: str, quantity: float, prices: pl.DataFrame, funding: pl.DataFrame, instants: Ints) -> AssetGrid:
    rows = prices.filter(pl.col("asset") == name).unique("ts", keep="last").sort("ts")
    spot, perp = np.full(instants.size, np.nan), np.full(instants.size, np.nan)
    at = rows["ts"].dt.epoch("us").to_numpy()
    slot = np.searchsorted(instants, at)
    on_grid = instants[np.minimum(slot, instants.size - 1)] == at
    spot[slot[on_grid]] = rows["spot_open"].cast(pl.Float64).fill_null(np.nan).to_numpy()[on_grid]
    perp[slot[on_grid]] = rows["perp_open"].cast(pl.Float64).fill_null(np.nan).to_numpy()[on_grid]
    there = np.isfinite(spot) & np.isfinite(perp)
    if not there.any():
        raise DataError(f"no spot and perp opens of {name}", expected="at least one in the backtest window", got="none")
    nearest = _last_there(there)
    return AssetGrid(quantity, spot[nearest], perp[nearest], there[:-1], _rates(name, funding, instants))


def _last_there(there: NDArray[np.bool_]) -> Ints:
    """Return per slot the newest slot at or before it that is there; before the first one, the first one."""
    newest = np.maximum.accumulate(np.where(there, np.arange(there.size), -1))
    return np.where(newest < 0, int(np.argmax(there)), newest).astype(np.int64)


def _rates(name: str, funding: pl.DataFrame, instants: Ints) -> Floats:
    rows = funding.filter(pl.col("asset") == name, pl.col("rate").is_not_null())
    at = rows["ts"].dt.truncate("1m").dt.epoch("us").to_numpy()
    hour = np.searchsorted(instants, at, side="left") - 1
    inside = (hour >= 0) & (at <= instants[-1])
    rates = np.bincount(hour[inside], weights=rows["rate"].to_numpy()[inside], minlength=instants.size - 1)
    return np.asarray(rates, dtype=np.float64)

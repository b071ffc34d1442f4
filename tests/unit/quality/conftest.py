from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from oihedge.quality.settings import Quality

Rows = Callable[..., pl.DataFrame]
FIRST = datetime(2025, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="session")
def limits() -> Quality:
    return Quality(max_hourly_move=0.5, max_oi_jump=10.0, neighbour_h=24, max_funding_rate=0.05, min_good_share=0.9)


def _times(count: int, first: datetime, hours: int, held_h: int) -> pl.DataFrame:
    ts = [first + i * timedelta(hours=hours) for i in range(count)]
    available = [t + timedelta(hours=held_h, seconds=5) for t in ts]
    kind = pl.Datetime("us", "UTC")
    named = pl.DataFrame({"ts": ts, "available_at": available}, schema={"ts": kind, "available_at": kind})
    return named.with_columns(venue=pl.lit("bybit"), symbol=pl.lit("BTC/USDT:USDT"), asset=pl.lit("BTC"))


@pytest.fixture(scope="session")
def bars() -> Rows:
    """Make good hourly bars, one per close."""

    def make(*closes: float, first: datetime = FIRST) -> pl.DataFrame:
        close = pl.Series("close", closes, dtype=pl.Float64)
        numbers = pl.DataFrame(
            {"open": close, "high": close * 1.01, "low": close * 0.99, "close": close, "volume": close}
        )
        times = _times(len(closes), first, 1, 1).with_columns(kind=pl.lit("perp"), timeframe=pl.lit("1h"))
        return pl.concat([times, numbers], how="horizontal")

    return make


@pytest.fixture(scope="session")
def snapshots() -> Rows:
    """Make hourly open-interest snapshots, one per level in coins."""

    def make(*levels: float | None, first: datetime = FIRST) -> pl.DataFrame:
        oi = pl.DataFrame({"oi_base": pl.Series(levels, dtype=pl.Float64)})
        rows = pl.concat([_times(len(levels), first, 1, 0), oi], how="horizontal")
        return rows.with_columns(oi_usd=pl.lit(None, dtype=pl.Float64), unit_source=pl.lit("coins"))

    return make


@pytest.fixture(scope="session")
def payments() -> Rows:
    """Make eight-hourly funding payments."""

    def make(*rates: float, first: datetime = FIRST) -> pl.DataFrame:
        rate = pl.DataFrame({"rate": pl.Series(rates, dtype=pl.Float64)})
        rows = pl.concat([_times(len(rates), first, 8, 0), rate], how="horizontal")
        return rows.with_columns(interval_h=pl.lit(8.0))

    return make

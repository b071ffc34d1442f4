"""A small market of random walks with two perp venues that the feature tests read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from oihedge.features.settings import Features

START = datetime(2025, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
UTC_TIME = pl.Datetime("us", "UTC")
VENUES = ("binanceusdm", "bybit")


def _stamps(hours: int, step: int = 1) -> pl.Series:
    return pl.datetime_range(START, START + (hours - 1) * HOUR, f"{step}h", time_zone="UTC", eager=True).cast(UTC_TIME)


def _bars(asset: str, venue: str, kind: str, close: np.ndarray) -> pl.DataFrame:
    symbol = f"{asset}/USDT:USDT" if kind == "perp" else f"{asset}/USDT"
    frame = pl.DataFrame({"ts": _stamps(len(close)), "close": close}).with_columns(
        open=pl.col("close").shift(1, fill_value=close[0])
    )
    return frame.select(
        venue=pl.lit(venue), symbol=pl.lit(symbol), asset=pl.lit(asset),
        kind=pl.lit(kind), timeframe=pl.lit("1h"), ts="ts", open="open", high=pl.max_horizontal("open", "close"),
        low=pl.min_horizontal("open", "close"), close="close", volume=pl.lit(1.0),
        available_at=pl.col("ts") + HOUR + timedelta(seconds=5),
    )  # fmt: skip


def _market_rows(asset: str, venue: str, stamps: pl.Series, **values: object) -> pl.DataFrame:
    frame = pl.DataFrame({"ts": stamps, **values})
    named = [pl.lit(venue).alias("venue"), pl.lit(f"{asset}/USDT:USDT").alias("symbol"), pl.lit(asset).alias("asset")]
    return frame.select(*named, "ts", *values, available_at=pl.col("ts") + timedelta(seconds=5))


def random_market(assets: tuple[str, ...] = ("BTC", "ETH"), hours: int = 400, seed: int = 3) -> dict[str, pl.DataFrame]:
    """Hourly ohlcv, open_interest and 8-hourly funding of random walks."""
    draw = np.random.default_rng(seed)
    bars, interest, funding = [], [], []
    for asset in assets:
        walk = 100 * np.exp(np.cumsum(draw.normal(0, 0.01, hours)))
        bars.append(_bars(asset, "binance", "spot", walk))
        for venue in VENUES:
            bars.append(_bars(asset, venue, "perp", walk * np.exp(draw.normal(0, 0.001, hours))))
            coins = 1e4 * np.exp(np.cumsum(draw.normal(0, 0.02, hours)))
            stamps = _stamps(hours)
            interest.append(
                _market_rows(asset, venue, stamps, oi_base=coins, oi_usd=coins * 100, unit_source=["base"] * hours)
            )
            paid = _stamps(hours, 8)
            rates = draw.normal(1e-4, 1e-4, len(paid))
            funding.append(_market_rows(asset, venue, paid, rate=rates, interval_h=[8.0] * len(paid)))
    return {"ohlcv": pl.concat(bars), "open_interest": pl.concat(interest), "funding": pl.concat(funding)}


@pytest.fixture(scope="session")
def market() -> dict[str, pl.DataFrame]:
    return random_market()


@pytest.fixture(scope="session")
def settings() -> Features:
    """Short windows, so that a few hundred hours are enough."""
    return Features(
        assets=("BTC", "ETH"), price_kind="spot", spot_venue="binance", perp_venue="binanceusdm",
        oi_venues=("binanceusdm", "bybit"), funding_venues=("binanceusdm", "bybit"), divergence_window_h=12,
        gap_window_h=4, z_window_h=48, rank_window_h=60, max_oi_age_h=1, max_funding_age_h=9, funding_clock_h=8,
    )  # fmt: skip

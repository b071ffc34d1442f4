"""Hourly bars and 5-minute rows are two views of one grid."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal, assert_series_equal

from oihedge.simulator.market import EmbeddedMarket, Kind

MARKETS = [
    ("binanceusdm", "perp"), ("bybit", "perp"), ("hyperliquid", "perp"), ("binance", "spot"), ("bybit", "spot"),
    ("binanceusdm", "mark"), ("binanceusdm", "index"),
]  # fmt: skip
DAYS = timedelta(days=6)


@pytest.mark.parametrize(("venue", "kind"), MARKETS)
@pytest.mark.parametrize("asset", ["BTC", "NEAR"])
def test_hourly_bars_are_the_5_minute_bars_of_the_hour(
    market: EmbeddedMarket, asset: str, venue: str, kind: Kind
) -> None:
    end = market.origin + DAYS
    hourly = market.bars(asset, venue, kind, market.origin, end)
    fine = market.bars(asset, venue, kind, market.origin, end, "5m")
    built = fine.group_by_dynamic("ts", every="1h").agg(
        pl.col("open").first(),
        pl.col("high").max(),
        pl.col("low").min(),
        pl.col("close").last(),
        pl.col("volume").sum(),
    )
    assert_frame_equal(hourly.drop("volume"), built.drop("volume"), check_exact=True)
    assert_series_equal(hourly["volume"], built["volume"], rel_tol=1e-9)


@pytest.mark.parametrize("venue", ["binanceusdm", "bybit", "hyperliquid"])
def test_open_interest_on_the_hour_is_the_same_on_both_scales(market: EmbeddedMarket, venue: str) -> None:
    end = market.origin + DAYS
    hourly = market.open_interest("ETH", venue, market.origin, end)
    fine = market.open_interest("ETH", venue, market.origin, end, "5m")
    assert_frame_equal(hourly, fine.filter(pl.col("ts").dt.minute() == 0), check_exact=True)


def test_open_interest_in_usd_is_coins_at_the_mark_price_of_that_instant(market: EmbeddedMarket) -> None:
    end = market.origin + DAYS
    oi = market.open_interest("BTC", "bybit", market.origin, end - timedelta(hours=1))
    mark = market.bars("BTC", "bybit", "mark", market.origin, end)["open"]
    assert_series_equal(oi["oi_usd"], (oi["oi_base"] * mark).round(4).alias("oi_usd"), rel_tol=1e-12)


@pytest.mark.parametrize(("venue", "kind"), MARKETS)
@pytest.mark.parametrize("timeframe", ["1h", "5m"])
def test_bars_hold_together(market: EmbeddedMarket, venue: str, kind: Kind, timeframe: str) -> None:
    bars = market.bars("ETH", venue, kind, market.origin, market.origin + DAYS, timeframe)  # type: ignore[arg-type]
    assert (bars["high"] >= bars.select(pl.max_horizontal("open", "close")).to_series()).all()
    assert (bars["low"] <= bars.select(pl.min_horizontal("open", "close")).to_series()).all()
    assert (bars["low"] > 0).all()
    assert (bars["open"][1:] == bars["close"][:-1]).all()
    assert (bars["volume"] > 0).all() if kind in ("spot", "perp") else (bars["volume"] == 0).all()


@pytest.mark.parametrize(("venue", "kind"), MARKETS[:5])
def test_prices_and_sizes_have_the_venue_s_decimals(market: EmbeddedMarket, venue: str, kind: Kind) -> None:
    how = market.instrument("NEAR", venue, kind)
    bars = market.bars("NEAR", venue, kind, market.origin, market.origin + DAYS, "5m")
    for name in ("open", "high", "low", "close"):
        assert (bars[name].round(how.price_decimals) == bars[name]).all()
    assert (bars["volume"].round(how.size_decimals) == bars["volume"]).all()

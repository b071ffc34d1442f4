"""Minute bars are a finer view of the 5-minute grid, which knows nothing of them."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal, assert_series_equal

from oihedge.simulator.market import EmbeddedMarket, Kind
from oihedge.simulator.settings import Simulator

MARKETS: list[tuple[str, str, Kind]] = [
    ("BTC", "binanceusdm", "perp"), ("NEAR", "hyperliquid", "perp"), ("ETH", "bybit", "perp"), ("BTC", "okx", "perp"),
    ("BTC", "binance", "spot"), ("NEAR", "bybit", "spot"), ("ETH", "coinbase", "spot"), ("NEAR", "bitfinex", "spot"),
    ("ETH", "binanceusdm", "mark"), ("BTC", "*", "index"),
]  # fmt: skip
DAYS = timedelta(days=4)


def test_reading_minutes_leaves_the_grid_s_own_rows(simulator: Simulator, market: EmbeddedMarket) -> None:
    end, other = market.origin + DAYS, EmbeddedMarket(simulator)
    for asset, venue, kind in MARKETS:
        other.bars(asset, venue, kind, market.origin, end, "1m")
        for step in ("5m", "1h"):
            ours, theirs = (m.bars(asset, venue, kind, m.origin, end, step) for m in (market, other))  # type: ignore[arg-type]
            assert_frame_equal(ours, theirs, check_exact=True)


@pytest.mark.parametrize(("asset", "venue", "kind"), MARKETS)
@pytest.mark.parametrize("timeframe", ["5m", "1h"])
def test_minutes_put_together_are_the_bar_itself(
    market: EmbeddedMarket, asset: str, venue: str, kind: Kind, timeframe: str
) -> None:
    end = market.origin + DAYS
    fine = market.bars(asset, venue, kind, market.origin, end, "1m")
    built = fine.group_by_dynamic("ts", every=timeframe).agg(
        pl.col("open").first(), pl.col("high").max(), pl.col("low").min(), pl.col("close").last(),
        pl.col("volume").sum(),
    )  # fmt: skip
    want = market.bars(asset, venue, kind, market.origin, end, timeframe)  # type: ignore[arg-type]
    assert_frame_equal(built.drop("volume"), want.drop("volume"), check_exact=True)
    assert_series_equal(built["volume"], want["volume"], abs_tol=1e-6 if timeframe == "1h" else 1e-9)


@pytest.mark.parametrize(("asset", "venue", "kind"), MARKETS)
def test_minute_bars_hold_together_and_have_the_venue_s_decimals(
    market: EmbeddedMarket, asset: str, venue: str, kind: Kind
) -> None:
    bars = market.bars(asset, venue, kind, market.origin, market.origin + DAYS, "1m")
    assert bars["ts"].diff().drop_nulls().unique().to_list() == [timedelta(minutes=1)]
    assert (bars["high"] >= bars.select(pl.max_horizontal("open", "close")).to_series()).all()
    assert (bars["low"] <= bars.select(pl.min_horizontal("open", "close")).to_series()).all()
    assert (bars["open"][1:] == bars["close"][:-1]).all()
    assert (bars["volume"] >= 0).all()
    if kind in ("spot", "perp"):
        how = market.instrument(asset, venue, kind)
        for name in ("open", "high", "low", "close"):
            assert (bars[name].round(how.price_decimals) == bars[name]).all()
        assert (bars["volume"].round(how.size_decimals) == bars["volume"]).all()


@settings(max_examples=30, deadline=None)
@given(
    which=st.integers(0, len(MARKETS) - 1),
    window=st.tuples(st.integers(-200, 5760), st.integers(0, 5760)).map(lambda pair: (min(pair), max(pair))),
    other=st.booleans(),
)
def test_any_window_of_any_market_object_gives_the_same_minutes(
    market: EmbeddedMarket, which: int, window: tuple[int, int], other: bool
) -> None:
    asset, venue, kind = MARKETS[which]
    start, end = (market.origin + timedelta(minutes=n) for n in window)
    asked = EmbeddedMarket(market.settings) if other and window[1] < 3000 else market
    whole = market.bars(asset, venue, kind, market.origin, market.origin + DAYS, "1m")
    want = whole.filter(pl.col("ts").is_between(start, end, closed="left"))
    assert_frame_equal(asked.bars(asset, venue, kind, start, end, "1m"), want, check_exact=True)


def test_minutes_are_about_as_rough_as_their_5_minutes_say(market: EmbeddedMarket) -> None:
    end = market.origin + timedelta(days=30)
    moves = {
        name: market.bars("BTC", "binance", "spot", market.origin, end, name)["close"].log().diff().drop_nulls().std()
        for name in ("1m", "5m")
    }  # type: ignore[misc]
    assert 0.85 < float(moves["1m"]) * 5**0.5 / float(moves["5m"]) < 1.05  # type: ignore[arg-type]


def test_venues_move_together_within_the_5_minutes(market: EmbeddedMarket) -> None:
    end = market.origin + DAYS
    ours, theirs = (
        market.bars("BTC", venue, kind, market.origin, end, "1m").select(pl.col("close").log().diff()).to_series()
        for venue, kind in (("binanceusdm", "perp"), ("coinbase", "spot"))
    )  # type: ignore[misc]
    assert pl.DataFrame({"a": ours, "b": theirs}).drop_nulls().select(pl.corr("a", "b")).item() > 0.9


def test_another_seed_has_other_minutes(simulator: Simulator, market: EmbeddedMarket) -> None:
    other = EmbeddedMarket(simulator.model_copy(update={"seed": simulator.seed + 1}))
    end = market.origin + timedelta(hours=1)
    ours, theirs = (m.bars("BTC", "binance", "spot", m.origin, end, "1m")["volume"] for m in (market, other))
    assert (ours != theirs).all()

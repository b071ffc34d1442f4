"""A row of the market does not depend on the window asked for, nor on how far the market has been extended."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from oihedge.core.errors import ConfigError
from oihedge.core.tables import UTC_TIME
from oihedge.simulator.market import EmbeddedMarket
from oihedge.simulator.settings import Simulator

DAYS = 40
HOUR = timedelta(hours=1)
READS = [
    ("bars", ("BTC", "binance", "spot"), {"timeframe": "1h"}),
    ("bars", ("NEAR", "hyperliquid", "perp"), {"timeframe": "5m"}),
    ("bars", ("ETH", "bybit", "mark"), {"timeframe": "1h"}),
    ("open_interest", ("BTC", "bybit"), {"step": "5m"}),
    ("open_interest", ("NEAR", "binanceusdm"), {"step": "1h"}),
    ("funding", ("ETH", "binanceusdm"), {}),
    ("funding", ("BTC", "hyperliquid"), {}),
]


def read(
    market: EmbeddedMarket, what: str, of: tuple[Any, ...], start: datetime, end: datetime, more: Any
) -> pl.DataFrame:
    return getattr(market, what)(*of, start, end, **more)


def within(rows: pl.DataFrame, what: str, start: datetime, end: datetime) -> pl.DataFrame:
    return rows.filter(pl.col("ts").is_between(start, end, closed="left" if what == "bars" else "both"))


@pytest.fixture(scope="module")
def whole(market: EmbeddedMarket) -> list[pl.DataFrame]:
    end = market.origin + timedelta(days=DAYS)
    return [read(market, what, of, market.origin, end, more) for what, of, more in READS]


@settings(max_examples=40, deadline=None)
@given(
    which=st.integers(0, len(READS) - 1),
    minutes=st.tuples(st.integers(-3000, DAYS * 1440), st.integers(0, DAYS * 1440)).map(
        lambda pair: (min(pair), max(pair))
    ),
    other=st.booleans(),
)
def test_any_window_gives_the_rows_of_the_whole(
    market: EmbeddedMarket, whole: list[pl.DataFrame], which: int, minutes: tuple[int, int], other: bool
) -> None:
    what, of, more = READS[which]
    start, end = (market.origin + timedelta(minutes=m, seconds=7 * (m % 2)) for m in minutes)
    asked = EmbeddedMarket(market.settings) if other and minutes[1] < 10_000 else market
    assert_frame_equal(
        read(asked, what, of, start, end, more), within(whole[which], what, start, end), check_exact=True
    )


@pytest.mark.parametrize("steps", [[1, 2, 3, 40], [40, 1], [7, 7, 39]])
def test_extending_the_market_leaves_its_past(
    simulator: Simulator, market: EmbeddedMarket, whole: list[pl.DataFrame], steps: list[int]
) -> None:
    grown = EmbeddedMarket(simulator)
    for days in steps:
        for (what, of, more), want in zip(READS, whole, strict=True):
            end = grown.origin + timedelta(days=days)
            rows = read(grown, what, of, grown.origin, end, more)
            assert_frame_equal(rows, within(want, what, grown.origin, end), check_exact=True)


def test_reading_a_later_day_computes_only_what_is_new(simulator: Simulator) -> None:
    grown = EmbeddedMarket(simulator)
    grown.bars("BTC", "binance", "spot", grown.origin, grown.origin + timedelta(days=5))
    known = list(grown._paths)
    grown.bars("BTC", "binance", "spot", grown.origin, grown.origin + timedelta(days=6))
    assert len(grown._paths) == 6
    assert all(now is before for now, before in zip(grown._paths, known, strict=False))


def test_another_seed_is_another_market(simulator: Simulator, market: EmbeddedMarket) -> None:
    other = EmbeddedMarket(simulator.model_copy(update={"seed": simulator.seed + 1}))
    end = market.origin + timedelta(days=1)
    ours, theirs = (m.bars("BTC", "binance", "spot", m.origin, end)["close"] for m in (market, other))
    assert (ours != theirs).all()


def test_frames_have_utc_stamps_and_no_gaps(market: EmbeddedMarket) -> None:
    end = market.origin + timedelta(days=3)
    bars = market.bars("BTC", "bybit", "perp", market.origin, end)
    assert bars.schema["ts"] == UTC_TIME
    assert bars["ts"].diff().drop_nulls().unique().to_list() == [HOUR]
    assert bars["ts"][-1] == end - HOUR
    assert market.open_interest("BTC", "bybit", market.origin, end)["ts"][-1] == end


def test_funding_is_paid_on_the_venue_s_clock(market: EmbeddedMarket) -> None:
    end = market.origin + timedelta(days=2)
    for venue, interval in (("binanceusdm", 8), ("bybit", 8), ("hyperliquid", 1)):
        paid = market.funding("BTC", venue, market.origin, end)
        assert paid["ts"].to_list() == [market.origin + HOUR * h for h in range(interval, 49, interval)]
        assert set(paid["interval_h"]) == {float(interval)}


@pytest.mark.parametrize(
    ("what", "of", "more", "named"),
    [
        ("bars", ("DOGE", "binance", "spot"), {}, "DOGE"),
        ("bars", ("BTC", "binance", "perp"), {}, "no perp market for BTC on binance"),
        ("bars", ("BTC", "binance", "spot"), {"timeframe": "7m"}, "'7m'"),
        ("open_interest", ("BTC", "bybit"), {"step": "1m"}, "'1m'"),
        ("open_interest", ("BTC", "kraken"), {}, "kraken"),
        ("funding", ("BTC", "binance"), {}, "no perp market for BTC on binance"),
    ],
)
def test_what_there_is_not_is_refused_by_name(
    market: EmbeddedMarket, what: str, of: tuple[Any, ...], more: Any, named: str
) -> None:
    with pytest.raises(ConfigError, match=named):
        read(market, what, of, market.origin, market.origin + HOUR, more)


def test_a_naive_instant_is_refused(market: EmbeddedMarket) -> None:
    with pytest.raises(ConfigError, match="no time zone"):
        market.bars("BTC", "binance", "spot", datetime(2024, 1, 1), datetime(2024, 1, 2))  # noqa: DTZ001


def test_a_start_far_ahead_does_not_move_the_market_there(simulator: Simulator) -> None:
    market = EmbeddedMarket(simulator)
    for what, of, more in READS:
        start = market.origin + timedelta(days=400_000, hours=13, minutes=7)
        assert read(market, what, of, start, market.origin + HOUR, more).is_empty()
    assert len(market._paths) <= 1


def test_an_empty_window_gives_an_empty_frame_with_its_types(market: EmbeddedMarket) -> None:
    for what, of, more in READS:
        before = market.origin - timedelta(days=3)
        rows = read(market, what, of, before, before + HOUR, more)
        assert rows.is_empty()
        assert rows.schema["ts"] == UTC_TIME

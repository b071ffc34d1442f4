"""Spot venues that follow: unmodified ccxt clients get the market's own rows, by each venue's rules of paging."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import ccxt
import polars as pl
import pytest
from fakes.loopback_client import client, ms
from hypothesis import given, settings
from hypothesis import strategies as st

from oihedge.core.clock import FixedClock
from oihedge.simulator import binance_statistics, bitfinex, coinbase, deribit
from oihedge.simulator.asked import Asked, Malformed, Refused
from oihedge.simulator.market import STEP, EmbeddedMarket
from oihedge.simulator.server import LoopbackServer
from oihedge.simulator.view import View

NOW = datetime(2024, 1, 25, 10, 23, 11, tzinfo=UTC)
HOUR = timedelta(hours=1)
SYMBOLS = {
    ("okx", "BTC"): "BTC/USDT", ("coinbase", "BTC"): "BTC/USD", ("bitfinex", "BTC"): "BTC/USD",
    ("okx", "NEAR"): "NEAR/USDT", ("coinbase", "NEAR"): "NEAR/USD", ("bitfinex", "NEAR"): "NEAR/USD",
}  # fmt: skip
VENUES = ("okx", "coinbase", "bitfinex")


@pytest.fixture(scope="module")
def url(market: EmbeddedMarket) -> Iterator[str]:
    with LoopbackServer(market, FixedClock(NOW)) as server:
        yield server.url


@pytest.fixture(scope="module")
def clients(url: str) -> dict[str, Any]:
    made = {"okx": client("okx", url, fetchMarkets={"types": ["spot"]})}
    made |= {name: client(name, url) for name in ("coinbase", "bitfinex")}
    for venue in made.values():
        venue.load_markets()
    return made


@pytest.mark.parametrize("name", VENUES)
def test_the_venue_lists_every_asset_as_spot(clients: dict[str, Any], market: EmbeddedMarket, name: str) -> None:
    venue = clients[name]
    assert {venue.market(symbol)["base"] for symbol in venue.symbols} >= set(market.assets)
    assert all(venue.market(symbol)["spot"] for (where, _), symbol in SYMBOLS.items() if where == name)


@pytest.mark.parametrize("name", ["okx", "coinbase"])
def test_precision_is_that_of_the_settings(clients: dict[str, Any], market: EmbeddedMarket, name: str) -> None:
    how = market.instrument("NEAR", name, "spot")
    found = clients[name].market(SYMBOLS[name, "NEAR"])["precision"]
    assert found["price"] == pytest.approx(10.0**-how.price_decimals)
    assert found["amount"] == pytest.approx(10.0**-how.size_decimals)


@pytest.mark.parametrize(("name", "asset"), SYMBOLS)
@pytest.mark.parametrize("timeframe", ["1h", "5m", "1m"])
def test_bars_are_the_market_s_own(
    clients: dict[str, Any], market: EmbeddedMarket, name: str, asset: str, timeframe: Any
) -> None:
    start = NOW.replace(minute=0, second=0) - 30 * HOUR
    end = start + 90 * STEP[timeframe]
    rows = clients[name].fetch_ohlcv(
        SYMBOLS[name, asset], timeframe, since=ms(start), limit=90, params={"until": ms(end)}
    )
    want = market.bars(asset, name, "spot", start, min(end, NOW), timeframe)
    if timeframe == "1h":
        rows, want = rows[:-1], want.head(len(rows) - 1)
    assert [row[0] for row in rows] == [ms(ts) for ts in want["ts"]]
    assert [tuple(row[1:]) for row in rows] == want.drop("ts").rows()


@pytest.mark.parametrize("name", VENUES)
def test_nothing_is_served_after_now(clients: dict[str, Any], name: str) -> None:
    rows = clients[name].fetch_ohlcv(
        SYMBOLS[name, "BTC"], "1h", since=ms(NOW - 5 * HOUR), limit=100, params={"until": ms(NOW + 20 * HOUR)}
    )
    running = NOW.replace(minute=0, second=0)  # the okx client asks for history, which has finished bars only
    assert rows[-1][0] == ms(running - HOUR if name == "okx" else running)


def test_coinbase_refuses_a_range_of_more_than_350_candles(clients: dict[str, Any]) -> None:
    since = NOW - timedelta(days=20)
    with pytest.raises(ccxt.ExchangeError, match="350"):
        clients["coinbase"].fetch_ohlcv("BTC/USD", "1h", since=ms(since), params={"until": ms(since + 352 * HOUR)})
    raw = clients["coinbase"].v3PublicGetBrokerageMarketProductsProductIdCandles(
        {"product_id": "BTC-USD", "granularity": "ONE_HOUR", "start": ms(since) // 1000,
         "end": ms(since + 349 * HOUR) // 1000}
    )["candles"]  # fmt: skip
    stamps = [int(row["start"]) for row in raw]
    assert len(stamps) == 349
    assert stamps == sorted(stamps, reverse=True)


def test_bitfinex_serves_10_000_candles_ascending_or_the_newest(
    clients: dict[str, Any], market: EmbeddedMarket
) -> None:
    since = market.origin + timedelta(days=1)
    rows = clients["bitfinex"].fetch_ohlcv("BTC/USD", "1m", since=ms(since), limit=10_000)
    assert len(rows) == 10_000
    assert rows[0][0] == ms(since)
    newest = clients["bitfinex"].publicGetCandlesTradeTimeframeSymbolHist(
        {"timeframe": "1h", "symbol": "tBTCUSD", "limit": 3}
    )
    opened = NOW.replace(minute=0, second=0)
    assert [int(row[0]) for row in newest] == [ms(opened - n * HOUR) for n in range(3)]


@pytest.mark.parametrize("name", VENUES)
def test_a_following_venue_shows_the_fair_price_with_its_own_small_noise(market: EmbeddedMarket, name: str) -> None:
    end = market.origin + timedelta(days=20)
    bars, fair = (market.bars("ETH", name, kind, market.origin, end, "5m") for kind in ("spot", "index"))  # type: ignore[arg-type]
    away = (bars["close"] / fair["close"]).log()
    assert abs(float(away.mean())) < 2e-5  # type: ignore[arg-type]
    noise = market.spots[name].price_noise
    assert 0.8 * noise < float(away.std()) < 1.5 * noise  # type: ignore[arg-type]
    others = [market.bars("ETH", other, "spot", market.origin, end, "5m")["close"] for other in VENUES if other != name]
    for other in others:
        apart = (other / fair["close"]).log()
        assert abs(pl.DataFrame({"a": away, "b": apart}).select(pl.corr("a", "b")).item()) < 0.1


@pytest.mark.parametrize("name", VENUES)
def test_a_following_venue_s_bars_hold_together(market: EmbeddedMarket, name: str) -> None:
    bars = market.bars("NEAR", name, "spot", market.origin, market.origin + timedelta(days=10), "5m")
    assert (bars["high"] >= bars.select(pl.max_horizontal("open", "close")).to_series()).all()
    assert (bars["low"] <= bars.select(pl.min_horizontal("open", "close")).to_series()).all()
    assert (bars["open"][1:] == bars["close"][:-1]).all()
    assert (bars["volume"] > 0).all()


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("coinbase", lambda c: c.v3PublicGetBrokerageMarketProductBook({"product_id": "XXX-USD"})),
        ("coinbase", lambda c: c.fetch_ohlcv("BTC/USD", "6h", since=ms(NOW - HOUR))),
        ("bitfinex", lambda c: c.publicGetBookSymbolPrecision({"symbol": "tXXXUSD", "precision": "R0"})),
        ("bitfinex", lambda c: c.fetch_order_book("BTC/USD", 77)),
    ],
)
def test_what_there_is_not_is_refused_in_the_venue_s_words(clients: dict[str, Any], name: str, call: Any) -> None:
    with pytest.raises((ccxt.ExchangeError, ccxt.BadSymbol, ccxt.BadRequest)):
        call(clients[name])


word = st.one_of(
    st.integers(-(10**20), 10**20).map(str),
    st.text(max_size=8),
    st.sampled_from(["BTC", "option", "1D", "25", "1"]),
)
PATHS = [(path, venue) for venue in (coinbase, bitfinex, deribit, binance_statistics) for path in venue.PATHS]
RIGHT = {
    "product_id": "BTC-USD", "granularity": "ONE_MINUTE", "config": "pub:info:pair,pub:list:currency",
    "key": "trade:1m:tNEAR:USD", "symbol": "tBTCUSD", "precision": "R0", "currency": "ETH", "resolution": "3600",
    "instrument_name": "BTC-26JAN24-40000-C", "index_name": "btc_usd", "period": "1h",
}  # fmt: skip
STAMPS = ("start", "end", "startTime", "endTime", "start_timestamp", "end_timestamp", "limit", "len", "sort", "kind")


@settings(max_examples=80, deadline=None)
@given(
    path=st.sampled_from(PATHS),
    values=st.fixed_dictionaries(
        {}, optional={name: st.one_of(st.just(right), word) for name, right in RIGHT.items()}
        | dict.fromkeys(STAMPS, word)
    ),
)  # fmt: skip
def test_any_query_is_answered_or_refused(
    market: EmbeddedMarket, path: tuple[str, Any], values: dict[str, str]
) -> None:
    name, venue = path
    try:
        answer = venue.PATHS[name](View(market, NOW), Asked(values))
    except Malformed as error:
        answer = venue.refusal(error).body
    except Refused as error:
        answer = error.body
    json.dumps(answer, allow_nan=False)

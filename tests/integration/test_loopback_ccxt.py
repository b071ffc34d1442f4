"""Unmodified ccxt clients against the loopback server of the embedded market."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import ccxt
import pytest

from oihedge.config import load
from oihedge.core.clock import FixedClock
from oihedge.simulator.market import EmbeddedMarket
from oihedge.simulator.server import LoopbackServer

NOW = datetime(2024, 2, 20, 10, 23, 11, tzinfo=UTC)
HOUR = timedelta(hours=1)


def ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


@pytest.fixture(scope="module")
def market() -> EmbeddedMarket:
    return EmbeddedMarket(load().simulator)


@pytest.fixture(scope="module")
def url(market: EmbeddedMarket) -> Iterator[str]:
    with LoopbackServer(market, FixedClock(NOW)) as server:
        yield server.url


def rewritten(urls: Any, root: str, hostname: str) -> Any:
    if isinstance(urls, dict):
        return {key: rewritten(value, root, hostname) for key, value in urls.items()}
    path = urls.replace("{hostname}", hostname).split("://", 1)[1]
    return root + "/" + path.partition("/")[2] if "/" in path else root


def client(name: str, root: str, **options: Any) -> Any:
    venue = getattr(ccxt, name)({"enableRateLimit": False, "timeout": 20_000, "options": options})
    venue.urls["api"] = rewritten(venue.urls["api"], root, venue.hostname or "")
    return venue


CLIENTS = {
    "binanceusdm": ("binanceusdm", {"fetchMarkets": {"types": ["linear"]}}),
    "binance": ("binance", {"fetchMarkets": {"types": ["spot"]}}),
    "bybit": ("bybit", {"fetchMarkets": {"types": ["linear", "spot"]}}),
    "hyperliquid": ("hyperliquid", {"fetchMarkets": {"types": ["swap"]}}),
}
PERPS = {"binanceusdm": "BTC/USDT:USDT", "bybit": "BTC/USDT:USDT", "hyperliquid": "BTC/USDC:USDC"}
SPOTS = {"binance": "BTC/USDT", "bybit": "BTC/USDT"}
TRADED = [(venue, symbol, "perp") for venue, symbol in PERPS.items()] + [
    (venue, symbol, "spot") for venue, symbol in SPOTS.items()
]


@pytest.fixture(scope="module")
def clients(url: str) -> dict[str, Any]:
    made = {name: client(kind, url, **options) for name, (kind, options) in CLIENTS.items()}
    for venue in made.values():
        venue.load_markets()
    return made


@pytest.mark.parametrize("name", ["binanceusdm", "binance", "bybit", "hyperliquid"])
def test_a_client_as_it_comes_loads_its_markets(url: str, name: str) -> None:
    venue = client(name, url)
    venue.load_markets()
    symbols = [*([PERPS[name]] if name in PERPS else []), *([SPOTS[name]] if name in SPOTS else [])]
    assert set(symbols) <= set(venue.symbols)


@pytest.mark.parametrize(("name", "symbol", "kind"), TRADED)
def test_precision_and_minimum_are_those_of_the_settings(
    clients: dict[str, Any], market: EmbeddedMarket, name: str, symbol: str, kind: Any
) -> None:
    found, want = clients[name].market(symbol), market.instrument("BTC", name, kind)
    assert found["precision"]["amount"] == pytest.approx(10.0**-want.size_decimals)
    assert found["limits"]["cost"]["min"] == want.min_notional
    if name != "hyperliquid":
        assert found["precision"]["price"] == pytest.approx(10.0**-want.price_decimals)
    assert found["active"]


@pytest.mark.parametrize(("name", "symbol", "kind"), TRADED)
@pytest.mark.parametrize("timeframe", ["1h", "5m"])
def test_bars_are_the_market_s_own(
    clients: dict[str, Any], market: EmbeddedMarket, name: str, symbol: str, kind: Any, timeframe: Any
) -> None:
    start, end = NOW - 100 * HOUR, NOW - 20 * HOUR
    rows = clients[name].fetch_ohlcv(symbol, timeframe, since=ms(start), limit=1000, params={"until": ms(end)})
    want = market.bars("BTC", name, kind, start, end + timedelta(milliseconds=1), timeframe)
    assert [row[0] for row in rows] == [ms(ts) for ts in want["ts"]]
    assert [tuple(row[1:5]) for row in rows] == want.select("open", "high", "low", "close").rows()
    assert [row[5] for row in rows] == pytest.approx(want["volume"].to_list())


@pytest.mark.parametrize(("name", "symbol", "kind"), TRADED)
def test_the_running_bar_holds_only_what_has_happened(
    clients: dict[str, Any], market: EmbeddedMarket, name: str, symbol: str, kind: Any
) -> None:
    last = clients[name].fetch_ohlcv(symbol, "1h", since=ms(NOW - 3 * HOUR), limit=10)[-1]
    opened = NOW.replace(minute=0, second=0)
    past = market.bars("BTC", name, kind, opened, NOW.replace(minute=20, second=0), "5m")
    assert last[0] == ms(opened)
    assert last[2:5] == [past["high"].max(), past["low"].min(), past["close"][-1]]
    assert last[4] != market.bars("BTC", name, kind, opened, NOW)["close"][0]


@pytest.mark.parametrize(("name", "symbol", "kind"), TRADED)
def test_nothing_is_served_after_now(clients: dict[str, Any], name: str, symbol: str, kind: str) -> None:
    rows = clients[name].fetch_ohlcv(
        symbol, "1h", since=ms(NOW - 5 * HOUR), limit=500, params={"until": ms(NOW + 200 * HOUR)}
    )
    assert max(row[0] for row in rows) <= ms(NOW)


@pytest.mark.parametrize("name", ["binanceusdm", "bybit"])
def test_mark_bars_are_served(clients: dict[str, Any], market: EmbeddedMarket, name: str) -> None:
    start = NOW.replace(minute=0, second=0) - 10 * HOUR
    rows = clients[name].fetch_mark_ohlcv("ETH/USDT:USDT", "1h", since=ms(start), limit=5)
    want = market.bars("ETH", name, "mark", start, start + 5 * HOUR)
    assert [tuple(row[1:5]) for row in rows] == want.select("open", "high", "low", "close").rows()


@pytest.mark.parametrize(("name", "symbol"), PERPS.items())
def test_funding_history_is_the_market_s_own(
    clients: dict[str, Any], market: EmbeddedMarket, name: str, symbol: str
) -> None:
    start, end = NOW - 100 * HOUR, NOW - 20 * HOUR
    rows = clients[name].fetch_funding_rate_history(symbol, since=ms(start), limit=200, params={"until": ms(end)})
    want = market.funding("BTC", name, start, end)
    assert [(row["timestamp"], row["fundingRate"]) for row in rows] == [
        (ms(ts), rate) for ts, rate in want.select("ts", "rate").iter_rows()
    ]


@pytest.mark.parametrize("name", ["binanceusdm", "bybit"])
@pytest.mark.parametrize("timeframe", ["1h", "5m"])
def test_open_interest_history_is_the_market_s_own(
    clients: dict[str, Any], market: EmbeddedMarket, name: str, timeframe: Any
) -> None:
    start, end = NOW - 12 * HOUR, NOW - 2 * HOUR
    rows = clients[name].fetch_open_interest_history(
        "BTC/USDT:USDT", timeframe, since=ms(start), limit=200, params={"until": ms(end)}
    )
    want = market.open_interest("BTC", name, start, end, timeframe)
    assert [(row["timestamp"], row["openInterestAmount"]) for row in rows] == [
        (ms(ts), coins) for ts, coins in want.select("ts", "oi_base").iter_rows()
    ]
    if name == "binanceusdm":
        assert [row["openInterestValue"] for row in rows] == want["oi_usd"].to_list()


def test_bybit_s_open_interest_is_paged_by_cursor(clients: dict[str, Any], market: EmbeddedMarket) -> None:
    ask = {"category": "linear", "symbol": "BTCUSDT", "intervalTime": "1h", "limit": 200}
    ask |= {"startTime": ms(NOW - 500 * HOUR), "endTime": ms(NOW)}
    stamps: list[int] = []
    sizes = []
    while True:
        page = clients["bybit"].publicGetV5MarketOpenInterest(ask)["result"]
        sizes.append(len(page["list"]))
        stamps += [int(row["timestamp"]) for row in page["list"]]
        if not page["nextPageCursor"]:
            break
        ask["cursor"] = page["nextPageCursor"]
    want = market.open_interest("BTC", "bybit", NOW - 500 * HOUR, NOW)["ts"]
    assert sizes == [200, 200, 100]
    assert stamps == [ms(ts) for ts in reversed(want.to_list())]


def test_binance_keeps_30_days_of_open_interest(clients: dict[str, Any]) -> None:
    with pytest.raises(ccxt.BadRequest, match="startTime"):
        clients["binanceusdm"].fetch_open_interest_history(
            "BTC/USDT:USDT", "1h", since=ms(NOW - timedelta(days=31)), limit=500
        )


def test_binance_serves_at_most_500_rows_of_open_interest(clients: dict[str, Any]) -> None:
    rows = clients["binanceusdm"].fetch_open_interest_history(
        "BTC/USDT:USDT", "5m", since=ms(NOW - timedelta(days=3)), limit=500, params={"until": ms(NOW)}
    )
    assert len(rows) == 500
    with pytest.raises(ccxt.BadRequest, match="limit"):
        clients["binanceusdm"].fetch_open_interest_history("BTC/USDT:USDT", "5m", limit=501)


def test_binance_open_interest_is_30_rows_by_default(clients: dict[str, Any]) -> None:
    assert len(clients["binanceusdm"].fetch_open_interest_history("BTC/USDT:USDT", "1h")) == 30


@pytest.mark.parametrize(("name", "symbol"), PERPS.items())
def test_open_interest_now_is_the_newest_snapshot(
    clients: dict[str, Any], market: EmbeddedMarket, name: str, symbol: str
) -> None:
    found = clients[name].fetch_open_interest(symbol)
    instant = NOW.replace(minute=0 if name == "bybit" else 20, second=0)
    assert found["openInterestAmount"] == market.open_interest("BTC", name, instant, instant, "5m")["oi_base"][0]


def test_hyperliquid_serves_the_latest_5000_candles(clients: dict[str, Any]) -> None:
    rows = clients["hyperliquid"].fetch_ohlcv("BTC/USDC:USDC", "5m", since=ms(NOW - timedelta(days=40)), limit=10_000)
    assert len(rows) == 5000
    assert rows[-1][0] == ms(NOW.replace(minute=20, second=0))


def test_hyperliquid_serves_500_fundings_from_the_start(clients: dict[str, Any]) -> None:
    start = NOW - 1000 * HOUR
    rows = clients["hyperliquid"].fetch_funding_rate_history("BTC/USDC:USDC", since=ms(start))
    assert len(rows) == 500
    assert rows[0]["timestamp"] - ms(start) < 3_600_000


@pytest.mark.parametrize(("name", "symbol", "kind"), TRADED)
def test_tickers_are_served(clients: dict[str, Any], name: str, symbol: str, kind: str) -> None:
    if name == "hyperliquid":
        ticker = clients[name].fetch_tickers([symbol])[symbol]
    else:
        ticker = clients[name].fetch_ticker(symbol)
    assert ticker["last"] or ticker["close"]


@pytest.mark.parametrize("name", ["binanceusdm", "hyperliquid"])
def test_the_present_funding_rate_is_served(clients: dict[str, Any], name: str) -> None:
    rate = clients[name].fetch_funding_rates([PERPS[name]])[PERPS[name]]
    assert abs(rate["fundingRate"]) < 0.01
    assert rate["markPrice"] > 0


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("binanceusdm", lambda c: c.fapiPublicGetKlines({"symbol": "XXXUSDT", "interval": "1h"})),
        ("binance", lambda c: c.publicGetKlines({"symbol": "XXXUSDT", "interval": "1h"})),
        ("bybit", lambda c: c.publicGetV5MarketKline({"category": "linear", "symbol": "XXXUSDT", "interval": "60"})),
    ],
)
def test_an_unknown_symbol_is_refused_as_the_venue_does(clients: dict[str, Any], name: str, call: Any) -> None:
    with pytest.raises((ccxt.BadSymbol, ccxt.BadRequest)):
        call(clients[name])

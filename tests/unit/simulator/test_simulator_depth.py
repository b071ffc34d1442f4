"""Order books, long/short ratios and present funding, as unmodified ccxt clients read them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import ccxt
import polars as pl
import pytest
from fakes.loopback_client import client, ms

from oihedge.core.clock import FixedClock
from oihedge.simulator.crowd import MEASURES, Measure, day_ratios, ratios
from oihedge.simulator.depth import LEVELS, book
from oihedge.simulator.market import EmbeddedMarket, Kind
from oihedge.simulator.server import LoopbackServer
from oihedge.simulator.view import View

NOW = datetime(2024, 1, 25, 10, 23, 11, tzinfo=UTC)
HOUR = timedelta(hours=1)
BOOKS: list[tuple[str, str, Kind, int]] = [
    ("binanceusdm", "BTC/USDT:USDT", "perp", 1000), ("bybit", "BTC/USDT:USDT", "perp", 500),
    ("hyperliquid", "BTC/USDC:USDC", "perp", 20), ("binance", "BTC/USDT", "spot", 1000),
    ("bybit", "BTC/USDT", "spot", 200), ("okx", "BTC/USDT", "spot", 400),
    ("coinbase", "BTC/USD", "spot", 1000), ("bitfinex", "BTC/USD", "spot", 250),
]  # fmt: skip
TYPES = {
    "binanceusdm": ["linear"], "binance": ["spot"], "bybit": ["linear", "spot"], "hyperliquid": ["swap"],
    "okx": ["spot"], "coinbase": [], "bitfinex": [],
}  # fmt: skip
PERPS = {"binanceusdm": "BTC/USDT:USDT", "bybit": "BTC/USDT:USDT", "hyperliquid": "BTC/USDC:USDC"}


@pytest.fixture(scope="module")
def url(market: EmbeddedMarket) -> Iterator[str]:
    with LoopbackServer(market, FixedClock(NOW)) as server:
        yield server.url


@pytest.fixture(scope="module")
def clients(url: str) -> dict[str, Any]:
    made = {
        name: client(name, url, **({"fetchMarkets": {"types": types}} if types else {}))
        for name, types in TYPES.items()
    }
    for venue in made.values():
        venue.load_markets()
    return made


@pytest.fixture(scope="module")
def view(market: EmbeddedMarket) -> View:
    return View(market, NOW)


@pytest.mark.parametrize(("name", "symbol", "kind", "levels"), BOOKS)
def test_the_book_a_client_reads_is_the_market_s_own(
    clients: dict[str, Any], view: View, name: str, symbol: str, kind: Kind, levels: int
) -> None:
    found = clients[name].fetch_order_book(symbol, levels)
    bids, asks = book(view, "BTC", name, kind, levels)
    assert [tuple(row[:2]) for row in found["bids"]] == bids
    assert [tuple(row[:2]) for row in found["asks"]] == asks
    assert len(bids) == len(asks) == levels


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name, _, kind, _ in BOOKS])
@pytest.mark.parametrize("asset", ["BTC", "ETH", "NEAR"])
def test_a_book_is_sorted_uncrossed_and_around_the_price(view: View, asset: str, name: str, kind: Kind) -> None:
    bids, asks = book(view, asset, name, kind, LEVELS)
    how = view.market.instrument(asset, name, kind)
    prices = [price for price, _ in reversed(bids)] + [price for price, _ in asks]
    assert prices == sorted(set(prices))
    assert all(round(price, how.price_decimals) == price for price in prices)
    assert all(size > 0 and round(size, how.size_decimals) == size for _, size in (*bids, *asks))
    newest = view.market.bars(asset, name, kind, NOW - timedelta(minutes=1), NOW, "1m")["open"][-1]
    assert (bids[0][0] + asks[0][0]) / 2 == pytest.approx(newest, rel=2e-4)


def test_a_shorter_book_is_the_head_of_a_longer_one(view: View) -> None:
    deep, flat = (book(view, "ETH", "bybit", "spot", levels) for levels in (300, 7))
    assert flat == (deep[0][:7], deep[1][:7])


def test_binance_knows_only_certain_depths(clients: dict[str, Any]) -> None:
    with pytest.raises(ccxt.BadRequest, match="depth limit"):
        clients["binanceusdm"].fetch_order_book("BTC/USDT:USDT", 77)


def test_hyperliquid_s_levels_grow_with_fewer_figures_and_hold_the_same_coins(
    clients: dict[str, Any], view: View
) -> None:
    found = clients["hyperliquid"].fetch_order_book("BTC/USDC:USDC", params={"nSigFigs": 4})
    assert all(price % 10 == 0 for price, _ in (*found["bids"], *found["asks"]))
    bids, _ = book(view, "BTC", "hyperliquid", "perp", LEVELS)
    lowest = found["bids"][-1][0]
    assert sum(size for _, size in found["bids"]) == pytest.approx(sum(q for p, q in bids if p >= lowest))


def test_books_are_thinner_after_a_rough_hour(market: EmbeddedMarket) -> None:
    hours = 24 * 40
    rough = market.volatility("BTC", market.origin, market.origin + hours * HOUR)
    order = sorted(range(hours), key=lambda n: rough[n])

    def rests(hour: int) -> float:
        view = View(market, market.origin + (hour + 1) * HOUR)
        bids, asks = book(view, "BTC", "binanceusdm", "perp", 100)
        return sum(price * size for price, size in (*bids, *asks))

    calm, wild = (sum(map(rests, part)) for part in (order[:30], order[-30:]))
    assert wild < 0.5 * calm


@pytest.mark.parametrize("measure", MEASURES)
def test_binance_s_ratios_are_those_of_its_archive(
    clients: dict[str, Any], market: EmbeddedMarket, measure: Measure
) -> None:
    path = {
        "accounts": "GlobalLongShortAccountRatio", "top_accounts": "TopLongShortAccountRatio",
        "top_positions": "TopLongShortPositionRatio", "taker_volume": "TakerlongshortRatio",
    }[measure]  # fmt: skip
    day = NOW.replace(hour=0, minute=0, second=0) - timedelta(days=1)
    ask = getattr(clients["binanceusdm"], f"fapiDataGet{path}")
    rows = ask(
        {"symbol": "BTCUSDT", "period": "5m", "limit": 288, "startTime": ms(day), "endTime": ms(day + 24 * HOUR)}
    )
    name = "buySellRatio" if measure == "taker_volume" else "longShortRatio"
    want = dict(enumerate(day_ratios(market, "BTC", "binanceusdm", day)[measure]))
    later = 0 if measure == "taker_volume" else 1
    for row in rows:
        n = (int(row["timestamp"]) - ms(day)) // 300_000 - later
        if n in want:
            assert float(row[name]) == pytest.approx(want[n], abs=6e-5)
    assert len(rows) == 288


@pytest.mark.parametrize("name", ["binanceusdm", "bybit"])
def test_hourly_ratios_are_the_market_s_own(clients: dict[str, Any], view: View, name: str) -> None:
    found = clients[name].fetch_long_short_ratio_history("BTC/USDT:USDT", "1h", limit=40)
    want = ratios(view, "BTC", name, "accounts", NOW - 40 * HOUR, NOW, "1h")
    assert [row["timestamp"] for row in found] == want["ms"].to_list()
    assert [row["longShortRatio"] for row in found] == pytest.approx(want["ratio"].to_list(), rel=1e-3)


def test_taker_volume_of_an_hour_is_that_of_its_5_minutes_and_comes_when_it_is_over(view: View) -> None:
    start = NOW.replace(minute=0, second=0) - 4 * HOUR
    fine, hourly = (ratios(view, "ETH", "binanceusdm", "taker_volume", start, NOW, step) for step in ("5m", "1h"))  # type: ignore[arg-type]
    assert hourly["ts"].to_list() == [start + n * HOUR for n in range(4)]
    first = fine.filter(pl.col("ts") < start + HOUR)
    assert hourly["buy"][0] == pytest.approx(first["buy"].sum())
    assert hourly["ratio"][0] == pytest.approx(first["buy"].sum() / first["sell"].sum())


def test_ratios_rise_with_the_crowd(market: EmbeddedMarket) -> None:
    days = [market.origin + timedelta(days=n) for n in range(15)]
    crowd = [float(market.crowding("BTC", "bybit", day)[1:].mean()) for day in days]
    shown = [float(day_ratios(market, "BTC", "bybit", day)["accounts"].mean()) for day in days]
    assert pl.DataFrame({"a": crowd, "b": shown}).select(pl.corr("a", "b", method="spearman")).item() > 0.9


def test_bybit_s_ratios_are_paged_by_cursor(clients: dict[str, Any]) -> None:
    ask: dict[str, Any] = {"category": "linear", "symbol": "BTCUSDT", "period": "5min", "limit": 500}
    first = clients["bybit"].publicGetV5MarketAccountRatio(ask)["result"]
    second = clients["bybit"].publicGetV5MarketAccountRatio(ask | {"cursor": first["nextPageCursor"]})["result"]
    stamps = [int(row["timestamp"]) for row in (*first["list"], *second["list"])]
    assert stamps == [stamps[0] - 300_000 * n for n in range(1000)]


@pytest.mark.parametrize(("name", "symbol"), PERPS.items())
def test_funding_now_is_what_the_running_interval_would_pay(
    clients: dict[str, Any], view: View, name: str, symbol: str
) -> None:
    found = clients[name].fetch_funding_rates([symbol])[symbol]
    rate, pays_at = view.next_funding("BTC", name)
    assert found["fundingRate"] == pytest.approx(rate, abs=1e-8)
    assert found["markPrice"] == view.price("BTC", name, "mark")
    if name != "hyperliquid":
        assert found["fundingTimestamp"] == pays_at

"""Unmodified ccxt clients read the following perp venues: values, units, caps and how far back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import ccxt
import pytest

from oihedge.core.clock import FixedClock
from oihedge.simulator.crowd import ratios
from oihedge.simulator.depth import book
from oihedge.simulator.market import EmbeddedMarket
from oihedge.simulator.server import LoopbackServer
from oihedge.simulator.view import View

NOW = datetime(2024, 4, 20, 9, 12, 30, tzinfo=UTC)
HOUR, STEP = timedelta(hours=1), {"1m": timedelta(minutes=1), "5m": timedelta(minutes=5), "1h": timedelta(hours=1)}
SINCE = datetime(2024, 4, 16, 3, tzinfo=UTC)
LONG_AGO = datetime(2024, 1, 5, tzinfo=UTC)
SYMBOLS = {"okx": "{}/USDT:USDT", "bitget": "{}/USDT:USDT", "gate": "{}/USDT:USDT", "dydx": "{}/USDC:USDC"}
VENUES = tuple(SYMBOLS)
PRICED = ("okx", "bitget", "gate")
Clients = Callable[[str], Any]


def ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def rewritten(urls: Any, root: str) -> Any:
    if isinstance(urls, dict):
        return {key: rewritten(value, root) for key, value in urls.items()}
    return root + "/".join(["", *urls.split("/")[3:]])


@pytest.fixture(scope="module")
def root(market: EmbeddedMarket) -> Iterator[str]:
    with LoopbackServer(market, FixedClock(NOW)) as server:
        yield server.url


@pytest.fixture(scope="module")
def clients(root: str) -> Clients:
    """Clients as they come; only their clock, by which some choose between paths, stands at the market's present."""
    made: dict[str, Any] = {}

    def client(name: str) -> Any:
        if name not in made:
            made[name] = venue = getattr(ccxt, name)({"enableRateLimit": False, "timeout": 20_000})
            venue.urls["api"] = rewritten(venue.urls["api"], root)
            venue.milliseconds, venue.seconds = lambda: ms(NOW), lambda: ms(NOW) // 1000
            venue.load_markets()
        return made[name]

    return client


@pytest.fixture(scope="module")
def view(market: EmbeddedMarket) -> View:
    return View(market, NOW)


def symbol(venue: str, asset: str = "BTC") -> str:
    return SYMBOLS[venue].format(asset)


def expected_bars(
    market: EmbeddedMarket, asset: str, venue: str, kind: Any, start: datetime, n: int, step: str
) -> list[list[float]]:
    rows = market.bars(asset, venue, kind, start, start + n * STEP[step], step)  # type: ignore[arg-type]
    per_contract = market.instrument(asset, venue, "perp").contract_size if venue == "gate" else 1.0
    return [
        [ms(ts), *prices, volume / per_contract]
        for ts, *prices, volume in rows.select("ts", "open", "high", "low", "close", "volume").iter_rows()
    ]


@pytest.mark.parametrize("venue", VENUES)
def test_markets_load_with_the_venue_s_ticks_lots_and_contract_size(
    market: EmbeddedMarket, clients: Clients, venue: str
) -> None:
    for asset in market.assets:
        listed, how = clients(venue).market(symbol(venue, asset)), market.instrument(asset, venue, "perp")
        assert listed["swap"]
        assert listed["linear"]
        assert listed["contractSize"] == how.contract_size
        assert listed["precision"]["price"] == pytest.approx(10.0**-how.price_decimals)
        assert listed["precision"]["amount"] * listed["contractSize"] == pytest.approx(10.0**-how.size_decimals)


@pytest.mark.parametrize("asset", ["BTC", "NEAR"])
@pytest.mark.parametrize("step", ["1m", "5m", "1h"])
@pytest.mark.parametrize("venue", ["okx", "bitget", "gate"])
def test_candles_are_the_market_s_bars(
    market: EmbeddedMarket, clients: Clients, venue: str, step: str, asset: str
) -> None:
    got = clients(venue).fetch_ohlcv(symbol(venue, asset), step, ms(SINCE), 40)
    for have, want in zip(got, expected_bars(market, asset, venue, "perp", SINCE, 40, step), strict=True):
        assert have == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize("kind", ["mark", "index"])
@pytest.mark.parametrize("start", [SINCE, LONG_AGO])
@pytest.mark.parametrize("venue", PRICED)
def test_mark_and_index_candles_have_no_volume(
    market: EmbeddedMarket, clients: Clients, venue: str, start: datetime, kind: str
) -> None:
    got = clients(venue).fetch_ohlcv(symbol(venue), "1h", ms(start), 60, {"price": kind})
    tick = 10.0 ** -market.instrument("BTC", venue, "perp").price_decimals
    for have, want in zip(got, expected_bars(market, "BTC", venue, kind, start, 60, "1h"), strict=True):
        assert have[:5] == pytest.approx(want[:5], rel=0.0, abs=0.51 * tick)
        assert not have[5]


@pytest.mark.parametrize("venue", ["okx", "bitget", "gate"])
def test_old_candles_come_from_the_history_paths(market: EmbeddedMarket, clients: Clients, venue: str) -> None:
    got = clients(venue).fetch_ohlcv(symbol(venue), "1h", ms(LONG_AGO), 150)
    for have, want in zip(got, expected_bars(market, "BTC", venue, "perp", LONG_AGO, 150, "1h"), strict=True):
        assert have == pytest.approx(want, rel=1e-12)


def test_dydx_ignores_the_window_that_ccxt_spells_its_own_way(market: EmbeddedMarket, clients: Clients) -> None:
    venue, at = clients("dydx"), {"fromISO": SINCE.isoformat(), "toISO": (SINCE + 9 * HOUR).isoformat()}
    newest = venue.fetch_ohlcv(symbol("dydx"), "1h", ms(LONG_AGO), 20)
    assert newest[-1][0] == ms(NOW.replace(minute=0, second=0))
    assert len(newest) == 20
    window = venue.fetch_ohlcv(symbol("dydx"), "1h", None, None, at)
    for have, want in zip(window, expected_bars(market, "BTC", "dydx", "perp", SINCE, 9, "1h"), strict=True):
        assert have == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize(
    ("resolution", "step", "grid"), [("1HOUR", "1h", "1h"), ("5MINS", "5m", "5m"), ("1MIN", "1m", "5m")]
)
def test_dydx_candles_carry_the_open_interest_at_their_start(
    market: EmbeddedMarket, clients: Clients, resolution: str, step: str, grid: Any
) -> None:
    asked = {"market": "NEAR-USD", "resolution": resolution, "limit": 500}
    asked |= {"fromISO": SINCE.isoformat(), "toISO": (SINCE + 37 * STEP[step]).isoformat()}
    rows = clients("dydx").indexerGetCandlesPerpetualMarketsMarket(asked)["candles"]
    held = dict(
        market.open_interest("NEAR", "dydx", SINCE - HOUR, SINCE + 2 * 24 * HOUR, grid).select("ts", "oi_base").rows()
    )
    assert [row["startedAt"] for row in rows] == sorted((row["startedAt"] for row in rows), reverse=True)
    assert len(rows) == 37
    for row in rows:
        at = datetime.fromisoformat(row["startedAt"])
        known = at - (at - SINCE) % STEP[grid]
        assert float(row["startingOpenInterest"]) == held[known]


def test_open_interest_now_is_the_newest_snapshot(market: EmbeddedMarket, clients: Clients) -> None:
    at = NOW.replace(minute=10, second=0)
    for asset in market.assets:
        held = {v: market.open_interest(asset, v, at, at, "5m").row(0, named=True) for v in VENUES}
        size = {v: market.instrument(asset, v, "perp").contract_size for v in VENUES}
        okx = clients("okx").fetch_open_interest(symbol("okx", asset))
        assert okx["openInterestAmount"] * size["okx"] == pytest.approx(held["okx"]["oi_base"], rel=1e-12)
        assert float(okx["info"]["oiCcy"]) == held["okx"]["oi_base"]
        assert okx["openInterestValue"] == pytest.approx(held["okx"]["oi_usd"], rel=1e-9)
        bitget = clients("bitget").fetch_open_interest(symbol("bitget", asset))
        assert bitget["openInterestAmount"] == held["bitget"]["oi_base"]
        gate = clients("gate").fetch_funding_rate(symbol("gate", asset))["info"]
        assert int(gate["position_size"]) * size["gate"] == pytest.approx(held["gate"]["oi_base"], rel=1e-12)
        dydx = clients("dydx").indexerGetPerpetualMarkets({"ticker": f"{asset}-USD"})["markets"][f"{asset}-USD"]
        assert float(dydx["openInterest"]) == held["dydx"]["oi_base"]


@pytest.mark.parametrize("asset", ["BTC", "NEAR"])
@pytest.mark.parametrize("step", ["5m", "1h"])
@pytest.mark.parametrize("venue", ["okx", "gate"])
def test_open_interest_history_is_in_contracts_and_usd(
    market: EmbeddedMarket, clients: Clients, venue: str, step: Any, asset: str
) -> None:
    got = clients(venue).fetch_open_interest_history(symbol(venue, asset), step, ms(SINCE), 100)
    want = market.open_interest(asset, venue, SINCE, SINCE + 99 * STEP[step], step)
    size = market.instrument(asset, venue, "perp").contract_size
    assert [row["timestamp"] for row in got] == [ms(ts) for ts in want["ts"]]
    assert [row["openInterestAmount"] * size for row in got] == pytest.approx(want["oi_base"].to_list(), rel=1e-12)
    assert [row["openInterestValue"] for row in got] == pytest.approx(want["oi_usd"].to_list(), rel=1e-12)


def test_okx_keeps_1440_entries_of_open_interest_and_gives_100_whatever_paginate_says(clients: Clients) -> None:
    venue, name = clients("okx"), symbol("okx")
    newest = NOW.replace(minute=0, second=0)
    oldest = newest - 1439 * HOUR
    assert venue.fetch_open_interest_history(name, "1h", ms(oldest - 200 * HOUR), 100) == []
    edge = venue.fetch_open_interest_history(name, "1h", ms(oldest - 10 * HOUR), 100)
    assert edge[0]["timestamp"] == ms(oldest)
    assert len(edge) == 90
    every = venue.fetch_open_interest_history(name, "1h", None, None, {"paginate": True})
    assert (len(every), every[-1]["timestamp"]) == (100, ms(newest))


def test_okx_gives_the_newest_rows_where_only_a_start_is_sent(clients: Clients) -> None:
    asked = {"instId": "BTC-USDT-SWAP", "period": "1H", "begin": str(ms(SINCE - 400 * HOUR))}
    rows = clients("okx").publicGetRubikStatContractsOpenInterestHistory(asked)["data"]
    assert (len(rows), int(rows[0][0])) == (100, ms(NOW.replace(minute=0, second=0)))
    asked = {"instId": "BTC-USDT-SWAP", "bar": "1H", "before": str(ms(SINCE - 400 * HOUR)), "limit": "300"}
    rows = clients("okx").publicGetMarketCandles(asked)["data"]
    assert (len(rows), int(rows[0][0]), rows[0][8], rows[1][8]) == (300, ms(NOW.replace(minute=0, second=0)), "0", "1")


@pytest.mark.parametrize(
    ("call", "asked", "rows"),
    [
        ("publicGetMarketCandles", {"bar": "1m", "limit": 5000}, 300),
        ("publicGetMarketCandles", {"bar": "1H"}, 100),
        ("publicGetMarketHistoryCandles", {"bar": "1H", "limit": 5000}, 300),
        ("publicGetMarketMarkPriceCandles", {"bar": "1H", "limit": 300}, 100),
        ("publicGetMarketHistoryMarkPriceCandles", {"bar": "1H", "limit": 300}, 100),
        ("publicGetRubikStatContractsLongShortAccountRatioContract", {"period": "5m"}, 100),
        ("publicGetPublicFundingRateHistory", {"limit": 5000}, 276),
    ],
)
def test_okx_caps_its_rows(clients: Clients, call: str, asked: dict[str, Any], rows: int) -> None:
    assert len(getattr(clients("okx"), call)({"instId": "BTC-USDT-SWAP", **asked})["data"]) == rows


def test_okx_s_recent_candles_go_1440_back_and_its_history_holds_only_what_is_over(clients: Clients) -> None:
    asked = {"instId": "BTC-USDT-SWAP", "bar": "5m", "limit": "300"}
    edge = NOW - 1440 * STEP["5m"]
    rows = clients("okx").publicGetMarketCandles({**asked, "after": str(ms(edge + 20 * STEP["5m"]))})["data"]
    assert len(rows) == 20
    past = clients("okx").publicGetMarketHistoryCandles({**asked, "after": str(ms(edge))})["data"]
    assert len(past) == 300
    newest = clients("okx").publicGetMarketHistoryCandles(asked)["data"][0]
    assert (int(newest[0]), newest[8]) == (ms(NOW.replace(minute=5, second=0)), "1")


@pytest.mark.parametrize("venue", VENUES)
def test_funding_history_is_the_market_s(market: EmbeddedMarket, clients: Clients, venue: str) -> None:
    rows = clients(venue).fetch_funding_rate_history(symbol(venue, "ETH"), None, 90)
    want = market.funding("ETH", venue, market.origin, NOW).tail(90)
    stamps = [row["timestamp"] // 3_600_000 * 3_600_000 for row in rows]
    assert stamps == [ms(ts) for ts in want["ts"]]
    assert [row["fundingRate"] for row in rows] == want["rate"].to_list()
    assert any(row["timestamp"] % 3_600_000 for row in rows) == (venue == "dydx")


def test_funding_goes_as_far_back_as_each_venue_lets_it(market: EmbeddedMarket, clients: Clients) -> None:
    since = ms(market.origin)
    okx = clients("okx").fetch_funding_rate_history(symbol("okx"), since, 400)
    assert (
        NOW - timedelta(days=92) <= datetime.fromtimestamp(okx[0]["timestamp"] / 1000, UTC) < NOW - timedelta(days=91)
    )
    gate = clients("gate").fetch_funding_rate_history(symbol("gate"), since, 1000)
    assert gate[0]["timestamp"] == ms(market.origin + 8 * HOUR)
    pages = [
        clients("bitget").fetch_funding_rate_history(symbol("bitget"), None, 100, {"pageNo": page})
        for page in (1, 2, 3, 4, 5)
    ]
    stamps = sorted(row["timestamp"] for page in pages for row in page)
    assert stamps == [ms(ts) for ts in market.funding("BTC", "bitget", market.origin, NOW)["ts"]]
    assert [len(page) for page in pages] == [100, 100, 100, 31, 0]
    dydx = clients("dydx")
    first = dydx.fetch_funding_rate_history(symbol("dydx"), None, 1000)
    older = dydx.fetch_funding_rate_history(symbol("dydx"), None, 1000, {"until": first[0]["timestamp"] - 1})
    assert older[-1]["timestamp"] // 3_600_000 == first[0]["timestamp"] // 3_600_000 - 1
    assert (len(first), len(older)) == (1000, 1000)


@pytest.mark.parametrize("venue", ["okx", "bitget", "gate"])
def test_funding_now_is_what_the_running_interval_pays_by_now(
    market: EmbeddedMarket, clients: Clients, venue: str
) -> None:
    got = clients(venue).fetch_funding_rate(symbol(venue, "NEAR"))
    assert got["fundingRate"] == market.funding_so_far("NEAR", venue, NOW)
    assert got["fundingTimestamp"] == ms(NOW.replace(hour=16, minute=0, second=0))
    assert got["interval"] == "8h"


def test_dydx_says_its_next_funding_with_its_markets(market: EmbeddedMarket, clients: Clients) -> None:
    info = clients("dydx").fetch_markets()[0]["info"]
    assert float(info["nextFundingRate"]) == market.funding_so_far("BTC", "dydx", NOW)


@pytest.mark.parametrize(
    ("venue", "levels"), [("okx", 400), ("okx", 900), ("bitget", 50), ("gate", 300), ("dydx", 100)]
)
def test_order_books_are_those_of_the_market(
    market: EmbeddedMarket, clients: Clients, view: View, venue: str, levels: int
) -> None:
    got, want = clients(venue).fetch_order_book(symbol(venue), levels), book(view, "BTC", venue, "perp", levels)
    size = market.instrument("BTC", venue, "perp").contract_size
    for side, rows in zip(("bids", "asks"), want, strict=True):
        assert [level[0] for level in got[side]] == [price for price, _ in rows]
        assert [level[1] * size for level in got[side]] == pytest.approx([coins for _, coins in rows], rel=1e-12)
        assert len(got[side]) == levels
    assert got["bids"][0][0] < got["asks"][0][0]


@pytest.mark.parametrize("step", ["5m", "1h"])
def test_long_short_ratios_are_the_market_s(clients: Clients, view: View, step: Any) -> None:
    okx = clients("okx").fetch_long_short_ratio_history(symbol("okx"), step, ms(SINCE), 60)
    want = ratios(view, "BTC", "okx", "accounts", SINCE, SINCE + 59 * STEP[step], step)
    assert [(row["timestamp"], row["longShortRatio"]) for row in okx] == want.select("ms", "ratio").rows()
    bitget = clients("bitget").fetch_long_short_ratio_history(symbol("bitget"), step)
    want = ratios(view, "BTC", "bitget", "accounts", NOW - 501 * STEP[step], NOW, step).tail(500)
    assert [row["timestamp"] for row in bitget] == want["ms"].to_list()
    for row, ratio in zip(bitget, want["ratio"], strict=True):
        longs, shorts = float(row["info"]["longAccountRatio"]), float(row["info"]["shortAccountRatio"])
        assert longs / shorts == pytest.approx(ratio, rel=2e-3)
        assert row["longShortRatio"] == pytest.approx(ratio / 100.0, abs=1e-4)


def stats(clients: Clients, **asked: Any) -> list[dict[str, Any]]:
    call = clients("gate").publicFuturesGetSettleContractStats
    return call({"settle": "usdt", "contract": "BTC_USDT", **asked})  # type: ignore[no-any-return]


def test_gate_s_stats_tell_liquidations_and_ratios_with_the_open_interest(
    market: EmbeddedMarket, clients: Clients, view: View
) -> None:
    start = ms(SINCE) // 1000
    hours, parts = (stats(clients, interval=step, **{"from": start}, limit=48) for step in ("1h", "5m"))
    forced = market.liquidations("BTC", "gate", SINCE, SINCE + 4 * HOUR)
    assert [float(row["long_liq_usd"]) for row in parts] == pytest.approx(forced["long_usd"].to_list())
    for n in range(4):
        for side in ("long", "short"):
            total = sum(float(row[f"{side}_liq_usd"]) for row in parts[12 * n : 12 * n + 12])
            assert float(hours[n][f"{side}_liq_usd"]) == pytest.approx(total, abs=0.02)
    row = max(parts, key=lambda part: float(part["long_liq_usd"]))
    coins = float(row["long_liq_usd"]) / float(row["mark_price"])
    assert float(row["long_liq_size"]) * 0.0001 == pytest.approx(coins, abs=1e-4)
    for name, measure in (
        ("lsr_account", "accounts"),
        ("lsr_taker", "taker_volume"),
        ("top_lsr_size", "top_positions"),
    ):
        want = ratios(view, "BTC", "gate", measure, SINCE, SINCE + 47 * HOUR, "1h")  # type: ignore[arg-type]
        assert [float(row[name]) for row in hours] == pytest.approx(want["ratio"].to_list(), abs=1e-8)


def test_gate_s_newest_stats_hold_only_liquidations_that_have_happened(
    market: EmbeddedMarket, clients: Clients
) -> None:
    newest = stats(clients, interval="1h")[-1]
    opened = NOW.replace(minute=0, second=0)
    known = market.liquidations("BTC", "gate", opened, opened + 2 * STEP["5m"])
    assert int(newest["time"]) == ms(opened) // 1000
    assert float(newest["long_liq_usd"]) == pytest.approx(known["long_usd"].sum())
    assert float(newest["lsr_taker"]) == 0.0
    assert (len(stats(clients, interval="5m")), len(stats(clients, interval="5m", limit=100))) == (30, 100)


def test_gate_lists_liquidation_orders_of_an_hour(market: EmbeddedMarket, clients: Clients) -> None:
    start = ms(SINCE) // 1000
    asked = {"settle": "usdt", "contract": "BTC_USDT", "from": start, "to": start + 3600, "limit": 1000}
    orders = clients("gate").publicFuturesGetSettleLiqOrders(asked)
    forced = market.liquidations("BTC", "gate", SINCE, SINCE + HOUR + STEP["5m"])
    for side, column in ((1, "long_usd"), (-1, "short_usd")):
        usd = sum(abs(int(o["size"])) * 0.0001 * float(o["fill_price"]) for o in orders if int(o["size"]) * side > 0)
        assert usd == pytest.approx(forced[column].sum(), rel=0.01)
    newest = clients("gate").fetch_liquidations(symbol("gate"))
    assert all(ms(NOW - HOUR) <= row["timestamp"] <= ms(NOW) for row in newest)
    assert newest


@pytest.mark.parametrize("venue", ["okx", "bitget", "gate"])
def test_tickers_agree_with_candles_and_books(market: EmbeddedMarket, clients: Clients, venue: str) -> None:
    ticker = clients(venue).fetch_ticker(symbol(venue, "ETH"))
    assert clients(venue).fetch_tickers([symbol(venue, "ETH")])[symbol(venue, "ETH")]["last"] == ticker["last"]
    newest = market.bars("ETH", venue, "perp", NOW - STEP["5m"], NOW, "5m")["open"].item()
    assert ticker["last"] == newest
    assert ticker["low"] <= ticker["last"] <= ticker["high"]
    assert ticker["bid"] < ticker["ask"]


@pytest.mark.parametrize("venue", ["okx", "bitget"])
def test_mark_prices_are_told_alone(market: EmbeddedMarket, clients: Clients, venue: str) -> None:
    price = clients(venue).fetch_mark_price(symbol(venue))["markPrice"]
    assert price == market.bars("BTC", venue, "mark", NOW - STEP["5m"], NOW, "5m")["open"].item()


def test_okx_s_spot_candles_share_the_path_of_its_swaps(market: EmbeddedMarket, clients: Clients) -> None:
    got = clients("okx").fetch_ohlcv("BTC/USDT", "1h", ms(SINCE), 20)
    rows = market.bars("BTC", "okx", "spot", SINCE, SINCE + 20 * HOUR)
    assert [row[1:] for row in got] == [
        pytest.approx(row, rel=1e-12) for row in rows.select("open", "high", "low", "close", "volume").rows()
    ]


@pytest.mark.parametrize("venue", VENUES)
def test_the_clock_is_the_market_s(clients: Clients, venue: str) -> None:
    factor = 1000 if venue == "dydx" else 1
    assert clients(venue).fetch_time() * factor // 1000 == ms(NOW) // 1000

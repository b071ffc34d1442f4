"""The simulated Deribit: its chain is priced by Black-76, its DVOL follows the market's volatility."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import ccxt
import numpy as np
import pytest
from fakes.loopback_client import client, ms

from oihedge.core.clock import FixedClock
from oihedge.simulator.chain import expiries, label, listed
from oihedge.simulator.implied import black_76, candles, index
from oihedge.simulator.market import EmbeddedMarket
from oihedge.simulator.server import LoopbackServer
from oihedge.simulator.view import View

NOW = datetime(2024, 2, 20, 10, 23, 11, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def deribit(market: EmbeddedMarket) -> Iterator[Any]:
    with LoopbackServer(market, FixedClock(NOW)) as server:
        venue = client("deribit", server.url)
        venue.load_markets()
        yield venue


def volatility_index(venue: Any, start: datetime, end: datetime, resolution: str = "3600", of: str = "BTC") -> Any:
    ask = {"currency": of, "start_timestamp": ms(start), "end_timestamp": ms(end), "resolution": resolution}
    return venue.publicGetGetVolatilityIndexData(ask)["result"]


def test_the_listed_options_expire_ahead_at_eight_and_straddle_the_price(deribit: Any, market: EmbeddedMarket) -> None:
    options = [found for found in deribit.markets.values() if found["option"] and found["base"] == "BTC"]
    dates = {datetime.fromtimestamp(found["expiry"] / 1000, UTC) for found in options}
    assert dates == set(expiries(NOW))
    assert len(dates) >= 6
    assert all(date > NOW and date.hour == 8 for date in dates)
    price = View(market, NOW).price("BTC", "*", "index")
    for date in dates:
        strikes = [found["strike"] for found in options if found["expiry"] == ms(date)]
        assert min(strikes) < price < max(strikes)
        assert len(strikes) == 2 * len(set(strikes))


@pytest.mark.parametrize(
    ("day", "name"),
    [(datetime(2024, 1, 5, 8, tzinfo=UTC), "5JAN24"), (datetime(2025, 9, 26, 8, tzinfo=UTC), "26SEP25")],
)
def test_an_expiry_is_named_as_there(day: datetime, name: str) -> None:
    assert label(day) == name


def test_an_option_stays_listed_until_it_expires(market: EmbeddedMarket) -> None:
    before = {o.name: o for o in listed(View(market, NOW), "ETH")}
    later = NOW + timedelta(days=6)
    after = {o.name for o in listed(View(market, later), "ETH")}
    assert {name for name, option in before.items() if option.expiry > later} <= after


def test_a_put_and_a_call_of_one_strike_are_at_parity(deribit: Any) -> None:
    chain = deribit.fetch_option_chain("BTC")
    pairs = [(symbol, f"{symbol[:-1]}P") for symbol in chain if symbol.endswith("C")]
    assert len(pairs) > 50
    for call, put in pairs:
        left, right = chain[call], chain[put]
        if left["info"]["mark_iv"] == right["info"]["mark_iv"]:
            forward, strike = left["underlyingPrice"], deribit.market(call)["strike"]
            assert left["markPrice"] - right["markPrice"] == pytest.approx(1.0 - strike / forward, abs=2e-6)


def test_bids_are_below_marks_and_asks_above(deribit: Any) -> None:
    for option in deribit.fetch_option_chain("ETH").values():
        assert option["askPrice"] > option["markPrice"] >= (option["bidPrice"] or 0.0)
        assert option["openInterest"] >= 0.0


@pytest.mark.parametrize("side", ["C", "P"])
def test_greeks_are_the_derivatives_of_the_price(deribit: Any, side: str) -> None:
    symbol = next(name for name in deribit.symbols if name.endswith(f"-{side}") and ":ETH-240329" in name)
    found, strike = deribit.fetch_greeks(symbol), np.array([deribit.market(symbol)["strike"]])
    forward, iv = found["underlyingPrice"], np.array([found["markImpliedVolatility"] / 100.0])
    years = (deribit.market(symbol)["expiry"] - ms(NOW)) / 1000 / 86_400 / 365
    sign = np.array([1.0 if side == "C" else -1.0])

    def dollars(f: float = forward, v: Any = iv, t: float = years) -> float:
        return float(black_76(f, strike, sign, v, t).price[0] * f)

    assert found["markPrice"] == pytest.approx(dollars() / forward, abs=2e-5)
    assert found["delta"] == pytest.approx((dollars(forward + 1) - dollars(forward - 1)) / 2, abs=1e-4)
    assert found["gamma"] == pytest.approx(dollars(forward + 1) - 2 * dollars() + dollars(forward - 1), abs=2e-6)
    assert found["vega"] == pytest.approx((dollars(v=iv + 0.005) - dollars(v=iv - 0.005)), rel=1e-2)
    day = 1.0 / 365.0
    assert found["theta"] == pytest.approx((dollars(t=years - day) - dollars(t=years + day)) / 2, rel=2e-2)


def test_the_index_is_served_as_the_market_says(deribit: Any, market: EmbeddedMarket) -> None:
    start = NOW - timedelta(days=10)
    found = volatility_index(deribit, start, NOW)["data"]
    stamps, want = candles(market, "BTC", start, NOW, NOW)
    assert [int(row[0]) for row in found] == [ms(ts) for ts in stamps]
    assert np.allclose(np.array(found, dtype=float)[:, 1:].T, 100.0 * want, atol=0.0051)


def test_candles_of_the_index_hold_together_and_the_running_one_is_flat(deribit: Any) -> None:
    rows = np.array(volatility_index(deribit, NOW - timedelta(days=10), NOW)["data"], dtype=float)
    opened, high, low, closed = rows[:, 1:].T
    assert (high >= np.maximum(opened, closed)).all()
    assert (low <= np.minimum(opened, closed)).all()
    assert (opened[1:] == closed[:-1]).all()
    assert len(set(rows[-1, 1:])) == 1
    assert rows[-1, 0] == ms(NOW.replace(minute=0, second=0))


@pytest.mark.parametrize(("resolution", "hours"), [("43200", 12), ("1D", 24)])
def test_longer_candles_are_the_hours_joined(deribit: Any, resolution: str, hours: int) -> None:
    start, end = datetime(2024, 2, 1, tzinfo=UTC), datetime(2024, 2, 10, tzinfo=UTC) - HOUR
    fine = np.array(volatility_index(deribit, start, end)["data"], dtype=float)
    rows = np.array(volatility_index(deribit, start, end, resolution)["data"], dtype=float)
    for n, row in enumerate(rows):
        part = fine[n * hours : (n + 1) * hours]
        assert row.tolist() == [part[0, 0], part[0, 1], part[:, 2].max(), part[:, 3].min(), part[-1, 4]]


def test_the_index_is_paged_backwards_by_continuation(deribit: Any, market: EmbeddedMarket) -> None:
    stamps: list[int] = []
    end, pages = NOW, 0
    while True:
        answer = volatility_index(deribit, market.origin, end)
        stamps = [int(row[0]) for row in answer["data"]] + stamps
        pages += 1
        if answer["continuation"] is None:
            break
        end = datetime.fromtimestamp(int(answer["continuation"]) / 1000, UTC)
    hours = (NOW - market.origin) // HOUR + 1
    assert pages == -(-hours // 1000)
    assert stamps == [ms(market.origin + n * HOUR) for n in range(hours)]


@pytest.mark.parametrize("asset", ["BTC", "ETH"])
def test_the_index_follows_volatility_and_knows_nothing_of_what_comes(market: EmbeddedMarket, asset: str) -> None:
    end = market.origin + timedelta(days=120)
    _, shown = index(market, asset, market.origin + timedelta(days=30), end)
    past = market.volatility(asset, market.origin, end)
    recent = np.array([np.sqrt((past[n - 168 : n] ** 2).mean()) for n in range(720, 120 * 24 + 1)])
    assert np.corrcoef(recent, shown)[0, 1] > 0.7
    assert 0.8 < shown.mean() / market.settings.assets[asset].annual_volatility < 1.6


def test_the_index_does_not_depend_on_the_window(market: EmbeddedMarket) -> None:
    start = market.origin + timedelta(days=3)
    stamps, whole = index(market, "BTC", market.origin, start + timedelta(days=20))
    for days in (0, 2, 11):
        few, part = index(market, "BTC", start + timedelta(days=days), start + timedelta(days=days + 1))
        at = stamps.index(few[0])
        assert (whole[at : at + len(part)] == part).all()


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.publicGetTicker({"instrument_name": "BTC-1JAN30-1-C"}),
        lambda c: c.publicGetTicker({"instrument_name": "nothing"}),
        lambda c: c.publicGetGetBookSummaryByCurrency({"currency": "XRP", "kind": "option"}),
        lambda c: c.publicGetGetVolatilityIndexData({"currency": "BTC", "resolution": "3600"}),
        lambda c: volatility_index(c, NOW, NOW, "7"),
    ],
)
def test_what_there_is_not_is_refused_in_deribit_s_words(deribit: Any, call: Any) -> None:
    with pytest.raises(ccxt.ExchangeError, match="Invalid params"):
        call(deribit)

"""Every venue, every table: whatever breaks on the way, the rows are right, or told as missing in one line."""

from __future__ import annotations

import json
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import cycle

import pytest
from fakes.breaking_market import BreakingMarket
from fakes.loopback_venue import Reply

from oihedge.config import load
from oihedge.core.clock import FixedClock
from oihedge.core.errors import VenueError
from oihedge.market.read import Fetched, fetch
from oihedge.market.settings import Market
from oihedge.market.venues import REACH
from oihedge.simulator.market import EmbeddedMarket
from oihedge.simulator.server import create_app

NOW = datetime(2024, 1, 20, 0, 5, tzinfo=UTC)
START = NOW - timedelta(days=1)
HOUR = timedelta(hours=1)
IDS = sorted({venue for venue, _ in REACH})
HTML = b"<html><body>We will be back soon</body></html>"
FAULTS = {
    "500": lambda body: Reply(500, b"oops"),
    "502 page": lambda body: Reply(502, HTML, {"Content-Type": "text/html"}),
    "503": lambda body: Reply(503, b""),
    "504": lambda body: Reply(504, b""),
    "429 with Retry-After": lambda body: Reply(429, b"{}", {"Retry-After": "0.02"}),
    "429 without": lambda body: Reply(429, b"{}"),
    "418": lambda body: Reply(418, b"{}", {"Retry-After": "0.02"}),
    "html with 200": lambda body: Reply(200, HTML, {"Content-Type": "text/html"}),
    "empty body": lambda body: Reply(200, b""),
    "null": lambda body: Reply(200, b"null"),
    "text": lambda body: Reply(200, b'"ok"'),
    "no rows at all": lambda body: Reply(200, b"{}"),
    "an empty list": lambda body: Reply(200, b"[]"),
    "truncated": lambda body: Reply(200, body[: len(body) // 2]),
    "reset in the body": lambda body: Reply(200, body, cut=True),
    "another shape": lambda body: Reply(200, b'{"code":"0","retCode":0,"result":[1,{"a":null}],"data":7,"candles":{}}'),
}


@pytest.fixture(scope="module")
def settings() -> Market:
    given = load(["market=all_venues"]).market
    patience = {"attempts": 6, "backoff_s": 0.005, "max_backoff_s": 0.02, "timeout_s": 5.0, "greeks": 2}
    venues = tuple(venue.model_copy(update={"symbols": {"BTC": venue.symbols["BTC"]}}) for venue in given.venues)
    return given.model_copy(update={**patience, "venues": venues})


@pytest.fixture(scope="module")
def embedded() -> EmbeddedMarket:
    return EmbeddedMarket(load().simulator)


@pytest.fixture(scope="module")
def served(embedded):
    with BreakingMarket(create_app(embedded, FixedClock(NOW))) as market:
        yield market


@pytest.fixture(scope="module")
def right(served, settings) -> dict[str, Fetched]:
    served.breaks = None
    return {venue: read(served, settings, venue) for venue in IDS}


def read(served, settings, venue: str, **more) -> Fetched:
    asked = {"start": START, "end": NOW, "now": NOW, "base_url": served.url, "venues": [venue]} | more
    return fetch(settings, **asked)


def same(a: Fetched, b: Fetched) -> bool:
    return a.gaps == b.gaps and all(a.rows[name].equals(b.rows[name]) for name in b.rows)


def first_answers(faults):
    """Break the first answer of every distinct request, with one fault after the other."""
    seen, turn, lock = Counter(), cycle(faults), threading.Lock()

    def breaks(request: str, body: bytes) -> Reply | None:
        with lock:
            seen[request] += 1
            return next(turn)(body) if seen[request] == 1 else None

    return breaks


def test_undisturbed_every_table_of_every_venue_comes(right, settings):
    for venue, kind in REACH:
        fetched = right[venue]
        assert fetched.failures == []
        for table in REACH[venue, kind].tables:
            assert not fetched.rows[table].is_empty(), (venue, kind, table)


@pytest.mark.parametrize("venue", IDS)
def test_passing_faults_on_every_request_of_a_venue_leave_no_trace(venue, served, settings, right):
    served.breaks = first_answers(FAULTS.values())
    fetched = read(served, settings, venue)
    assert fetched.failures == []
    assert same(fetched, right[venue])


@pytest.mark.long
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("venue", IDS)
def test_each_fault_on_every_request_of_each_venue_leaves_no_trace(venue, fault, served, settings, right):
    served.breaks = first_answers([FAULTS[fault]])
    fetched = read(served, settings, venue)
    assert fetched.failures == []
    assert same(fetched, right[venue])


OPENING = ("exchangeInfo", "instruments", "/contracts?", "symbols", "perpetualMarkets?", "spotMeta", "metaAndAssetCtxs",
           "products?", "conf", "coins", "currencies", "currency_pairs", "underlyings", "status")  # fmt: skip
"""Parts of the requests with which ccxt learns a venue's markets."""


def lasting(fault):
    return lambda request, body: None if any(part in request for part in OPENING) else fault(body)


@pytest.mark.parametrize("venue", IDS)
def test_a_venue_that_stays_broken_gives_one_line_a_series_and_no_row(venue, served, settings):
    served.breaks = lasting(FAULTS["html with 200"])
    try:
        fetched = read(served, settings.model_copy(update={"attempts": 2}), venue)
    except VenueError as error:
        lines, rows = [error.got], 0
    else:
        lines, rows = fetched.failures, sum(frame.height for frame in fetched.rows.values())
        rows -= sum(fetched.rows[name].height for name in ("open_interest", "funding_now") if venue == "hyperliquid")
        rows -= fetched.rows["funding_now"].height if venue == "dydx" else 0  # read from the list of markets
    assert lines
    assert rows == 0
    assert all("\n" not in line and len(line) < 320 and "sent no JSON" in line for line in lines)


def renamed(request: str, body: bytes) -> Reply | None:
    """Answer with the rows of another market: same shape, other name."""
    if any(part in request for part in OPENING):
        return None
    other = body
    for own in ("BTCUSDT", "BTC-USDT-SWAP", "BTC-USD", "BTC-USDT", "BTC_USDT"):
        other = other.replace(f'"{own}"'.encode(), b'"XRPUSDT"')
    for key in ("s", "coin", "base_currency", "ticker"):
        other = other.replace(f'"{key}":"BTC"'.encode(), f'"{key}":"XRP"'.encode())
    return Reply(200, other)


NAMED = {
    "binanceusdm": ("open_interest", "funding", "funding_now"),
    "bybit": ("ohlcv", "open_interest", "funding", "funding_now", "depth", "long_short"),
    "okx": ("funding", "funding_now"),
    "bitget": ("funding", "funding_now", "open_interest"),
    "hyperliquid": ("ohlcv", "funding", "depth"),
    "dydx": ("ohlcv", "open_interest", "funding"),
    "coinbase": ("depth",),
    "deribit": ("option_chain",),
}


@pytest.mark.parametrize("venue", NAMED)
def test_rows_that_name_another_market_are_never_taken(venue, served, settings):
    served.breaks = renamed
    told = tuple(one for one in settings.venues if one.kind != "spot" or one.id == "coinbase")
    few = settings.model_copy(update={"attempts": 2, "venues": told})
    try:
        fetched = read(served, few, venue, tables=NAMED[venue])
    except VenueError:
        return
    assert fetched.failures
    assert all(frame.is_empty() for frame in fetched.rows.values()), fetched.rows


@pytest.mark.parametrize("venue", ["binanceusdm", "okx", "gate", "coinbase"])
def test_after_an_hour_of_maintenance_the_next_run_has_every_row(venue, embedded, served, settings, right):
    served.breaks = lambda request, body: Reply(503, HTML)
    with pytest.raises(VenueError, match="no venue could be read"):
        read(served, settings.model_copy(update={"attempts": 2}), venue)
    served.breaks = None
    later = NOW + HOUR
    with BreakingMarket(create_app(embedded, FixedClock(later))) as again:
        fetched = read(again, settings, venue, end=later, now=later)
    assert fetched.failures == []
    for name in ("ohlcv", "funding"):
        missed = fetched.rows[name].filter(fetched.rows[name]["available_at"] <= NOW)
        assert missed.equals(right[venue].rows[name])


def test_a_venue_under_maintenance_is_given_up_at_once(served, settings):
    body = b'{"code":-1000,"msg":"System is under maintenance."}'
    served.breaks = lambda request, right: None if "exchangeInfo" in request else Reply(503, body)
    begun = len(served.requests)
    with pytest.raises(VenueError) as caught:
        read(served, settings.model_copy(update={"concurrency": 1}), "binanceusdm")
    assert "maintenance" in str(caught.value)
    assert len(served.requests) - begun <= 3


SAYS_ITS_TIME = {"okx": "funding_now", "bitget": "open_interest", "bybit": "funding_now", "binanceusdm": "depth"}


@pytest.mark.parametrize("venue", SAYS_ITS_TIME)
def test_a_venue_whose_clock_runs_ahead_brings_nothing_of_the_future(venue, embedded, settings, right):
    with BreakingMarket(create_app(embedded, FixedClock(NOW + HOUR))) as ahead:
        fetched = read(ahead, settings, venue)
    table = SAYS_ITS_TIME[venue]
    assert fetched.rows[table].filter(fetched.rows[table]["ts"] == NOW).is_empty()
    assert any("clock says" in gap.why for gap in fetched.gaps)
    for name in ("ohlcv", "funding"):
        assert fetched.rows[name].equals(right[venue].rows[name])


def test_a_venue_whose_clock_is_behind_leaves_a_gap_where_its_rows_are_not_yet(embedded, settings):
    with BreakingMarket(create_app(embedded, FixedClock(NOW - 2 * HOUR))) as behind:
        fetched = read(behind, settings, "gate", tables=["ohlcv"])
    last = max(gap.end for gap in fetched.gaps)
    assert last == NOW.replace(minute=0)
    assert fetched.failures == []


@pytest.mark.parametrize("odd", ["NaN", "Infinity", "", "abc", None, True, [], "1e999"])
def test_a_price_that_is_no_number_is_never_a_row(odd, served, settings):
    def breaks(request: str, body: bytes) -> Reply | None:
        if "history-candles" not in request and "market/candles" not in request:
            return None
        answer = json.loads(body)
        for row in answer["data"]:
            row[4] = odd
        return Reply(200, json.dumps(answer).encode())

    served.breaks = breaks
    few = settings.model_copy(update={"attempts": 2, "price_kinds": ("trade",)})
    with pytest.raises(VenueError, match="ohlcv BTC/USDT"):
        read(served, few, "okx", tables=["ohlcv"])


NOW_MS = int(NOW.timestamp() * 1000)
FAR = 49 * 3_600_000


@pytest.mark.parametrize("odd", ["1e30", 1e300, 10**17, 2**53 - 1, -1, 0, NOW_MS - FAR, str(NOW_MS + FAR)], ids=str)
def test_a_next_payment_that_is_far_from_now_ends_its_series_and_no_other(odd, served, settings, right):
    def breaks(request: str, body: bytes) -> Reply | None:
        if "premiumIndex" not in request:
            return None
        return Reply(200, json.dumps(json.loads(body) | {"nextFundingTime": odd}).encode())

    served.breaks = breaks
    fetched = read(served, settings.model_copy(update={"attempts": 2}), "binanceusdm")
    (line,) = fetched.failures
    assert line.startswith(
        "binanceusdm funding_now BTC/USDT:USDT: BadResponse: binanceusdm says the next payment is at"
    )
    assert fetched.rows.pop("funding_now").is_empty()
    assert all(rows.equals(right["binanceusdm"].rows[name]) for name, rows in fetched.rows.items())

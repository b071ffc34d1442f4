"""The following perp venues refuse in their own words, as exceptions of the right kind in ccxt."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import ccxt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oihedge.core.clock import FixedClock
from oihedge.simulator import bitget, dydx, gate, okx
from oihedge.simulator.asked import Asked, Malformed, Refused
from oihedge.simulator.market import EmbeddedMarket
from oihedge.simulator.server import LoopbackServer
from oihedge.simulator.view import View

NOW = datetime(2024, 4, 20, 9, 12, tzinfo=UTC)
SECOND = int(NOW.timestamp())
FUTURES, RUBIK = "/api/v4/futures/usdt", "/api/v5/rubik/stat/contracts"


@pytest.fixture(scope="module")
def root(market: EmbeddedMarket) -> Iterator[str]:
    with LoopbackServer(market, FixedClock(NOW)) as server:
        yield server.url


def ask(root: str, path: str, **query: Any) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(f"{root}{path}?{urlencode(query)}", timeout=20) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


OKX = {"instId": "BTC-USDT-SWAP"}
BITGET = {"symbol": "BTCUSDT", "productType": "USDT-FUTURES"}
GATE = {"contract": "BTC_USDT"}


@pytest.mark.parametrize(
    ("path", "query", "status", "code", "words"),
    [
        ("/api/v5/market/candles", {"instId": "XXX-USDT-SWAP"}, 200, "51001", "doesn't exist"),
        ("/api/v5/market/candles", {}, 400, "50014", "Parameter instId can not be empty"),
        ("/api/v5/market/candles", OKX | {"bar": "7m"}, 400, "51000", "Parameter bar error"),
        ("/api/v5/market/candles", OKX | {"after": "soon"}, 400, "51000", "Parameter after error"),
        ("/api/v5/market/index-candles", OKX, 200, "51014", "Index doesn't exist"),
        ("/api/v5/market/books", OKX | {"sz": 401}, 400, "51000", "Parameter sz error"),
        (f"{RUBIK}/open-interest-history", OKX | {"period": "1m"}, 400, "51000", "Parameter period error"),
        (f"{RUBIK}/open-interest-history", OKX | {"limit": 101}, 400, "51000", "Parameter limit error"),
        (f"{RUBIK}/open-interest-history", {"instId": "BTC-USDT"}, 200, "51015", "does not match"),
        ("/api/v5/public/instruments", {"instType": "SWAPS"}, 400, "51000", "Parameter instType error"),
        ("/api/v5/public/funding-rate-history", {}, 400, "50014", "can not be empty"),
        ("/api/v2/mix/market/candles", BITGET | {"granularity": "7m"}, 400, "400171", "Parameter granularity error"),
        ("/api/v2/mix/market/candles", BITGET | {"granularity": "1H", "limit": 1001}, 400, "40020", "Parameter limit"),
        ("/api/v2/mix/market/history-candles", BITGET | {"granularity": "1H", "limit": 201}, 400, "40020", "limit"),
        ("/api/v2/mix/market/history-candles", BITGET | {"granularity": "1H", "startTime": 0}, 400, "40017", "90 days"),
        ("/api/v2/mix/market/open-interest", BITGET | {"symbol": "XXXUSDT"}, 400, "40034", "does not exist"),
        ("/api/v2/mix/market/open-interest", {"symbol": "BTCUSDT"}, 400, "40019", "productType cannot be empty"),
        ("/api/v2/mix/market/open-interest", BITGET | {"productType": "SPOT"}, 400, "40020", "Parameter productType"),
        ("/api/v2/mix/market/history-fund-rate", BITGET | {"pageSize": 101}, 400, "40020", "Parameter pageSize"),
        ("/api/v2/mix/market/account-long-short", {"symbol": "BTCUSDT", "period": "2m"}, 400, "400171", "period"),
        ("/api/v2/mix/market/merge-depth", BITGET | {"limit": "all"}, 400, "40020", "Parameter limit"),
    ],
)
def test_okx_and_bitget_refuse_with_a_code(
    root: str, path: str, query: dict[str, Any], status: int, code: str, words: str
) -> None:
    got, body = ask(root, path, **query)
    assert (got, body["code"]) == (status, code)
    assert words in body["msg"]


@pytest.mark.parametrize(
    ("path", "query", "label", "words"),
    [
        ("/candlesticks", {"contract": "XXX_USDT"}, "CONTRACT_NOT_FOUND", "CONTRACT_NOT_FOUND"),
        ("/candlesticks", {}, "MISSING_REQUIRED_PARAM", "contract"),
        ("/candlesticks", GATE | {"interval": "7m"}, "INVALID_PARAM_VALUE", "interval"),
        ("/candlesticks", GATE | {"limit": 2001}, "INVALID_PARAM_VALUE", "limit"),
        ("/candlesticks", GATE | {"limit": 9, "from": SECOND - 60}, "INVALID_PARAM_VALUE", "Cannot specify limit"),
        ("/candlesticks", GATE | {"from": SECOND - 8 * 86400}, "INVALID_PARAM_VALUE", "Maximum 2000 data points"),
        (
            "/candlesticks", GATE | {"from": SECOND - 40 * 86400, "to": SECOND - 39 * 86400}, "INVALID_PARAM_VALUE",
            "Maximum 10000 points ago",
        ),
        ("/contract_stats", GATE | {"limit": 101}, "INVALID_PARAM_VALUE", "limit"),
        ("/contract_stats", GATE | {"interval": "1m"}, "INVALID_PARAM_VALUE", "interval"),
        ("/contract_stats", GATE | {"from": "-5"}, "INVALID_PARAM_VALUE", "from"),
        ("/liq_orders", GATE | {"from": SECOND - 4000, "to": SECOND}, "INVALID_PARAM_VALUE", "3600 seconds"),
        ("/contracts/XXX_USDT", {}, "CONTRACT_NOT_FOUND", "CONTRACT_NOT_FOUND"),
        ("/order_book", GATE | {"limit": 301}, "INVALID_PARAM_VALUE", "limit"),
    ],
)  # fmt: skip
def test_gate_refuses_with_a_label(root: str, path: str, query: dict[str, Any], label: str, words: str) -> None:
    status, body = ask(root, FUTURES + path, **query)
    assert (status, body["label"]) == (400, label)
    assert words in body["message"]


@pytest.mark.parametrize(
    ("path", "query", "param", "words"),
    [
        ("/candles/perpetualMarkets/XXX-USD", {"resolution": "1HOUR"}, "ticker", "must be a valid ticker"),
        ("/candles/perpetualMarkets/BTC-USD", {"resolution": "7MIN"}, "resolution", "valid Candle Resolution"),
        ("/candles/perpetualMarkets/BTC-USD", {}, "resolution", "valid Candle Resolution"),
        ("/candles/perpetualMarkets/BTC-USD", {"resolution": "1HOUR", "limit": 1001}, "limit", "max: 1000"),
        ("/candles/perpetualMarkets/BTC-USD", {"resolution": "1HOUR", "fromISO": "now"}, "fromISO", "Invalid value"),
        ("/historicalFunding/BTC-USD", {"effectiveBeforeOrAt": "then"}, "effectiveBeforeOrAt", "Invalid value"),
        ("/orderbooks/perpetualMarket/BTC-USDC", {}, "ticker", "must be a valid ticker"),
        ("/perpetualMarkets", {"ticker": "BTC"}, "ticker", "must be a valid ticker"),
    ],
)
def test_dydx_refuses_with_errors(root: str, path: str, query: dict[str, Any], param: str, words: str) -> None:
    status, body = ask(root, "/v4" + path, **query)
    assert (status, body["errors"][0]["param"]) == (400, param)
    assert words in body["errors"][0]["msg"]


@pytest.mark.parametrize(
    ("venue", "call", "asked", "kind"),
    [
        ("okx", "publicGetMarketCandles", {"instId": "XXX-USDT-SWAP"}, ccxt.BadSymbol),
        ("okx", "publicGetMarketCandles", OKX | {"bar": "7m"}, ccxt.BadRequest),
        ("bitget", "publicMixGetV2MixMarketOpenInterest", {"symbol": "BTCUSDT"}, ccxt.BadRequest),
        ("bitget", "publicMixGetV2MixMarketHistoryFundRate", BITGET | {"pageSize": 0}, ccxt.BadRequest),
        ("gate", "publicFuturesGetSettleCandlesticks", {"settle": "usdt", "contract": "XXX_USDT"}, ccxt.BadSymbol),
        ("gate", "publicFuturesGetSettleContractStats", {"settle": "usdt"}, ccxt.ArgumentsRequired),
        ("gate", "publicFuturesGetSettleFundingRate", {"settle": "usdt", **GATE, "limit": 1001}, ccxt.BadRequest),
        ("dydx", "indexerGetHistoricalFundingMarket", {"market": "XXX-USD"}, ccxt.ExchangeNotAvailable),
    ],
)
def test_ccxt_takes_a_refusal_for_what_it_is(
    root: str, venue: str, call: str, asked: dict[str, Any], kind: type[Exception]
) -> None:
    client = getattr(ccxt, venue)({"enableRateLimit": False})
    base = {"okx": "", "bitget": "", "gate": "/api/v4", "dydx": "/v4"}[venue]

    def at(urls: Any) -> Any:
        return {key: at(value) for key, value in urls.items()} if isinstance(urls, dict) else root + base

    client.urls["api"] = at(client.urls["api"])
    with pytest.raises(ccxt.BaseError) as caught:
        getattr(client, call)(asked)
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    "path",
    [
        "/api/v5/public/instruments?instType=FUTURES", "/api/v5/public/instruments?instType=OPTION&uly=BTC-USD",
        "/api/v2/mix/market/contracts?productType=COIN-FUTURES", "/api/v2/spot/public/symbols",
        "/api/v4/futures/btc/contracts", "/api/v4/delivery/usdt/contracts", "/api/v4/spot/currency_pairs",
    ],
)  # fmt: skip
def test_what_a_simulated_venue_does_not_list_is_empty(root: str, path: str) -> None:
    status, body = ask(
        root, path.partition("?")[0], **dict(p.split("=") for p in path.partition("?")[2].split("&") if p)
    )
    assert status == 200
    assert (body if isinstance(body, list) else body["data"]) == []


@pytest.mark.parametrize(
    "path",
    [
        "/api/v5/market/candles?instId=BTC-USDT-SWAP&bar=1H", f"{FUTURES}/contract_stats?contract=BTC_USDT&interval=1h",
        "/v4/candles/perpetualMarkets/BTC-USD?resolution=1HOUR&limit=50",
        "/api/v2/mix/market/candles?symbol=BTCUSDT&productType=USDT-FUTURES&granularity=1H",
    ],
)  # fmt: skip
def test_a_run_that_is_late_reads_these_venues_as_of_its_due_time(root: str, path: str) -> None:
    due = SECOND - 86400
    with urllib.request.urlopen(f"{root}/at/{due}{path}", timeout=20) as answer:
        text = answer.read().decode()
    body = json.loads(text)
    rows = body if isinstance(body, list) else body.get("data") or body.get("candles")
    stamps = [
        (row.get("time", 0) or datetime.fromisoformat(row["startedAt"]).timestamp())
        if isinstance(row, dict) else int(row[0]) / 1000
        for row in rows
    ]  # fmt: skip
    assert max(stamps) == due - due % 3600


FITTING = {
    "instId": "BTC-USDT-SWAP", "instType": "SWAP", "bar": "1H", "period": "1H", "symbol": "BTCUSDT", "limit": "50",
    "productType": "USDT-FUTURES", "granularity": "1H", "settle": "usdt", "contract": "BTC_USDT", "interval": "1h",
    "ticker": "BTC-USD", "resolution": "1HOUR",
}  # fmt: skip
FURTHER = (
    "before",
    "after",
    "begin",
    "end",
    "sz",
    "startTime",
    "endTime",
    "pageNo",
    "pageSize",
    "from",
    "to",
    "kLineType",
)
MOMENTS = ("fromISO", "toISO", "effectiveBeforeOrAt")
NAMES = (*FITTING, *FURTHER, *MOMENTS)
TEXT = st.one_of(
    st.text(max_size=12), st.integers(-(2**70), 2**70).map(str), st.integers(0, 2000).map(str),
    st.integers(1_700_000_000, 1_720_000_000).map(str), st.integers(1_700_000_000_000, 1_720_000_000_000).map(str),
    st.datetimes().map(datetime.isoformat), st.sampled_from(["5m", "1m", "5MINS", "1MIN", "MARK", "mark_BTC_USDT", ""]),
)  # fmt: skip


def answered(venue: Any, path: str, view: View, values: dict[str, Any]) -> int:
    try:
        json.dumps(venue.PATHS[path](view, Asked(values)), allow_nan=False)
    except Malformed as error:
        return int(venue.refusal(error).status)
    except Refused as error:
        return error.status
    return 200


@pytest.mark.parametrize("venue", [okx, bitget, gate, dydx], ids=lambda venue: venue.__name__.rsplit(".", 1)[-1])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_parameters_give_rows_or_a_refusal(market: EmbeddedMarket, venue: Any, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(venue.PATHS)))
    values = FITTING | data.draw(st.dictionaries(st.sampled_from(NAMES), TEXT, max_size=4))
    for name in data.draw(st.sets(st.sampled_from(NAMES), max_size=2)):
        values.pop(name, None)
    view = View(market, market.origin + data.draw(st.integers(0, 9000)) * timedelta(minutes=1))
    assert answered(venue, path, view, values) in (200, 400)

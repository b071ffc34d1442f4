"""The loopback server answers in the venues' own words, and never with a traceback."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oihedge.core.clock import FixedClock
from oihedge.core.errors import ConfigError
from oihedge.simulator import binance, bybit, hyperliquid
from oihedge.simulator.asked import Asked, Malformed, Refused
from oihedge.simulator.market import EmbeddedMarket
from oihedge.simulator.server import LoopbackServer
from oihedge.simulator.settings import Simulator
from oihedge.simulator.view import View

NOW = datetime(2024, 1, 6, 9, 12, tzinfo=UTC)
START = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp() * 1000)


class MovingClock:
    """A clock that a test moves on."""

    def __init__(self, instant: datetime) -> None:
        self.instant = instant

    def now(self) -> datetime:
        return self.instant


@pytest.fixture(scope="module")
def url(market: EmbeddedMarket) -> Iterator[str]:
    with LoopbackServer(market, FixedClock(NOW)) as server:
        yield server.url


def ask(url: str, path: str, body: Any = None, **query: Any) -> tuple[int, Any]:
    raw = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
    target = f"{url}{path}?{urlencode(query)}" if query else url + path
    request = urllib.request.Request(target, data=raw, headers={"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


@pytest.mark.parametrize(
    ("path", "query", "status", "code"),
    [
        ("/fapi/v1/klines", {"symbol": "XXXUSDT", "interval": "1h"}, 400, -1121),
        ("/fapi/v1/klines", {"symbol": "BTC", "interval": "1h"}, 400, -1121),
        ("/fapi/v1/klines", {"symbol": "BTCUSDT", "interval": "7h"}, 400, -1120),
        ("/fapi/v1/klines", {"interval": "1h"}, 400, -1102),
        ("/api/v3/klines", {"symbol": "BTCUSDT", "interval": "1h", "startTime": "soon"}, 400, -1130),
        ("/api/v3/klines", {"symbol": "BTCUSDT", "interval": "1h", "limit": "-4"}, 400, -1130),
        ("/futures/data/openInterestHist", {"symbol": "BTCUSDT", "period": "1h", "limit": "501"}, 400, -1130),
        ("/fapi/v1/fundingRate", {"symbol": "BTCUSDT", "limit": "1001"}, 400, -1130),
        ("/v5/market/kline", {"category": "linear", "symbol": "XXXUSDT", "interval": "60"}, 200, 10001),
        ("/v5/market/kline", {"category": "linear", "symbol": "BTCUSDT", "interval": "61"}, 200, 10001),
        ("/v5/market/kline", {"category": "inverse", "symbol": "BTCUSDT", "interval": "60"}, 200, 10001),
        ("/v5/market/open-interest", {"category": "linear", "symbol": "BTCUSDT"}, 200, 10001),
        ("/v5/market/funding/history", {"category": "linear", "symbol": "BTCUSDT", "startTime": START}, 200, 10001),
        ("/v5/market/instruments-info", {}, 200, 10001),
    ],
)
def test_a_bad_request_is_refused_in_the_venue_s_words(
    url: str, path: str, query: dict[str, Any], status: int, code: int
) -> None:
    found, body = ask(url, path, **query)
    assert (found, body.get("code", body.get("retCode"))) == (status, code)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[]",
        b"null",
        b"[" * 100_000,
        {"type": "nothing"},
        {"type": 7},
        {"type": "candleSnapshot"},
        {"type": "candleSnapshot", "req": {"coin": "XXX", "interval": "1h"}},
        {"type": "candleSnapshot", "req": {"coin": "BTC", "interval": "7h"}},
        {"type": "candleSnapshot", "req": {"coin": "BTC", "interval": "1h", "startTime": -1}},
        {"type": "fundingHistory", "coin": "BTC"},
    ],
)
def test_hyperliquid_refuses_a_bad_body_with_422(url: str, body: Any) -> None:
    status, answer = ask(url, "/info", body)
    assert status == 422
    assert "deserialize" in answer["error"]


@pytest.mark.parametrize("path", ["/", "/fapi/v1/nothing", "/v5/market", "/info"])
def test_an_unknown_path_is_json_too(url: str, path: str) -> None:
    status, body = ask(url, path)
    assert status in (404, 405)
    assert path in body["msg"]


word = st.one_of(st.integers(-(10**20), 10**20).map(str), st.text(max_size=8), st.sampled_from(["BTCUSDT", "1h", "60"]))
PATHS = [(path, binance) for path in binance.PATHS] + [(path, bybit) for path in bybit.PATHS]


@settings(max_examples=70, deadline=None)
@given(
    path=st.sampled_from(PATHS),
    values=st.fixed_dictionaries(
        {},
        optional={
            "symbol": st.one_of(st.just("BTCUSDT"), word),
            "category": st.one_of(st.sampled_from(["linear", "spot"]), word),
            "interval": st.one_of(st.sampled_from(["1h", "5m", "5", "60"]), word),
            "period": st.one_of(st.just("1h"), word),
            "intervalTime": st.one_of(st.just("1h"), word),
        }
        | dict.fromkeys(("startTime", "endTime", "start", "end", "limit", "cursor", "pair", "status"), word),
    ),
)
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


inner = st.dictionaries(st.sampled_from(["coin", "interval", "startTime", "endTime"]), st.one_of(word, st.integers()))
field = st.one_of(
    word, st.integers(), st.none(), st.booleans(), st.sampled_from([*hyperliquid.TYPES, "BTC"]), inner
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(body=st.dictionaries(st.sampled_from(["type", "coin", "startTime", "endTime", "req"]), field))
def test_any_body_is_answered_or_refused(market: EmbeddedMarket, body: dict[str, Any]) -> None:
    try:
        answer = hyperliquid.info(View(market, NOW), Asked(body))
    except Malformed as error:
        answer = hyperliquid.refusal(error).body
    json.dumps(answer, allow_nan=False)


def test_bybit_answers_newest_first_and_binance_oldest_first(url: str) -> None:
    _, theirs = ask(url, "/v5/market/kline", category="spot", symbol="BTCUSDT", interval="60", limit=30)
    _, ours = ask(url, "/api/v3/klines", symbol="BTCUSDT", interval="1h", limit=30)
    stamps = [int(row[0]) for row in theirs["result"]["list"]]
    assert stamps == sorted(stamps, reverse=True)
    assert [row[0] for row in ours] == stamps[::-1]
    assert all(isinstance(cell, str) for cell in (*theirs["result"]["list"][0], *ours[0][1:6]))


def test_a_history_that_reaches_before_the_market_begins_at_its_origin(url: str) -> None:
    _, rows = ask(url, "/fapi/v1/klines", symbol="BTCUSDT", interval="1h", startTime=0, limit=1500)
    assert rows == []
    _, rows = ask(url, "/fapi/v1/klines", symbol="BTCUSDT", interval="1h", startTime=START - 7_200_000, limit=5)
    assert rows[0][0] == START


def test_the_market_goes_on_with_its_clock_and_keeps_its_past(simulator: Simulator) -> None:
    market, clock = EmbeddedMarket(simulator), MovingClock(NOW)
    query = {"symbol": "BTCUSDT", "interval": "1h", "startTime": START, "limit": 1500}
    with LoopbackServer(market, clock) as server:
        _, before = ask(server.url, "/fapi/v1/klines", **query)
        known = list(market._paths)
        clock.instant = NOW + timedelta(days=2)
        _, after = ask(server.url, "/fapi/v1/klines", **query)
    assert len(after) == len(before) + 48
    assert after[: len(before) - 1] == before[:-1]
    assert after[len(before) - 1] != before[-1]
    assert all(now is past for now, past in zip(market._paths, known, strict=False))


@pytest.mark.parametrize("minutes", [0, 3, 30, 59])
def test_a_running_bar_does_not_depend_on_what_comes(market: EmbeddedMarket, minutes: int) -> None:
    opened = NOW.replace(minute=0)
    view = View(market, opened + timedelta(minutes=minutes))
    bar = view.bars("BTC", "binance", "spot", opened, NOW + timedelta(days=1), "1h")
    done = market.bars("BTC", "binance", "spot", opened, opened + timedelta(minutes=minutes // 5 * 5), "5m")
    assert bar.height == 1
    assert bar["high"][0] == (done["high"].max() if done.height else bar["open"][0])
    assert bar["volume"][0] == pytest.approx(done["volume"].sum())


def test_a_bar_is_whole_from_the_instant_it_closes(market: EmbeddedMarket) -> None:
    opened = NOW.replace(minute=0)
    shown = View(market, opened + timedelta(hours=1)).bars("BTC", "bybit", "perp", opened, opened, "1h")
    assert shown.drop("ms").equals(market.bars("BTC", "bybit", "perp", opened, opened + timedelta(hours=1)))


def test_the_server_listens_on_loopback_only_and_leaves_its_port(market: EmbeddedMarket) -> None:
    with LoopbackServer(market, FixedClock(NOW)) as server:
        assert server.url.startswith("http://127.0.0.1:")
        port = int(server.url.rsplit(":", 1)[1])
        with pytest.raises(ConfigError, match="choose another port"), LoopbackServer(market, FixedClock(NOW), port):
            pass
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", port))


def test_before_its_origin_the_market_is_not_open(market: EmbeddedMarket) -> None:
    with LoopbackServer(market, FixedClock(market.origin - timedelta(hours=1))) as server:
        status, body = ask(server.url, "/fapi/v1/time")
    assert status == 503
    assert "opens at" in body["msg"]


def test_a_run_that_is_late_reads_the_market_as_of_its_due_time(url: str) -> None:
    due = NOW - timedelta(hours=3)
    late = f"{url}/at/{int(due.timestamp())}"
    klines = {"symbol": "BTCUSDT", "interval": "1h", "startTime": START, "limit": 1000}
    _, bars = ask(late, "/fapi/v1/klines", **klines)
    _, all_bars = ask(url, "/fapi/v1/klines", **klines)
    assert len(all_bars) - len(bars) == 3
    assert bars[:-1] == all_bars[: len(bars) - 1]
    _, then = ask(late, "/info", body={"type": "metaAndAssetCtxs"})
    _, now = ask(url, "/info", body={"type": "metaAndAssetCtxs"})
    assert then != now


def test_no_due_time_reaches_past_the_clock(url: str) -> None:
    ahead = f"{url}/at/{int((NOW + timedelta(days=400)).timestamp())}"
    assert ask(ahead, "/info", body={"type": "metaAndAssetCtxs"}) == ask(
        url, "/info", body={"type": "metaAndAssetCtxs"}
    )

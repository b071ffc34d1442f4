"""A plan of faults breaks exactly the answers that it names, in the way that it says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import ccxt
import httpx
import pytest
from fakes.loopback_client import client

from oihedge.core.clock import FixedClock
from oihedge.simulator import broken
from oihedge.simulator.faults import Fault, Plan, Reply, Rule
from oihedge.simulator.market import EmbeddedMarket
from oihedge.simulator.server import LoopbackServer

NOW = datetime(2024, 1, 6, 9, 12, tzinfo=UTC)
KLINES = "/v5/market/kline?category=linear&symbol=BTCUSDT&interval=60&limit=20"


class Venue:
    """The simulated venue with a plan that each test fills, and a client for it."""

    def __init__(self, url: str, plan: Plan, web: httpx.Client) -> None:
        self.url, self.plan, self.web = url, plan, web

    def breaks(self, *rules: Rule) -> None:
        self.plan.rules[:] = rules
        self.plan.requests.clear()

    def get(self, path: str = KLINES, **more: Any) -> httpx.Response:
        return self.web.get(path, **more)

    def answers(self, fault: Fault, path: str = KLINES) -> tuple[httpx.Response, Any]:
        """The broken answer, and the body of the right one that follows."""
        self.breaks(Rule(path.partition("?")[0], fault))
        return self.get(path), self.get(path).json()


@pytest.fixture(scope="module")
def venue(market: EmbeddedMarket) -> Iterator[Venue]:
    plan = Plan()
    with LoopbackServer(market, FixedClock(NOW), faults=plan) as server, httpx.Client(base_url=server.url) as web:
        yield Venue(server.url, plan, web)


def rows(answer: Any) -> list[Any]:
    return answer if isinstance(answer, list) else answer["result"]["list"]


def test_a_rule_breaks_as_many_answers_as_it_says_after_those_it_spares(venue: Venue) -> None:
    venue.breaks(Rule("market/kline", broken.refused(503), times=2, after=1))
    assert [venue.get().status_code for _ in range(5)] == [200, 503, 503, 200, 200]
    assert venue.get("/fapi/v1/time").status_code == 200
    assert venue.plan.asked("market/kline") == 5
    assert venue.plan.requests[-1] == "GET /fapi/v1/time"


def test_without_a_rule_that_strikes_the_answers_are_the_app_s_own(venue: Venue, market: EmbeddedMarket) -> None:
    venue.breaks(Rule("nothing", broken.refused(500)))
    body = {"type": "metaAndAssetCtxs"}
    with LoopbackServer(market, FixedClock(NOW)) as plain, httpx.Client(base_url=plain.url) as web:
        assert venue.get().content == web.get(KLINES).content
        assert venue.web.post("/info", json=body).content == web.post("/info", json=body).content


def test_a_post_is_told_apart_by_its_body(venue: Venue) -> None:
    venue.breaks(Rule('"coin": "ETH"', broken.refused(500), times=None))
    bodies = [json.dumps({"type": "l2Book", "coin": coin}) for coin in ("BTC", "ETH", "ETH")]
    assert [venue.web.post("/info", content=body).status_code for body in bodies] == [200, 500, 500]


@pytest.mark.parametrize("status", [418, 429, 500, 502, 503])
@pytest.mark.parametrize("retry_after", [None, 3, "Sat, 06 Jan 2024 09:13:00 GMT"])
def test_a_refusal_has_its_status_and_tells_when_to_come_back(venue: Venue, status: int, retry_after: Any) -> None:
    found, right = venue.answers(broken.refused(status, retry_after))
    assert found.status_code == status
    assert found.headers.get("retry-after") == (None if retry_after is None else str(retry_after))
    assert right["retCode"] == 0


def test_a_page_is_html_with_200(venue: Venue) -> None:
    found, _ = venue.answers(broken.page())
    assert (found.status_code, found.headers["content-type"]) == (200, "text/html")
    assert found.content == broken.PAGE


def test_a_truncated_answer_is_whole_on_the_wire_but_no_json(venue: Venue) -> None:
    found, _ = venue.answers(broken.truncated())
    with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
        found.json()


def test_a_reset_drops_the_connection_in_the_body(venue: Venue) -> None:
    venue.breaks(Rule("kline", broken.reset()))
    with pytest.raises(httpx.RemoteProtocolError):
        venue.get()
    assert venue.get().json()["retCode"] == 0


def test_a_slow_answer_is_right_but_late(venue: Venue) -> None:
    venue.breaks(Rule("kline", broken.slow(60.0)), Rule("kline", broken.slow(0.01)))
    with pytest.raises(httpx.ReadTimeout):
        venue.get(timeout=0.1)
    assert venue.get(timeout=50.0).json()["retCode"] == 0


def test_the_date_header_is_the_simulated_time_and_can_be_skewed(venue: Venue) -> None:
    venue.breaks(Rule("kline", broken.skewed(90.0, NOW)))
    dates = [venue.get().headers.get_list("date") for _ in range(2)]
    assert dates == [["Sat, 06 Jan 2024 09:13:30 GMT"], ["Sat, 06 Jan 2024 09:12:00 GMT"]]


BINANCE = "/fapi/v1/klines?symbol=BTCUSDT&interval=1h&limit=20"


@pytest.mark.parametrize("path", [KLINES, BINANCE])
def test_pages_can_be_empty_duplicated_or_out_of_order(venue: Venue, path: str) -> None:
    for fault, change in (
        (broken.empty(), lambda right: []),
        (broken.duplicated(), lambda right: right + right[:10]),
        (broken.unsorted(), lambda right: right[1::2] + right[::2]),
    ):
        found, right = venue.answers(fault, path)
        assert rows(found.json()) == change(rows(right))
        assert len(rows(right)) == 20


@pytest.mark.parametrize("value", ["NaN", "a word", None, "-1", 0])
def test_a_number_can_be_spoiled(venue: Venue, value: Any) -> None:
    found, right = venue.answers(broken.spoiled(value, 4), BINANCE)
    for n, (ours, theirs) in enumerate(zip(rows(found.json()), rows(right), strict=True)):
        assert ours[4] == (value if n % 7 == 0 else theirs[4])
        assert ours[:4] == theirs[:4]


def test_a_bare_nan_goes_over_the_wire(venue: Venue) -> None:
    path = "/futures/data/openInterestHist?symbol=BTCUSDT&period=1h"
    found, _ = venue.answers(broken.spoiled(float("nan"), "sumOpenInterest"), path)
    assert b'"sumOpenInterest": NaN' in found.content


def test_an_answer_can_speak_of_another_symbol(venue: Venue) -> None:
    found, right = venue.answers(broken.wrong_symbol("XRPUSDT"))
    assert found.json()["result"]["symbol"] == "XRPUSDT"
    assert rows(found.json()) == rows(right)


def test_an_answer_without_rows_says_so() -> None:
    with pytest.raises(ValueError, match="no rows to break"):
        broken.empty()(Reply(200, b'{"serverTime": 7}'))


@pytest.mark.parametrize(("hours_ago", "status"), [(2.0, 200), (0.5, 503)])
def test_a_maintenance_window_lasts_as_long_as_it_does(venue: Venue, hours_ago: float, status: int) -> None:
    venue.breaks(broken.maintenance(NOW - timedelta(hours=hours_ago), timedelta(hours=1)))
    assert [venue.get().status_code for _ in range(3)] == [status] * 3


def test_a_ccxt_client_meets_the_faults_as_it_would_outside(venue: Venue) -> None:
    where, errors = "GET /fapi/v1/klines", (
        (broken.refused(429, 1), ccxt.DDoSProtection), (broken.refused(418, 60), ccxt.DDoSProtection),
        (broken.refused(502), ccxt.ExchangeNotAvailable), (broken.reset(), ccxt.NetworkError),
    )  # fmt: skip
    venue.breaks(*(Rule(where, fault) for fault, _ in errors))
    venue_client = client("binanceusdm", venue.url, fetchMarkets={"types": ["linear"]})
    venue_client.load_markets()
    for _, error in errors:
        with pytest.raises(error):
            venue_client.fetch_ohlcv("BTC/USDT:USDT", "1h", limit=5)
    assert len(venue_client.fetch_ohlcv("BTC/USDT:USDT", "1h", limit=5)) == 5

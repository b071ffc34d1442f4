"""Venues that misbehave: a retry, or one clear failure; never a wrong row."""

from __future__ import annotations

import gzip
import json
import time
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from fakes.loopback_venue import HOUR, Broken, LoopbackVenue, Reply
from fakes.market_settings import PERPS, market

import oihedge.cli
from oihedge.core.errors import VenueError
from oihedge.market import clients, live, series_history
from oihedge.market.read import UNREADABLE, Fetched, fetch
from oihedge.market.series import Series

NOW = datetime(2025, 7, 1, 0, 5, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
START = NOW - timedelta(days=2)
BYBIT, HTML = PERPS[1], b"<html><body>We are under maintenance</body></html>"


def read(*broken: Broken, **more) -> tuple[Fetched, LoopbackVenue]:
    venues = more.pop("venues", (BYBIT,))
    with LoopbackVenue(NOW_MS, *broken) as loopback:
        fetched = fetch(market(*venues, **more), start=START, end=NOW, now=NOW, base_url=loopback.url)
    return fetched, loopback


@pytest.fixture(scope="module")
def right() -> Fetched:
    return read()[0]


def same(a: Fetched, b: Fetched) -> bool:
    return all(a.rows[name].equals(b.rows[name]) for name in b.rows)


def rewritten(change):
    """Break the right body: `change` gets the decoded rows' holder and returns nothing."""

    def fault(body: bytes) -> Reply:
        answer = json.loads(body)
        change(answer)
        return Reply(body=json.dumps(answer).encode())

    return fault


def rows_of(answer):
    return answer["result"]["list"]


PASSING = {
    "500": lambda body: Reply(500, b"oops"),
    "502 page": lambda body: Reply(502, HTML),
    "503": lambda body: Reply(503, b""),
    "504": lambda body: Reply(504, b""),
    "429": lambda body: Reply(429, b'{"retCode":10006,"retMsg":"Too many visits"}', {"Retry-After": "0.05"}),
    "429 without Retry-After": lambda body: Reply(429, b"slow down"),
    "418": lambda body: Reply(418, b"banned", {"Retry-After": "0.05"}),
    "429 with a date": lambda body: Reply(
        429, b"slow down", {"Date": "Tue, 01 Jul 2025 00:05:00 GMT", "Retry-After": "Tue, 01 Jul 2025 00:05:00 GMT"}
    ),
    "403 of too many requests": lambda body: Reply(403, b"access too frequent"),
    "html with 200": lambda body: Reply(200, HTML, {"Content-Type": "text/html"}),
    "empty body": lambda body: Reply(200, b""),
    "null body": lambda body: Reply(200, b"null"),
    "truncated json": lambda body: Reply(200, body[: len(body) // 2]),
    "cut connection": lambda body: Reply(200, body, cut=True),
    "another shape": lambda body: Reply(200, b'{"retCode":0,"result":{"list":[{"a":1},7]}}'),
    "server error in json": lambda body: Reply(200, b'{"retCode":10016,"retMsg":"System error","result":{}}'),
    "rate limit in json": lambda body: Reply(200, b'{"retCode":10006,"retMsg":"Too many visits","result":{}}'),
    "no rows": rewritten(lambda answer: rows_of(answer).clear()),
    "half of the rows": rewritten(lambda answer: rows_of(answer).__delitem__(slice(0, 20))),
    "the rows of another symbol": rewritten(lambda answer: answer["result"].update(symbol="XRPUSDT")),
}


@pytest.mark.parametrize("name", PASSING)
@pytest.mark.parametrize("where", ["market/kline", "market/open-interest"])
def test_a_passing_fault_is_retried_until_the_rows_are_right(name, where, right):
    fetched, _ = read(Broken(where, PASSING[name]))
    assert fetched.failures == []
    assert same(fetched, right)


@pytest.mark.parametrize("name", sorted(set(PASSING) - {"no rows", "half of the rows", "the rows of another symbol"}))
def test_a_passing_fault_of_the_market_list_is_retried(name, right):
    fetched, _ = read(Broken("instruments-info", PASSING[name]))
    assert fetched.failures == []
    assert same(fetched, right)


@pytest.mark.parametrize(
    "shuffle",
    [
        pytest.param(lambda answer: rows_of(answer).extend(rows_of(answer)[:7]), id="duplicated rows"),
        pytest.param(lambda answer: rows_of(answer).reverse(), id="the other order"),
        pytest.param(lambda answer: rows_of(answer).sort(key=str), id="no order"),
        pytest.param(
            lambda answer: rows_of(answer).append([str(NOW_MS + HOUR), *"11111", "0"]), id="a row of the future"
        ),
    ],
)
def test_pages_out_of_order_or_with_repeated_rows_come_out_right(shuffle, right):
    fetched, _ = read(Broken("market/kline", rewritten(shuffle), times=99))
    assert fetched.failures == []
    assert fetched.rows["ohlcv"].equals(right.rows["ohlcv"])


LASTING = {
    "another price for the same hour": (
        rewritten(lambda answer: rows_of(answer).append([rows_of(answer)[0][0], *"99999", "0"])),
        "two different rows",
    ),
    "instants off the grid": (
        rewritten(lambda answer: [row.__setitem__(0, str(int(row[0]) + 60_000)) for row in rows_of(answer)]),
        "off the grid",
    ),
    "the rows of another symbol": (PASSING["the rows of another symbol"], "answered with XRPUSDT"),
    "html with 200": (PASSING["html with 200"], "no JSON"),
    "bars without a price": (
        rewritten(lambda answer: [row.__setitem__(1, "") for row in rows_of(answer)]),
        "expected a number",
    ),
    "bars with NaN for a price": (
        rewritten(lambda answer: [row.__setitem__(2, "NaN") for row in rows_of(answer)]),
        "expected finite numbers",
    ),
    "rows without their last columns": (
        rewritten(lambda answer: [row.__delitem__(slice(4, None)) for row in rows_of(answer)]),
        "expected rows of 7 columns",
    ),
}


@pytest.mark.parametrize("name", LASTING)
def test_a_lasting_fault_is_one_named_failure_and_not_one_row_of_that_series(name, right):
    fault, says = LASTING[name]
    fetched, _ = read(Broken("market/kline?category=linear", fault, times=999), Broken("kline", fault, times=999))
    assert len(fetched.failures) == 2
    assert all(says in failure and failure.startswith("bybit ohlcv ") for failure in fetched.failures)
    assert all(len(failure) < 300 and "\n" not in failure for failure in fetched.failures)
    assert fetched.rows["ohlcv"].is_empty()
    assert fetched.rows["funding"].equals(right.rows["funding"])
    assert fetched.rows["open_interest"]["oi_usd"].null_count() == fetched.rows["open_interest"].height


def test_rows_that_stay_away_are_told_as_a_gap_after_a_second_look():
    fetched, loopback = read(Broken("market/kline", PASSING["no rows"], times=999))
    assert fetched.failures == []
    assert fetched.rows["ohlcv"].is_empty()
    assert {(gap.table, gap.why) for gap in fetched.gaps} == {("ohlcv", "the venue sent no rows")}
    assert loopback.asked("market/kline") == 2 * 2


@pytest.mark.parametrize("status", [400, 403, 404, 451])
def test_a_refusal_is_never_asked_again(status):
    fetched, loopback = read(Broken("market/kline", lambda body: Reply(status, HTML), times=999))
    assert len(fetched.failures) == 2
    assert str(status) in fetched.failures[0]
    assert loopback.asked("market/kline") == 2


def test_a_symbol_the_venue_disowns_is_never_asked_again():
    body = b'{"code":-1121,"msg":"Invalid symbol."}'
    fetched, loopback = read(Broken("/klines", lambda _: Reply(400, body), times=999), venues=(PERPS[0],))
    assert all("BadSymbol" in failure for failure in fetched.failures)
    assert loopback.asked("/klines") == 2


def test_retry_after_pauses_the_whole_venue():
    def limited(body: bytes) -> Reply:
        return Reply(429, b'{"code":-1003,"msg":"Too many requests"}', {"Retry-After": "1"})

    begun = time.monotonic()
    fetched, _ = read(Broken("/klines", limited), venues=(PERPS[0],))
    assert time.monotonic() - begun >= 1.0
    assert fetched.failures == []


def test_a_ban_longer_than_our_patience_gives_the_venue_up_at_once_and_spares_the_others(right):
    def banned(body: bytes) -> Reply:
        return Reply(418, b'{"code":-1003,"msg":"Way too many requests; IP banned"}', {"Retry-After": "7200"})

    fetched, loopback = read(Broken("/fapi/v1/klines", banned, times=999), venues=(PERPS[0], BYBIT))
    assert fetched.failures
    assert any("pause of 7200 s" in failure for failure in fetched.failures)
    assert loopback.asked("/fapi/v1/klines") <= 2
    assert set(fetched.rows["ohlcv"]["venue"]) == {"bybit"}


def test_one_venue_down_leaves_the_others_whole(right):
    fetched, _ = read(Broken("/fapi/", lambda body: Reply(503, b""), times=999), venues=(PERPS[0], BYBIT))
    assert len(fetched.failures) == 1
    assert fetched.failures[0].startswith("binanceusdm perp markets: ExchangeNotAvailable")
    assert same(fetched, right)


def test_an_empty_list_of_markets_is_a_failure_of_the_venue_not_a_wrong_symbol():
    empty = Broken("instruments-info", rewritten(lambda answer: rows_of(answer).clear()), times=999)
    fetched, _ = read(empty, venues=(PERPS[0], BYBIT))
    assert fetched.failures == ["bybit perp markets: BadResponse: bybit sent an empty list of markets"]


def test_when_no_venue_answers_there_is_one_error():
    with pytest.raises(VenueError, match="no venue could be read"):
        fetch(market(BYBIT, attempts=2), start=START, end=NOW, now=NOW, base_url="http://127.0.0.1:9")


def test_a_venue_that_hangs_is_timed_out_and_asked_again(right):
    def slow(body: bytes) -> Reply:
        time.sleep(0.6)
        return Reply(body=body)

    fetched, _ = read(Broken("market/kline", slow), timeout_s=0.3)
    assert fetched.failures == []
    assert same(fetched, right)


def test_a_present_value_that_is_missing_is_a_failure_not_a_zero():
    def blank(answer):
        for context in answer[1]:
            context.pop("openInterest")

    fetched, _ = read(Broken('"metaAndAssetCtxs"', rewritten(blank), times=999), venues=(PERPS[2],))
    assert fetched.rows["open_interest"].is_empty()
    assert any("no open interest" in failure for failure in fetched.failures)


@pytest.mark.parametrize("error", [TypeError("odd"), pl.exceptions.InvalidOperationError("odd")])
def test_what_a_reader_did_not_foresee_ends_its_series_and_no_other(error, right, monkeypatch):
    def fails(*_):
        raise error

    monkeypatch.setattr(series_history, "funding_table", fails)
    fetched, _ = read()
    assert len(fetched.failures) == 2
    assert all(line.startswith("bybit funding ") and type(error).__name__ in line for line in fetched.failures)
    assert fetched.rows["ohlcv"].equals(right.rows["ohlcv"])


@pytest.mark.parametrize("packed", [False, True])
def test_an_endless_answer_is_refused_before_it_is_read_whole(packed, right, monkeypatch):
    monkeypatch.setattr(clients, "MOST_BYTES", 2**20)
    filler = b" " * 2**23

    def endless(body: bytes) -> Reply:
        if packed:
            return Reply(200, gzip.compress(filler + body), {"Content-Encoding": "gzip"})
        return Reply(200, filler + body)

    fetched, _ = read(Broken("market/kline", endless, times=999))
    assert any("BadResponse: 127.0.0.1 sent more than 1048576 bytes" in line for line in fetched.failures)
    assert fetched.rows["ohlcv"].is_empty()
    assert fetched.rows["funding"].equals(right.rows["funding"])


@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_what_a_venue_sent_steers_no_terminal(debug, monkeypatch, capsys):
    def fails(arguments):
        raise VenueError("bybit sent \x1b[2J\x07\u202e")

    monkeypatch.setattr(oihedge.cli, "_run", fails)
    assert oihedge.cli.main(["ingest", *debug]) == VenueError.exit_code
    told = capsys.readouterr().err
    assert told.endswith("oihedge: bybit sent \\x1b[2J\\x07\\u202e\n")
    assert all(line.isprintable() for line in told.split("\n"))
    assert bool(debug) == ("Traceback" in told)


BAD_HOUR = NOW.replace(minute=0) - timedelta(hours=5)
ODD = ["", "NaN", "abc", None, True, [], {}, "1e999"]


def odd_value(key, at, odd):
    """Put `odd` into the row of the instant `at`, of every symbol."""

    def change(answer):
        for row in rows_of(answer):
            if str(int(at.timestamp() * 1000)) in (row.values() if isinstance(row, dict) else row):
                row[key] = odd

    return rewritten(change)


@pytest.mark.parametrize("odd", ODD, ids=repr)
@pytest.mark.parametrize(
    ("where", "table", "key", "at"),
    [("market/kline", "ohlcv", 4, BAD_HOUR), ("market/open-interest", "open_interest", "openInterest", BAD_HOUR),
     ("funding/history", "funding", "fundingRate", NOW.replace(minute=0) - timedelta(hours=8))],
    ids=["bars", "open interest", "funding"],
)  # fmt: skip
def test_a_value_that_stays_no_number_costs_its_own_row_only_and_is_told(where, table, key, at, odd, right):
    fetched, loopback = read(Broken(where, odd_value(key, at, odd), times=999), attempts=3)
    assert fetched.failures == []
    wanted = right.rows[table].filter(pl.col("ts") != at)
    assert fetched.rows[table].equals(wanted)
    told = [gap for gap in fetched.gaps if gap.why == UNREADABLE]
    assert {(gap.table, gap.start, gap.end) for gap in told} == {(table, at, at + timedelta(hours=1))}
    assert len(told) == 2
    assert len(fetched.gaps) == len(right.gaps) + 2
    assert loopback.asked(where) >= 2 * 3


def test_a_value_that_is_a_number_at_the_second_attempt_leaves_no_trace(right):
    fetched, _ = read(Broken("market/open-interest", odd_value("openInterest", BAD_HOUR, ""), times=2))
    assert (fetched.failures, fetched.gaps) == ([], right.gaps)
    assert same(fetched, right)


def test_the_bad_hour_alone_is_a_gap_and_not_an_endless_failure():
    with LoopbackVenue(NOW_MS, Broken("open-interest", odd_value("openInterest", BAD_HOUR, ""), times=999)) as loopback:
        asked = {"start": BAD_HOUR, "end": BAD_HOUR + timedelta(hours=1), "now": NOW, "base_url": loopback.url}
        fetched = fetch(market(BYBIT), tables=["open_interest"], **asked)
    assert fetched.failures == []
    assert {gap.why for gap in fetched.gaps} == {UNREADABLE}


def test_a_row_whose_time_is_no_instant_still_ends_its_series(right):
    fault = odd_value("timestamp", BAD_HOUR, "soon")
    fetched, _ = read(Broken("market/open-interest", fault, times=999))
    assert len(fetched.failures) == 2
    assert all("expected a number, got 'soon'" in line for line in fetched.failures)
    assert fetched.rows["open_interest"].is_empty()


def test_another_host_that_a_venue_points_to_is_not_asked(right):
    with LoopbackVenue(NOW_MS) as other:
        away = Broken("market/kline", lambda body: Reply(302, b"", {"Location": f"{other.url}/v5/market/kline"}), 999)
        fetched, loopback = read(away)
    assert other.requests == []
    assert loopback.asked("market/kline") == 2
    assert all("answers 302, to be asked at another address" in line for line in fetched.failures)
    assert fetched.rows["ohlcv"].is_empty()
    assert fetched.rows["funding"].equals(right.rows["funding"])


@pytest.mark.parametrize(("behind", "cached", "last"), [(6, 0, 22), (0, 0, 23), (0, 3600, 23)])
def test_our_fast_clock_takes_no_bar_that_is_still_open_at_the_venue(behind, cached, last, monkeypatch):
    monkeypatch.setattr(live, "Series", lambda *given: Series(*given[:-1], real=True))
    theirs = NOW - timedelta(minutes=behind)
    headers = {"Date": f"{theirs - timedelta(seconds=cached):%a, %d %b %Y %H:%M:%S GMT}", "Age": str(cached)}
    dated = Broken("/v5/", lambda body: Reply(body=body, headers=headers), times=999)
    with LoopbackVenue(int(theirs.timestamp() * 1000), dated) as loopback:
        asked = {"start": START, "end": NOW, "now": NOW, "base_url": loopback.url, "tables": ["ohlcv"]}
        fetched = fetch(market(BYBIT), **asked)
    assert (fetched.failures, fetched.gaps) == ([], [])
    assert fetched.rows["ohlcv"]["ts"].max().hour == last


@pytest.mark.parametrize("date", ["Thu, 01 Jan 1970 00:00:00 GMT", "Mon, 30 Jun 2025 13:00:00 GMT"])
def test_a_venue_whose_clock_is_far_behind_is_a_failure_and_no_short_history(date, monkeypatch):
    monkeypatch.setattr(live, "Series", lambda *given: Series(*given[:-1], real=True))
    dated = Broken("/v5/", lambda body: Reply(body=body, headers={"Date": date}), times=999)
    with pytest.raises(VenueError, match="no venue could be read") as caught:
        read(dated)
    assert "the venue's clock says" in str(caught.value)


def test_a_venue_whose_clock_is_behind_still_gives_what_is_past_by_its_own(right, monkeypatch):
    monkeypatch.setattr(live, "Series", lambda *given: Series(*given[:-1], real=True))
    headers = {"Date": "Mon, 30 Jun 2025 13:00:00 GMT"}
    dated = Broken("/v5/", lambda body: Reply(body=body, headers=headers), times=999)
    end = datetime(2025, 6, 30, 12, tzinfo=UTC)
    with LoopbackVenue(NOW_MS, dated) as loopback:
        asked = {"start": START, "end": end, "now": NOW, "base_url": loopback.url, "tables": ["ohlcv"]}
        fetched = fetch(market(BYBIT), **asked)
    assert (fetched.failures, fetched.gaps) == ([], [])
    assert fetched.rows["ohlcv"].equals(right.rows["ohlcv"].filter(pl.col("ts") < end))


@pytest.mark.parametrize(("beside", "known"), [(59_000, 64), (-59_000, 5)])
def test_a_payment_is_not_known_before_its_own_stamp(beside, known):
    def moved(answer):
        for row in rows_of(answer):
            row["fundingRateTimestamp"] = str(int(row["fundingRateTimestamp"]) + beside)

    fetched, _ = read(Broken("funding/history", rewritten(moved), times=999))
    paid = fetched.rows["funding"]
    assert paid.height == 12
    assert (paid["ts"].dt.hour() % 8 == 0).all()
    assert ((paid["available_at"] - paid["ts"]) == timedelta(seconds=known)).all()

"""Fetching from a loopback venue: what comes, when it was known, and what is said to be missing."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import ccxt
import polars as pl
import pytest
from fakes.loopback_venue import HOUR, Broken, LoopbackVenue, Reply, coins, price
from fakes.market_settings import PERPS, SPOTS, market, venue

from oihedge.core.errors import ConfigError
from oihedge.core.tables import conform, table
from oihedge.market.live import _check_symbols
from oihedge.market.read import UNREADABLE, fetch

NOW = datetime(2025, 7, 1, 0, 5, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
DAY = timedelta(days=1)


def hour_of(at: datetime) -> int:
    return int(at.timestamp() * 1000) // HOUR


def test_every_venue_gives_the_rows_of_the_span_and_nothing_later_than_now():
    with LoopbackVenue(NOW_MS) as loopback:
        fetched = fetch(market(), start=NOW - 3 * DAY, end=NOW, now=NOW, base_url=loopback.url)
    assert fetched.failures == []
    bars = fetched.rows["ohlcv"]
    assert bars.group_by("venue", "symbol").len()["len"].unique().to_list() == [71]
    assert set(bars["kind"]) == {"perp", "spot"}
    for name, rows in fetched.rows.items():
        assert conform(rows, table(name), stamps=False).equals(rows)
        assert rows.select(table(name).key).is_unique().all()
        assert rows["available_at"].max() <= NOW
        assert rows["ts"].min() >= NOW - 3 * DAY


def test_bars_are_available_after_their_close_and_keep_their_values():
    with LoopbackVenue(NOW_MS) as loopback:
        rows = fetch(market(PERPS[1]), start=NOW - DAY, end=NOW, now=NOW, base_url=loopback.url).rows["ohlcv"]
    first = rows.row(0, named=True)
    assert first["ts"] == datetime(2025, 6, 30, 1, tzinfo=UTC)
    assert first["open"] == price(hour_of(first["ts"]))
    assert first["close"] == price(hour_of(first["ts"]) + 1)
    assert (rows["available_at"] - rows["ts"]).unique().to_list() == [timedelta(hours=1, seconds=5)]


@pytest.mark.parametrize("tables", [("open_interest",), ("ohlcv", "open_interest")])
def test_coins_without_a_value_are_priced_at_their_own_instant_never_with_the_bar_that_opens_then(tables):
    with LoopbackVenue(NOW_MS) as loopback:
        fetched = fetch(market(PERPS[1]), start=NOW - DAY, end=NOW, now=NOW, base_url=loopback.url, tables=tables)
    rows = fetched.rows["open_interest"]
    assert set(fetched.rows) == set(tables)
    for ts, base, usd, source in rows.select("ts", "oi_base", "oi_usd", "unit_source").rows():
        assert base == coins(hour_of(ts))
        assert usd == base * price(hour_of(ts))
        assert "close of the perp bar before ts" in source
    assert rows["ts"].max() == datetime(2025, 7, 1, tzinfo=UTC)


def test_venues_that_send_a_value_keep_it_and_say_so():
    with LoopbackVenue(NOW_MS) as loopback:
        fetched = fetch(market(PERPS[0]), start=NOW - DAY, end=NOW, now=NOW, base_url=loopback.url)
    assert set(fetched.rows["open_interest"]["unit_source"]) == {"coins and USD value as sent"}


def test_history_beyond_a_venue_is_told_as_a_gap_that_only_an_archive_fills():
    start = NOW - 40 * DAY
    with LoopbackVenue(NOW_MS) as loopback:
        fetched = fetch(
            market(PERPS[0]), start=start, end=NOW, now=NOW, base_url=loopback.url, tables=["open_interest"]
        )
    assert {gap.symbol for gap in fetched.gaps} == {"BTC/USDT:USDT", "ETH/USDT:USDT"}
    gap = fetched.gaps[0]
    assert (gap.venue, gap.table, gap.start) == ("binanceusdm", "open_interest", start)
    assert "only an archive" in gap.why
    assert fetched.rows["open_interest"]["ts"].min() == gap.end


def test_a_venue_with_only_a_present_value_is_recorded_now_and_says_so():
    with LoopbackVenue(NOW_MS) as loopback:
        fetched = fetch(market(PERPS[2]), start=NOW - DAY, end=NOW, now=NOW, base_url=loopback.url)
    rows = fetched.rows["open_interest"]
    assert rows["ts"].to_list() == [NOW, NOW]
    assert rows["available_at"].to_list() == [NOW, NOW]
    assert rows["oi_usd"].to_list() == [coins(hour_of(NOW)) * price(hour_of(NOW))] * 2
    assert all("recorded from now on" in gap.why for gap in fetched.gaps)


def test_a_past_span_never_gets_the_present_value():
    with LoopbackVenue(NOW_MS) as loopback:
        fetched = fetch(market(PERPS[2]), start=NOW - 3 * DAY, end=NOW - DAY, now=NOW, base_url=loopback.url)
    assert fetched.rows["open_interest"].is_empty()
    assert fetched.rows["ohlcv"]["ts"].max() < NOW - DAY


def test_only_the_latest_bars_of_a_venue_that_keeps_few_are_asked_for():
    with LoopbackVenue(NOW_MS) as loopback:
        fetched = fetch(
            market(PERPS[2]), start=NOW - 300 * DAY, end=NOW, now=NOW, base_url=loopback.url, tables=["ohlcv"]
        )
    assert [gap.why for gap in fetched.gaps] == [
        "the venue keeps its latest 5000 bars; only an archive can give more"
    ] * 2
    assert fetched.rows["ohlcv"].height == 2 * 4998  # one less than complete, the limit moves on while we ask


def test_months_are_paged_within_the_row_caps_and_come_back_without_a_hole():
    with LoopbackVenue(NOW_MS) as loopback:
        fetched = fetch(market(PERPS[1]), start=NOW - 100 * DAY, end=NOW, now=NOW, base_url=loopback.url)
        limits = {part for request in loopback.requests for part in request.split("&") if part.startswith("limit=")}
    assert fetched.gaps == []
    assert fetched.rows["open_interest"].height == 2 * 2400
    assert {int(part.split("=")[1].split()[0]) for part in limits} <= {200, 1000}


def test_rows_do_not_depend_on_how_the_span_is_cut():
    with LoopbackVenue(NOW_MS) as loopback:
        whole = fetch(market(*PERPS), start=NOW - 4 * DAY, end=NOW - DAY, now=NOW, base_url=loopback.url)
        days = [
            fetch(market(*PERPS), start=NOW - n * DAY, end=NOW - (n - 1) * DAY, now=NOW, base_url=loopback.url)
            for n in (4, 3, 2)
        ]
    for name in whole.rows:
        parts = pl.concat([day.rows[name] for day in days]).sort(table(name).key)
        assert parts.equals(whole.rows[name]), name


def test_a_funding_interval_does_not_depend_on_how_the_span_is_cut_where_it_changes():
    change = datetime(2025, 6, 28, tzinfo=UTC)

    def daily_from_then(body):
        paid = [row for row in json.loads(body) if row["fundingTime"] // HOUR % 24 == 0 or
                row["fundingTime"] < change.timestamp() * 1000]  # fmt: skip
        return Reply(body=json.dumps(paid).encode())

    with LoopbackVenue(NOW_MS, Broken("/fundingRate", daily_from_then, times=999)) as loopback:
        asked = {"now": NOW, "base_url": loopback.url, "tables": ["funding"]}
        days = [change + n * DAY for n in range(-2, 3)]
        whole = fetch(market(PERPS[0]), start=days[0], end=days[-1], **asked)
        parts = [fetch(market(PERPS[0]), start=day, end=day + DAY, **asked) for day in days[:-1]]
    rows = whole.rows["funding"]
    assert rows.filter(asset="BTC").select("ts", "interval_h").rows() == [
        *((days[0] + n * timedelta(hours=8), 8.0) for n in range(7)), (days[3], 24.0)
    ]  # fmt: skip
    assert pl.concat([part.rows["funding"] for part in parts]).sort(table("funding").key).equals(rows)
    assert (whole.gaps, [part.gaps for part in parts]) == ([], [[]] * 4)


def test_what_is_wrong_after_a_span_does_not_cost_its_payments_and_its_last_day_is_asked_for_again():
    end = datetime(2025, 6, 28, tzinfo=UTC)

    def torn_later(body):
        paid = json.loads(body)
        later = [row for row in paid if row["fundingTime"] >= end.timestamp() * 1000][:1]
        return Reply(body=json.dumps([*paid, *({**row, "fundingRate": "0.5"} for row in later)]).encode())

    with LoopbackVenue(NOW_MS, Broken("/fundingRate", torn_later, times=999)) as loopback:
        asked = {"now": NOW, "base_url": loopback.url, "tables": ["funding"]}
        told = fetch(market(PERPS[0]), start=end - 2 * DAY, end=end, **asked)
    assert told.rows["funding"].filter(asset="BTC")["ts"].to_list() == [
        end - 2 * DAY + n * timedelta(hours=8) for n in range(6)
    ]
    assert list(told.failures) == []
    assert {(gap.start, gap.end, gap.why) for gap in told.gaps} == {(end - DAY, end, UNREADABLE)}


def test_funding_carries_each_venues_own_interval_and_stands_on_the_hour():
    with LoopbackVenue(NOW_MS) as loopback:
        rows = fetch(market(*PERPS), start=NOW - 2 * DAY, end=NOW, now=NOW, base_url=loopback.url).rows["funding"]
    by_venue = dict(rows.group_by("venue").agg(pl.col("interval_h").unique()).rows())
    assert by_venue == {"binanceusdm": [8.0], "bybit": [8.0], "hyperliquid": [1.0]}
    assert rows.filter(pl.col("ts") != pl.col("ts").dt.truncate("1h")).is_empty()


def test_hours_before_a_listing_are_a_gap_not_rows():
    listed = (NOW_MS // HOUR - 30) * HOUR
    with LoopbackVenue(NOW_MS, first_ms=listed) as loopback:
        fetched = fetch(
            market(PERPS[1]), start=NOW - 3 * DAY, end=NOW, now=NOW, base_url=loopback.url, tables=["ohlcv"]
        )
    assert {gap.why for gap in fetched.gaps} == {"the venue sent no rows"}
    assert {gap.end for gap in fetched.gaps} == {fetched.rows["ohlcv"]["ts"].min()}


def test_starts_may_differ_by_venue_and_table():
    start = {("bybit", "ohlcv"): NOW - DAY, ("bybit", "open_interest"): NOW - 2 * DAY, ("bybit", "funding"): NOW - DAY}
    with LoopbackVenue(NOW_MS) as loopback:
        fetched = fetch(market(PERPS[1]), start=start, end=NOW, now=NOW, base_url=loopback.url)
    assert fetched.rows["ohlcv"]["ts"].min() >= NOW - DAY
    assert fetched.rows["open_interest"]["ts"].min() < NOW - DAY


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (venue("bybit", symbols={"BTC": "BTC/USDX:USDX"}), "bybit (perp): BTC has no market 'BTC/USDX:USDX'"),
        (venue("bybit", symbols={"BTC": "BTC/USDT"}), "BTC/USDT"),
        (venue("bybit", symbols={"ETH": "BTC/USDT:USDT"}), "ETH has no market 'BTC/USDT:USDT'"),
    ],
)
def test_a_wrong_symbol_is_one_clear_error_and_no_row(bad, says):
    with LoopbackVenue(NOW_MS) as loopback, pytest.raises(ConfigError, match=r"market\.venues") as caught:
        fetch(market(PERPS[0], bad), start=NOW - DAY, end=NOW, now=NOW, base_url=loopback.url)
    assert says in str(caught.value)
    assert loopback.asked("kline") == 0


def test_a_contract_that_settles_in_the_coin_is_refused_because_its_size_is_money():
    listed = {"instType": "SWAP", "instId": "BTC-USD-SWAP", "uly": "BTC-USD", "instFamily": "BTC-USD",
              "settleCcy": "BTC", "ctVal": "100", "ctValCcy": "USD", "ctType": "inverse", "state": "live"}  # fmt: skip
    inverse = ccxt.okx().parse_market(listed)
    okx = venue("okx", symbols={"BTC": inverse["symbol"]})
    with pytest.raises(ConfigError, match=r"market\.venues okx \(perp\): 'BTC/USD:BTC' is an inverse contract"):
        _check_symbols([(okx, SimpleNamespace(markets={inverse["symbol"]: inverse}))])


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"venues": ["kraken"]}, "'kraken'"),
        ({"tables": ["trades"]}, "'trades'"),
        ({"start": {("bybit", "ohlcv"): NOW}}, "no start is given for bybit open_interest"),
    ],
)
def test_an_unknown_venue_table_or_start_is_refused_before_anything_is_asked(changed, says):
    arguments = {"start": NOW - DAY, "end": NOW, "now": NOW, "base_url": "http://127.0.0.1:9"} | changed
    with pytest.raises(ConfigError, match=says):
        fetch(market(PERPS[1]), **arguments)


def test_an_unsupported_venue_is_named():
    with pytest.raises(ConfigError, match="no spot markets of venue 'hyperliquid'"):
        fetch(market(venue("hyperliquid", "spot")), start=NOW - DAY, end=NOW, now=NOW, base_url="http://127.0.0.1:9")


def test_only_the_venues_asked_for_are_called():
    with LoopbackVenue(NOW_MS) as loopback:
        fetched = fetch(
            market(*PERPS, *SPOTS), start=NOW - DAY, end=NOW, now=NOW, base_url=loopback.url, venues=["binance"]
        )
    assert set(fetched.rows["ohlcv"]["venue"]) == {"binance"}
    assert loopback.asked("/v5/") == 0


def test_progress_reaches_its_total():
    told = []
    with LoopbackVenue(NOW_MS) as loopback:
        fetch(market(PERPS[1]), start=NOW - DAY, end=NOW, now=NOW, base_url=loopback.url,
              progress=lambda done, total, what: told.append((done, total)))  # fmt: skip
    assert told == [(n, 6) for n in range(1, 7)]

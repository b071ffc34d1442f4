"""Holes in the lake: found against the grid, asked for where a venue still has them, named where only archives do."""

from __future__ import annotations

import json
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from fakes.loopback_venue import Broken, LoopbackVenue, Reply
from fakes.market_settings import PERPS, market

from oihedge.config import Config, load
from oihedge.core.clock import HOUR
from oihedge.core.errors import ConfigError
from oihedge.core.tables import UTC_TIME
from oihedge.jobs import backfill, holdings, holes, ingest, refill
from oihedge.jobs.opening import open_lake
from oihedge.market.read import Fetched, fetch
from oihedge.market.settings import Venue

NOW = datetime(2025, 7, 1, 0, 5, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
DAY = timedelta(days=1)
START = datetime(2025, 5, 25, tzinfo=UTC)
SYMBOLS = {"BTC": "BTC/USDT:USDT"}
VENUES = tuple(venue.model_copy(update={"symbols": SYMBOLS}) for venue in PERPS[:2])


@pytest.fixture(scope="module")
def settings() -> Config:
    return load(("market=ccxt",)).model_copy(update={"market": market(*VENUES)})


@pytest.fixture
def config(settings: Config, tmp_path: Path) -> Config:
    return settings.model_copy(update={"home": tmp_path})


def keep(config: Config, layer: str, without: pl.Expr) -> dict[str, pl.DataFrame]:
    """Put everything that the loopback venues have from START into a layer, but for some rows."""
    with LoopbackVenue(NOW_MS) as loopback:
        fetched = fetch(config.market, start=START, end=NOW, now=NOW, base_url=loopback.url)
    lake = open_lake(config)
    for name, rows in fetched.rows.items():
        lake.append(layer, name, rows.filter(~without), now=NOW)  # type: ignore[arg-type]
    return fetched.rows


def between(first: datetime, last: datetime) -> pl.Expr:
    return pl.col("ts").is_between(first, last, closed="left")


def refilled(config: Config, **more: Any) -> tuple[refill.RefillPlan, backfill.Tally, list[str]]:
    planned = refill.plan(config, as_of=NOW, **more)
    with LoopbackVenue(NOW_MS) as loopback:
        done = backfill.carry_out(config, planned.chunks, as_of=NOW, url=loopback.url, remember=False)
    return planned, done, loopback.requests


def found(planned: refill.RefillPlan) -> list[tuple[Any, ...]]:
    rows = [finding.as_dict() for finding in planned.findings]
    return [(row["venue"], row["table"], row["start"], row["end"], row["rows"], row["fate"]) for row in rows]


def test_a_hole_is_asked_for_alone_and_then_filled(config: Config) -> None:
    first, last = datetime(2025, 6, 10, 5, tzinfo=UTC), datetime(2025, 6, 10, 9, tzinfo=UTC)
    whole = keep(config, "raw", (pl.col("venue") == "bybit") & between(first, last))
    planned, done, requests = refilled(config, layer="raw")
    assert found(planned) == [
        ("bybit", "funding", datetime(2025, 6, 10, 8, tzinfo=UTC), datetime(2025, 6, 10, 16, tzinfo=UTC), 1, "ask"),
        ("bybit", "ohlcv", first, last, 4, "ask"),
        ("bybit", "open_interest", first, last, 4, "ask"),
    ]
    assert all("/v5/" in request for request in requests), "only the venue with the holes"
    assert sum(row["added"] for row in done.rows()) == 9
    assert refill.plan(config, as_of=NOW, layer="raw").findings == ()
    lake = open_lake(config)
    for name, rows in whole.items():
        assert lake.read("raw", name).drop("ingested_at").collect().equals(rows), name


def test_a_hole_beyond_the_venues_reach_is_left_to_archives_and_nobody_is_asked(config: Config) -> None:
    first, last = datetime(2025, 5, 28, tzinfo=UTC), datetime(2025, 5, 28, 3, tzinfo=UTC)
    edge = datetime(2025, 6, 1, 2, tzinfo=UTC)
    lake = open_lake(config)
    keep(config, "raw", (pl.col("venue") == "binanceusdm") & (between(first, last) | between(edge, edge + HOUR)))
    # what the venue no longer has once came from an archive, but for the same hours
    archived = lake.read("raw", "open_interest").filter(pl.col("venue") == "bybit", pl.col("ts") < edge).collect()
    kept = archived.filter(~between(first, last)).with_columns(venue=pl.lit("binanceusdm"))
    lake.append("raw", "open_interest", kept, now=NOW)
    planned, _, requests = refilled(config, layer="raw", tables=("open_interest",))
    assert found(planned) == [
        ("binanceusdm", "open_interest", first, last, 3, "archive"),
        ("binanceusdm", "open_interest", edge, edge + HOUR, 1, "ask"),
    ]
    assert sum("openInterestHist" in request for request in requests) == 1
    assert "only an archive" in planned.findings[0].why


def test_rows_left_out_at_the_end_of_finished_days_are_a_hole_and_then_filled(config: Config) -> None:
    def without_the_last(body: bytes) -> Reply:
        answer = json.loads(body)
        del answer["result"]["list"][:2]  # newest first
        return Reply(body=json.dumps(answer).encode())

    span, only = {"start": START, "end": START + 5 * DAY, "as_of": NOW}, {"venues": ("bybit",)}
    broken = [Broken(where, without_the_last, 999) for where in ("market/kline", "funding/history")]
    with LoopbackVenue(NOW_MS, *broken) as loopback:
        chunks = backfill.plan(config, **span, **only).chunks
        backfill.carry_out(config, chunks, as_of=NOW, url=loopback.url)
    assert not backfill.plan(config, **span, **only).chunks
    end = START + 5 * DAY
    planned, _, _ = refilled(config, layer="raw", **only)
    assert ("bybit", "ohlcv", end - 2 * HOUR, end, 2, "ask") in found(planned)
    assert refill.plan(config, as_of=NOW, layer="raw", **only).findings == ()


def test_payments_that_must_follow_the_last_one_are_a_hole(config: Config) -> None:
    last = datetime(2025, 6, 10, 8, tzinfo=UTC)
    keep(config, "raw", pl.col("ts") > last)
    asked = {"layer": "raw", "venues": ("bybit",), "tables": ("funding",)}
    assert refill.plan(config, as_of=NOW, **asked).findings == ()
    planned, done, _ = refilled(config, end=last + DAY, **asked)
    assert found(planned) == [("bybit", "funding", last + 8 * HOUR, last + DAY, 2, "ask")]
    assert sum(row["added"] for row in done.rows()) == 2


def test_rows_that_raw_has_and_validated_lacks_are_told_and_not_asked_for(config: Config) -> None:
    first = datetime(2025, 6, 10, 5, tzinfo=UTC)
    keep(config, "raw", pl.col("ts") == first + HOUR)
    keep(config, "validated", between(first, first + 2 * HOUR))
    planned = refill.plan(config, as_of=NOW, venues=("bybit",), tables=("ohlcv",))
    assert found(planned) == [
        ("bybit", "ohlcv", first, first + HOUR, 1, "held"),
        ("bybit", "ohlcv", first + HOUR, first + 2 * HOUR, 1, "ask"),
    ]


def test_a_row_that_was_only_interpolated_is_a_hole_still(config: Config) -> None:
    rows = keep(config, "raw", pl.lit(True))["ohlcv"]
    at = datetime(2025, 6, 10, 5, tzinfo=UTC)
    lake = open_lake(config)
    lake.append("validated", "ohlcv", rows.with_columns(filled=pl.col("ts") == at), now=NOW)
    planned = refill.plan(config, as_of=NOW, venues=("bybit",), tables=("ohlcv",))
    assert found(planned) == [("bybit", "ohlcv", at, at + HOUR, 1, "ask")]


def snapshots(config: Config, venue: str, lost: datetime) -> None:
    """Put a day of open interest into raw/ as one saw it at two past each hour, but for one hour."""
    whole = keep(config, "raw", pl.lit(False))["open_interest"].filter(pl.col("venue") == "bybit")
    late, symbol = timedelta(minutes=2), "BTC/USD"
    taken = whole.filter(pl.col("ts").is_between(NOW - DAY, NOW)).with_columns(
        pl.col("ts") + late, pl.col("available_at") + late, symbol=pl.lit(symbol), venue=pl.lit(venue)
    )
    kept = taken.filter(pl.col("ts") != lost + late)
    assert kept.height == taken.height - 1
    open_lake(config).append("raw", "open_interest", kept, now=NOW)


def holes_of(config: Config, venue: str) -> list[tuple[datetime, datetime]]:
    lines = holes.series_of(open_lake(config), "raw", "open_interest")
    (line,) = [one for one in lines if one.named["symbol"] == "BTC/USD" and one.named["venue"] == venue]
    return [(one.start, one.end) for one in holes.holes(open_lake(config), "raw", line)]


def test_snapshots_of_the_present_stand_for_their_hour_and_only_a_lost_hour_is_a_hole(config: Config) -> None:
    lost = NOW.replace(minute=0) - 7 * HOUR
    snapshots(config, "hyperliquid", lost)
    assert holes_of(config, "hyperliquid") == [(lost, lost + HOUR)]


def test_where_a_venue_has_the_row_on_the_hour_a_snapshot_does_not_stand_for_it(config: Config) -> None:
    snapshots(config, "bybit", NOW.replace(minute=0) - 7 * HOUR)
    assert holes_of(config, "bybit") == [(NOW.replace(minute=0) - 23 * HOUR, NOW.replace(minute=0) + HOUR)]


def test_a_hole_in_what_a_venue_only_tells_now_is_left_to_archives(config: Config) -> None:
    lost = NOW.replace(minute=0) - 7 * HOUR
    snapshots(config, "hyperliquid", lost)
    only = PERPS[2].model_copy(update={"symbols": {"BTC": "BTC/USD"}})
    planned = refill.plan(config.model_copy(update={"market": market(only)}), as_of=NOW, layer="raw",
                          tables=("open_interest",))  # fmt: skip
    assert found(planned) == [("hyperliquid", "open_interest", lost, lost + HOUR, 1, "archive")]
    assert "the venue gives only the present" in planned.findings[0].why
    assert planned.chunks == ()


def test_series_that_these_settings_do_not_read_have_no_holes_to_ask_for(config: Config) -> None:
    bars = keep(config, "raw", pl.lit(False))["ohlcv"]
    left = bars.filter(pl.col("ts").dt.hour() != 5)
    for other in ({"timeframe": "1m"}, {"kind": "mark"}):
        names = [pl.lit(value).alias(name) for name, value in other.items()]
        open_lake(config).append("raw", "ohlcv", left.with_columns(*names), now=NOW)
    assert refill.plan(config, as_of=NOW, layer="raw").findings == ()
    marks = config.market.model_copy(update={"price_kinds": ("trade", "mark")})
    planned = refill.plan(config.model_copy(update={"market": marks}), as_of=NOW, layer="raw", venues=("bybit",))
    assert {(one.as_dict()["series"], one.fate) for one in planned.findings} == {("mark 1h", "ask")}


def test_a_refill_tells_the_rows_asked_for_that_did_not_come(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    first, last = datetime(2025, 6, 10, 5, tzinfo=UTC), datetime(2025, 6, 10, 9, tzinfo=UTC)
    keep(config, "raw", (pl.col("venue") == "bybit") & between(first, last))
    with LoopbackVenue(NOW_MS, first_ms=int((last - HOUR).timestamp() * 1000)) as loopback:
        monkeypatch.setattr(refill, "market_address", lambda *_: nullcontext(loopback.url))
        report = refill.run(config, as_of=NOW, layer="raw", venues=("bybit",), tables=("ohlcv",))
    assert (report.asked, report.missing) == (4, 3)
    assert refill.plan(config, as_of=NOW, layer="raw", venues=("bybit",), tables=("ohlcv",)).count("ask") == 3


def test_a_given_span_also_shows_what_lacks_before_the_first_row(config: Config) -> None:
    keep(config, "raw", between(START, START + DAY))
    planned = refill.plan(
        config, as_of=NOW, layer="raw", start=START, end=START + 2 * DAY, venues=("bybit",), tables=("ohlcv",)
    )
    assert found(planned) == [("bybit", "ohlcv", START, START + DAY, 24, "ask")]


def test_a_tracked_symbol_without_any_row_is_one_hole_from_where_history_begins(config: Config) -> None:
    keep(config, "raw", pl.lit(False))
    both = config.model_copy(update={"market": market(*PERPS[:2]).model_copy(update={"chunk_rows": 1000})})
    planned = refill.plan(both, as_of=NOW, layer="raw", venues=("bybit",), tables=("ohlcv",))
    begin, end = NOW.replace(minute=0) - timedelta(days=both.run.history_days), NOW.replace(minute=0)
    silent = [one for one in planned.findings if one.hole.line.named["symbol"] == "ETH/USDT:USDT"]
    assert [(one.hole.start, one.hole.end, one.hole.rows, one.fate) for one in silent] == [
        (begin, end, (end - begin) // HOUR, "ask")
    ]
    asked = [chunk for chunk in planned.chunks if "ETH/USDT:USDT" in chunk.venue.symbols.values()]
    assert (asked[0].start, asked[-1].end) == (begin, end)
    assert all(one.end == after.start for one, after in pairwise(asked)), "no day is left out"
    assert max((chunk.end - chunk.start) // HOUR for chunk in asked) <= 1000 * len(both.market.venues[1].symbols)


def test_a_symbol_whose_rows_wait_in_raw_is_held_not_asked_for(config: Config) -> None:
    keep(config, "raw", pl.lit(False))
    planned = refill.plan(config, as_of=NOW, venues=("bybit",), tables=("ohlcv",))
    assert {one.fate for one in planned.findings} == {"held"}
    assert planned.chunks == ()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"layer": "derived"}, "validated or raw"),
        ({"start": NOW, "end": START}, "range is empty"),
        ({"end": NOW + DAY}, "reaches into the future"),
        ({"venues": ("kraken",)}, "no venue 'kraken'"),
    ],
)
def test_a_wrong_wish_is_refused(wrong: dict[str, Any], told: str, config: Config) -> None:
    with pytest.raises(ConfigError, match=told):
        refill.plan(config, **({"as_of": NOW} | wrong))


def test_the_list_of_data_tells_each_series_span_and_its_gaps(config: Config) -> None:
    first = datetime(2025, 6, 10, 5, tzinfo=UTC)
    keep(config, "raw", (pl.col("venue") == "bybit") & (pl.col("ts").is_in([first, first + 5 * HOUR])))
    bars = open_lake(config).read("raw", "ohlcv").filter(pl.col("venue") == "bybit").drop("ingested_at").collect()
    marks = bars.with_columns(kind=pl.lit("mark")).filter(pl.col("ts") != first + 6 * HOUR)
    open_lake(config).append("raw", "ohlcv", marks, now=NOW)
    told = holdings.run(config, timerange=True).series
    lines = {(line["venue"], line["table"]): line for line in told if line["series"] != "mark 1h"}
    assert lines["bybit", "ohlcv"] == {
        "layer": "raw", "table": "ohlcv", "venue": "bybit", "symbol": "BTC/USDT:USDT", "series": "perp 1h",
        "rows": 37 * 24 - 2, "first": START, "last": NOW.replace(minute=0) - HOUR, "gaps": 2, "missing": 2,
    }  # fmt: skip
    (mark,) = [line for line in told if line["series"] == "mark 1h"]
    assert (mark["rows"], mark["gaps"], mark["missing"]) == (37 * 24 - 3, 2, 3)
    assert lines["binanceusdm", "funding"]["gaps"] == 0
    assert "first" not in holdings.run(config).series[0]


def test_a_new_asset_is_ingested_from_its_own_beginning(config: Config) -> None:
    keep(config, "raw", pl.lit(False))
    both = config.model_copy(update={"market": market(*PERPS[:2])})
    start = ingest.resume(open_lake(config), both, NOW)
    assert start["bybit", "ohlcv", "ETH/USDT:USDT"] == NOW - timedelta(days=both.run.history_days)
    newest = NOW.replace(minute=0) - HOUR
    assert start["bybit", "ohlcv", "BTC/USDT:USDT"] == newest - timedelta(hours=both.market.lookback_h)


BACK = timedelta(hours=3)


def resumed(config: Config, table: str, *venues: Venue, **more: Any) -> list[datetime]:
    tracked = market(*venues, tables=(table,), **more)
    start = ingest.resume(open_lake(config), config.model_copy(update={"market": tracked}), NOW)
    return [start[venue.id, table, "BTC/USDT:USDT"] for venue in venues]


def test_an_ingest_begins_where_the_kind_or_timeframe_that_lags_most_stops(config: Config) -> None:
    bars, newest = keep(config, "raw", pl.lit(False))["ohlcv"], NOW.replace(minute=0) - HOUR
    earliest = NOW - timedelta(days=config.run.history_days)
    assert resumed(config, "ohlcv", *VENUES) == [newest - BACK] * 2
    assert resumed(config, "ohlcv", *VENUES, price_kinds=("trade", "mark")) == [earliest] * 2, "marks were never read"
    lag = bars.filter(pl.col("ts") <= NOW - pl.when(pl.col("venue") == "bybit").then(10 * DAY).otherwise(DAY))
    for other in ({"kind": "mark"}, {"timeframe": "5m"}):
        names = [pl.lit(value).alias(name) for name, value in other.items()]
        open_lake(config).append("raw", "ohlcv", lag.with_columns(*names), now=NOW)
    for more in ({"price_kinds": ("trade", "mark")}, {"timeframes": ("1h", "5m")}):
        assert resumed(config, "ohlcv", *VENUES, **more) == [
            newest + HOUR - DAY - BACK,
            newest + HOUR - 10 * DAY - BACK,
        ]
    assert resumed(config, "ohlcv", *VENUES) == [newest - BACK] * 2, "what these settings do not read does not count"


def test_an_ingest_does_not_wait_for_bars_that_the_venue_does_not_have(config: Config) -> None:
    bars = keep(config, "raw", pl.lit(False))["ohlcv"].filter(pl.col("venue") == "bybit")
    open_lake(config).append("raw", "ohlcv", bars.with_columns(venue=pl.lit("hyperliquid")), now=NOW)
    only = VENUES[0].model_copy(update={"id": "hyperliquid"})
    assert resumed(config, "ohlcv", only, price_kinds=("trade", "mark")) == [NOW.replace(minute=0) - HOUR - BACK]


def test_an_ingest_begins_at_the_measure_that_lags_unless_one_answer_brings_them_all(config: Config) -> None:
    last = NOW.replace(minute=0)
    keys = [
        (venue, measure, last - (DAY if measure == "taker_volume" else 0 * DAY))
        for venue in ("binanceusdm", "gate")
        for measure in ("accounts", "top_accounts", "top_positions", "taker_volume")
    ]
    rows = pl.DataFrame(keys, schema=["venue", "measure", "ts"], orient="row").with_columns(
        pl.col("ts").cast(UTC_TIME), symbol=pl.lit("BTC/USDT:USDT"), asset=pl.lit("BTC"), ratio=1.0, available_at=NOW
    )
    open_lake(config).append("raw", "long_short", rows.cast({"available_at": UTC_TIME}), now=NOW)
    gate = VENUES[0].model_copy(update={"id": "gate"})
    assert resumed(config, "long_short", VENUES[0], gate) == [last - DAY - BACK, last - BACK]


def test_a_snapshot_of_the_present_does_not_hide_that_the_history_of_open_interest_lags(config: Config) -> None:
    lagged = NOW.replace(minute=0) - DAY
    rows = keep(config, "raw", pl.col("ts") > lagged)["open_interest"].filter(pl.col("ts") == NOW.replace(minute=0))
    late = timedelta(minutes=5)
    seen = rows.with_columns(pl.col("ts") + late, pl.col("available_at") + late)
    now = seen.head(1).with_columns(venue=pl.lit("hyperliquid"))
    open_lake(config).append("raw", "open_interest", pl.concat([seen, now]), now=NOW)
    only = VENUES[0].model_copy(update={"id": "hyperliquid"})
    assert resumed(config, "open_interest", *VENUES, only) == [lagged - BACK, lagged - BACK, NOW - BACK]


def test_rows_are_counted_by_venue_also_where_only_some_are_new(config: Config) -> None:
    rows = keep(config, "raw", (pl.col("venue") == "bybit") & (pl.col("ts") >= NOW - DAY))["ohlcv"]
    report = ingest.store(open_lake(config), Fetched({"ohlcv": rows}, [], []), NOW)
    assert {line["venue"]: (line["fetched"], line["added"]) for line in report.rows} == {
        "binanceusdm": (37 * 24, 0),
        "bybit": (37 * 24, 23),
    }

"""Holes in the lake: found against the grid, asked for where a venue still has them, named where only archives do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from fakes.loopback_venue import LoopbackVenue
from fakes.market_settings import PERPS, market

from oihedge.config import Config, load
from oihedge.core.clock import HOUR
from oihedge.core.errors import ConfigError
from oihedge.jobs import backfill, holdings, holes, ingest, refill
from oihedge.jobs.opening import open_lake
from oihedge.market.read import Fetched, fetch

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


def test_snapshots_of_the_present_stand_for_their_hour_and_only_a_lost_hour_is_a_hole(config: Config) -> None:
    whole = keep(config, "raw", pl.lit(False))["open_interest"].filter(pl.col("venue") == "bybit")
    taken = whole.filter(pl.col("ts").is_between(NOW - DAY, NOW)).with_columns(
        pl.col("ts") + timedelta(minutes=2), pl.col("available_at") + timedelta(minutes=2), symbol=pl.lit("BTC/USD")
    )
    lost = NOW.replace(minute=0) - 7 * HOUR
    kept = taken.filter(pl.col("ts") != lost + timedelta(minutes=2))
    assert kept.height == taken.height - 1
    open_lake(config).append("raw", "open_interest", kept, now=NOW)
    lines = holes.series_of(open_lake(config), "raw", "open_interest")
    (line,) = [one for one in lines if one.named.get("symbol") == "BTC/USD"]
    assert [(one.start, one.end) for one in holes.holes(open_lake(config), "raw", line)] == [(lost, lost + HOUR)]


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
    lines = {(line["venue"], line["table"]): line for line in holdings.run(config, timerange=True).series}
    assert lines["bybit", "ohlcv"] == {
        "layer": "raw", "table": "ohlcv", "venue": "bybit", "symbol": "BTC/USDT:USDT", "rows": 37 * 24 - 2,
        "first": START, "last": NOW.replace(minute=0) - HOUR, "gaps": 2,
    }  # fmt: skip
    assert lines["binanceusdm", "funding"]["gaps"] == 0
    assert "first" not in holdings.run(config).series[0]


def test_a_new_asset_is_ingested_from_its_own_beginning(config: Config) -> None:
    keep(config, "raw", pl.lit(False))
    both = config.model_copy(update={"market": market(*PERPS[:2])})
    start = ingest.resume(open_lake(config), both, NOW)
    assert start["bybit", "ohlcv", "ETH/USDT:USDT"] == NOW - timedelta(days=both.run.history_days)
    newest = NOW.replace(minute=0) - HOUR
    assert start["bybit", "ohlcv", "BTC/USDT:USDT"] == newest - timedelta(hours=both.market.lookback_h)


def test_rows_are_counted_by_venue_also_where_only_some_are_new(config: Config) -> None:
    rows = keep(config, "raw", (pl.col("venue") == "bybit") & (pl.col("ts") >= NOW - DAY))["ohlcv"]
    report = ingest.store(open_lake(config), Fetched({"ohlcv": rows}, [], []), NOW)
    assert {line["venue"]: (line["fetched"], line["added"]) for line in report.rows} == {
        "binanceusdm": (37 * 24, 0),
        "bybit": (37 * 24, 23),
    }

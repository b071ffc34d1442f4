"""A backfill on a loopback venue: planned before it begins, resumed where it stopped, one venue apart from another."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from fakes.loopback_venue import Broken, LoopbackVenue, Reply
from fakes.market_settings import PERPS, SPOTS, market, venue

from oihedge.config import Config, load
from oihedge.core.errors import ConfigError, VenueError
from oihedge.core.tables import MARKET_TABLES, VENUE_TABLES
from oihedge.jobs import backfill
from oihedge.jobs.opening import open_lake
from oihedge.market import live
from oihedge.market.plan import make_plan
from oihedge.market.read import Gap
from oihedge.market.series import Series
from oihedge.market.venues import REACH, reach

NOW = datetime(2025, 7, 1, 0, 5, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
DAY = timedelta(days=1)
START, END = datetime(2025, 5, 25, tzinfo=UTC), datetime(2025, 6, 8, tzinfo=UTC)
BYBIT = PERPS[1]
EMPTY_KLINES = b'{"retCode": 0, "retMsg": "OK", "result": {"category": "linear", "list": []}, "time": 1751328300000}'


@cache
def settings() -> Config:
    return load(("market=ccxt",))


def tracking(home: Path, *venues: Any, **more: Any) -> Config:
    return settings().model_copy(update={"home": home, "market": market(*venues, **more)})


def run(config: Config, url: str, start: datetime = START, end: datetime = END, **more: Any) -> backfill.Tally:
    planned = backfill.plan(config, start=start, end=end, as_of=NOW)
    return backfill.carry_out(config, planned.chunks, as_of=NOW, url=url, **more)


def stored(config: Config) -> dict[str, pl.DataFrame]:
    lake = open_lake(config)
    return {spec.name: lake.rows("raw", spec.name).sort(spec.key).collect() for spec in MARKET_TABLES}


def test_the_calls_that_are_planned_are_the_calls_that_are_made(tmp_path: Path) -> None:
    config = tracking(tmp_path, *PERPS, *SPOTS)
    planned = backfill.plan(config, start=START, end=END, as_of=NOW)
    with LoopbackVenue(NOW_MS) as loopback:
        done = run(config, loopback.url)
    assert planned.calls == sum(chunk.calls for chunk in planned.chunks) == done.calls == len(loopback.requests)
    rows = {(row["venue"], row["table"]): row["added"] for row in done.rows()}
    expected: dict[tuple[str, str], int] = {}
    for task in planned.tasks:
        if task.table != "markets":
            expected[task.venue, task.table] = expected.get((task.venue, task.table), 0) + task.rows
    assert rows == expected


def test_a_second_run_asks_for_nothing_and_says_what_it_skips(tmp_path: Path) -> None:
    config = tracking(tmp_path, BYBIT)
    with LoopbackVenue(NOW_MS) as loopback:
        run(config, loopback.url)
        before, asked = stored(config), len(loopback.requests)
        again = backfill.plan(config, start=START, end=END, as_of=NOW)
        assert not again.chunks
        assert again.finished == 3 * ((END - START) // DAY)
        run(config, loopback.url)
        assert len(loopback.requests) == asked
        run(config, loopback.url, end=END + DAY)
    assert len(loopback.requests) > asked, "the day after is not finished yet"
    after = stored(config)
    assert all(after[name].filter(pl.col("ts") < END).equals(rows) for name, rows in before.items())


def test_another_symbol_is_work_again_and_another_fee_is_not(tmp_path: Path) -> None:
    only_btc = BYBIT.model_copy(update={"symbols": {"BTC": BYBIT.symbols["BTC"]}})
    with LoopbackVenue(NOW_MS) as loopback:
        run(tracking(tmp_path, only_btc), loopback.url)
    dearer = only_btc.model_copy(update={"taker_fee": 0.001})
    days = {"start": START, "end": END, "as_of": NOW}
    assert not backfill.plan(tracking(tmp_path, dearer), **days).chunks
    assert backfill.plan(tracking(tmp_path, BYBIT), **days).chunks


def test_a_day_that_has_just_ended_is_asked_for_again(tmp_path: Path) -> None:
    config, midnight = tracking(tmp_path, BYBIT), NOW.replace(minute=0)
    with LoopbackVenue(NOW_MS) as loopback:
        run(config, loopback.url, midnight - 2 * DAY, midnight)
    left = backfill.plan(config, start=midnight - 2 * DAY, end=midnight, as_of=NOW).chunks
    assert [(chunk.start, chunk.end) for chunk in left] == [(midnight - DAY, midnight)]


def test_each_venue_goes_oldest_first_by_months_of_hourly_rows(tmp_path: Path) -> None:
    config = tracking(tmp_path, *PERPS)
    told: list[tuple[str, int, int]] = []
    with LoopbackVenue(NOW_MS) as loopback:
        run(config, loopback.url, progress=lambda done, total, what, lane="": told.append((lane, done, total)))
    for one in PERPS:
        assert [done for lane, done, _ in told if lane == f"{one.id} perp"] == [0, 7, 14]
    starts = [request.partition("start=")[2][:13] for request in loopback.requests if "/v5/market/kline" in request]
    assert starts == sorted(starts)
    assert len(set(starts)) == 2


def test_a_venue_that_fails_holds_no_other_up_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    config, whole = tracking(tmp_path / "a", *PERPS), tracking(tmp_path / "b", *PERPS)
    down = Broken("/v5/market/open-interest?category=linear&", lambda body: Reply(500), 10_000)
    with LoopbackVenue(NOW_MS, down) as loopback:
        done = run(config, loopback.url)
        assert any("bybit open_interest" in failure for failure in done.failures)
        finished = {(row["venue"], row["table"]) for row in done.rows()}
        assert {("binanceusdm", "open_interest"), ("hyperliquid", "funding"), ("bybit", "ohlcv")} <= finished
        left = backfill.plan(config, start=START, end=END, as_of=NOW)
        assert {(chunk.venue.id, chunk.tables) for chunk in left.chunks} == {("bybit", ("open_interest",))}
        loopback.broken.clear()
        run(config, loopback.url)
        run(whole, loopback.url)
    resumed, undisturbed = stored(config), stored(whole)
    assert all(resumed[name].equals(undisturbed[name]) for name in resumed)


def test_days_of_which_a_venue_sent_nothing_at_all_are_not_finished(tmp_path: Path) -> None:
    config = tracking(tmp_path, BYBIT)
    nothing = Broken("/v5/market/kline", lambda body: Reply(body=EMPTY_KLINES), 10_000)
    with LoopbackVenue(NOW_MS, nothing) as loopback:
        run(config, loopback.url)
        left = backfill.plan(config, start=START, end=END, as_of=NOW).chunks
        assert {name for chunk in left for name in chunk.tables} == {"ohlcv", "open_interest"}
        loopback.broken.clear()
        run(config, loopback.url)
    assert not backfill.plan(config, start=START, end=END, as_of=NOW).chunks
    assert stored(config)["ohlcv"].height == 2 * 24 * ((END - START) // DAY)


def test_days_of_which_a_row_could_not_be_read_are_not_finished(tmp_path: Path) -> None:
    def last_bars_blank(body: bytes) -> Reply:
        answer = json.loads(body)
        for row in answer["result"]["list"][:5]:
            row[4] = ""
        return Reply(body=json.dumps(answer).encode())

    config = tracking(tmp_path, BYBIT, chunk_rows=10_000)
    with LoopbackVenue(NOW_MS, Broken("/v5/market/kline", last_bars_blank, 10_000)) as loopback:
        run(config, loopback.url)
        (left,) = backfill.plan(config, start=START, end=END, as_of=NOW).chunks
        assert (left.start, left.end, left.tables) == (END - DAY, END, ("ohlcv", "open_interest"))
        loopback.broken.clear()
        run(config, loopback.url)
    assert not backfill.plan(config, start=START, end=END, as_of=NOW).chunks
    assert stored(config)["ohlcv"].height == 2 * 24 * ((END - START) // DAY)


@pytest.mark.parametrize("date", ["Thu, 01 Jan 1970 00:00:00 GMT", "Sat, 07 Jun 2025 12:00:00 GMT"])
def test_days_that_are_not_over_by_the_venues_clock_are_not_finished(
    date: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "Series", lambda *given: Series(*given[:-1], real=True))
    config = tracking(tmp_path, BYBIT)
    stale = Broken("/v5/", lambda body: Reply(body=body, headers={"Date": date}), 10_000)
    with LoopbackVenue(NOW_MS, stale) as loopback:
        with pytest.raises(VenueError, match="the venue's clock says"):
            run(config, loopback.url, END - DAY)
        assert backfill.plan(config, start=END - DAY, end=END, as_of=NOW).finished == 0
        loopback.broken.clear()
        monkeypatch.undo()
        run(config, loopback.url, END - DAY)
    assert stored(config)["ohlcv"].height == 2 * 24


def test_where_no_venue_can_be_read_it_fails_with_one_line(tmp_path: Path) -> None:
    config = tracking(tmp_path, BYBIT, attempts=1)
    with pytest.raises(VenueError, match="no venue could be read"):
        run(config, "http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"start": END, "end": START}, "range is empty"),
        ({"start": datetime(2025, 5, 25)}, "start is no day"),  # noqa: DTZ001
        ({"start": START + timedelta(hours=1)}, "start is no day"),
        ({"end": datetime(2026, 1, 1, tzinfo=UTC)}, "reaches into the future"),
        ({"venues": ("kraken",)}, "no venue 'kraken'"),
        ({"tables": ("features",)}, "no table 'features'"),
    ],
)
def test_a_wrong_span_or_filter_is_refused_before_anything_is_asked(
    wrong: dict[str, Any], told: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=told):
        backfill.plan(tracking(tmp_path, *PERPS), **({"start": START, "end": END, "as_of": NOW} | wrong))
    assert list(tmp_path.iterdir()) == []


def test_what_only_an_archive_has_is_planned_as_such_and_not_asked_for() -> None:
    planned = make_plan(market(*PERPS), start=START, end=END, now=NOW, tables=("ohlcv", "open_interest"))
    beyond = {(span.venue, span.table): (span.start, span.end) for span in planned.unreachable}
    assert beyond == {
        ("binanceusdm", "open_interest"): (START, datetime(2025, 6, 1, 2, tzinfo=UTC)),
        ("hyperliquid", "open_interest"): (START, END),
    }
    interest = [chunk.start for chunk in planned.chunks if chunk.venue.id == "binanceusdm" and len(chunk.tables) == 2]
    assert interest == [datetime(2025, 6, 1, tzinfo=UTC)]


@pytest.mark.parametrize(
    ("most", "chunks"), [(1, 53), (1500, 12), (4417, 4), (17_568, 1), (150_000, 1)]
)  # 48 rows a day
def test_a_chunk_is_the_longest_period_of_so_many_rows(most: int, chunks: int) -> None:
    year = {"start": datetime(2024, 1, 1, tzinfo=UTC), "end": datetime(2025, 1, 1, tzinfo=UTC)}
    planned = make_plan(market(SPOTS[0], chunk_rows=most), **year, now=NOW, tables=("ohlcv",))
    assert len(planned.chunks) == chunks
    assert planned.chunks[-1].end == year["end"]


def test_minutes_go_by_weeks_and_cost_what_their_rows_do() -> None:
    hours = make_plan(market(SPOTS[0]), start=START, end=END, now=NOW, tables=("ohlcv",))
    minutes = make_plan(market(SPOTS[0], timeframes=("1m",)), start=START, end=END, now=NOW, tables=("ohlcv",))
    assert [len(chunk.days) for chunk in hours.chunks] == [7, 7]
    assert [len(chunk.days) for chunk in minutes.chunks] == [1, 7, 6]
    assert minutes.tasks[0].rows == 60 * hours.tasks[0].rows
    assert minutes.seconds > 5 * hours.seconds


@pytest.mark.parametrize(("name", "kind"), REACH)
def test_every_venue_can_be_planned_and_each_table_is_asked_for_or_left_to_archives(name: str, kind: str) -> None:
    of = venue(name, kind)
    settings = market(of, timeframes=("1h", "1m"), price_kinds=("trade", "mark", "index"))
    planned = make_plan(settings, start=START, end=END, now=NOW, tables=[spec.name for spec in VENUE_TABLES])
    tables = {task.table for task in planned.tasks if task.calls} - {"markets"}
    assert tables | {span.table for span in planned.unreachable} == set(reach(name, kind).tables)
    assert all(span.end <= END and span.why for span in planned.unreachable)
    assert planned.calls == sum(chunk.calls for chunk in planned.chunks)
    assert all(task.seconds > 0 for task in planned.tasks if task.calls and task.table == "ohlcv")


def test_only_holes_between_finished_days_are_left_to_do() -> None:
    finished = {("bybit", "perp", "funding", START + number * DAY) for number in (0, 1, 4)}
    planned = make_plan(
        market(BYBIT), start=START, end=START + 6 * DAY, now=NOW, tables=("funding",), finished=finished
    )
    assert [(chunk.start - START) // DAY for chunk in planned.chunks] == [2, 5]
    assert [len(chunk.days) for chunk in planned.chunks] == [2, 1]


def test_gaps_of_one_series_and_reason_are_joined_where_they_touch() -> None:
    months = [START + number * 10 * DAY for number in range(4)]
    gaps = [Gap("v", "open_interest", "BTC", a, b, "only the present") for a, b in pairwise(months)]
    apart = Gap("v", "open_interest", "BTC", months[-1] + DAY, months[-1] + 2 * DAY, "only the present")
    other = Gap("v", "open_interest", "ETH", START, END, "only the present")
    whole = Gap("v", "open_interest", "BTC", months[0], months[-1], "only the present")
    assert backfill.joined([*gaps, other, apart]) == [whole, apart, other]

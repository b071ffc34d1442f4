"""Validation and the quarantine on a real lake: nothing lost, releases point-in-time honest, gaps closed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from oihedge.cli import main
from oihedge.config import Config, load
from oihedge.core.errors import ConfigError, DataError
from oihedge.core.tables import table as table_named
from oihedge.jobs import pending, quarantine, validate
from oihedge.jobs.opening import open_lake

FIRST = datetime(2025, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
NOW = FIRST + timedelta(days=2)
pytestmark = pytest.mark.no_cover  # tracing every call of Great Expectations takes as long again
FILL = "quality.fill.open_interest={1h: 2}"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return load([FILL], home=tmp_path)


@pytest.fixture
def took(config: Config, snapshots: Callable[..., pl.DataFrame]) -> Callable[..., pl.DataFrame]:
    """Let the lake take hourly levels (None: the hour is missing) at an instant, and validate."""

    def take(*levels: float | None, at: datetime = NOW, first: datetime = FIRST) -> validate.ValidateReport:
        rows = snapshots(*levels, first=first).filter(pl.col("oi_base").is_not_null())
        open_lake(config).append("raw", "open_interest", rows, now=at)
        return validate.run(config, as_of=at)

    return take


def levels(config: Config, as_of: datetime | None = None) -> list[float]:
    rows = open_lake(config).read("validated", "open_interest", as_of=as_of)
    return rows.sort("ts").collect()["oi_base"].to_list()


def held(config: Config, **where: str) -> list[dict[str, object]]:
    return list(quarantine.listing(config, as_of=NOW + 99 * HOUR, **where).rows)  # type: ignore[arg-type]


def test_every_raw_row_is_validated_or_quarantined_and_a_second_run_changes_nothing(config, took):
    report = took(100, 2000, 101)
    assert [(row["good"], row["quarantined"]) for row in report.rows] == [(2, 1)]
    version = open_lake(config).version("validated", "open_interest")
    again = validate.run(config, as_of=NOW)
    assert again.rows == ()
    assert open_lake(config).version("validated", "open_interest") == version
    assert open_lake(config).rows("derived", "quarantine").collect().height == 1


def test_tables_without_venues_are_validated_too(config):
    event = {"source": "desk", "name": "CPI", "importance": 2, "available_at": FIRST, "ts": NOW + 500 * HOUR}
    bad = {**event, "name": "FOMC", "importance": 7}
    open_lake(config).append("raw", "events", pl.DataFrame([event, bad]), now=NOW)
    report = validate.run(config, as_of=NOW)
    assert [(row["table"], row["venue"], row["good"], row["quarantined"]) for row in report.rows] == [
        ("events", "desk", 1, 1)
    ]
    assert validate.run(config, as_of=NOW).rows == ()
    assert held(config, venue="desk")[0]["symbol"] == "FOMC"


def test_the_list_is_narrowed_by_table_venue_and_reason(config, took):
    took(100, 2000, 101, -1)
    assert {row["reason"] for row in held(config)} == {"oi_jump", "oi_negative"}
    assert [row["reason"] for row in held(config, reason="oi_jump", venue="bybit", table="open_interest")] == [
        "oi_jump"
    ]
    assert held(config, venue="okx") == held(config, table="ohlcv") == []
    with pytest.raises(ConfigError, match="unknown table"):
        held(config, table="nope")


def test_a_released_row_is_known_from_the_release_on_and_not_before(config, took):
    took(100, 2000, 101)
    (row,) = held(config)
    later = NOW + HOUR
    done = quarantine.release(config, str(row["key"]), as_of=later, reason="a new market maker")
    assert (done.released, done.available_at) == (True, later)
    assert levels(config, as_of=later) == [100, 2000, 101]
    assert 2000 not in levels(config, as_of=later - timedelta(microseconds=1))
    assert held(config) == []
    (let_go,) = quarantine.listing(config, as_of=later, released=True).rows
    assert (let_go["released_at"], let_go["release_reason"]) == (later, "a new market maker")
    (before,) = quarantine.listing(config, as_of=NOW).rows
    assert before["key"] == row["key"], "as of the instant before, it was still held"


def test_releasing_twice_changes_nothing_and_validating_again_does_not_hold_it_again(config, took):
    took(100, 2000, 101)
    key = str(held(config)[0]["key"])
    first = quarantine.release(config, key, as_of=NOW + HOUR)
    tables = [("validated", "open_interest"), ("derived", "quarantine")]
    versions = [open_lake(config).version(layer, name) for layer, name in tables]  # type: ignore[arg-type]
    again = quarantine.release(config, key, as_of=NOW + 5 * HOUR)
    assert (again.released, again.available_at) == (False, first.available_at)
    assert validate.run(config, as_of=NOW + 6 * HOUR).rows == ()
    assert [open_lake(config).version(layer, name) for layer, name in tables] == versions  # type: ignore[arg-type]


def test_a_release_killed_half_way_is_completed_by_the_same_command(config, took):
    took(100, 2000, 101)
    key = str(held(config)[0]["key"])
    whole = quarantine.release(config, key, as_of=NOW + HOUR)
    lake = open_lake(config)
    undone = lake.read("derived", "quarantine", as_of=NOW).collect().drop("ingested_at")
    lake.append("derived", "quarantine", undone, now=NOW + 2 * HOUR)
    again = quarantine.release(config, key, as_of=NOW + 3 * HOUR)
    assert again.released
    assert levels(config) == [100, 2000, 101]
    assert levels(config, as_of=whole.available_at) == [100, 2000, 101]


def test_a_row_that_the_venue_has_mended_since_is_not_released_over_it(config, took):
    took(100, 2000, 101)
    key = str(held(config)[0]["key"])
    took(105, at=NOW + HOUR, first=FIRST + HOUR)
    with pytest.raises(DataError, match="later row for this instant"):
        quarantine.release(config, key, as_of=NOW + 2 * HOUR)
    assert levels(config) == [100, 105, 101]


@pytest.mark.parametrize("filled", [True, False])
def test_a_row_whose_hour_was_interpolated_meanwhile_is_released_all_the_same(config, took, filled):
    for hour, level in enumerate((100, 101, 2000, 103, 104)):
        took(level, at=FIRST + hour * HOUR + timedelta(minutes=2), first=FIRST + hour * HOUR)
    assert levels(config) == [100, 101, 102, 103, 104]
    (row,) = held(config)
    at = NOW + HOUR
    if not filled:  # a word of the venue's own, later than the row that was kept out, still counts
        took(102.5, at=NOW, first=FIRST + 2 * HOUR)
        with pytest.raises(DataError, match="already has a later row"):
            quarantine.release(config, str(row["key"]), as_of=at)
        return
    quarantine.release(config, str(row["key"]), as_of=at)
    assert levels(config, as_of=at) == [100, 101, 2000, 103, 104]
    assert levels(config, as_of=at - HOUR) == [100, 101, 102, 103, 104]


@pytest.mark.parametrize("key", ["ffffffffffff", "x", "bybit|X|2025#1"])
def test_an_unknown_key_is_refused_by_name(config, key):
    with pytest.raises(DataError, match=re.escape(f"no quarantined row {key!r}")):
        quarantine.release(config, key, as_of=NOW)


def test_the_commands_speak_json_and_an_unknown_key_is_one_line_and_exit_3(config, took, capfd):
    took(100, 2000, 101)
    home = ["--home", str(config.home), "--json"]
    assert main(["quarantine", "list", *home]) == 0
    told = json.loads(capfd.readouterr().out)
    assert (told["total"], told["rows"][0]["reason"]) == (1, "oi_jump")
    assert main(["quarantine", "release", told["rows"][0]["key"], *home]) == 0
    assert json.loads(capfd.readouterr().out)["released"] is True
    assert main(["quarantine", "release", "ffffffffffff", *home]) == 3
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1


def test_a_short_gap_is_filled_flagged_and_a_real_row_that_comes_later_revises_it(config, took):
    report = took(100, None, None, 130)
    assert report.filled == {"open_interest": 2}
    assert levels(config) == [100, 110, 120, 130]
    real_at = NOW + HOUR
    took(115, at=real_at, first=FIRST + HOUR)
    assert levels(config, as_of=NOW) == [100, 110, 120, 130]
    assert levels(config, as_of=real_at) == [100, 115, 122.5, 130]
    rows = open_lake(config).read("validated", "open_interest").sort("ts").collect()
    assert rows["filled"].fill_null(False).to_list() == [False, False, True, False]
    assert validate.run(config, as_of=real_at).rows == ()


def test_a_filled_row_is_not_known_before_its_later_neighbour(config, took):
    took(100, None, 120)
    end = FIRST + 2 * HOUR + timedelta(seconds=5)
    assert levels(config, as_of=end) == [100, 110, 120]
    assert levels(config, as_of=end - timedelta(microseconds=1)) == [100]


def test_part_by_part_ends_with_the_tables_of_all_at_once(tmp_path, snapshots):
    raw = snapshots(100, 2000, 101, *[300] * 27, None, 250, 3000, 260, None, None, 270, None, None, None, 280)
    raw = raw.filter(pl.col("oi_base").is_not_null())
    ends = []
    for name, size in (("at_once", raw.height), ("in_parts", 13)):
        config = load([FILL], home=tmp_path / name)
        for start in range(0, raw.height, size):
            open_lake(config).append("raw", "open_interest", raw[start : start + size], now=NOW)
            validate.run(config, as_of=NOW)
        columns = ["ts", "oi_base", "filled", "available_at"]
        ends.append(open_lake(config).rows("validated", "open_interest").sort("ts").collect().select(columns))
    assert ends[0].equals(ends[1])
    assert ends[0]["filled"].sum() == 5, "two jumps, one missing and two missing together; three together are too many"


def test_a_tenfold_level_stays_out_until_a_person_lets_it_in_and_then_goes_on(config, took):
    took(100, 100, *[1000] * 39)
    assert levels(config) == [100, 100]
    newest = quarantine.listing(config, as_of=NOW, limit=1).rows[0]
    quarantine.release(config, str(newest["key"]), as_of=NOW, reason="the venue counts contracts now")
    later = NOW + HOUR
    assert took(1001, 1002, first=FIRST + 41 * HOUR, at=later).rows[0]["quarantined"] == 0
    assert levels(config, as_of=later) == [100, 100, 1000, 1001, 1002]


def test_a_tenfold_level_stays_out_also_when_its_last_good_row_is_older_than_a_week(config, took):
    took(100, 100, *[1000] * 30)
    for first_h, hours in ((32, 24 * 8), (32 + 24 * 8, 5)):
        start = FIRST + first_h * HOUR
        assert took(*[1000] * hours, first=start, at=start + hours * HOUR).rows[0]["good"] == 0
    assert levels(config) == [100, 100]


def test_a_wrong_first_answer_is_outvoted_hour_by_hour_as_at_once(tmp_path, snapshots):
    rows, ends = snapshots(1e6, *[1e5] * 5), []
    for name, size in (("at_once", rows.height), ("hour_by_hour", 1)):
        config = load([FILL], home=tmp_path / name)
        for start in range(0, rows.height, size):
            open_lake(config).append("raw", "open_interest", rows[start : start + size], now=NOW)
            validate.run(config, as_of=NOW)
        ends.append(held(config, reason="oi_jump"))
        real = open_lake(config).rows("validated", "open_interest").filter(~pl.col("filled").fill_null(False))
        assert real.sort("ts").collect()["oi_base"].to_list() == [1e6, *[1e5] * 3]
    assert [row["ts"] for row in ends[0]] == [row["ts"] for row in ends[1]] == [FIRST + 2 * HOUR, FIRST + HOUR]


def test_interest_that_falls_to_nothing_waits_for_a_person_who_knows_the_coin_is_delisted(config, took):
    took(100, 101, 0)
    (row,) = held(config)
    assert row["reason"] == "oi_zero"
    quarantine.release(config, str(row["key"]), as_of=NOW + HOUR, reason="delisted")
    later = NOW + 2 * HOUR
    assert took(2000, 102, first=FIRST + 3 * HOUR, at=later).rows[0]["quarantined"] == 1
    assert levels(config, as_of=later) == [100, 101, 0, 51, 102]


def test_a_venue_set_aside_does_not_make_the_others_insufficient(config, bars):
    lake, hours = open_lake(config), 60
    steps = [100 * (1 + 0.01 * ((n * 7) % 5)) for n in range(hours)]
    for venue in ("a", "b", "c"):
        factor = [1.1 if venue == "c" and n >= 50 else 1.0 for n in range(hours)]
        closes = [level * up for level, up in zip(steps, factor, strict=True)]
        lake.append("raw", "ohlcv", bars(*closes).with_columns(venue=pl.lit(venue)), now=NOW + 20 * HOUR)
    report = validate.run(config, as_of=FIRST + 61 * HOUR)
    (found,) = report.venues
    assert (found["venue"], found["verdict"], found["hours"]) == ("c", "set aside: disagrees", 10)
    assert report.sufficient
    assert report.share_good == 1.0
    assert {row["venue"]: row["set_aside"] for row in report.rows} == {"a": 0, "b": 0, "c": 10}
    assert table_named("ohlcv").name in {str(row["table"]) for row in held(config)}


def test_blocks_are_told_as_one(config, bars, monkeypatch):
    open_lake(config).append("raw", "ohlcv", bars(*([100.0, 101.0] * 36 + [-1.0])), now=NOW + 48 * HOUR)
    reports = []
    for most, name in ((24, "blocks"), (10**6, "once")):
        monkeypatch.setattr(pending, "BLOCK_ROWS", most)
        home = config.model_copy(update={"home": config.home / name})
        open_lake(home).append("raw", "ohlcv", open_lake(config).read("raw", "ohlcv").collect(), now=NOW + 48 * HOUR)
        assert len(list(pending.blocks(open_lake(home), table_named("ohlcv")))) == (4 if most == 24 else 1)
        reports.append(validate.run(home, as_of=FIRST + 96 * HOUR))
    assert (reports[0].rows, reports[0].checks, reports[0].venues) == (reports[1].rows, reports[1].checks,
                                                                       reports[1].venues)  # fmt: skip
    assert [(row["checked"], row["good"]) for row in reports[0].rows] == [(73, 72)]


def test_a_good_row_that_is_revised_again_and_again_does_not_outweigh_a_bad_one(config, bars):
    lake = open_lake(config)
    for close in (100.0, 101.0, 102.0, 103.0):
        lake.append("raw", "ohlcv", bars(close), now=NOW)
    lake.append("raw", "ohlcv", bars(-1.0, first=FIRST + HOUR), now=NOW)
    validate.run(config, as_of=NOW)
    assert lake.rows("validated", "ohlcv").collect().height == 4
    assert validate.worst_share(lake, FIRST, FIRST + 2 * HOUR) == 0.5


def test_a_bar_set_aside_keeps_only_its_own_kind_from_being_filled(bars, tmp_path):
    config = load(["quality.fill.ohlcv={1h: 2}"], home=tmp_path)
    lake, hours = open_lake(config), 60
    steps = [100 * (1 + 0.01 * ((n * 7) % 5)) for n in range(hours)]
    at = FIRST + 50 * HOUR
    for venue in ("a", "b", "c"):
        for kind in ("perp", "mark"):
            wrong = (pl.col("ts") == at) & pl.lit(kind == "mark" and venue == "c")
            rows = bars(*steps).with_columns(
                pl.col("open", "high", "low", "close") * pl.when(wrong).then(1.2).otherwise(1.0),
                venue=pl.lit(venue), kind=pl.lit(kind),
            )  # fmt: skip
            lost = (pl.col("ts") == at) & pl.lit(kind == "perp" and venue == "c")
            lake.append("raw", "ohlcv", rows.filter(~lost), now=NOW + 20 * HOUR)
    validate.run(config, as_of=FIRST + 61 * HOUR)
    of_c = lake.read("validated", "ohlcv", where=pl.col("venue") == "c").filter(pl.col("ts") == at).collect()
    assert of_c["kind"].to_list() == ["perp"], "the mark price was set aside and stays empty"
    assert of_c["filled"].to_list() == [True]


def test_a_broken_first_answer_shuts_no_good_row_out_hour_by_hour(config, snapshots):
    lake = open_lake(config)
    rows = snapshots(1e-6, 1001, 1002, 1003).with_columns(
        oi_usd=pl.when(pl.col("oi_base") < 1).then(-5.0).otherwise(None)
    )
    for hour in range(rows.height):
        lake.append("raw", "open_interest", rows[hour : hour + 1], now=NOW)
        validate.run(config, as_of=NOW)
    assert levels(config) == [1001, 1002, 1003]


def test_a_value_that_comes_back_after_a_bad_one_is_judged_once(config, took):
    took(1000)
    took(-5, at=NOW + HOUR)
    took(1000, at=NOW + 2 * HOUR)
    assert validate.run(config, as_of=NOW + 3 * HOUR).rows == ()
    assert open_lake(config).rows("validated", "open_interest").collect().height == 2


def test_validated_says_as_of_any_instant_what_the_good_rows_of_raw_say(config, payments):
    """Words that were taken late, or before they could be known, or by a run that stood at an earlier instant."""
    lake = open_lake(config)
    words = [(0.0001, 4, 4), (0.0001, 16, 4), (0.0002, 7, 7), (0.0003, 20, 30), (0.0002, 18, 12)]
    for rate, available, now in words:
        row = payments(rate).with_columns(available_at=pl.lit(FIRST + available * HOUR))
        lake.append("raw", "funding", row, now=FIRST + now * HOUR)
        validate.run(config, as_of=FIRST + now * HOUR)
    for hours in range(48):
        at = FIRST + hours * HOUR
        said, good = (
            lake.read(layer, "funding", as_of=at).collect()["rate"].to_list() for layer in ("raw", "validated")
        )
        assert said == good, at
    assert lake.read("validated", "funding").collect()["rate"].to_list() == [0.0003]


def test_a_unit_ten_times_another_is_caught_beside_a_moving_level_and_in_dollars_too(config, snapshots):
    lake = open_lake(config)
    levels_usd = snapshots(1000, 1001, 1000.5, 10000, 1002, 1003).with_columns(
        oi_usd=pl.Series([1e8, 1.001e8, 1.0005e8, 1e9, 1.002e14, 1.003e8])
    )
    lake.append("raw", "open_interest", levels_usd, now=NOW)
    validate.run(config, as_of=NOW)
    real = lake.read("validated", "open_interest").filter(~pl.col("filled").fill_null(False)).collect()
    assert real["oi_base"].to_list() == [1000, 1001, 1000.5, 1003]
    assert {row["reason"] for row in held(config)} == {"oi_jump", "oi_price_jump"}

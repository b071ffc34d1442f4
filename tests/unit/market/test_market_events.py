"""Event calendars: the shipped ones are sane, a user's own are read or refused in one line."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import yaml

from oihedge.config import CONF
from oihedge.core.errors import ConfigError, DataError
from oihedge.core.tables import EVENTS, conform
from oihedge.market.inputs.events import ASSUMED, WITHDRAWN, as_seen, read_events, withdrawn

MINE = {
    "name": "unlock", "source": "me", "importance": 1, "time": "14:00", "zone": "America/New_York",
    "dates": {2025: ["2025-01-10", "2025-07-10"]},
}  # fmt: skip


def put(folder: Path, file: str = "mine", /, **changes) -> Path:
    told = {key: value for key, value in {**MINE, **changes}.items() if value is not None}
    (folder / f"{file}.yaml").write_text(yaml.safe_dump(told))
    return folder


@pytest.fixture(scope="module")
def shipped() -> pl.DataFrame:
    return read_events(CONF / "events")


def test_the_shipped_calendars_cover_four_banks_and_the_cpi(shipped: pl.DataFrame) -> None:
    counts = {(name, year): n for name, year, n in shipped.group_by("name", pl.col("ts").dt.year()).len().rows()}
    for bank in ("fomc_decision", "ecb_decision", "boe_decision", "boj_decision"):
        assert [counts[bank, year] for year in (2024, 2025, 2026)] == [8, 8, 8]
    assert [counts["us_cpi", year] for year in (2024, 2025, 2026)] == [12, 10, 10]
    assert conform(shipped, EVENTS, stamps=False).equals(shipped.drop(ASSUMED))
    assert shipped.columns[-1] == ASSUMED


def test_no_shipped_date_is_a_weekend_or_known_after_it_came(shipped: pl.DataFrame) -> None:
    assert shipped.filter(pl.col("ts").dt.weekday() > 5).is_empty()
    assert shipped.filter(pl.col("available_at") >= pl.col("ts")).is_empty()


def test_no_shipped_bank_decides_twice_within_four_weeks(shipped: pl.DataFrame) -> None:
    banks = shipped.filter(pl.col("name") != "us_cpi").sort("name", "ts")
    apart = banks.select(pl.col("ts").diff().over("name")).drop_nulls()["ts"]
    assert apart.min() >= timedelta(days=28)


@pytest.mark.parametrize(
    ("name", "instant"),
    [
        ("fomc_decision", datetime(2025, 1, 29, 19, tzinfo=UTC)),
        ("fomc_decision", datetime(2025, 6, 18, 18, tzinfo=UTC)),
        ("ecb_decision", datetime(2025, 6, 5, 12, 15, tzinfo=UTC)),
        ("boe_decision", datetime(2025, 12, 18, 12, tzinfo=UTC)),
        ("boj_decision", datetime(2025, 7, 31, 3, tzinfo=UTC)),
        ("us_cpi", datetime(2025, 10, 24, 12, 30, tzinfo=UTC)),
    ],
)
def test_the_hour_is_the_places_own_in_summer_and_winter(shipped: pl.DataFrame, name: str, instant: datetime) -> None:
    assert shipped.filter(name=name, ts=instant).height == 1


def test_a_date_is_known_from_the_start_of_its_year_or_when_it_was_published(tmp_path: Path) -> None:
    moved = [{"on": "2025-03-03", "known": "2025-02-01"}]
    dates = {2025: ["2025-01-10"], 2026: ["2026-01-10"]}
    rows = read_events(put(tmp_path, dates=dates, known={2026: "2025-11-01"}, moved=moved))
    assert [(ts.date(), known) for ts, known in rows.select("ts", "available_at").rows()] == [
        (date(2025, 1, 10), datetime(2025, 1, 1, tzinfo=UTC)),
        (date(2025, 3, 3), datetime(2025, 2, 2, 5, tzinfo=UTC)),
        (date(2026, 1, 10), datetime(2025, 11, 2, 4, tzinfo=UTC)),
    ]


@pytest.mark.parametrize(
    ("zone", "known", "instant"),
    [
        ("America/New_York", date(2020, 3, 15), datetime(2020, 3, 16, 4, tzinfo=UTC)),
        ("Asia/Tokyo", date(2020, 3, 15), datetime(2020, 3, 16, tzinfo=UTC)),
        ("America/New_York", "2020-03-15T17:00:00-04:00", datetime(2020, 3, 15, 21, tzinfo=UTC)),
        ("Asia/Tokyo", datetime(2020, 3, 14, 20, tzinfo=UTC), datetime(2020, 3, 14, 20, tzinfo=UTC)),
    ],
)
def test_a_day_told_is_known_from_its_end_and_an_instant_told_from_then(tmp_path: Path, zone, known, instant) -> None:
    moved = [{"on": date(2020, 3, 15), "known": known}]
    rows = read_events(put(tmp_path, zone=zone, time="17:00", moved=moved)).filter(pl.col("ts").dt.year() == 2020)
    assert rows["available_at"].to_list() == [instant]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": None}, "name: Field required"),
        ({"importance": 4}, "importance"),
        ({"time": "25:00"}, "time"),
        ({"zone": "Mars/Olympus"}, "zone 'Mars/Olympus' is not known"),
        ({"dates": {2025: ["2025-02-30"]}}, "dates.2025.0"),
        ({"dates": {2025: ["2026-01-01"]}}, "dates.2025 holds 2026-01-01"),
        ({"dates": {2025: ["2025-01-10", "2025-01-10"]}}, "a date stands twice"),
        ({"dates": {}}, "a calendar needs dates"),
        ({"moved": [{"on": "2025-03-03", "known": "2025-03-04"}]}, "was not known before it came"),
        ({"moved": [{"on": "2025-03-03", "known": "2025-03-04T05:00:00Z"}]}, "was not known before it came"),
        ({"moved": [{"on": "2025-03-03", "known": "2025-03-01T05:00:00"}]}, "moved.0.known"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_calendar_is_one_line_that_names_file_and_key(tmp_path: Path, changes, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_events(put(tmp_path, **changes))
    assert "mine.yaml" in str(caught.value)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["a: &a [1]\nb: [*a, *a]", "", "- a\n- b\n", "a: [", "\x00", "name: &a [*a]"])
def test_what_is_no_calendar_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "odd.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"odd\.yaml") as caught:
        read_events(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_date_added_later_is_known_from_then_and_a_told_one_from_when_it_was_told(tmp_path: Path) -> None:
    stamp = pl.lit(datetime(2025, 1, 2, tzinfo=UTC))
    held = as_seen(read_events(put(tmp_path)), read_events(tmp_path).clear(), stamp_of(2)).with_columns(
        ingested_at=stamp
    )
    assert set(held["available_at"]) == {stamp_of(1)}
    dates = {2025: ["2025-01-10", "2025-05-05", "2025-07-10"], 2026: ["2026-01-10"]}
    moved = [{"on": "2025-03-03", "known": "2025-01-15T00:00:00Z"}]
    told = read_events(put(tmp_path, dates=dates, moved=moved))
    first = as_seen(told, held, stamp_of(20))
    expected = [stamp_of(1), stamp_of(15), stamp_of(20), stamp_of(1), datetime(2026, 1, 1, tzinfo=UTC)]
    assert first["available_at"].to_list() == expected
    again = as_seen(told, pl.concat([held.drop("ingested_at"), first]), stamp_of(9))
    assert again["available_at"].to_list() == expected


def stamp_of(day: int) -> datetime:
    return datetime(2025, 1, day, tzinfo=UTC)


def test_the_same_event_in_two_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name 2 events twice"):
        read_events(put(put(tmp_path), "again"))


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="are not there"):
        read_events(tmp_path / "none")
    assert read_events(tmp_path).is_empty()


def test_an_event_taken_out_of_its_calendar_is_withdrawn_if_it_lies_ahead(tmp_path: Path) -> None:
    known = read_events(put(tmp_path))
    now = datetime(2025, 3, 1, tzinfo=UTC)
    told = read_events(put(tmp_path, dates={2025: ["2025-09-09"]}))
    gone = withdrawn(known, told, now)
    assert [(ts.date(), level, at) for ts, level, at in gone.select("ts", "importance", "available_at").rows()] == [
        (date(2025, 7, 10), WITHDRAWN, now)
    ]
    assert withdrawn(pl.concat([told.drop(ASSUMED), gone]), told, now).is_empty()

"""Layout and upkeep: what lies in which file, what is merged, what is removed and what never is."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from deltalake import write_deltalake
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oihedge.core.errors import ConfigError, DataError
from oihedge.core.tables import OHLCV, RAW_TABLES, UTC_TIME, Table
from oihedge.lake.layout import LARGE_TABLES, MONTH
from oihedge.lake.settings import Lake as Settings
from oihedge.lake.store import Appended, Lake

FIRST = datetime(2025, 1, 20, tzinfo=UTC)
NOW = datetime(2025, 6, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def bars(*closes: float, first: datetime = FIRST, step: timedelta = DAY) -> pl.DataFrame:
    named = {"venue": "bybit", "symbol": "BTC", "asset": "BTC", "kind": "perp", "timeframe": "1h", "volume": 1.0}
    made = [
        {**named, "ts": first + i * step, **dict.fromkeys(("open", "high", "low", "close"), close),
         "available_at": first + i * step + HOUR}
        for i, close in enumerate(closes)
    ]  # fmt: skip
    schema = {name: dtype for name, dtype in OHLCV.columns.items() if name != "filled"}
    return pl.DataFrame(made, schema={**schema, "available_at": UTC_TIME})


def daily(lake: Lake, days: int) -> None:
    for day in range(days):
        lake.append("raw", "ohlcv", bars(float(day), first=FIRST + day * DAY), now=NOW)


def files(lake: Lake, name: str = "ohlcv") -> list[Path]:
    opened = lake._storage.open("raw", name)
    assert opened is not None
    return [Path(file) for file in opened.file_uris()]


def age(table: Path, days: int) -> None:
    """Make a table's files and log look as if everything in it had happened `days` earlier."""
    ms = days * 86_400_000
    for entry in sorted((table / "_delta_log").glob("*.json")):
        actions = [json.loads(line) for line in entry.read_text().splitlines()]
        for action in actions:
            for name in ("timestamp", "modificationTime", "deletionTimestamp", "createdTime"):
                for body in action.values():
                    if name in body:
                        body[name] -= ms
        entry.write_text("\n".join(map(json.dumps, actions)))
    for file in table.rglob("*.parquet"):
        os.utime(file, (file.stat().st_mtime - days * 86_400,) * 2)


@pytest.mark.parametrize("spec", RAW_TABLES, ids=lambda spec: spec.name)
def test_no_table_has_a_column_called_as_the_folders_are(spec: Table):
    assert MONTH not in spec.schema
    assert "ts" in spec.key or spec.name not in LARGE_TABLES


def test_a_day_of_a_large_table_is_read_from_its_months_folder_alone(lake):
    lake.append("raw", "ohlcv", bars(*range(60)), now=NOW)
    assert {file.parent.name for file in files(lake)} == {"month=202501", "month=202502", "month=202503"}
    start = datetime(2025, 2, 3, tzinfo=UTC)
    read = lake.read("raw", "ohlcv", as_of=NOW, start=start, end=start + DAY)
    assert read.explain().count("month=") == 1
    assert read.collect()["ts"].to_list() == [start]
    assert lake.rows("raw", "ohlcv").collect_schema() == OHLCV.schema


def test_an_hourly_append_writes_one_file(lake):
    lake.append("raw", "ohlcv", bars(*range(60)), now=NOW)
    before = len(files(lake))
    venues = [bars(1.0, first=FIRST + 60 * DAY).with_columns(venue=pl.lit(f"venue{i}")) for i in range(5)]
    lake.append("raw", "ohlcv", pl.concat(venues), now=NOW)
    assert len(files(lake)) == before + 1


def test_a_lake_made_before_there_were_folders_stays_readable_and_takes_rows(lake):
    old = bars(1.0, 2.0).with_columns(ingested_at=pl.lit(NOW, dtype=UTC_TIME))
    write_deltalake(str(lake.root / "raw" / "ohlcv"), old)
    assert lake.append("raw", "ohlcv", bars(1.0, 2.5, 3.0), now=NOW + HOUR) == Appended(2, 1)
    assert lake.read("raw", "ohlcv").collect()["close"].to_list() == [1.0, 2.5, 3.0]
    assert lake.keep_up("raw", "ohlcv", keep=DAY, now=NOW).files_after == 1
    assert lake.read("raw", "ohlcv", as_of=NOW).collect()["close"].to_list() == [1.0, 2.0, 3.0]


def test_a_full_folder_is_merged_by_the_append_that_fills_it_and_the_others_are_left(tmp_path):
    lake = Lake(tmp_path, simulated=True, compact_after_files=3)
    daily(lake, 16)  # 12 in January, 4 in February
    january = [file for file in files(lake) if file.parent.name == "month=202501"]
    assert len(january) <= 3
    assert lake.read("raw", "ohlcv").collect()["close"].to_list() == [float(day) for day in range(16)]


@pytest.mark.parametrize("folder", ["with a space", "ümläut", "a+b", "run=1", "month=1/x=2"])
def test_a_lake_in_a_folder_of_any_name_is_written_read_and_tidied(tmp_path, folder):
    lake = Lake(tmp_path / folder, simulated=True)
    daily(lake, 3)
    assert lake.read("raw", "ohlcv", as_of=NOW).collect()["close"].to_list() == [0.0, 1.0, 2.0]
    assert lake.keep_up("raw", "ohlcv", keep=DAY, now=datetime.now(UTC)).files_after == 1
    assert lake.read("raw", "ohlcv", version=1).collect()["close"].to_list() == [0.0, 1.0]


def test_a_folder_that_delta_would_not_find_again_is_refused_before_the_first_write(tmp_path):
    with pytest.raises(ConfigError, match="got %20; rename the folder") as caught:
        Lake(tmp_path / "a%20b" / "lake", simulated=True)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_upkeep_merges_each_folder_and_every_version_within_keep_reads_as_it_was(lake):
    daily(lake, 16)
    done = lake.keep_up("raw", "ohlcv", keep=90 * DAY, now=datetime.now(UTC))
    assert (done.files_before, done.files_after, done.removed) == (16, 2, 0)
    for version in range(16):
        assert lake.read("raw", "ohlcv", version=version).collect().height == version + 1
    assert lake.keep_up("raw", "ohlcv", keep=90 * DAY, now=datetime.now(UTC)).removed == 0


def test_upkeep_with_nothing_to_do_makes_no_version(lake):
    daily(lake, 3)
    now = datetime.now(UTC)
    lake.keep_up("raw", "ohlcv", keep=90 * DAY, now=now)
    age(lake.root / "raw" / "ohlcv", 100)
    assert lake.keep_up("raw", "ohlcv", keep=90 * DAY, now=now).removed == 3
    version = lake.version("raw", "ohlcv")
    again = lake.keep_up("raw", "ohlcv", keep=90 * DAY, now=now)
    assert (again.removed, again.stored_bytes_before) == (0, again.stored_bytes_after)
    assert lake.version("raw", "ohlcv") == version


def test_a_dry_run_tells_what_would_go_and_changes_nothing(lake):
    daily(lake, 3)
    now = datetime.now(UTC)
    lake.keep_up("raw", "ohlcv", keep=90 * DAY, now=now)
    age(lake.root / "raw" / "ohlcv", 100)
    before = sorted(lake.root.rglob("*"))
    told = lake.keep_up("raw", "ohlcv", keep=90 * DAY, now=now, dry_run=True)
    assert sorted(lake.root.rglob("*")) == before
    done = lake.keep_up("raw", "ohlcv", keep=90 * DAY, now=now)
    assert (told.removed, told.stored_bytes_after) == (done.removed, done.stored_bytes_after)


def test_vacuum_keeps_what_is_referred_to_and_says_of_the_rest_that_it_was_vacuumed(lake):
    daily(lake, 6)
    now = datetime.now(UTC)
    lake.keep_up("raw", "ohlcv", keep=90 * DAY, now=now)
    age(lake.root / "raw" / "ohlcv", 100)
    assert lake.keep_up("raw", "ohlcv", keep=90 * DAY, needed=[2, 99], now=now).removed == 3
    assert lake.read("raw", "ohlcv", version=2).collect()["close"].to_list() == [0.0, 1.0, 2.0]
    with pytest.raises(
        DataError, match=r"version 4 of .*ohlcv was vacuumed; expected .*keep_days; got 2 .*; read"
    ) as e:
        lake.read("raw", "ohlcv", version=4)
    assert "\n" not in str(e.value)
    assert lake.read("raw", "ohlcv").collect().height == 6


def test_vacuum_removes_what_a_killed_writer_left_only_when_it_is_old(lake):
    daily(lake, 2)
    orphan = files(lake)[0].with_name("part-00000-orphan.parquet")
    orphan.write_bytes(files(lake)[0].read_bytes())
    now = datetime.now(UTC)
    lake.keep_up("raw", "ohlcv", keep=DAY, now=now)
    assert orphan.exists()
    os.utime(orphan, (orphan.stat().st_mtime - 2 * 86_400,) * 2)
    lake.keep_up("raw", "ohlcv", keep=DAY, now=now)
    assert not orphan.exists()
    assert lake.read("raw", "ohlcv").collect().height == 2


def test_upkeep_of_a_table_nobody_wrote_is_one_clear_line(lake):
    with pytest.raises(DataError, match="there is no lake table"):
        lake.keep_up("raw", "ohlcv", keep=DAY, now=NOW)


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 40), st.sampled_from([1.0, 2.0])), max_size=4), min_size=1, max_size=4),
    st.integers(0, 5),
)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_neither_later_rows_nor_upkeep_change_what_was_known(tmp_path_factory, writes, hour):
    lake = Lake(tmp_path_factory.mktemp("lake"), simulated=True)
    for number, told in enumerate(writes):
        for day, close in told:
            lake.append("raw", "ohlcv", bars(close, first=FIRST + day * DAY), now=NOW + number * HOUR)
    as_of = NOW + hour * HOUR
    known = lake.read("raw", "ohlcv", as_of=as_of).collect()
    lake.append("raw", "ohlcv", bars(*[9.0] * 41), now=NOW + 6 * HOUR)
    lake.keep_up("raw", "ohlcv", keep=timedelta(0), now=datetime.now(UTC) + 2 * HOUR)
    after = lake.read("raw", "ohlcv", as_of=as_of).collect()
    assert after.join(known, on=OHLCV.key, how="semi").equals(known)


def some(spec: Table, ts: datetime, number: int) -> pl.DataFrame:
    """One row of a table, every column filled; `number` tells rows of one key apart."""
    made = {
        pl.Float64: float(number), pl.String: "x", pl.Boolean: True, pl.Int64: number, pl.Datetime: ts
    }  # fmt: skip
    row = {name: made[dtype.base_type()] for name, dtype in spec.columns.items()}
    return pl.DataFrame([{**row, "ts": ts, "available_at": ts}], schema={**spec.columns, "available_at": UTC_TIME})


@pytest.mark.parametrize("spec", RAW_TABLES, ids=lambda spec: spec.name)
def test_every_raw_table_keeps_what_was_known_before_a_revision(lake, spec):
    lake.append("raw", spec.name, some(spec, FIRST, 1), now=NOW)
    assert lake.append("raw", spec.name, some(spec, FIRST, 1), now=NOW + HOUR).added == 0
    assert lake.append("raw", spec.name, some(spec, FIRST, 2), now=NOW + HOUR).added == 1
    number = next(name for name in spec.values if spec.columns[name] in (pl.Float64(), pl.Int64()))
    seen = [lake.read("raw", spec.name, as_of=at).collect()[number].to_list() for at in (FIRST, NOW, NOW + HOUR)]
    assert seen == [[1], [1], [2]]
    assert lake.read("raw", spec.name).collect_schema() == spec.schema


@pytest.mark.parametrize("root", ["data/lake", "../lake", "/srv/lake"])
def test_a_folder_root_starts_from_home(root, tmp_path):
    assert Settings(root=root).place(tmp_path) == tmp_path / root


def test_batches_in_any_order_and_with_repeated_keys_end_as_one_row_per_key(lake):
    rows = pl.concat(
        [bars(*range(20)), bars(*range(20)).with_columns(pl.col("available_at") + HOUR, close=pl.lit(5.0))]
    )
    lake.append("raw", "ohlcv", rows.sample(fraction=1.0, shuffle=True, seed=3), now=NOW)
    assert lake.rows("raw", "ohlcv").collect()["close"].to_list() == [5.0] * 20

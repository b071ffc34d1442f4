"""Appending: what is new, what is a revision, what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from oihedge.core.errors import BusyError, ConfigError, DataError, SchemaError
from oihedge.lake.storage import Storage
from oihedge.lake.store import Appended, Lake

NOW = datetime(2025, 2, 1, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
NAN = float("nan")


def test_the_first_append_makes_version_zero_with_every_row(lake, funding):
    assert lake.append("raw", "funding", funding(0.1, 0.2), now=NOW) == Appended(2, 0)
    assert lake.rows("raw", "funding").collect()["ingested_at"].unique().to_list() == [NOW]


@pytest.mark.parametrize("rates", [(0.1, 0.2), (0.1, None), (NAN, None), (0.0, -0.0)])
def test_the_same_rows_again_add_nothing_and_make_no_version(lake, funding, rates):
    lake.append("raw", "funding", funding(*rates), now=NOW)
    assert lake.append("raw", "funding", funding(*rates), now=LATER) == Appended(0, 0)


@pytest.mark.parametrize(
    ("before", "after"), [(0.1, 0.2), (None, 0.1), (0.1, None), (NAN, 0.1), (0.1, NAN), (None, NAN)], ids=repr
)
def test_a_changed_value_becomes_a_revision_available_from_its_ingestion(lake, funding, before, after):
    lake.append("raw", "funding", funding(before), now=NOW)
    assert lake.append("raw", "funding", funding(after), now=LATER) == Appended(1, 1)
    rows = lake.rows("raw", "funding").collect().sort("ingested_at")
    assert rows["ingested_at"].to_list() == [NOW, LATER]
    assert rows["available_at"].to_list() == [datetime(2025, 1, 1, 0, 0, 5, tzinfo=UTC), LATER]
    assert lake.append("raw", "funding", funding(after), now=LATER + timedelta(hours=1)).added == 0


def test_only_new_and_changed_rows_of_a_batch_are_written(lake, funding):
    lake.append("raw", "funding", funding(0.1, 0.2, 0.3), now=NOW)
    assert lake.append("raw", "funding", funding(0.1, 0.25, 0.3, 0.4), now=LATER) == Appended(2, 1)
    assert lake.read("raw", "funding").collect()["rate"].to_list() == [0.1, 0.25, 0.3, 0.4]


def test_several_revisions_at_one_instant_leave_the_last_word_in_force(lake, funding):
    for rate in (0.1, 0.2, 0.3, 0.2):
        assert lake.append("raw", "funding", funding(rate), now=NOW).added == 1
    assert lake.append("raw", "funding", funding(0.2), now=NOW).added == 0
    assert lake.read("raw", "funding", as_of=NOW).collect()["rate"].to_list() == [0.2]


def test_a_run_at_an_earlier_instant_compares_with_what_was_known_then(lake, funding):
    lake.append("raw", "funding", funding(0.1), now=NOW)
    lake.append("raw", "funding", funding(0.3), now=LATER)
    between = NOW + timedelta(minutes=30)
    assert lake.append("raw", "funding", funding(0.1), now=between).added == 0
    assert lake.append("raw", "funding", funding(0.2), now=between).added == 1
    assert lake.append("raw", "funding", funding(0.2), now=between).added == 0
    assert lake.read("raw", "funding", as_of=between).collect()["rate"].to_list() == [0.2]
    assert lake.read("raw", "funding").collect()["rate"].to_list() == [0.3]


def test_rows_that_become_available_only_later_stay_idempotent(lake, funding):
    ahead = funding(0.1, first=LATER)
    lake.append("raw", "funding", ahead, now=NOW)
    assert lake.append("raw", "funding", ahead, now=NOW).added == 0
    assert lake.append("raw", "funding", funding(0.2, first=LATER), now=NOW).added == 1
    assert lake.append("raw", "funding", funding(0.2, first=LATER), now=NOW).added == 0
    assert lake.read("raw", "funding").collect()["rate"].to_list() == [0.2]


def test_a_key_twice_in_one_batch_keeps_the_last_available_then_the_last_row(lake, funding):
    early, late = funding(0.3), funding(0.1)
    late = late.with_columns(pl.col("available_at") + timedelta(minutes=1))
    lake.append("raw", "funding", pl.concat([late, early, late.with_columns(rate=pl.lit(0.2))]), now=NOW)
    assert lake.rows("raw", "funding").collect()["rate"].to_list() == [0.2]


def test_mirroring_raw_into_validated_keeps_every_stamp(lake, funding):
    for rate, now in ((0.1, NOW), (0.2, NOW), (0.3, LATER)):
        lake.append("raw", "funding", funding(rate), now=now)
    raw = lake.rows("raw", "funding").collect().sort("available_at", "ingested_at")
    for revision in raw.iter_slices(1):
        lake.append("validated", "funding", revision, now=revision["ingested_at"].item())
        assert lake.append("validated", "funding", revision, now=LATER).added == 0
    assert lake.rows("validated", "funding").collect().sort("available_at", "ingested_at").equals(raw)


def test_an_empty_batch_writes_nothing_at_all(lake, funding):
    assert lake.append("raw", "funding", funding(), now=NOW) == Appended(0, None)
    assert not lake.root.exists()
    lake.append("raw", "funding", funding(0.1), now=NOW)
    assert lake.append("raw", "funding", funding(), now=NOW) == Appended(0, 0)


NO_STAMP = pl.lit(None, dtype=pl.Datetime("us", "UTC"))
BROKEN = {
    "missing column": (lambda rows: rows.drop("rate"), "rate"),
    "naive stamps": (lambda rows: rows.with_columns(pl.col("ts").dt.replace_time_zone(None)), "time zone"),
    "text for a number": (lambda rows: rows.with_columns(rate=pl.lit("much")), "types"),
    "missing key": (lambda rows: rows.with_columns(symbol=pl.lit(None, dtype=pl.String)), "symbol"),
    "missing stamp": (lambda rows: rows.with_columns(available_at=NO_STAMP), "available_at"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_rows_that_do_not_fit_are_refused_and_the_table_stays(lake, funding, case):
    breaks, named = BROKEN[case]
    lake.append("raw", "funding", funding(0.1), now=NOW)
    with pytest.raises(SchemaError, match=named):
        lake.append("raw", "funding", breaks(funding(0.2, 0.3)), now=LATER)
    assert lake.version("raw", "funding") == 0
    assert lake.rows("raw", "funding").collect().height == 1


def test_missing_values_may_enter_raw_but_not_validated(lake, funding):
    lake.append("raw", "funding", funding(None), now=NOW)
    with pytest.raises(SchemaError, match=r"funding\.rate is missing in 1 of 1 rows"):
        lake.append("validated", "funding", funding(None), now=NOW)
    assert not lake.exists("validated", "funding")


def test_unknown_tables_and_layers_and_naive_instants_are_refused(lake, funding):
    with pytest.raises(DataError, match="unknown table 'prices'"):
        lake.append("raw", "prices", funding(0.1), now=NOW)
    with pytest.raises(ConfigError, match="unknown lake layer 'silver'"):
        lake.append("silver", "funding", funding(0.1), now=NOW)
    with pytest.raises(ConfigError, match="now has no time zone"):
        lake.append("raw", "funding", funding(0.1), now=datetime(2025, 1, 1))  # noqa: DTZ001


def features(**columns) -> pl.DataFrame:
    ts = datetime(2025, 1, 1, tzinfo=UTC)
    base = pl.DataFrame({"spec": ["s"], "asset": ["BTC"], "ts": [ts], "available_at": [ts]})
    return base.with_columns(**{name: pl.lit(value) for name, value in columns.items()})


def test_an_open_table_takes_new_columns_and_revises_changed_features(lake):
    assert lake.append("derived", "features", features(a=1.0), now=NOW).added == 1
    assert lake.append("derived", "features", features(a=1.0), now=LATER).added == 0
    assert lake.append("derived", "features", features(a=1.0, b=2.0), now=LATER) == Appended(1, 1)
    assert lake.append("derived", "features", features(b=2.0, a=1.0), now=LATER).added == 0
    assert lake.read("derived", "features", as_of=NOW).collect().select("a", "b").rows() == [(1.0, None)]
    assert lake.read("derived", "features", as_of=LATER).collect().select("a", "b").rows() == [(1.0, 2.0)]


def test_a_column_that_is_null_throughout_can_be_filled_later(lake):
    lake.append("derived", "features", features(a=None), now=NOW)
    assert lake.append("derived", "features", features(a=1.5), now=LATER).added == 1


def test_a_column_that_changes_its_type_is_refused_unless_nothing_is_lost(lake):
    lake.append("derived", "features", features(n=3), now=NOW)
    assert lake.append("derived", "features", features(n=4.0), now=LATER).added == 1
    with pytest.raises(SchemaError, match=r"features\.n does not fit the stored column"):
        lake.append("derived", "features", features(n=4.5), now=LATER)
    with pytest.raises(SchemaError, match="type the lake does not keep"):
        lake.append("derived", "features", features(d=timedelta(hours=1)), now=LATER)


def test_a_lake_of_one_market_refuses_the_other_kind(lake, funding, tmp_path):
    other = Lake(tmp_path / "lake", simulated=False)
    lake.append("raw", "funding", funding(0.1), now=NOW)
    with pytest.raises(ConfigError, match="holds the simulated market"):
        Lake(tmp_path / "lake", simulated=False)
    with pytest.raises(ConfigError, match="holds the simulated market"):
        other.append("raw", "funding", funding(0.2), now=NOW)
    assert lake.read("raw", "funding").collect()["rate"].to_list() == [0.1]
    assert Lake(tmp_path / "lake", simulated=True).version("raw", "funding") == 0


def test_an_unreadable_marker_is_one_clear_line(tmp_path: Path):
    (tmp_path / "lake.json").write_text("{")
    with pytest.raises(ConfigError, match=r"lake\.json cannot be read"):
        Lake(tmp_path, simulated=True)


def test_a_second_writer_gives_up_after_the_timeout(lake, funding):
    impatient = Lake(lake.root, simulated=True, lock_timeout_s=0.05)
    with Storage(lake.root, 1, 64).writing("raw", "funding"), pytest.raises(BusyError, match="writing funding"):
        impatient.append("raw", "funding", funding(0.1), now=NOW)
    assert impatient.append("raw", "funding", funding(0.1), now=NOW).added == 1


def test_many_small_appends_are_merged_and_old_versions_stay_readable(tmp_path, funding):
    lake = Lake(tmp_path, simulated=True, compact_after_files=3)
    for hour in range(6):
        start = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(hours=hour)
        lake.append("raw", "funding", funding(float(hour), first=start), now=NOW)
    opened = lake._storage.open("raw", "funding")
    assert opened is not None
    assert len(opened.file_uris()) <= 3
    assert lake.read("raw", "funding").collect()["rate"].to_list() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert lake.read("raw", "funding", version=1).collect()["rate"].to_list() == [0.0, 1.0]

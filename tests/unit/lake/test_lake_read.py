"""Reading: as of an instant, at a version, in a window; never ahead of time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oihedge.core.errors import DataError
from oihedge.core.tables import DECISIONS, FUNDING, TABLES, UTC_TIME
from oihedge.lake.revisions import changes, latest, one_batch
from oihedge.lake.store import Lake

NOW = datetime(2025, 2, 1, tzinfo=UTC)
FIRST = datetime(2025, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize("name", TABLES)
def test_a_table_nobody_wrote_reads_as_empty_with_its_columns(lake, name):
    assert lake.read("derived", name, as_of=NOW, start=FIRST, end=NOW).collect().schema == TABLES[name].schema
    assert lake.version("derived", name) is None
    assert not lake.exists("derived", name)
    assert lake.inventory().is_empty()
    assert not lake.root.exists()


def test_as_of_sees_the_old_value_before_a_revision_and_the_new_one_from_it_on(lake, funding):
    lake.append("raw", "funding", funding(0.1), now=NOW)
    lake.append("raw", "funding", funding(0.2), now=NOW + HOUR)
    seen = {
        at: lake.read("raw", "funding", as_of=at).collect()["rate"].to_list()
        for at in (FIRST, FIRST + timedelta(seconds=5), NOW + HOUR - timedelta(microseconds=1), NOW + HOUR)
    }
    assert list(seen.values()) == [[], [0.1], [0.1], [0.2]]


def test_every_version_reads_as_it_was(lake, funding):
    for version, rates in enumerate([(0.1,), (0.1, 0.2), (0.9, 0.2)]):
        assert lake.append("raw", "funding", funding(*rates), now=NOW + version * HOUR).version == version
    read = [lake.read("raw", "funding", version=v).collect()["rate"].to_list() for v in range(3)]
    assert read == [[0.1], [0.1, 0.2], [0.9, 0.2]]
    with pytest.raises(DataError, match="has no version 3; expected 0 to 2"):
        lake.read("raw", "funding", version=3)


def test_a_read_keeps_its_version_while_others_append(lake, funding):
    lake.append("raw", "funding", funding(0.1), now=NOW)
    rows = lake.read("raw", "funding")
    lake.append("raw", "funding", funding(0.2, 0.3), now=NOW)
    assert rows.collect()["rate"].to_list() == [0.1]


def test_the_window_takes_its_start_and_leaves_its_end(lake, funding):
    lake.append("raw", "funding", funding(0.0, 1.0, 2.0, 3.0), now=NOW)
    rows = lake.read("raw", "funding", start=FIRST + 8 * HOUR, end=FIRST + 24 * HOUR).collect()
    assert rows["rate"].to_list() == [1.0, 2.0]


def test_a_condition_on_values_never_brings_an_old_revision_back(lake, funding):
    lake.append("raw", "funding", funding(0.1, 0.1), now=NOW)
    lake.append("raw", "funding", funding(-0.1, 0.1), now=NOW + HOUR)
    read = lake.read("raw", "funding", where=pl.col("rate") > 0).collect()
    filtered = lake.read("raw", "funding").filter(pl.col("rate") > 0).collect()
    assert read["ts"].to_list() == filtered["ts"].to_list() == [FIRST + 8 * HOUR]


def test_a_condition_on_the_key_reaches_the_files(lake, funding):
    lake.append("raw", "funding", pl.concat([funding(0.1), funding(0.2, symbol="ETH/USDT:USDT")]), now=NOW)
    rows = lake.read("raw", "funding", as_of=NOW, where=pl.col("symbol") == "BTC/USDT:USDT")
    scan = rows.explain().split("Parquet SCAN")[1]
    assert "symbol" in scan
    assert "available_at" in scan
    assert rows.collect()["rate"].to_list() == [0.1]


def test_rows_come_sorted_by_key_whatever_order_they_were_written_in(lake, funding):
    rows = pl.concat([funding(*range(5), symbol=symbol) for symbol in ("ETH", "BTC")])
    for part in rows.sample(fraction=1.0, shuffle=True, seed=1).iter_slices(3):
        lake.append("raw", "funding", part, now=NOW)
    read = lake.read("raw", "funding").collect()
    assert read.equals(read.sort(FUNDING.key))


def test_decisions_are_windowed_by_their_as_of(lake):
    texts = {name: pl.lit("{}") for name in DECISIONS.columns if name not in ("decision_id", "as_of")}
    rows = pl.DataFrame({"decision_id": ["a", "b"], "as_of": [FIRST, NOW], "available_at": [FIRST, NOW]})
    rows = rows.with_columns(**texts)
    lake.append("derived", "decisions", rows, now=NOW)
    assert lake.append("derived", "decisions", rows[:1], now=NOW).added == 0
    assert lake.read("derived", "decisions", start=NOW).collect()["decision_id"].to_list() == ["b"]
    assert lake.read("derived", "decisions", end=NOW).collect()["decision_id"].to_list() == ["a"]


def test_the_inventory_counts_every_row_by_venue_and_symbol(lake, funding):
    lake.append("raw", "funding", pl.concat([funding(0.1, 0.2), funding(0.3, symbol="ETH")]), now=NOW)
    lake.append("raw", "funding", funding(0.9), now=NOW + HOUR)
    lake.append("validated", "funding", funding(0.1), now=NOW)
    assert lake.inventory().rows() == [
        ("raw", "funding", "bybit", "BTC/USDT:USDT", 3, FIRST, FIRST + 8 * HOUR),
        ("raw", "funding", "bybit", "ETH", 1, FIRST, FIRST),
        ("validated", "funding", "bybit", "BTC/USDT:USDT", 1, FIRST, FIRST),
    ]


WRITES = st.lists(
    st.tuples(
        st.integers(0, 12),  # hour of the append
        st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0.1, 0.2, None, float("nan")]), st.integers(0, 9))),
    ),
    max_size=6,
)


def _batch(rows) -> pl.DataFrame:
    keys = {"venue": "bybit", "symbol": "BTC", "asset": "BTC", "interval_h": 8.0}
    stamped = [{**keys, "ts": FIRST + k * HOUR, "rate": rate, "available_at": FIRST + a * HOUR} for k, rate, a in rows]
    return pl.DataFrame(stamped, schema={**FUNDING.columns, "available_at": UTC_TIME})


def _after(writes) -> pl.DataFrame:
    stored = pl.DataFrame(schema=FUNDING.schema)
    for hour, rows in writes:
        now = FIRST + hour * HOUR
        incoming = one_batch(_batch(rows), FUNDING, now, strict=False)
        again = changes(incoming, stored.lazy(), FUNDING, now)
        stored = pl.concat([stored, again])
        assert changes(incoming, stored.lazy(), FUNDING, now).is_empty(), "the same rows again add nothing"
    return stored


@given(WRITES, st.integers(0, 12))
@settings(max_examples=30, deadline=None)
def test_what_is_known_at_an_instant_does_not_depend_on_what_becomes_known_later(writes, hour):
    as_of = FIRST + hour * HOUR
    stored = _after(writes)
    seen = latest(stored.lazy(), FUNDING.key, as_of).collect()
    assert (seen["available_at"] <= as_of).all()
    assert seen.select(FUNDING.key).is_unique().all()
    past_only = latest(stored.filter(pl.col("available_at") <= as_of).lazy(), FUNDING.key).collect()
    assert seen.equals(past_only)
    later = FIRST + 13 * HOUR
    shocked = one_batch(_batch([(k, 99.0, 0) for k in range(4)]), FUNDING, later, strict=False)
    revised = pl.concat([stored, changes(shocked, stored.lazy(), FUNDING, later)])
    known = seen.select(FUNDING.key)
    after = latest(revised.lazy(), FUNDING.key, as_of).collect().join(known, on=FUNDING.key, how="semi")
    assert after.equals(seen)


@given(WRITES)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_stored_table_says_what_the_rules_say(tmp_path_factory, writes):
    lake = Lake(tmp_path_factory.mktemp("lake"), simulated=True)
    for hour, rows in writes:
        lake.append("raw", "funding", _batch(rows), now=FIRST + hour * HOUR)
    expected = _after(writes)
    order = [*FUNDING.key, "available_at", "ingested_at"]
    assert lake.rows("raw", "funding").collect().sort(order).equals(expected.sort(order))


@pytest.mark.parametrize("left", [None, 0, 1000])
def test_a_data_file_that_is_cut_short_or_gone_is_one_clear_error(lake, funding, left):
    lake.append("raw", "funding", funding(0.1, 0.2), now=NOW)
    (data,) = (lake.root / "raw" / "funding").glob("*.parquet")
    content = data.read_bytes()
    data.unlink()
    if left is not None:
        data.write_bytes(content[:left])
    for touched in (lake.rows, lake.read, lambda layer, name: lake.append(layer, name, funding(0.3), now=NOW)):
        with pytest.raises(DataError, match="raw/funding is damaged: its file part-") as caught:
            touched("raw", "funding")
        assert data.name in str(caught.value)
        assert "restore the file from a copy" in str(caught.value)
    data.write_bytes(content)
    assert lake.rows("raw", "funding").collect().height == 2

"""Great Expectations decides; its rules and the row masks are one. All that needs its slow import is in this module."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from oihedge.core.errors import DataError, SchemaError
from oihedge.core.tables import FUNDING, OHLCV, OPEN_INTEREST, UTC_TIME, Table
from oihedge.quality.neighbours import context_for
from oihedge.quality.settings import Quality
from oihedge.quality.verdict import Verdict, judge

FIRST = datetime(2025, 1, 1, tzinfo=UTC)
NAN, INF = float("nan"), float("inf")
LIMITS = Quality(max_hourly_move=0.5, max_oi_jump=10.0, neighbour_h=24, max_funding_rate=0.05, min_good_share=0.9)
pytestmark = pytest.mark.no_cover  # tracing every call of Great Expectations takes as long again
# Shrinking takes minutes where one judgement takes a good part of a second.
UNSHRUNK = (Phase.explicit, Phase.reuse, Phase.generate)
QUICK = settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), phases=UNSHRUNK)


def test_good_rows_all_go_on_and_every_check_says_so(bars, snapshots, payments, limits):
    for table, rows in (
        ("ohlcv", bars(1, 1.5, 1)),
        ("open_interest", snapshots(5, 9, 0.9)),
        ("funding", payments(0.01)),
    ):
        verdict = judge(table, rows, limits)
        assert verdict.good.equals(rows)
        assert verdict.bad.is_empty()
        assert verdict.share_good == 1.0
        assert all(check.passed and check.total == rows.height for check in verdict.checks)


BAD_BARS = {
    "open_missing": {"open": None},
    "close_missing": {"close": NAN},
    "high_not_positive": {"high": INF},
    "low_not_positive": {"low": 0.0},
    "close_not_positive; close_below_low": {"close": -1.0},
    "high_below_low; open_above_high; close_above_high": {"high": 50.0},
    "open_above_high": {"open": 103.0},
    "close_below_low": {"close": 90.0},
    "open_below_low; close_below_low": {"low": 100.5},
    "volume_negative": {"volume": -1.0},
    "kind_unknown": {"kind": "future"},
    "symbol_missing": {"symbol": None},
    "available_too_early": {"available_at": FIRST + timedelta(hours=2, minutes=59)},
}


BAD_SNAPSHOTS = {
    "oi_base_missing": {"oi_base": NAN},
    "oi_negative": {"oi_base": -1.0},
    "oi_usd_negative": {"oi_usd": NAN},
    "oi_zero": {"oi_base": 0.0},
    "oi_usd_zero": {"oi_usd": -0.0},
    "oi_zero; oi_usd_zero": {"oi_base": 0.0, "oi_usd": 0.0},
    "unit_source_missing": {"unit_source": None},
    "available_too_early": {"available_at": FIRST},
}
BAD_PAYMENTS = {
    "rate_extreme": {"rate": 0.06},
    "rate_missing": {"rate": None},
    "interval_unknown": {"interval_h": 0.0},
    "available_too_early": {"available_at": FIRST},
}
CASES = [
    *(("ohlcv", reason) for reason in BAD_BARS),
    *(("open_interest", reason) for reason in BAD_SNAPSHOTS),
    *(("funding", reason) for reason in BAD_PAYMENTS),
]


@pytest.fixture(scope="module")
def spoilt(bars, snapshots, payments, limits) -> dict[str, tuple[pl.DataFrame, Verdict]]:
    """Judge, per table, a series of four rows for each case, of which the third is spoilt; its venue names the case."""
    made = {
        "ohlcv": (bars(100, 100, 100, 100), BAD_BARS),
        "open_interest": (snapshots(100, 100, 100, 100), BAD_SNAPSHOTS),
        "funding": (payments(0.01, 0.01, 0.01, 0.01), BAD_PAYMENTS),
    }
    rows = {
        table: pl.concat([_spoilt(good.with_columns(venue=pl.lit(case)), 2, cases[case]) for case in cases])
        for table, (good, cases) in made.items()
    }
    return {table: (rows[table], judge(table, rows[table], limits)) for table in rows}


@pytest.mark.parametrize(("table", "reason"), CASES)
def test_a_bad_row_is_kept_out_with_its_reason_and_its_neighbours_go_on(spoilt, table, reason):
    rows, verdict = spoilt[table]
    rows = rows.filter(venue=reason)
    bad = verdict.bad.filter(venue=reason)
    assert bad["reason"].to_list() == [reason]
    assert bad.drop("reason").equals(rows[2:3])
    assert verdict.good.filter(venue=reason).equals(rows.filter(pl.int_range(pl.len()) != 2))


@pytest.mark.parametrize("table", ["ohlcv", "open_interest", "funding"])
def test_checks_name_what_failed_and_how_often(spoilt, table):
    _, verdict = spoilt[table]
    reasons = verdict.bad["reason"].str.split("; ").explode().to_list()
    assert {c.name: c.bad_count for c in verdict.checks if not c.passed} == {r: reasons.count(r) for r in reasons}
    assert all(check.bad_count == 0 for check in verdict.checks if check.passed)
    assert verdict.share_good == 0.75


def test_missing_optional_values_are_no_fault(snapshots, limits):
    rows = snapshots(1, 1)
    assert rows["oi_usd"].null_count() == 2
    assert judge("open_interest", rows, limits).good.equals(rows)


def test_a_bar_off_its_grid_or_of_an_unknown_timeframe_is_kept_out(bars, limits):
    cases = [("half past", "1h", 30), ("odd minute", "5m", 1), ("unknown", "7m", 0), ("fine", "5m", 5)]
    rows = [
        bars(100).with_columns(
            pl.col("ts", "available_at") + timedelta(minutes=late), venue=pl.lit(name), timeframe=pl.lit(timeframe)
        )
        for name, timeframe, late in cases
    ]
    verdict = judge("ohlcv", pl.concat(rows), limits)
    assert verdict.bad.select("venue", "reason").rows() == [(name, "off_grid") for name, _, _ in cases[:3]]


def test_an_equal_copy_is_kept_out_but_its_original_is_not(snapshots, limits):
    rows = snapshots(100, 100)
    verdict = judge("open_interest", pl.concat([rows, rows[1:]]), limits)
    assert verdict.bad["reason"].to_list() == ["duplicate"]
    assert verdict.good.equals(rows)


def test_rows_that_contradict_each_other_are_all_kept_out(snapshots, limits):
    rows = pl.concat([snapshots(100, 101), snapshots(100, 102)[1:]])
    verdict = judge("open_interest", rows, limits)
    assert verdict.bad["reason"].to_list() == ["conflicting_key"] * 2
    assert verdict.good["oi_base"].to_list() == [100]


def test_revisions_of_one_row_are_judged_each_and_contradict_nobody(snapshots, limits):
    rows = snapshots(100, 101)
    spike = rows[1:].with_columns(pl.col("available_at") + timedelta(hours=3), oi_base=pl.lit(2000.0))
    mended = rows[1:].with_columns(pl.col("available_at") + timedelta(hours=4), oi_base=pl.lit(102.0))
    verdict = judge("open_interest", pl.concat([mended, rows, spike]), limits)
    assert verdict.bad.select("oi_base", "reason").rows() == [(2000, "oi_jump")]
    assert verdict.good["oi_base"].to_list() == [102, 100, 101]


def test_an_oi_jump_is_kept_out_and_the_normal_rows_after_it_are_not(snapshots, limits):
    verdict = judge("open_interest", snapshots(100, 2000, 101, 102), limits)
    assert verdict.bad.select("oi_base", "reason").rows() == [(2000, "oi_jump")]
    assert verdict.good["oi_base"].to_list() == [100, 101, 102]


def test_a_price_jump_is_kept_out_and_the_normal_bars_after_it_are_not(bars, limits):
    verdict = judge("ohlcv", bars(100, 201, 49, 101), limits)
    assert verdict.bad.select("close", "reason").rows() == [(201, "price_jump"), (49, "price_jump")]
    assert verdict.good["close"].to_list() == [100, 101]


def test_the_first_row_of_a_slice_is_compared_with_the_context(snapshots, limits):
    earlier, rows = snapshots(100), snapshots(2000, 100, first=FIRST + timedelta(hours=1))
    assert judge("open_interest", rows, limits).bad["oi_base"].to_list() == [100]
    assert judge("open_interest", rows, limits, context=earlier).bad["oi_base"].to_list() == [2000]


def test_judging_hour_by_hour_gives_what_judging_at_once_gives(snapshots, limits):
    raw = snapshots(100, 2000, 101, *[3000] * 27, 0, 2500, 100, 2600)
    at_once = judge("open_interest", raw, limits)
    assert at_once.good["oi_base"].to_list()[:2] == [100, 101]
    assert at_once.good["oi_base"].to_list() == [100, 101, 100], "a level of interest that persists stays out"
    good = raw[:0]
    for size, offset in ((1, 0), (2, 1), (1, 3), (20, 4), (1, 24), (1, 25), (4, 26), (1, 30), (3, 31)):
        rows = raw[offset : offset + size]
        context = context_for(rows, OPEN_INTEREST, good=good, raw=raw)
        good = pl.concat([good, judge("open_interest", rows, limits, context=context).good])
    assert good.equals(at_once.good)


def test_rows_that_lack_a_column_or_have_another_table_are_refused(snapshots, limits):
    with pytest.raises(SchemaError, match="oi_base"):
        judge("open_interest", snapshots(1).drop("oi_base"), limits)
    with pytest.raises(DataError, match="no quality rules for table 'features'"):
        judge("features", snapshots(1), limits)


def test_further_columns_are_carried_along(snapshots, limits):
    rows = snapshots(1, -1).with_columns(ingested_at=pl.lit(FIRST), note=pl.lit("x"))
    verdict = judge("open_interest", rows, limits)
    assert verdict.good.equals(rows[:1])
    assert verdict.bad.drop("reason").equals(rows[1:])


def test_great_expectations_is_not_imported_before_something_is_judged():
    code = (
        "import sys, oihedge.config, oihedge.quality.verdict as v, polars as pl;"
        "from oihedge.core.tables import FUNDING;"
        "s = v.Quality(max_hourly_move=.5, max_oi_jump=2., max_funding_rate=1., min_good_share=.5);"
        "e = v.judge('funding', pl.DataFrame(schema=FUNDING.schema), s); assert e.share_good == 1 and len(e.checks);"
        "assert 'great_expectations' not in sys.modules and 'pandas' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def _spoilt(rows: pl.DataFrame, at: int, values: dict[str, object]) -> pl.DataFrame:
    here = pl.int_range(pl.len()) == at
    spoilt = [pl.when(here).then(pl.lit(v, dtype=rows.schema[n])).otherwise(n).alias(n) for n, v in values.items()]
    return rows.with_columns(spoilt)


NUMBERS = st.sampled_from([None, NAN, INF, -INF, -1.0, 0.0, 1e-300, 0.01, 1.0, 1.5, 30.0, 1e300])
STAMPS = st.one_of(st.none(), st.integers(0, 6).map(lambda n: FIRST + n * timedelta(minutes=30)))
TEXTS = {
    "venue": ["bybit", "okx", None], "symbol": ["BTC", "ETH"], "asset": ["BTC", None], "unit_source": ["coins", None],
    "kind": ["spot", "perp", "x", None], "timeframe": ["1h", "5m", "9h", None],
    "filled": [True, False, None],
}  # fmt: skip


def frames(spec: Table) -> st.SearchStrategy[pl.DataFrame]:
    schema = {**spec.columns, "available_at": UTC_TIME}
    fields = {
        name: st.sampled_from(TEXTS[name]) if name in TEXTS else STAMPS if dtype == UTC_TIME else NUMBERS
        for name, dtype in schema.items()
    }
    row = st.fixed_dictionaries(fields)
    repeated = st.lists(row, min_size=1, max_size=25).flatmap(
        lambda rows: st.lists(st.sampled_from(rows), max_size=12).map(lambda more: rows + more)
    )
    return repeated.map(lambda rows: pl.DataFrame(rows, schema=schema))


@pytest.mark.parametrize("spec", [OHLCV, OPEN_INTEREST, FUNDING], ids=lambda spec: spec.name)
def test_no_row_is_lost_whatever_comes_in(spec):
    @given(frames(spec))
    @QUICK
    def holds(rows: pl.DataFrame) -> None:
        verdict = judge(spec.name, rows, LIMITS)
        together = pl.concat([verdict.good, verdict.bad.drop("reason")])
        assert together.sort(rows.columns).equals(rows.sort(rows.columns))
        assert (verdict.bad["reason"] != "").all()
        assert verdict.share_good == verdict.good.height / rows.height
        assert verdict.good.select(*spec.key, "available_at").is_unique().all()
        required = [name for name in spec.columns if name not in spec.nullable]
        assert sum(verdict.good.select(required).null_count().row(0)) == 0
        again = judge(spec.name, verdict.good, LIMITS)
        assert all(check.passed for check in again.checks if check.name not in ("price_jump", "oi_jump"))

    holds()

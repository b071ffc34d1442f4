from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oihedge.core.errors import DataError, SchemaError
from oihedge.forecast.panel import Panel, build_panel, refuse_bad_numbers
from oihedge.forecast.scaling import CLIP, Scalers, fit_scalers
from oihedge.forecast.unwind import unwind_labels

COLUMNS = ("log_return", "log_oi", "volatility")
TARGETS = ("log_return", "log_oi")


def test_a_missing_hour_is_a_row_of_nan_and_breaks_the_run(features):
    gone = features.filter(pl.col("ts") != features["ts"][10])
    panel = build_panel(gone, COLUMNS)
    assert len(panel.hour) == features.height
    assert np.isnan(panel.values[10]).all()
    runs = panel.run_until(panel.complete(COLUMNS))
    assert (runs[9], runs[10], runs[11]) == (10, 0, 1)
    assert panel.run_after(panel.complete(COLUMNS))[5] == 4


def test_runs_do_not_cross_from_one_asset_to_the_next(features):
    panel = build_panel(features, COLUMNS)
    first_of_eth = int(np.flatnonzero(panel.asset == 1)[0])
    good = panel.complete(COLUMNS)
    assert panel.run_until(good)[first_of_eth] == 1
    assert panel.run_after(good)[first_of_eth - 1] == 0


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=30))
def test_runs_equal_a_plain_count(cells):
    cells = sorted(cells, key=lambda cell: cell[0])
    asset = np.array([cell[0] for cell in cells], dtype=np.int64)
    good = np.array([cell[1] for cell in cells])
    panel = Panel(("a", "b", "c"), (), np.zeros((len(cells), 0)), asset, np.arange(len(cells)))
    until, after = panel.run_until(good), panel.run_after(good)
    for i in range(len(cells)):
        back = 0
        while i - back >= 0 and asset[i - back] == asset[i] and good[i - back]:
            back += 1
        ahead = 0
        while i + ahead + 1 < len(cells) and asset[i + ahead + 1] == asset[i] and good[i + ahead + 1]:
            ahead += 1
        assert (until[i], after[i]) == (back, ahead)


@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        (lambda f: f.drop("volatility"), SchemaError, "lack column 'volatility'"),
        (lambda f: f.with_columns(pl.col("ts").dt.replace_time_zone(None)), SchemaError, "no time zone"),
        (lambda f: f.with_columns(volatility=pl.lit("high")), SchemaError, "'volatility' is not numeric"),
        (lambda f: f.with_columns(pl.col("ts") + timedelta(minutes=5)), DataError, "not on the hour"),
        (lambda f: pl.concat([f, f.head(1)]), DataError, "more than once"),
        (
            lambda f: f.with_columns(pl.when(pl.col("ts") > pl.col("ts").min()).then("asset").alias("asset")),
            DataError,
            "has no asset; got one whose ts is 2025-01-01",
        ),
        (
            lambda f: f.with_columns(pl.when(pl.col("ts") > pl.col("ts").min()).then("ts").alias("ts")),
            DataError,
            "has no ts; got one whose asset is BTC",
        ),
    ],
)
def test_rows_that_make_no_panel_are_refused_by_name(features, spoil, error, words):
    with pytest.raises(error, match=words):
        build_panel(spoil(features), COLUMNS)


def test_assets_are_in_alphabetical_order_whatever_their_type(features):
    other = features.with_columns(pl.col("asset").cast(pl.Enum(["ETH", "BTC"])))
    assert build_panel(other, COLUMNS).assets == ("BTC", "ETH")
    assert np.array_equal(build_panel(other, COLUMNS).values, build_panel(features, COLUMNS).values)


def test_an_unknown_asset_is_named(features):
    with pytest.raises(DataError, match="asset 'ETH' was not in the training rows; expected one of BTC"):
        build_panel(features, COLUMNS, ("BTC",))


def test_leading_bad_numbers_pass_and_later_ones_are_named(features):
    warming = features.with_columns(
        volatility=pl.when(pl.int_range(pl.len()).over("asset") < 5).then(float("nan")).otherwise("volatility")
    )
    refuse_bad_numbers(warming, COLUMNS)
    spoiled = features.with_columns(
        volatility=pl.when(pl.int_range(pl.len()).over("asset") == 50).then(float("inf")).otherwise("volatility")
    )
    with pytest.raises(DataError, match="'volatility' of BTC is NaN or infinite at 2025-01-03 02:00"):
        refuse_bad_numbers(spoiled, COLUMNS)


def test_a_column_without_any_value_is_named(features):
    empty = features.with_columns(volatility=pl.when(pl.col("asset") != "ETH").then("volatility"))
    with pytest.raises(DataError, match="'volatility' of ETH has no value at all"):
        refuse_bad_numbers(empty, COLUMNS)


def test_scalers_use_only_the_rows_they_are_given(features):
    panel = build_panel(features, COLUMNS)
    rows = panel.hour < panel.hour.min() + 200
    later = features.with_columns(
        volatility=pl.when(pl.int_range(pl.len()).over("asset") >= 200)
        .then(pl.col("volatility") * 9)
        .otherwise("volatility")
    )
    one, other = (fit_scalers(seen, COLUMNS, TARGETS, rows) for seen in (panel, build_panel(later, COLUMNS)))
    np.testing.assert_array_equal(one.center, other.center)
    np.testing.assert_array_equal(one.spread, other.spread)


def test_scaled_inputs_are_standard_and_clipped(features):
    panel = build_panel(features, COLUMNS)
    scalers = fit_scalers(panel, COLUMNS, TARGETS, panel.hour >= 0)
    scaled = scalers.inputs(panel)
    assert abs(scaled[panel.asset == 0, 2].mean()) < 1e-9
    wild = build_panel(features.with_columns(volatility=pl.lit(1e6)), COLUMNS)
    assert scalers.inputs(wild)[:, 2].max() == CLIP


def test_a_still_input_scales_to_zero(features):
    still = build_panel(features.with_columns(volatility=pl.lit(3.0)), COLUMNS)
    assert (fit_scalers(still, COLUMNS, TARGETS, still.hour >= 0).inputs(still)[:, 2] == 0).all()


def test_scalers_survive_json_exactly(features):
    panel = build_panel(features, COLUMNS)
    scalers = fit_scalers(panel, COLUMNS, TARGETS, panel.hour >= 0)
    again = Scalers.from_json(scalers.as_json())
    np.testing.assert_array_equal(scalers.inputs(panel), again.inputs(panel))
    np.testing.assert_array_equal(scalers.scaled_targets(panel), again.scaled_targets(panel))


def test_unwind_is_the_first_passage_of_the_cumulated_changes(features):
    panel = build_panel(features, COLUMNS)
    label, complete = unwind_labels(panel, 4, 0.05)
    changes = panel.select(("log_oi",))[:, 0]
    for row in (0, 17, 300, 715, 719, 720):
        same = panel.asset == panel.asset[row]
        future = changes[row + 1 : row + 5][same[row + 1 : row + 5]]
        assert complete[row] == (len(future) == 4)
        if complete[row]:
            assert label[row] == (np.exp(np.cumsum(future)).min() <= 0.95)
    assert label.any()

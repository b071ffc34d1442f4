from __future__ import annotations

import json
from datetime import timedelta
from math import log

import polars as pl
import pytest
from pydantic import ValidationError

from oihedge.core.errors import SchemaError
from oihedge.features.build import build, columns
from oihedge.features.settings import Features

Tables = dict[str, pl.DataFrame]
HOUR = timedelta(hours=1)


def features(tables: Tables, settings: Features, asset: str = "BTC") -> pl.DataFrame:
    frame = build({name: frame.lazy() for name, frame in tables.items()}, settings).collect()
    return frame.filter(pl.col("asset") == asset)


def without(frame: pl.DataFrame, hours: range, venue: str) -> pl.DataFrame:
    stamps = frame["ts"].unique().sort()[list(hours)]
    return frame.filter(~(pl.col("ts").is_in(stamps.implode()) & (pl.col("venue") == venue)))


def constant_oi(market: Tables, levels: dict[str, float]) -> pl.DataFrame:
    level = pl.col("venue").replace_strict(levels, return_dtype=pl.Float64)
    return market["open_interest"].with_columns(level.alias("oi_base"))


def test_a_gap_stays_null_and_the_grid_stays_whole(market: Tables, settings: Features) -> None:
    holed = without(market["ohlcv"], range(199, 203), "binance")
    rows = features({**market, "ohlcv": holed}, settings)
    assert rows["ts"].diff().drop_nulls().unique().to_list() == [HOUR]
    gap = rows.filter(pl.col("spot_price").is_null())
    assert gap.height == 4
    assert gap["log_return"].null_count() == 4
    assert rows["log_return"].drop_nulls().ne(0).all()


@pytest.mark.parametrize("hours", [range(150, 153), range(380, 400)])
def test_missing_open_interest_is_missing_and_never_zero_growth(
    hours: range, market: Tables, settings: Features
) -> None:
    holed = without(without(market["open_interest"], hours, "bybit"), hours, "binanceusdm")
    rows = features({**market, "open_interest": holed}, settings)
    assert rows["log_oi"].drop_nulls().ne(0).all()
    stamps = market["open_interest"]["ts"].unique().sort()[list(hours)]
    hidden = rows.filter(pl.col("ts").is_in(stamps.implode()))
    for name in ("log_oi", "oi_base", "oi_divergence", "venue_divergence", "oi_price_gap"):
        assert hidden[name].null_count() == hidden.height
    assert hidden["n_oi_venues"].eq(0).all()


def test_a_snapshot_between_the_hours_counts_for_the_next_row(market: Tables, settings: Features) -> None:
    moved = market["open_interest"].with_columns(
        pl.col("ts") - timedelta(minutes=7), pl.col("available_at") + timedelta(minutes=20)
    )
    on_the_hour, between = features(market, settings), features({**market, "open_interest": moved}, settings)
    pairs = on_the_hour.join(between, on="ts").slice(2, 300)
    assert pairs["oi_base"].equals(pairs["oi_base_right"], null_equal=True)
    late = between["available_at"] - between["ts"]
    assert late.slice(2, 300).unique().to_list() == [timedelta(minutes=20, seconds=5)]


@pytest.mark.parametrize("absent", [range(200), range(200, 400), range(100, 260)])
def test_a_venue_that_enters_or_leaves_moves_no_log_change(absent: range, market: Tables, settings: Features) -> None:
    steady = constant_oi(market, {"binanceusdm": 1000.0, "bybit": 50_000.0})
    rows = features({**market, "open_interest": without(steady, absent, "bybit")}, settings)
    assert rows["oi_base"].drop_nulls().n_unique() == 2
    for name in ("log_oi", "oi_growth_24h", "oi_divergence", "venue_divergence"):
        assert rows[name].drop_nulls().abs().max() < 1e-12


def test_the_basket_counts_only_venues_present_through_the_whole_window(market: Tables, settings: Features) -> None:
    rows = features({**market, "open_interest": without(market["open_interest"], range(100, 101), "bybit")}, settings)
    few = rows.with_row_index().filter(pl.col("n_oi_venues") == 1)
    assert few.height == settings.divergence_window_h + 1
    assert few["venue_divergence"].null_count() == few.height
    assert few["oi_leader"].null_count() == few.height


def test_the_leader_is_the_venue_that_grew_most(market: Tables, settings: Features) -> None:
    hour = pl.col("ts").rank("dense").over("asset", "venue")
    growing = pl.when(pl.col("venue") == "bybit").then(1000 * 1.01**hour).otherwise(9000.0)
    rows = features({**market, "open_interest": market["open_interest"].with_columns(oi_base=growing)}, settings)
    told = rows.drop_nulls("oi_leader")
    assert told["oi_leader"].unique().to_list() == ["bybit"]
    assert told["venue_divergence"].to_list() == pytest.approx(
        [settings.divergence_window_h * 0.00995033] * told.height
    )


def test_divergence_is_the_weighted_log_distance_to_the_venues_own_means(market: Tables, settings: Features) -> None:
    steady = constant_oi(market, {"binanceusdm": 3000.0, "bybit": 1000.0})
    last = steady["ts"].unique().sort()[300]
    up = pl.when((pl.col("ts") == last) & (pl.col("venue") == "bybit")).then(2000.0).otherwise(pl.col("oi_base"))
    rows = features({**market, "open_interest": steady.with_columns(oi_base=up)}, settings)
    row = rows.row(by_predicate=pl.col("ts") == last, named=True)
    mean = (11 * 1000 + 2000) / 12
    assert row["oi_divergence"] == pytest.approx((3000 * 0 + mean * log(2000 / mean)) / (3000 + mean))
    week = (167 * 1000 + 2000) / 168
    assert row["oi_divergence_168h"] == pytest.approx(week * log(2000 / week) / (3000 + week))
    assert row["log_oi"] == pytest.approx(log(5000 / 4000))


def test_a_venue_without_interest_now_has_no_say_in_the_weeks_divergence(market: Tables, settings: Features) -> None:
    steady = constant_oi(market, {"binanceusdm": 3000.0, "bybit": 1000.0})
    last = steady["ts"].unique().sort()[300]
    gone = steady.filter((pl.col("ts") != last) | (pl.col("venue") == "binanceusdm"))
    up = pl.when(pl.col("ts") == last).then(6000.0).otherwise(pl.col("oi_base"))
    rows = features({**market, "open_interest": gone.with_columns(oi_base=up)}, settings)
    week = (167 * 3000 + 6000) / 168
    told = rows.row(by_predicate=pl.col("ts") == last, named=True)["oi_divergence_168h"]
    assert told == pytest.approx(log(6000 / week)), "and the other keeps the whole weight"


def test_funding_is_per_hour_carried_to_the_next_payment_and_then_missing(market: Tables, settings: Features) -> None:
    paid = market["funding"].filter(pl.col("venue") == "bybit").with_columns(rate=pl.lit(8e-4))
    stopped = paid.filter(pl.col("ts") <= paid["ts"].unique().sort()[20])
    rows = features({**market, "funding": stopped}, settings)
    assert rows["funding_h"].drop_nulls().unique().to_list() == pytest.approx([1e-4])
    end = stopped["ts"].max()
    assert rows.drop_nulls("funding_h")["ts"].max() == end + 8 * HOUR
    assert rows.drop_nulls("funding_z")["funding_z"].eq(0).all()


def test_no_funding_venues_means_no_funding_columns(market: Tables, settings: Features) -> None:
    bare = settings.model_copy(update={"funding_venues": ()})
    named = columns(bare)
    assert not [name for name in named.all if "funding" in name]
    rows = features({name: frame for name, frame in market.items() if name != "funding"}, bare)
    assert rows.columns == ["asset", "ts", "available_at", *named.all]
    assert rows.tail(10).drop("oi_leader").null_count().sum_horizontal().item() <= 14


def test_one_venue_has_no_venue_divergence(market: Tables, settings: Features) -> None:
    single = settings.model_copy(update={"oi_venues": ("bybit",), "assets": ("BTC",)})
    assert not {"venue_divergence", "oi_leader"} & set(columns(single).all)
    rows = features(market, single)
    assert rows["n_oi_venues"].max() == 1
    assert rows["oi_divergence"].drop_nulls().len() > 300


def test_a_perp_can_stand_for_spot_and_has_no_basis_to_itself(market: Tables, settings: Features) -> None:
    proxy = settings.model_copy(update={"price_kind": "perp", "spot_venue": "binanceusdm", "perp_venue": "bybit"})
    rows = features(market, proxy)
    bars = market["ohlcv"].filter(
        (pl.col("venue") == "binanceusdm") & (pl.col("kind") == "perp") & (pl.col("asset") == "BTC")
    )
    assert rows["spot_price"].to_list() == bars["close"].to_list()
    assert "basis" in columns(proxy).unknown
    assert "basis" not in columns(proxy.model_copy(update={"perp_venue": "binanceusdm"})).all


def test_not_a_number_and_nonpositive_inputs_are_missing(market: Tables, settings: Features) -> None:
    stamps = market["open_interest"]["ts"].unique().sort()
    broken = (
        pl.when(pl.col("ts") == stamps[100]).then(float("nan")).when(pl.col("ts") == stamps[150]).then(0.0)
        .otherwise(pl.col("oi_base"))
    )  # fmt: skip
    rows = features({**market, "open_interest": market["open_interest"].with_columns(oi_base=broken)}, settings)
    floats = rows.select(pl.col(pl.Float64))
    assert floats.select(pl.all().is_nan().any()).sum_horizontal().item() == 0
    assert floats.select(pl.all().is_infinite().any()).sum_horizontal().item() == 0
    assert rows.filter(pl.col("ts").is_in([stamps[100], stamps[150]]))["log_oi"].null_count() == 2


def test_no_rows_give_no_features(settings: Features) -> None:
    rows = build({}, settings).collect()
    assert rows.height == 0
    assert rows.columns == ["asset", "ts", "available_at", *columns(settings).all]


def test_a_missing_column_is_named(market: Tables, settings: Features) -> None:
    tables = {name: frame.lazy() for name, frame in market.items()}
    tables["funding"] = tables["funding"].drop("interval_h")
    with pytest.raises(SchemaError, match="funding rows lack column 'interval_h'"):
        build(tables, settings)


@pytest.mark.parametrize("change", [{"assets": []}, {"oi_venues": []}, {"oi_venues": ["bybit", "bybit"]}])
def test_settings_that_name_nothing_or_one_thing_twice_are_refused(
    change: dict[str, object], settings: Features
) -> None:
    with pytest.raises(ValidationError):
        Features.model_validate_json(json.dumps({**settings.model_dump(mode="json"), **change}))


@pytest.mark.parametrize("level", [0.0, -1.0])
def test_a_level_that_is_no_open_interest_makes_no_infinity(market: Tables, settings: Features, level: float) -> None:
    stamps = market["open_interest"]["ts"].unique().sort()[200:202]
    there = pl.col("ts").is_in(stamps.implode()) & (pl.col("venue") == "bybit")
    zeroed = market["open_interest"].with_columns(oi_base=pl.when(there).then(level).otherwise("oi_base"))
    rows = features({**market, "open_interest": zeroed}, settings)
    assert not any(rows[name].is_infinite().any() for name, dtype in rows.schema.items() if dtype == pl.Float64)
    hidden = rows.filter(pl.col("ts").is_in(stamps.implode()))
    assert hidden["venue_divergence"].null_count() == hidden.height
    assert hidden["n_oi_venues"].eq(1).all()

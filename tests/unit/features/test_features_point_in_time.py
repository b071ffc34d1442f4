from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from oihedge.features.build import build, columns, history_h
from oihedge.features.settings import Features

Tables = dict[str, pl.DataFrame]
HOUR = timedelta(hours=1)
VALUES = {"ohlcv": ("open", "high", "low", "close", "volume"), "open_interest": ("oi_base",), "funding": ("rate",)}
COLUMNS = (
    *("log_return", "log_oi", "log_return_4h", "log_return_24h", "volatility", "volatility_168h", "drawdown"),
    *("oi_growth_24h", "oi_divergence", "oi_divergence_168h", "oi_price_gap", "oi_price_gap_z", "venue_divergence"),
    *("funding_h", "funding_z"),
    *("basis", "hour_sin", "hour_cos", "weekday_sin", "weekday_cos", "hours_to_funding", "spot_price", "perp_price"),
    *("oi_base", "n_oi_venues", "n_oi_tracked", "oi_divergence_rank", "oi_leader", "oi_price_regime_1h"),
    *("oi_price_regime_4h", "oi_price_regime_24h", "realised_downside", "hedge_ratio", "available_at"),
)


def features(tables: Tables, settings: Features) -> pl.DataFrame:
    return build({name: frame.lazy() for name, frame in tables.items()}, settings).collect()


def known_at(table: str, frame: pl.DataFrame) -> pl.Expr:
    """When the row's fact is complete: a bar an hour after it opens, a snapshot or payment at its stamp."""
    return pl.col("ts") + (HOUR if table == "ohlcv" else 0 * HOUR)


@pytest.fixture(scope="module")
def built(market: Tables, settings: Features) -> pl.DataFrame:
    return features(market, settings)


@pytest.fixture(scope="module")
def cut(built: pl.DataFrame) -> pl.Series:
    return built["ts"].unique().sort()[[150, 260, 333]]


@pytest.fixture(scope="module")
def perturbed(market: Tables, settings: Features, cut: pl.Series) -> list[tuple[pl.DataFrame, pl.DataFrame]]:
    """For each cut: features with every later value multiplied, and with every later row gone."""
    pairs, uneven = [], pl.int_range(pl.len()).hash(seed=1) % 7 + 2
    for instant in cut:
        multiplied, gone = {}, {}
        for name, frame in market.items():
            later = known_at(name, frame) > instant
            changed = [
                pl.when(later).then(uneven * pl.col(value)).otherwise(value).alias(value) for value in VALUES[name]
            ]
            stamps = pl.when(later).then(pl.col("available_at") + 9 * HOUR).otherwise(pl.col("available_at"))
            multiplied[name] = frame.with_columns(*changed, stamps.alias("available_at"))
            gone[name] = frame.filter(~later)
        pairs.append((features(multiplied, settings), features(gone, settings)))
    return pairs


def test_the_list_of_columns_tested_is_the_list_of_columns_built(built: pl.DataFrame, settings: Features) -> None:
    assert sorted({*columns(settings).all, "available_at"}) == sorted(COLUMNS)
    assert built.columns == ["asset", "ts", "available_at", *columns(settings).all]


@pytest.mark.parametrize("column", COLUMNS)
def test_changing_or_removing_the_future_changes_no_value_up_to_now(
    column: str, built: pl.DataFrame, cut: pl.Series, perturbed: list[tuple[pl.DataFrame, pl.DataFrame]]
) -> None:
    for instant, others in zip(cut, perturbed, strict=True):
        past = pl.col("ts") <= instant
        expected = built.filter(past).select("asset", "ts", column)
        assert expected[column].null_count() < expected.height
        for other in others:
            assert_frame_equal(other.filter(past).select("asset", "ts", column), expected, check_exact=True)


def test_the_perturbation_does_change_what_comes_after(
    built: pl.DataFrame, cut: pl.Series, perturbed: list[tuple[pl.DataFrame, pl.DataFrame]]
) -> None:
    timeless = {"hour_sin", "hour_cos", "weekday_sin", "weekday_cos", "hours_to_funding", "n_oi_venues", "n_oi_tracked"}
    after = pl.col("ts") > cut[0]
    expected, multiplied = built.filter(after), perturbed[0][0].filter(after)
    unmoved = [name for name in COLUMNS if expected[name].equals(multiplied[name], null_equal=True)]
    assert set(unmoved) == timeless


@pytest.mark.parametrize("row", [200, 237, 301])
def test_a_window_gives_the_same_bits_as_everything(
    row: int, market: Tables, settings: Features, built: pl.DataFrame
) -> None:
    start = built["ts"].unique().sort()[row]
    window = {name: frame.filter(pl.col("ts") >= start - history_h(settings) * HOUR) for name, frame in market.items()}
    inside = pl.col("ts") >= start
    assert_frame_equal(features(window, settings).filter(inside), built.filter(inside), check_exact=True)


def test_one_hour_less_than_history_h_is_not_promised_but_the_far_columns_need_nearly_all_of_it(
    market: Tables, settings: Features, built: pl.DataFrame
) -> None:
    start = built["ts"].unique().sort()[300]
    short = (settings.rank_window_h + settings.divergence_window_h - 1) * HOUR
    window = {name: frame.filter(pl.col("ts") >= start - short) for name, frame in market.items()}
    at = pl.col("ts") == start
    assert not features(window, settings).filter(at).equals(built.filter(at))


@pytest.mark.parametrize("seed", [1, 2])
def test_the_order_of_the_input_rows_does_not_matter(
    seed: int, market: Tables, settings: Features, built: pl.DataFrame
) -> None:
    shuffled = {name: frame.sample(fraction=1, shuffle=True, seed=seed) for name, frame in market.items()}
    assert_frame_equal(features(shuffled, settings), built, check_exact=True)


def test_a_filter_on_the_lazy_result_does_not_reach_into_the_windows(
    market: Tables, settings: Features, built: pl.DataFrame
) -> None:
    late = pl.col("ts") >= built["ts"][300]
    lazy = build({name: frame.lazy() for name, frame in market.items()}, settings)
    assert_frame_equal(lazy.filter(late).collect(), built.filter(late), check_exact=True)


def test_one_asset_alone_gives_the_same_rows(market: Tables, settings: Features, built: pl.DataFrame) -> None:
    alone = settings.model_copy(update={"assets": ("ETH",)})
    assert_frame_equal(features(market, alone), built.filter(pl.col("asset") == "ETH"), check_exact=True)


def test_a_row_is_available_when_its_last_input_is(market: Tables, settings: Features, built: pl.DataFrame) -> None:
    usual = built.filter(pl.col("ts") > built["ts"].min())
    assert (usual["available_at"] - usual["ts"]).unique().to_list() == [timedelta(seconds=5)]
    instant, late = built["ts"][200], timedelta(hours=30)
    revised = pl.when(pl.col("ts") == instant).then(pl.col("available_at") + late).otherwise(pl.col("available_at"))
    changed = features({**market, "open_interest": market["open_interest"].with_columns(revised)}, settings)
    stamps = changed.filter(pl.col("asset") == "BTC").select("ts", "available_at").rows()
    assert all(seen == ts + timedelta(seconds=5) for ts, seen in stamps if built["ts"].min() < ts < instant)
    assert all(
        seen >= instant + late for ts, seen in stamps if instant <= ts <= instant + HOUR * settings.rank_window_h
    )
    assert stamps[-1][1] == stamps[-1][0] + timedelta(seconds=5)

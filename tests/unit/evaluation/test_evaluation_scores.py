import math
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from oihedge.core.errors import DataError, SchemaError
from oihedge.evaluation.scores import align, base_rates, pool, same_instants, score, skill

START = datetime(2025, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
LEVELS = (0.1, 0.5, 0.9)


def features(returns, oi=None) -> pl.DataFrame:
    at = [START + n * HOUR for n in range(len(returns))]
    oi = oi or [0.0] * len(returns)
    schema = {"log_return": pl.Float64, "log_oi": pl.Float64}
    rows = {"asset": "BTC", "ts": at, "log_return": returns, "log_oi": oi}
    return pl.DataFrame(rows, schema_overrides=schema)


def forecasts(hours, *, width=0.1, p_unwind=0.25, middle=0.0) -> pl.DataFrame:
    rows = [
        {"asset": "BTC", "ts": START + hour * HOUR, "step": step, "p_unwind": p_unwind}
        | {f"{target}_q{100 * level:02.0f}": middle + width * (level - 0.5) / 0.4
           for target in ("log_return", "log_oi") for level in LEVELS}
        for hour in hours for step in (1, 2)
    ]  # fmt: skip
    return pl.DataFrame(rows)


def labels(values) -> pl.DataFrame:
    rows = {"asset": "BTC", "ts": [START + n * HOUR for n in range(len(values))], "unwind": values}
    return pl.DataFrame(rows, schema_overrides={"unwind": pl.Boolean})


def scored(cast, came, events, base=0.5):
    return score(align(cast, came, labels(events), {"BTC": base}), LEVELS)


def test_quantile_loss_and_coverage_by_hand():
    # Forecast at hour 0 for hours 1 and 2; came 0.05 (inside -0.1 .. 0.1) and 0.30 (above).
    result = scored(forecasts([0]), features([9.0, 0.05, 0.30]), [False])
    inside = (0.1 * 0.15 + 0.5 * 0.05 + 0.1 * 0.05) / 3
    above = (0.1 * 0.40 + 0.5 * 0.30 + 0.9 * 0.20) / 3
    flat = (0.1 * 0.1 + 0 + 0.1 * 0.1) / 3
    assert result["losses"] == pytest.approx({"BTC/log_return": (inside + above) / 2, "BTC/log_oi": flat})
    assert result["quantile_loss"] == pytest.approx(((inside + above) / 2 + flat) / 2)
    assert result["coverage"] == {"80": {"log_return": 0.5, "log_oi": 1.0}}
    assert result["coverage_error"] == pytest.approx((0.3 + 0.2) / 2)


def test_brier_skill_is_against_the_climatology_that_is_passed_in():
    result = scored(forecasts([0, 1, 2, 3]), features([0.0] * 6), [True, False, False, False], base=0.5)
    assert result["brier"] == pytest.approx((0.75**2 + 3 * 0.25**2) / 4)
    assert result["brier_climatology"] == pytest.approx(0.25)
    assert result["brier_skill"] == pytest.approx(1 - result["brier"] / 0.25)
    assert result["base_rate"] == 0.25
    assert result["reliability"] == [{"p": 0.25, "observed": 0.25, "count": 4}]


def test_a_climatology_that_was_never_wrong_leaves_no_skill():
    result = scored(forecasts([0, 1]), features([0.0] * 4), [False, False], base=0.0)
    assert math.isnan(result["brier_skill"])


def test_separate_unwinds_are_counted_not_their_hours():
    result = scored(forecasts(range(6)), features([0.0] * 8), [True, True, False, True, True, True])
    assert result["distinct_events"] == 2


def test_outcomes_not_known_yet_are_left_out_and_none_at_all_is_an_error():
    result = scored(forecasts([0, 1, 2]), features([0.0, 0.0, 0.0]), [True, None, None])
    assert result["forecasts"] == 2
    assert result["base_rate"] == 1.0
    with pytest.raises(DataError, match="no forecast has a known outcome"):
        scored(forecasts([5]), features([0.0] * 3), [None])


@pytest.mark.parametrize("broken", [math.nan, None])
def test_a_broken_forecast_spoils_its_scores_instead_of_vanishing(broken):
    cast = forecasts([0, 1]).with_columns(pl.lit(broken, dtype=pl.Float64).alias("log_return_q10"))
    result = scored(cast, features([0.0] * 4), [True, False])
    assert math.isnan(result["quantile_loss"])
    assert math.isnan(result["coverage_error"])
    spoiled = scored(
        forecasts([0]).with_columns(pl.lit(broken, dtype=pl.Float64).alias("p_unwind")), features([0.0] * 4), [True]
    )
    assert math.isnan(spoiled["brier_skill"])


def test_skill_is_positive_for_the_sharper_of_two_right_forecasts():
    came = features([0.0] * 5)
    sharp, wide = (scored(forecasts([0, 1], width=width), came, [False, False]) for width in (0.1, 0.4))
    assert skill(sharp, wide) == pytest.approx(0.75)
    assert skill(wide, sharp) < 0
    assert skill(sharp, sharp) == 0


def test_two_models_are_scored_on_the_hours_that_both_forecast():
    ours, theirs = same_instants(forecasts([0, 1, 2]), forecasts([1, 2, 3]))
    assert (
        ours["ts"].unique().sort().to_list()
        == theirs["ts"].unique().sort().to_list()
        == [START + HOUR, START + 2 * HOUR]
    )


def test_pooling_folds_equals_scoring_them_at_once():
    came, events = features([0.01 * n for n in range(8)]), labels([True, False, False, True])
    parts = [align(forecasts(hours), came, events, {"BTC": 0.3}) for hours in ([0, 1], [2, 3])]
    together, at_once = (
        score(pool(parts), LEVELS),
        score(align(forecasts(range(4)), came, events, {"BTC": 0.3}), LEVELS),
    )
    assert together["losses"] == pytest.approx(at_once["losses"])
    assert together["coverage"] == at_once["coverage"]
    assert together["brier_skill"] == pytest.approx(at_once["brier_skill"])
    assert together["distinct_events"] == at_once["distinct_events"] == 2


def test_base_rates_look_only_at_the_window_given():
    events = labels([True, False, False, True, True, None])
    assert base_rates(events, START, START + 2 * HOUR) == {"BTC": pytest.approx(1 / 3)}
    assert math.isnan(base_rates(events, START + 5 * HOUR, START + 9 * HOUR)["BTC"])


def test_scores_of_past_instants_do_not_change_with_later_features():
    cast, events = forecasts([0, 1]), [True, False]
    early = scored(cast, features([0.0, 0.1, 0.2, 0.3]), events)
    assert early == scored(cast, features([0.0, 0.1, 0.2, 0.3, 9.0, 9.0]), events)


def test_a_missing_column_is_named():
    with pytest.raises(SchemaError, match="forecasts lack column 'step'"):
        scored(forecasts([0]).drop("step"), features([0.0] * 4), [True])


def with_ratio(cast: pl.DataFrame, came: pl.DataFrame, ratios) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Let `cast` forecast a hedge ratio of 1, give or take 0.1, too, and let `ratios` come."""
    levels = [pl.lit(1 + 0.1 * (level - 0.5) / 0.4).alias(f"hedge_ratio_q{100 * level:02.0f}") for level in LEVELS]
    return cast.with_columns(levels), came.with_columns(hedge_ratio=pl.Series(ratios, dtype=pl.Float64))


def test_a_further_target_is_told_of_and_changes_nothing_that_gates_judge():
    cast, came = forecasts([0]), features([9.0, 0.05, 0.30])
    two, four = scored(cast, came, [False]), scored(*with_ratio(cast, came, [9.0, 1.0, 1.2]), [False])
    flat, above = 0.02 / 3, (0.1 * 0.3 + 0.5 * 0.2 + 0.9 * 0.1) / 3
    assert four["losses"] == pytest.approx({**two["losses"], "BTC/hedge_ratio": (flat + above) / 2})
    assert four["coverage"] == {"80": {**two["coverage"]["80"], "hedge_ratio": 0.5}}
    for name in ("quantile_loss", "coverage_error", "brier"):
        assert four[name] == two[name]


def test_skill_is_that_of_the_paths_unless_another_target_is_asked_for():
    came = features([0.0] * 5)
    wide, sharp = (with_ratio(forecasts([0], width=width), came, [1.0] * 5) for width in (0.4, 0.1))
    off = (sharp[0].with_columns(pl.col("^hedge_ratio_q.*$") + 0.3), sharp[1])
    mine, other = (scored(*one, [False]) for one in (off, wide))
    assert skill(mine, other) == pytest.approx(0.75)
    assert skill(mine, other, ("hedge_ratio",)) < -1


def test_an_hour_without_a_further_targets_outcome_still_counts_for_the_paths():
    cast, came = forecasts([0]), features([9.0, 0.05, 0.30])
    known, half, none = (
        scored(*with_ratio(cast, came, ratios), [False]) for ratios in ([1.0] * 3, [None, 1.0, None], [None] * 3)
    )
    assert half["losses"] == pytest.approx(known["losses"])
    assert half["coverage"]["80"]["hedge_ratio"] == 1.0
    assert math.isnan(none["losses"]["BTC/hedge_ratio"])
    assert math.isnan(none["coverage"]["80"]["hedge_ratio"])
    assert none["quantile_loss"] == known["quantile_loss"]


def test_a_target_that_the_features_lack_is_named():
    cast, _ = with_ratio(forecasts([0]), features([0.0] * 3), [1.0] * 3)
    with pytest.raises(SchemaError, match="hedge_ratio"):
        scored(cast, features([0.0] * 3), [False])

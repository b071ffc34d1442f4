import dataclasses
from datetime import timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from oihedge.core.errors import DataError, SchemaError
from oihedge.evaluation.backtest import backtest
from oihedge.evaluation.metrics import METRICS, hedge_metrics
from oihedge.evaluation.strategies import EQUAL_MEAN
from oihedge.evaluation.walk_forward import ORDER, as_decisions, walk_forward

HOUR = timedelta(hours=1)


def test_the_strategies_table_has_every_hedge_and_metric(evaluated):
    assert evaluated.strategies.columns == ["strategy", *METRICS]
    assert evaluated.strategies["strategy"].to_list() == list(ORDER)
    assert evaluated.oos_days == 60
    assert set(evaluated.rows()[0]) == {"strategy", *METRICS}


def test_every_hedge_at_equal_mean_has_the_mean_ratio_of_the_policy(evaluated):
    means = dict(evaluated.strategies.select("strategy", "mean_ratio").iter_rows())
    for name in EQUAL_MEAN:
        assert means[name] == pytest.approx(means["policy"], abs=1e-9)
    assert (means["no_hedge"], means["static_50"], means["full_hedge"]) == pytest.approx((0, 0.5, 1))


def test_the_expost_twin_is_constant_per_asset_over_each_test_fold(evaluated):
    twin = evaluated.applied.filter(pl.col("strategy") == "static_twin_expost")
    assert twin.group_by("fold", "asset").agg(pl.col("ratio").n_unique())["ratio"].to_list() == [1] * 6


def test_the_tradable_twin_does_not_know_the_test_fold(scene, evaluated):
    fold = scene.folds[0]
    after = pl.col("ts") > fold.calibration_end
    other = scene.inputs.features.with_columns(
        pl.when(after).then(1 - pl.col("danger")).otherwise(pl.col("danger")).alias("danger")
    )
    again = scene.run(inputs=dataclasses.replace(scene.inputs, features=other))

    def ratios(ran, name):
        rows = ran.applied.filter(pl.col("strategy") == name, pl.col("fold") == 0)
        return rows.group_by("asset").agg(pl.col("ratio").mean()).sort("asset")["ratio"].to_list()

    assert ratios(again, "static_twin_tradable") == ratios(evaluated, "static_twin_tradable")
    assert ratios(again, "static_twin_expost") != ratios(evaluated, "static_twin_expost")


def test_the_ledgers_are_the_backtests_of_the_folds_one_after_another(scene, evaluated):
    ratios = as_decisions(evaluated.decisions.drop("fold"))
    fold, inputs = scene.folds[2], scene.inputs
    alone = backtest(
        ratios, inputs.prices, inputs.funding, inputs.holdings, scene.settings.costs,
        start=fold.test_start, end=fold.test_end, latency_s=60.0,
    )  # fmt: skip
    chained = evaluated.ledgers["policy"].filter(pl.col("fold") == 2).drop("fold")
    # The first hour of a fold runs on the decision made just before it, which `decisions` leaves out.
    assert_frame_equal(alone.nav[1:].select("ts", "ratio"), chained[1:].select("ts", "ratio"))
    row = evaluated.strategies.row(by_predicate=pl.col("strategy") == "policy", named=True)
    assert {name: row[name] for name in METRICS} == hedge_metrics(evaluated.ledgers["policy"])


def test_the_test_window_begins_warmed_up(evaluated):
    first = (
        evaluated.applied.filter(pl.col("strategy") == "policy").group_by("fold", "asset").agg(pl.col("ratio").first())
    )
    assert (first["ratio"] > 0).all()


def test_the_policy_gets_forecasts_and_the_rule_gets_none_over_validation_and_test(scene):
    seen = []

    def decide(rows, forecasts):
        seen.append((rows["ts"].min(), rows["ts"].max(), forecasts))
        return rows.select("asset", "ts", "available_at", pl.lit(0.5).alias("ratio"))

    scene.run(decide=decide)
    assert len(seen) == 6
    for fold, (first, last, forecasts), (_, _, nothing) in zip(scene.folds, seen[::2], seen[1::2], strict=True):
        assert (first, last) == (fold.validation_start, fold.test_end - HOUR)
        assert forecasts.select("asset", "ts").is_unique().all()
        assert forecasts["p_unwind"].is_not_null().all()
        assert nothing is None


def test_predict_sees_nothing_after_its_fold(scene):
    newest = []

    class Recorder:
        kind = "recorder"

        def __init__(self, model):
            self.model = model

        def predict(self, features, at=None):
            newest.append((features["ts"].max(), max(at)))
            return self.model.predict(features, at)

    def fit(fold):
        model, plain = scene.fit(fold)
        return Recorder(model), Recorder(plain)

    walk_forward(scene.inputs, scene.folds, scene.settings, fit=fit, decide=lambda rows, forecasts: rows.select(
        "asset", "ts", "available_at", pl.lit(0.5).alias("ratio")))  # fmt: skip
    for fold, (features_end, asked_end) in zip(scene.folds, newest[::2], strict=True):
        assert features_end == asked_end == fold.test_end - HOUR


def test_a_forecast_from_rows_that_came_too_late_to_decide_on_is_not_scored(scene):
    late = (pl.col("ts") == scene.folds[1].test_start + 5 * HOUR) & (pl.col("asset") == "BTC")

    def forecasts(left_out):
        decided = pl.lit(0.5).alias("ratio")
        ran = scene.run(decide=lambda rows, _: rows.filter(~left_out).select("asset", "ts", "available_at", decided))
        return ran.scores["model"]["forecasts"], ran.scores["persistence"]["forecasts"]

    every, most = forecasts(pl.lit(False)), forecasts(late)
    assert most == (every[0] - 1, every[1] - 1)


def test_changing_the_world_after_a_fold_leaves_that_fold_as_it_was(scene, evaluated):
    cut = scene.folds[0].test_end
    after = pl.col("ts") > cut
    prices = scene.inputs.prices.with_columns(
        pl.when(after).then(pl.col(name) * 0.5).otherwise(pl.col(name)).alias(name)
        for name in ("spot_open", "perp_open")
    )
    features = scene.inputs.features.with_columns(
        pl.when(after).then(-pl.col("log_return")).otherwise(pl.col("log_return")).alias("log_return")
    )
    again = scene.run(inputs=dataclasses.replace(scene.inputs, prices=prices, features=features))
    for name in ORDER:
        first = [ran.ledgers[name].filter(pl.col("fold") == 0) for ran in (evaluated, again)]
        assert_frame_equal(*first, check_exact=True)


def test_scores_name_every_fold_and_both_models(evaluated):
    scores = evaluated.scores
    assert [fold["fold"] for fold in scores["folds"]] == [0, 1, 2]
    assert scores["quantile_skill"] > 0
    assert scores["model"]["brier_skill"] > scores["persistence"]["brier_skill"]
    assert scores["persistence"]["brier"] == pytest.approx(scores["model"]["brier_climatology"])


def test_a_hedge_that_never_hedged_is_not_rescaled(scene):
    def decide(rows, forecasts):
        return rows.select("asset", "ts", "available_at", pl.lit(0.0 if forecasts is None else 0.5).alias("ratio"))

    ran = scene.run(decide=decide)
    assert "signal_rule_rescaled" not in ran.strategies["strategy"]
    assert "signal_rule" in ran.strategies["strategy"]


def test_progress_is_told(scene):
    told = []
    walk_forward(
        scene.inputs, scene.folds, scene.settings, fit=scene.fit,
        decide=lambda rows, forecasts: rows.select("asset", "ts", "available_at", pl.lit(0.5).alias("ratio")),
        progress=lambda done, total, what: told.append((done, total)),
    )  # fmt: skip
    assert told == [(n, 6) for n in range(7)]


def test_bad_inputs_are_named(scene):
    with pytest.raises(DataError, match="no features to test on"):
        scene.run(
            inputs=dataclasses.replace(
                scene.inputs, features=scene.inputs.features.filter(pl.col("ts") < scene.folds[0].test_start)
            )
        )
    with pytest.raises(SchemaError, match="policy rows lack column 'available_at'"):
        scene.run(decide=lambda rows, forecasts: rows.select("asset", "ts", pl.lit(0.5).alias("ratio")))

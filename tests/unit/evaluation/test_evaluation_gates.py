"""A good policy passes every gate; a bad one is refused by the gate meant for it, on the same code."""

import dataclasses
import math

import polars as pl
import pytest

from oihedge.evaluation.gates import ChampionComparison, gates, passed

NAMES = [
    "data_quality", "no_leakage", "beats_persistence", "beats_champion", "coverage", "p_unwind_calibration",
    "stability", "latency", "min_mean_ratio", "cvar_vs_static_twin_expost", "cvar_vs_min_variance_rescaled",
    "cvar_vs_volatility_target_rescaled", "cvar_vs_signal_rule_rescaled", "volatility", "drawdown", "net_return",
]  # fmt: skip
LIKELY = pl.col("p_unwind") > 0.25
GOOD = {"quality_share": 1.0, "leakage_failures": 0, "latency_s": 0.1, "champion": None}


def judged(scene, evaluated, **changes):
    return gates(evaluated, scene.settings.gates, **{**GOOD, **changes})


def refused(verdicts) -> set[str]:
    assert passed(verdicts) == all(gate.passed for gate in verdicts)
    return {gate.name for gate in verdicts if not gate.passed}


def ratio_of(expression):
    def decide(rows, forecasts):
        if forecasts is None:
            return rows.select("asset", "ts", "available_at", pl.lit(0.4).alias("ratio"))
        joined = rows.join(forecasts.select("asset", "ts", "p_unwind"), on=["asset", "ts"], how="left")
        return joined.select("asset", "ts", "available_at", expression.alias("ratio"))

    return decide


def scaled(factor, shift=0.0):
    def spoil(frame):
        levels = [name for name in frame.columns if "_q" in name]
        middle = {name: pl.col(name.split("_q")[0] + "_q50") for name in levels}
        return frame.with_columns(
            (middle[name] + (pl.col(name) - middle[name]) * factor + shift).alias(name) for name in levels
        )

    return spoil


def test_a_good_policy_passes_every_gate_in_the_fixed_order(scene, evaluated):
    verdicts = judged(scene, evaluated)
    assert [gate.name for gate in verdicts] == NAMES
    assert refused(verdicts) == set()
    assert passed(verdicts)
    assert next(gate for gate in verdicts if gate.name == "beats_champion").detail == "no champion"
    assert all(gate.rule for gate in verdicts)


def test_the_same_walk_forward_gives_the_same_verdicts(scene, evaluated):
    assert judged(scene, evaluated) == judged(scene, evaluated)


def test_no_gate_at_all_does_not_pass():
    assert not passed([])


@pytest.mark.parametrize(
    ("change", "gate"),
    [
        ({"quality_share": 0.98}, "data_quality"),
        ({"leakage_failures": 1}, "no_leakage"),
        ({"latency_s": 5.01}, "latency"),
        ({"champion": ChampionComparison("3", -0.001, 400)}, "beats_champion"),
        ({"champion": ChampionComparison("3", 0.0, 400)}, "beats_champion"),
        ({"champion": ChampionComparison("3", 0.2, 0)}, "beats_champion"),
        ({"champion": ChampionComparison("3", 0.2, 71)}, "beats_champion"),
        ({"quality_share": math.nan}, "data_quality"),
        ({"leakage_failures": math.nan}, "no_leakage"),
        ({"latency_s": math.nan}, "latency"),
        ({"champion": ChampionComparison("3", math.nan, 400)}, "beats_champion"),
        ({"champion": ChampionComparison("3", math.nan, 0, "rows lack column 'basis'")}, "beats_champion"),
    ],
)
def test_one_bad_input_is_refused_by_its_gate_alone(scene, evaluated, change, gate):
    assert refused(judged(scene, evaluated, **change)) == {gate}


def test_a_champion_that_does_not_fit_is_named_with_the_reason(scene, evaluated):
    verdicts = judged(scene, evaluated, champion=ChampionComparison("3", math.nan, 0, "rows lack column 'basis'"))
    detail = next(gate.detail for gate in verdicts if gate.name == "beats_champion")
    assert "version 3" in detail
    assert "lack column 'basis'" in detail


def test_a_challenger_better_than_the_champion_passes(scene, evaluated):
    assert refused(judged(scene, evaluated, champion=ChampionComparison("3", 0.01, 400))) == set()


def test_a_forecast_worse_than_persistence_is_refused(scene):
    assert "beats_persistence" in refused(judged(scene, scene.run(spoil=scaled(1.0, shift=0.004))))


def test_intervals_too_narrow_for_their_name_are_refused(scene):
    assert "coverage" in refused(judged(scene, scene.run(spoil=scaled(0.6))))


def test_a_p_unwind_that_is_too_sure_is_refused_by_calibration_alone(scene):
    sure = pl.when(LIKELY).then(0.99).otherwise(0.24).alias("p_unwind")
    assert refused(judged(scene, scene.run(spoil=lambda frame: frame.with_columns(sure)))) == {"p_unwind_calibration"}


def test_skill_from_one_fold_alone_is_refused_by_stability_not_by_the_total(scene):
    names = refused(judged(scene, scene.run(spoil=scaled(1.6), spoil_fold=(0, 1))))
    assert "stability" in names
    assert "beats_persistence" not in names


def test_a_policy_that_hardly_hedges_is_refused_by_its_mean_ratio_alone(scene):
    tiny = ratio_of(pl.when(LIKELY).then(0.1).otherwise(0.01))
    assert refused(judged(scene, scene.run(decide=tiny))) == {"min_mean_ratio"}


def test_a_policy_that_never_hedges_does_not_pass(scene):
    names = refused(judged(scene, scene.run(decide=ratio_of(pl.lit(0.0)))))
    assert {"min_mean_ratio", "cvar_vs_static_twin_expost"} <= names


@pytest.fixture(scope="module")
def contrary(scene):
    """Hedge when calm, expose when an unwind is likely."""
    return scene.run(decide=ratio_of(pl.when(LIKELY).then(0.1).otherwise(0.6)))


@pytest.mark.parametrize("gate", NAMES[9:])
def test_a_policy_that_hedges_at_the_wrong_time_is_refused(scene, contrary, gate):
    names = refused(judged(scene, contrary))
    assert gate in names
    assert names == set(NAMES[9:])


def test_a_policy_equal_to_its_static_twin_is_no_better_and_is_refused(scene):
    same = refused(judged(scene, scene.run(decide=ratio_of(pl.lit(0.5)))))
    assert "cvar_vs_static_twin_expost" in same


@pytest.mark.parametrize(
    ("metric", "gate"),
    [("volatility", "volatility"), ("max_drawdown", "drawdown"), ("net_return", "net_return"),
     ("mean_ratio", "min_mean_ratio")],
)  # fmt: skip
@pytest.mark.parametrize("whose", ["policy", "min_variance_rescaled"])
def test_nan_never_passes_a_hedge_gate(scene, evaluated, metric, gate, whose):
    spoiled = pl.when(pl.col("strategy") == whose).then(math.nan).otherwise(pl.col(metric)).alias(metric)
    table = dataclasses.replace(evaluated, strategies=evaluated.strategies.with_columns(spoiled))
    if whose == "policy" or metric != "mean_ratio":
        assert refused(judged(scene, table)) == {gate}


@pytest.mark.parametrize(
    ("path", "gate"),
    [("quantile_skill", "beats_persistence"), ("coverage_error", "coverage"), ("brier_skill", "p_unwind_calibration")],
)
def test_nan_never_passes_a_forecast_gate(scene, evaluated, path, gate):
    scores = dict(evaluated.scores)
    scores.update({path: math.nan} if path in scores else {"model": {**scores["model"], path: math.nan}})
    assert refused(judged(scene, dataclasses.replace(evaluated, scores=scores))) == {gate}


def test_nan_returns_of_the_policy_never_pass_the_cvar_gates(scene, evaluated):
    ledger = evaluated.ledgers["policy"].with_columns(pl.lit(math.nan).alias("ret"))
    broken = dataclasses.replace(evaluated, ledgers={**evaluated.ledgers, "policy": ledger})
    assert set(NAMES[9:13]) <= refused(judged(scene, broken))

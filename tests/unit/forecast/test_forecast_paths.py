"""Joint scenario paths of a fitted model hold as often as they say, and need their dependence for it."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from oihedge.core.errors import DataError
from oihedge.evaluation.joint import joint_coverage, joint_coverage_error, outcomes
from oihedge.forecast.fit import fit
from oihedge.forecast.learned import LearnedModel
from oihedge.forecast.load import load
from oihedge.forecast.scenarios import Copula
from tests.unit.forecast.conftest import HORIZON, HOUR, ROLES, START, make_features, make_settings

HOURS = 3000
WINDOW = {"train_start": START, "train_end": START + HOUR * 1500, "calibration_end": START + HOUR * 2200}


@pytest.fixture(scope="module")
def market() -> pl.DataFrame:
    """Return hours in which open interest follows the price of the same hour."""
    rows = make_features(HOURS, ("BTC",))
    return rows.with_columns(log_oi=0.8 * pl.col("log_return") + 0.3 * pl.col("log_oi"))


@pytest.fixture(scope="module")
def model(market: pl.DataFrame) -> LearnedModel:
    settings = make_settings(
        model="linear", quantiles=(0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98), train_days=90, calibration_days=29,
        scenario_paths=512, max_epochs=10, max_steps_per_epoch=60, learning_rate=0.02, batch_size=64,
    )  # fmt: skip
    fitted = fit(market, ROLES, settings, **WINDOW)
    assert isinstance(fitted, LearnedModel)
    return fitted


def coverage(model: LearnedModel, market: pl.DataFrame) -> dict[str, dict[str, float]]:
    unseen = [START + HOUR * k for k in range(2210, HOURS - HORIZON)]
    told = model.paths(market, unseen)
    came = outcomes(market, told.asset, told.at, HORIZON)
    return joint_coverage(told.changes, came)


def test_paths_hold_as_often_as_they_say(model, market):
    assert joint_coverage_error([coverage(model, market)]) < 0.05


def test_return_and_open_interest_need_their_dependence(model, market):
    size = len(model.scenarios.copula.correlation)
    apart = replace(model, scenarios=replace(model.scenarios, copula=Copula(np.eye(size))))
    told, alone = (coverage(one, market)["80"]["oi_usd"] for one in (model, apart))
    assert abs(told - 0.8) < 0.06
    assert alone < told - 0.04, "independent paths are too narrow in what both make together"


def test_paths_are_those_of_the_forecast_and_survive_reloading(model, market, tmp_path):
    at = [START + HOUR * 2500, START + HOUR * 2600]
    told = model.paths(market, at)
    assert told.asset == ("BTC", "BTC")
    assert list(told.at) == at
    assert told.changes.shape == (2, 2, 512, HORIZON)
    said = model.predict(market, at).filter(pl.col("ts") == at[1]).sort("step")
    share = (told.changes[1, 1] <= said["log_oi_q90"].to_numpy()).mean(axis=0)
    np.testing.assert_allclose(share, 0.9, atol=0.04)
    model.save(tmp_path)
    again = load(tmp_path)
    assert isinstance(again, LearnedModel)
    np.testing.assert_allclose(again.paths(market, at).changes, told.changes, atol=1e-9)
    assert again.scenarios.copula.freedom == model.scenarios.copula.freedom
    assert again.spread == model.spread


def test_no_path_looks_ahead(model, market):
    at = START + HOUR * 2500
    wild = market.with_columns(
        pl.when(pl.col("ts") > at).then(pl.col(name) * 9 + 1).otherwise(pl.col(name)).alias(name)
        for name in ROLES.unknown
    )
    np.testing.assert_array_equal(model.paths(market, [at]).changes, model.paths(wild, [at]).changes)
    with pytest.raises(DataError):
        model.paths(market, [START])

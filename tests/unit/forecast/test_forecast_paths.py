"""Joint scenario paths of a fitted model hold as often as they say, and need their dependence for it."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from scipy.special import ndtri

from oihedge.core.errors import DataError
from oihedge.evaluation.joint import joint_coverage, joint_coverage_error, outcomes
from oihedge.forecast.fit import fit
from oihedge.forecast.learned import LearnedModel
from oihedge.forecast.load import load
from oihedge.forecast.scenarios import Copula, JointPaths
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
    return joint_coverage(told.changes, came, told.return_given_oi)


def test_paths_hold_as_often_as_they_say(model, market):
    assert joint_coverage_error([coverage(model, market)]) < 0.05


def torn_apart(model: LearnedModel) -> LearnedModel:
    size = len(model.scenarios.copula.correlation)
    return replace(model, scenarios=replace(model.scenarios, copula=Copula(np.eye(size))))


def test_return_and_open_interest_need_their_dependence(model, market):
    told, alone = (coverage(one, market)["80"]["oi_usd"] for one in (model, torn_apart(model)))
    assert abs(told - 0.8) < 0.06
    assert alone < told - 0.04, "independent paths are too narrow in what both make together"


def test_the_return_given_open_interest_holds_where_that_moved_far(model, market):
    unseen = [START + HOUR * k for k in range(2210, HOURS - HORIZON)]
    came = outcomes(market, ["BTC"] * len(unseen), unseen, HORIZON)
    distance = np.abs(came[:, 1].sum(axis=-1) - np.median(came[:, 1].sum(axis=-1)))
    far = np.flatnonzero(distance > np.quantile(distance, 0.8))
    held = []
    for one in (model, torn_apart(model)):
        told = one.paths(market, [unseen[k] for k in far])
        held.append(joint_coverage(told.changes, came[far], told.return_given_oi)["80"]["return_given_oi"])
    assert abs(held[0] - 0.8) < 0.12
    assert held[1] < 0.6, "what independent paths say of the return does not depend on open interest"


def normal_paths(*, slope: float, forecasts: int = 40, paths: int = 1000) -> JointPaths:
    """Return paths of one hour: standard normal OI, and a return of `slope` times that plus noise of 0.5."""
    oi, noise = np.random.default_rng(5).normal(size=(2, forecasts, paths))
    changes = np.stack([slope * oi + 0.5 * noise, oi], axis=1)[..., None]
    return JointPaths(("BTC",) * forecasts, (START,) * forecasts, changes)


def test_the_return_given_open_interest_is_that_of_the_paths_that_end_there():
    asked, levels = [-1.5, 0.0, 1.0], (0.1, 0.5, 0.9)
    given = normal_paths(slope=1.0).return_given_oi(asked, levels)
    assert given.shape == (40, 3, 3)
    true = np.array(asked)[:, None] + 0.5 * ndtri(levels)
    np.testing.assert_allclose(given.mean(axis=0), true, atol=0.06)
    unmoved = normal_paths(slope=0.0).return_given_oi(asked, levels).mean(axis=0)
    np.testing.assert_allclose(unmoved, np.broadcast_to(0.5 * ndtri(levels), (3, 3)), atol=0.06)


def test_beyond_every_path_the_outermost_ones_answer_and_each_forecast_may_be_asked_its_own():
    told = normal_paths(slope=1.0)
    outermost = told.changes[:, 1].min(axis=(1, 2))[:, None]
    np.testing.assert_allclose(told.return_given_oi([-50.0], [0.5]), told.return_given_oi(outermost, [0.5]))
    own = np.linspace(-1, 1, 40)[:, None]
    one = JointPaths(told.asset[:1], told.at[:1], told.changes[7:8])
    np.testing.assert_array_equal(one.return_given_oi(own[7], [0.2]), told.return_given_oi(own, [0.2])[7:8])
    assert np.isnan(told.return_given_oi([np.nan], [0.5])).all()


def test_however_far_beyond_the_paths_the_outermost_answer_and_nothing_asked_is_nothing_told():
    told, levels = normal_paths(slope=1.0), (0.1, 0.5, 0.9)
    for far in (1e3, 1e17, np.inf):
        for side in (-1, 1):
            there = told.return_given_oi([side * far], levels)
            np.testing.assert_array_equal(there, told.return_given_oi([side * 50.0], levels))
    assert told.return_given_oi([], levels).shape == (40, 0, 3)
    assert told.return_given_oi(np.zeros((40, 0)), levels).shape == (40, 0, 3)


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
    assert (again.spread, again.reaction) == (model.spread, model.reaction)
    np.testing.assert_array_equal(again.recalibration, model.recalibration)


def test_no_path_looks_ahead(model, market):
    at = START + HOUR * 2500
    wild = market.with_columns(
        pl.when(pl.col("ts") > at).then(pl.col(name) * 9 + 1).otherwise(pl.col(name)).alias(name)
        for name in ROLES.unknown
    )
    told, again = (model.paths(rows, [at]) for rows in (market, wild))
    np.testing.assert_array_equal(told.changes, again.changes)
    given = (paths.return_given_oi([-0.1, 0.0], [0.1, 0.9]) for paths in (told, again))
    np.testing.assert_array_equal(*given)
    with pytest.raises(DataError):
        model.paths(market, [START])

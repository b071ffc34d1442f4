"""Coverage of joint paths: right for paths of the right dependence, wrong for those of another."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from oihedge.evaluation.joint import joint_coverage, joint_coverage_error, outcomes
from oihedge.forecast.scenarios import JointPaths

FORECASTS, PATHS, STEPS = 2000, 400, 12


def changes(shape: tuple[int, ...], *, between: float, along: float, seed: int) -> np.ndarray:
    """Normal hourly changes (..., 2, *shape, steps): `between` return and OI, `along` neighbouring steps."""
    rng = np.random.default_rng(seed)
    common, own = (
        rng.normal(size=(2, shape[0], 1, *shape[1:], STEPS)),
        rng.normal(size=(shape[0], 2, *shape[1:], STEPS)),
    )
    mixed = np.sqrt(between) * common[0] + np.sqrt(1 - between) * own
    lasting = rng.normal(size=(shape[0], 2, *shape[1:], 1))
    return np.sqrt(along) * lasting + np.sqrt(1 - along) * mixed


def held(drawn: np.ndarray, came: np.ndarray) -> dict[str, dict[str, float]]:
    return joint_coverage(drawn, came, JointPaths((), (), drawn).return_given_oi)


def test_paths_of_the_right_dependence_hold_as_often_as_they_say():
    came = changes((FORECASTS,), between=0.6, along=0.1, seed=1)
    drawn = changes((1, PATHS), between=0.6, along=0.1, seed=2)
    coverage = held(np.broadcast_to(drawn, (FORECASTS, *drawn.shape[1:])), came)
    assert set(coverage) == {"50", "80", "96"}
    assert joint_coverage_error([coverage, {}]) < 0.03
    assert np.isnan(joint_coverage_error([{}]))


@pytest.mark.parametrize(("between", "along", "quantity"), [(0.6, 0.0, "oi_usd"), (0.0, 0.1, "return")])
def test_paths_that_miss_a_dependence_are_found_out(between, along, quantity):
    came = changes((FORECASTS,), between=between, along=along, seed=1)
    drawn = changes((1, PATHS), between=0.0, along=0.0, seed=2)
    coverage = held(np.broadcast_to(drawn, (FORECASTS, *drawn.shape[1:])), came)
    assert coverage["80"][quantity] < 0.74


@pytest.mark.parametrize(("sign", "between"), [(1, 0.95), (-1, 0.6)])
def test_paths_in_which_return_and_open_interest_go_too_closely_or_the_wrong_way_are_found_out(sign, between):
    came = changes((FORECASTS,), between=0.6, along=0.0, seed=1)
    drawn = np.broadcast_to(changes((1, PATHS), between=between, along=0.0, seed=2), (FORECASTS, 2, PATHS, STEPS))
    coverage = held(drawn * np.array([1, sign])[:, None, None], came)["80"]
    assert coverage["return_given_oi"] < 0.7
    assert coverage["return"] == pytest.approx(0.8, abs=0.05)


def test_forecasts_of_unknown_outcome_do_not_count():
    came = changes((40,), between=0.6, along=0.1, seed=1)
    drawn = changes((40, PATHS), between=0.6, along=0.1, seed=2)
    gappy = np.concatenate([came, np.full((1, 2, STEPS), np.nan)])
    assert held(np.concatenate([drawn, drawn[:1]]), gappy) == held(drawn, came)
    assert held(drawn[:1], gappy[-1:]) == {}


def test_the_lowest_point_is_that_of_the_summed_path():
    drawn = np.zeros((1, 2, 3, 3))
    drawn[0, 1] = [[-1.0, 2.0, 0.0], [-1.0, -1.0, 3.0], [0.0, 0.0, 0.0]]
    low = np.zeros((1, 2, 3))
    low[0, 1] = [-1.0, -0.5, 1.5]
    assert held(drawn, low)["96"]["lowest_oi"] == 1.0
    low[0, 1] = [-1.0, -1.5, 2.5]
    assert held(drawn, low)["96"]["lowest_oi"] == 0.0


def test_outcomes_are_the_hours_after_each_instant_and_nan_where_they_are_not_known():
    start, hour = datetime(2025, 1, 1, tzinfo=UTC), timedelta(hours=1)
    rows = pl.DataFrame(
        {
            "asset": ["BTC"] * 6 + ["ETH"] * 6, "ts": [start + hour * k for k in range(6)] * 2,
            "log_return": [float(k) for k in range(12)], "log_oi": [None, *(-float(k) for k in range(1, 12))],
        }
    )  # fmt: skip
    came = outcomes(rows, ["ETH", "BTC"], [start + hour, start + hour * 4], 2)
    np.testing.assert_array_equal(came, [[[8.0, 9.0], [-8.0, -9.0]], [[5.0, np.nan], [-5.0, np.nan]]])

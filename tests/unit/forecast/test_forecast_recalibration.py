"""Quantiles of the wrong shape come out as often as they say; those that were right stay."""

import numpy as np
import pytest

from oihedge.forecast.recalibration import MOST, fit_recalibration, recalibrated

LEVELS = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
NORMAL = np.array([-2.0537, -1.2816, -0.6745, 0.0, 0.6745, 1.2816, 2.0537])
FORECASTS, STEPS = 3000, 6


def scene(shape: np.ndarray, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """What came, each forecast with its own width, and quantiles `shape` times as far out as they ought to be."""
    rng = np.random.default_rng(seed)
    width, middle = np.exp(rng.normal(size=(FORECASTS, 2, 1))), rng.normal(size=(FORECASTS, 2, 1))
    came = middle + width * rng.normal(size=(FORECASTS, 2, STEPS))
    said = middle[..., None] + width[..., None] * NORMAL * shape
    return came, np.broadcast_to(said, (FORECASTS, 2, STEPS, len(LEVELS)))


@pytest.mark.parametrize("shape", [[1.0, 0.9, 0.6, 1, 0.8, 1.2, 1.5], [0.6] * 7, [1.0] * 7])
def test_each_level_comes_as_often_as_it_says_on_other_hours_too(shape):
    came, said = scene(np.array(shape))
    factors = fit_recalibration(came, said, LEVELS)
    np.testing.assert_allclose(factors, [np.where(np.array(LEVELS) == 0.5, 1, 1 / np.array(shape))] * 2, rtol=0.05)
    fresh, before = scene(np.array(shape), seed=2)
    after = recalibrated(before, factors, LEVELS)
    np.testing.assert_allclose((fresh[..., None] <= after).mean(axis=(0, 2)), [LEVELS, LEVELS], atol=0.01)
    np.testing.assert_array_equal(after[..., 3], before[..., 3])


def test_targets_are_told_apart_and_crossing_quantiles_are_sorted():
    came, said = scene(np.ones(7))
    wider = came.copy()
    wider[:, 1] = 2 * (came[:, 1] - said[:, 1, :, 3]) + said[:, 1, :, 3]
    factors = fit_recalibration(wider, said, LEVELS)
    np.testing.assert_allclose(factors[0, [0, 1, 2, 4, 5, 6]], 1, rtol=0.06)
    np.testing.assert_allclose(factors[1, [0, 1, 2, 4, 5, 6]], 2, rtol=0.06)
    crossing = np.array([[1, 1, MOST, 1, MOST, 1, 1], [1.0] * 7])
    assert (np.diff(recalibrated(said, crossing, LEVELS), axis=-1) >= 0).all()


def test_quantiles_that_all_coincide_stay_and_nothing_goes_out_of_bounds():
    came, said = scene(np.ones(7))
    still = np.broadcast_to(said[..., 3:4], said.shape)
    assert (fit_recalibration(came, still, LEVELS) == 1).all()
    for far in (1e-9, 1e9):
        factors = fit_recalibration(came, said[..., 3:4] + far * (said - said[..., 3:4]), LEVELS)
        assert set(np.unique(factors)) <= {1 / MOST, 1.0, MOST}

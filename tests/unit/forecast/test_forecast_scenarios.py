from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr, stdtr

from oihedge.forecast.calibration import Calibration, fit_calibration, fit_event_score, logit
from oihedge.forecast.scenarios import Copula, Scenarios, fit_copula, probability_transform, quantile_weights

LEVELS = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
QUANTILES = np.array([-0.05, -0.02, -0.01, 0.0, 0.008, 0.02, 0.06])


@given(st.floats(1e-6, 1 - 1e-6))
def test_the_transform_inverts_the_quantile_function(u):
    value = quantile_weights(np.array([u]), LEVELS) @ QUANTILES
    back = probability_transform(value, QUANTILES[None], LEVELS)
    assert back[0] == pytest.approx(u, rel=1e-6, abs=1e-9)


def test_the_quantile_function_meets_its_levels_and_rises_into_the_tails():
    values = quantile_weights(np.array(LEVELS), LEVELS) @ QUANTILES
    np.testing.assert_allclose(values, QUANTILES, atol=1e-12)
    grid = quantile_weights(np.linspace(1e-5, 1 - 1e-5, 999), LEVELS) @ QUANTILES
    assert (np.diff(grid) > 0).all()
    assert grid[0] < QUANTILES[0]
    assert grid[-1] > QUANTILES[-1]


def test_equal_quantiles_do_not_break_the_transform():
    pit = probability_transform(np.array([0.0, 1.0, -1.0]), np.zeros((3, 7)), LEVELS)
    assert np.isfinite(pit).all()
    assert pit[2] < pit[0] < pit[1]


def test_the_copula_finds_dependence_and_is_a_correlation():
    rng = np.random.default_rng(0)
    common = rng.normal(size=(2000, 1, 6))
    normal = 0.8 * common + 0.6 * rng.normal(size=(2000, 2, 6))
    from statistics import NormalDist

    pits = np.vectorize(NormalDist().cdf)(normal)
    correlation = fit_copula(pits).correlation
    assert correlation.shape == (12, 12)
    np.testing.assert_allclose(np.diag(correlation), 1)
    assert np.linalg.eigvalsh(correlation).min() > 0
    assert correlation[0, 6] == pytest.approx(0.9 * 0.64, abs=0.05)
    assert abs(correlation[0, 3]) < 0.05


def test_draws_repeat_by_seed_and_follow_the_marginals():
    scenarios = Scenarios(Copula(np.eye(8)), LEVELS, 2000, 4, seed=5)
    quantiles = np.broadcast_to(QUANTILES, (1, 2, 4, 7))
    draws = scenarios.draw(quantiles)
    assert draws.shape == (1, 2, 2000, 4)
    np.testing.assert_array_equal(draws, Scenarios(Copula(np.eye(8)), LEVELS, 2000, 4, seed=5).draw(quantiles))
    for level, quantile in zip(LEVELS, QUANTILES, strict=True):
        assert (draws[0, 1] <= quantile).mean() == pytest.approx(level, abs=0.03)


def test_random_numbers_are_drawn_once_and_for_the_very_scenarios_they_belong_to():
    scenarios = Scenarios(Copula(np.eye(8)), LEVELS, 50, 4, seed=5)
    assert scenarios.weights is scenarios.weights
    assert not scenarios.weights.flags.writeable
    assert not np.array_equal(replace(scenarios, seed=6).weights, scenarios.weights)


def test_first_passage_counts_the_paths_that_reach_the_drop():
    scenarios = Scenarios(Copula(np.eye(8)), LEVELS, 4000, 4, seed=5)
    quantiles = np.broadcast_to(QUANTILES, (3, 4, 7)) * np.array([1.0, 2.0, 4.0])[:, None, None]
    share = scenarios.first_passage(quantiles, drop=0.10)
    draws = scenarios.draw(np.stack([quantiles, quantiles], axis=1))[:, 1]
    exact = (np.cumsum(draws, axis=-1).min(axis=-1) <= np.log(0.9)).mean(axis=-1)
    np.testing.assert_allclose(share, exact, atol=0.01)
    assert share[0] < share[1] < share[2]


def t_pits(freedom: float, count: int = 3000) -> np.ndarray:
    """Transforms of paths that share one scale over all 12 numbers of a forecast."""
    rng = np.random.default_rng(7)
    scale = np.sqrt(freedom / rng.chisquare(freedom, (count, 1, 1))) if np.isfinite(freedom) else 1.0
    drawn = scale * rng.normal(size=(count, 2, 6))
    return stdtr(freedom, drawn) if np.isfinite(freedom) else ndtr(drawn)


@pytest.mark.parametrize("freedom", [4.0, 10.0, np.inf])
def test_the_degrees_of_freedom_are_found(freedom):
    assert fit_copula(t_pits(freedom)).freedom == freedom


def test_a_t_copula_keeps_the_marginals_and_brings_extremes_together():
    gauss, heavy = (Scenarios(Copula(np.eye(8), freedom), LEVELS, 20000, 4, seed=5) for freedom in (np.inf, 3.0))
    quantiles = np.broadcast_to(QUANTILES, (1, 2, 4, 7))
    for level, quantile in zip(LEVELS, QUANTILES, strict=True):
        assert (heavy.draw(quantiles)[0] <= quantile).mean() == pytest.approx(level, abs=0.01)
    low = [scenarios.draw(quantiles)[0] < QUANTILES[0] for scenarios in (gauss, heavy)]
    together = [(price[:, 0] & oi[:, 3]).mean() for price, oi in low]
    assert together[1] > 3 * together[0] > 0


def log_odds(share):
    return np.column_stack([logit(share), logit(share)])


def test_calibration_lifts_shares_that_are_too_low_and_keeps_their_order():
    rng = np.random.default_rng(2)
    truth = rng.uniform(0.02, 0.5, 4000)
    event = rng.random(4000) < truth
    share = truth / 3
    p = fit_calibration(log_odds(share), event, effective=4000, base_rate=0.2).apply(log_odds(share))
    assert p.mean() == pytest.approx(event.mean(), abs=0.02)
    assert np.mean((p - event) ** 2) < np.mean((share - event) ** 2)
    assert (np.diff(p[np.argsort(share)]) >= 0).all()


def test_calibration_hardly_moves_on_few_independent_forecasts():
    rng = np.random.default_rng(2)
    share = rng.uniform(0.05, 0.3, 500)
    event = rng.random(500) < 0.6
    views = log_odds(share)
    assert fit_calibration(views, event, effective=1, base_rate=0.2).apply(views).mean() < 0.4


@pytest.mark.parametrize("event", [np.zeros(50, bool), np.ones(50, bool)])
def test_without_both_outcomes_the_base_rate_stands_in(event):
    calibration = fit_calibration(log_odds(np.linspace(0.1, 0.4, 50)), event, effective=50, base_rate=0.07)
    assert calibration == Calibration(base_rate=0.07, told=False)
    np.testing.assert_array_equal(calibration.apply(np.zeros((2, 2))), [0.07, 0.07])


def test_the_pool_leans_on_the_view_that_knows_and_never_turns_one_round():
    rng = np.random.default_rng(4)
    truth = rng.normal(-2, 1, 3000)
    event = rng.random(3000) < 1 / (1 + np.exp(-truth))
    knows = fit_calibration(np.column_stack([truth, rng.normal(size=3000)]), event, effective=3000, base_rate=0.2)
    assert knows.slopes[0] > 0.8 > 0.2 > knows.slopes[1]
    lies = fit_calibration(np.column_stack([truth, -truth]), event, effective=3000, base_rate=0.2)
    assert min(lies.slopes) >= 0


def test_the_event_score_learns_which_input_matters_and_shrinks_with_little_evidence():
    rng = np.random.default_rng(5)
    inputs, asset = rng.normal(size=(4000, 3)), rng.integers(0, 2, 4000)
    event = rng.random(4000) < 1 / (1 + np.exp(3 - 1.5 * inputs[:, 1]))
    much, little = (fit_event_score(inputs, asset, 2, event, effective=n) for n in (4000, 20))
    assert much.weights[1] > 1
    assert abs(much.weights[0]) < 0.2
    assert 0 < little.weights[1] < 0.5
    assert much.log_odds(inputs, asset, 2).mean() == pytest.approx(-2.7, abs=0.5)


def test_an_event_that_never_came_scores_alike_everywhere():
    inputs, asset = np.random.default_rng(6).normal(size=(200, 2)), np.zeros(200, np.int64)
    score = fit_event_score(inputs, asset, 1, np.zeros(200, bool), effective=10)
    assert score.log_odds(inputs, asset, 1).std() < 0.1

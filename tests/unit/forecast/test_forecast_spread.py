"""Quantiles that follow a market which became wilder or calmer, and stay where nothing shows that it did."""

import numpy as np
import pytest

from oihedge.forecast.spread import at_edge, believed, fit_spread, widened

LEVELS = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
NORMAL = np.array([-2.0537, -1.2816, -0.6745, 0.0, 0.6745, 1.2816, 2.0537])
HOURS, STEPS = 24 * 30, 6


def forecasts(wilder: float, *, moods: float = 0.0, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Forecasts for a unit normal, and what came: a normal `wilder` times as wide, whose width changes by the day."""
    rng = np.random.default_rng(seed)
    mood = np.exp(moods * np.repeat(rng.normal(size=HOURS // 24), 24))[:, None, None]
    came = wilder * mood * rng.normal(size=(HOURS, 2, STEPS)) + 0.3
    return came, np.broadcast_to(NORMAL + 0.3, (HOURS, 2, STEPS, len(LEVELS)))


@pytest.mark.parametrize("wilder", [0.7, 1.5])
def test_the_factor_is_found_and_puts_coverage_right(wilder):
    came, said = forecasts(wilder)
    factors = fit_spread(came, said, LEVELS, np.arange(HOURS))
    assert factors == pytest.approx((wilder, wilder), rel=0.05)
    fresh, _ = forecasts(wilder, seed=2)
    told = widened(said, factors, LEVELS)
    inside = ((fresh >= told[..., 1]) & (fresh <= told[..., -2])).mean()
    before = ((fresh >= said[..., 1]) & (fresh <= said[..., -2])).mean()
    assert abs(inside - 0.8) < 0.02 < abs(before - 0.8)


def test_without_evidence_nothing_changes():
    came, said = forecasts(1.0)
    assert fit_spread(came, said, LEVELS, np.arange(HOURS)) == pytest.approx((1.0, 1.0), abs=0.03)
    assert fit_spread(came[:20], said[:20] * 3, LEVELS, np.arange(20)) == (1.0, 1.0), "one block shows no error"


def test_what_a_few_wild_days_suggest_is_not_believed():
    came, said = forecasts(1.0)
    wild = came.copy()
    wild[48:72] *= 4
    assert fit_spread(wild, said, LEVELS, np.arange(HOURS)) == (1.0, 1.0)


def test_the_least_loss_lies_between_what_is_tried_and_has_an_error_finer_than_a_step():
    tried = np.arange(-4, 5) / 10
    of_blocks = np.array([0.11, 0.13, 0.12, 0.14])
    losses = (tried[:, None] - of_blocks) ** 2  # each block has its own
    left_out = [np.delete(of_blocks, n).mean() for n in range(4)]
    variance = 3 / 4 * ((left_out - np.mean(left_out)) ** 2).sum()
    assert believed(tried, losses) == pytest.approx(0.125 * (1 - 4 * variance / 0.125**2))
    assert believed(tried, (tried[:, None] - np.array([0.9, 0.9])) ** 2) == 0.4, "the edge is the edge"


def test_medians_stay_and_quantiles_stay_sorted():
    _, said = forecasts(1.0)
    told = widened(said, (0.5, 2.0), LEVELS)
    np.testing.assert_array_equal(told[..., 3], said[..., 3])
    assert (np.diff(told, axis=-1) > 0).all()
    np.testing.assert_allclose(told[:, 1, :, -1] - 0.3, 2 * (said[:, 1, :, -1] - 0.3))
    np.testing.assert_array_equal(widened(said, (1.0, 1.0), LEVELS), np.asarray(said))


@pytest.mark.parametrize(("wilder", "edge", "why"), [(0.0, "0.50", "frozen feed"), (5.0, "2.01", "bad values")])
def test_a_factor_at_the_edge_of_what_is_tried_is_told_with_its_target(wilder, edge, why):
    """0 is what a frozen feed does: every hour brings the same, and no quantile is narrow enough for that."""
    came, said = forecasts(wilder)
    came[:, 0] = forecasts(1.4)[0][:, 0]
    factors = fit_spread(came, said, LEVELS, np.arange(HOURS))
    (line,) = at_edge(dict(zip(("log_return", "log_oi"), factors, strict=True)))
    assert line.startswith(f"spread of log_oi is {edge}, the edge of what is tried")
    assert why in line

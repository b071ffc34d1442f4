"""Quantiles that answer the volatility of the moment where a network does not, and see nothing of the hours ahead."""

from itertools import pairwise

import numpy as np
import pytest

from oihedge.forecast.reaction import LEAST, MOST, Reaction, fit_reaction, lately_moved
from oihedge.forecast.spread import widened

LEVELS = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
NORMAL = np.array([-2.0537, -1.2816, -0.6745, 0.0, 0.6745, 1.2816, 2.0537])
ENCODER, STEPS, HOURS = 24, 6, 24 * 120


def market(seed: int = 1, *, moods: float = 0.5) -> np.ndarray:
    """Hourly changes of two targets whose volatility wanders, a few days each way."""
    rng = np.random.default_rng(seed)
    mood = np.zeros(HOURS)
    for hour in range(1, HOURS):
        mood[hour] = 0.98 * mood[hour - 1] + moods * np.sqrt(1 - 0.98**2) * rng.normal()
    changes = np.exp(mood)[:, None] * rng.normal(size=(HOURS, 2))
    return changes / changes.std(axis=0)


def forecast(changes: np.ndarray, answer: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What came, quantiles that go with the moment to the power `answer`, how much it moved, and the hours."""
    hour = np.arange(ENCODER, HOURS - STEPS)
    came = np.stack([changes[hour + step] for step in range(1, STEPS + 1)], axis=-1)
    lately = lately_moved(changes, hour, ENCODER)
    width = (lately / np.exp(np.log(lately).mean(axis=0))) ** answer
    return came, np.broadcast_to((width[..., None, None] * NORMAL), (*came.shape, len(LEVELS))), lately, hour


def test_a_network_that_does_not_answer_the_moment_is_made_to():
    came, said, lately, hour = forecast(market(), answer=0.0)
    found = fit_reaction(came, said, LEVELS, lately, hour)
    assert min(found.exponents) > 0.2
    fresh, before, moved, _ = forecast(market(2), answer=0.0)
    after = widened(before, found.widths(moved), LEVELS)
    calm = moved[:, 0] < np.quantile(moved[:, 0], 0.2)

    def inside(told):
        return ((fresh >= told[..., 1]) & (fresh <= told[..., -2]))[calm, 0].mean()

    assert inside(before) > 0.9, "too wide while it is calm"
    assert inside(after) < inside(before) - 0.03
    assert loss(fresh, after) < 0.995 * loss(fresh, before)


def loss(came: np.ndarray, said: np.ndarray) -> float:
    over = came[..., None] - said
    return float(np.maximum(np.array(LEVELS) * over, (np.array(LEVELS) - 1) * over).mean())


def test_a_network_that_answers_it_is_left_alone():
    came, said, lately, hour = forecast(market(), answer=0.0)
    told = widened(said, fit_reaction(came, said, LEVELS, lately, hour).widths(lately), LEVELS)
    again = fit_reaction(came, told, LEVELS, lately, hour)
    assert again.exponents == pytest.approx((0.0, 0.0), abs=0.02)
    steady = market(moods=0.0)
    assert fit_reaction(*with_levels(forecast(steady, answer=0.0))).exponents == pytest.approx((0.0, 0.0), abs=0.05)


def with_levels(told):
    came, said, lately, hour = told
    return came, said, LEVELS, lately, hour


def test_how_much_it_moved_is_known_at_the_instant_and_reads_the_encoders_hours_alone():
    changes, rows = market(), np.array([ENCODER - 1, 100, 500])
    told = lately_moved(changes, rows, ENCODER)
    for n, row in enumerate(rows):
        other = np.full_like(changes, 1e6)
        other[row - ENCODER + 1 : row + 1] = changes[row - ENCODER + 1 : row + 1]
        np.testing.assert_allclose(lately_moved(other, rows[n : n + 1], ENCODER)[0], told[n], rtol=1e-12)
        for hour in (row, row - ENCODER + 1):
            other = changes.copy()
            other[hour] += 5
            assert (lately_moved(other, rows[n : n + 1], ENCODER)[0] != told[n]).all()


def test_the_newest_hours_weigh_most_and_a_gap_elsewhere_spoils_nothing():
    told = []
    for ago in range(ENCODER):
        changes = np.ones((ENCODER, 2))
        changes[ENCODER - 1 - ago] = 2
        told.append(lately_moved(changes, np.array([ENCODER - 1]), ENCODER)[0, 0])
    assert all(newer > older for newer, older in pairwise(told))
    assert told[6] - 1 == pytest.approx((told[0] - 1) / 2), "the half-life is six hours"
    gap = market()
    gap[50] = np.nan
    assert np.isfinite(lately_moved(gap, np.array([49, 75]), ENCODER)).all()


def test_widths_are_bounded_whatever_comes():
    """A feed that stood still and one that jumped: neither makes a forecast of nothing or of anything."""
    still = lately_moved(np.zeros((ENCODER, 2)), np.array([ENCODER - 1]), ENCODER)
    wild = lately_moved(np.full((ENCODER, 2), 1e9), np.array([ENCODER - 1]), ENCODER)
    assert (still == LEAST).all()
    for exponents in ((1.0, 0.5), (-0.5, 0.0)):
        widths = Reaction(exponents, (0.7, 0.7)).widths(np.concatenate([still, wild]))
        assert (widths >= 1 / MOST).all()
        assert (widths <= MOST).all()
    assert (Reaction().widths(wild) == 1).all()

"""From the paths' share to a probability: logistic (Platt) calibration, held close to the identity by priors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from oihedge.forecast.panel import Floats, Mask

INTERCEPT_SD = 1.5
SLOPE_SD = 0.5


@dataclass(frozen=True)
class Calibration:
    """logit(p) = center + intercept + slope * (logit(share) - center); or the constant `base_rate` when that is set."""

    intercept: float = 0.0
    slope: float = 1.0
    center: float = 0.0
    base_rate: float | None = None

    def apply(self, share: Floats) -> Floats:
        """Return calibrated probabilities for the paths' shares, both (forecasts,)."""
        if self.base_rate is not None:
            return np.full(len(share), self.base_rate)
        return _expit(self.center + self.intercept + self.slope * (_logit(share) - self.center))


def fit_calibration(share: Floats, event: Mask, *, effective: float, base_rate: float) -> Calibration:
    """Fit the calibration on held-back forecasts.

    Overlapping forecasts repeat each other: the likelihood counts as `effective` independent ones, against a normal
    prior on the intercept (0, 1.5) and on the slope (1, 0.5). Without an event, or with nothing but events, there is
    nothing to fit on and the training window's base rate stands in.

    Args:
        share: (forecasts,) from `Scenarios.first_passage`.
        event: (forecasts,) whether the unwind came.
        effective: number of independent forecasts these are worth.
        base_rate: share of unwinds in the training window.
    """
    if not event.any() or event.all():
        return Calibration(base_rate=float(base_rate))
    x = _logit(share)
    center = float(x.mean())
    design = np.stack([np.ones_like(x), x - center], axis=1)
    weight, prior = effective / len(x), np.array([INTERCEPT_SD, SLOPE_SD]) ** -2.0
    beta = np.array([0.0, 1.0])
    for _ in range(50):
        p = _expit(center + design @ beta)
        gradient = weight * design.T @ (p - event) + prior * (beta - [0.0, 1.0])
        curvature = weight * (design * (p * (1 - p))[:, None]).T @ design + np.diag(prior)
        step = np.linalg.solve(curvature, gradient)
        beta = beta - np.clip(step, -1, 1)
        if np.abs(step).max() < 1e-10:
            break
    return Calibration(float(beta[0]), float(max(beta[1], 0.0)), center)


def _logit(p: Floats) -> Floats:
    return np.asarray(np.log(p) - np.log1p(-p))


def _expit(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -50, 50))))

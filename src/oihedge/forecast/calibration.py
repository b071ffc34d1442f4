"""From two views of an unwind to one calibrated probability.

The first view is the share of scenario paths that unwind: it knows the forecast's scale, but hourly quantiles hardly
show an event that is rare in any one hour. The second is a linear logistic score of the inputs, learnt on the event
itself. Their log-odds are pooled, equally unless the held-back calibration block says otherwise. Both fits are ridge
regressions with stated priors, in which overlapping forecasts count only as often as they are independent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from oihedge.forecast.panel import Floats, Ints, Mask

INPUT_CLIP = 4.0
WEIGHT_SD = 0.2
"""Prior spread of the score's weight on an input in units of its standard deviation."""
INTERCEPT_SD = 1.5
SHIFT_SD = 1.0
"""Prior spread of what the held-back block adds to all log-odds: rates double or halve within months, not more."""
SLOPE_SD = 0.35
"""Prior spread of each view's slope around its equal share."""


@dataclass(frozen=True)
class EventScore:
    """log-odds = intercept + weights . inputs; `weights` (inputs + assets,)."""

    intercept: float
    weights: tuple[float, ...]

    def log_odds(self, inputs: Floats, asset: Ints, assets: int) -> Floats:
        """Return the score (forecasts,) of scaled inputs (forecasts, inputs) of the coded assets."""
        return np.asarray(self.intercept + _with_assets(inputs, asset, assets) @ np.asarray(self.weights))


def fit_event_score(
    inputs: Floats,
    asset: Ints,
    assets: int,
    event: Mask,
    *,
    effective: float,
) -> EventScore:
    """Learn the score on training instants.

    Args:
        inputs: scaled inputs at each instant (instants, inputs).
        asset: code of each instant's asset.
        assets: how many there are.
        event: whether the unwind came (instants,).
        effective: number of independent instants these are worth.
    """
    design = _with_assets(inputs, asset, assets)
    rate = (event.sum() + 0.5) / (len(event) + 1)
    offset = np.full(len(event), np.log(rate / (1 - rate)))
    priors = np.r_[INTERCEPT_SD, np.full(design.shape[1], WEIGHT_SD)]
    beta = _ridge(design, event, offset, effective, np.zeros(len(priors)), priors)
    return EventScore(float(offset[0] + beta[0]), tuple(float(value) for value in beta[1:]))


@dataclass(frozen=True)
class Calibration:
    """logit(p) = mean(centers) + intercept + slopes . (views - centers); p = `base_rate` where `told` is False."""

    intercept: float = 0.0
    slopes: tuple[float, ...] = (0.5, 0.5)
    centers: tuple[float, ...] = (0.0, 0.0)
    base_rate: float = 0.0
    """Share of unwinds among the training instants."""
    told: bool = True
    """Whether the calibration block held both outcomes."""

    def apply(self, views: Floats) -> Floats:
        """Return calibrated probabilities for the views' log-odds (forecasts, views)."""
        if not self.told:
            return np.full(len(views), self.base_rate)
        centers = np.asarray(self.centers)
        return expit(centers.mean() + self.intercept + (views - centers) @ np.asarray(self.slopes))


def fit_calibration(views: Floats, event: Mask, *, effective: float, base_rate: float) -> Calibration:
    """Fit the pool on held-back forecasts.

    Without an event, or with nothing but events, there is nothing to fit on and the training window's base rate stands
    in. A view that speaks against what came is left out (slope 0) rather than turned round.

    Args:
        views: log-odds (forecasts, views).
        event: whether the unwind came (forecasts,).
        effective: number of independent forecasts these are worth.
        base_rate: share of unwinds in the training window.
    """
    if not event.any() or event.all():
        return Calibration(base_rate=base_rate, told=False)
    centers, count = views.mean(axis=0), views.shape[1]
    offset = np.full(len(views), centers.mean())
    mean = np.r_[0.0, np.full(count, 1 / count)]
    priors = np.r_[SHIFT_SD, np.full(count, SLOPE_SD)]
    beta = _ridge(views - centers, event, offset, effective, mean, priors)
    slopes = tuple(float(max(slope, 0.0)) for slope in beta[1:])
    return Calibration(float(beta[0]), slopes, tuple(float(center) for center in centers), base_rate)


def _ridge(x: Floats, event: Mask, offset: Floats, effective: float, mean: Floats, spread: Floats) -> Floats:
    """Return intercept and slopes of a logistic regression with normal priors (mean, spread), by Newton's method."""
    design, precision = np.column_stack([np.ones(len(x)), x]), np.diag(spread**-2.0)
    weight, beta = effective / len(x), mean
    for _ in range(100):
        p = expit(offset + design @ beta)
        gradient = weight * design.T @ (p - event) + precision @ (beta - mean)
        curvature = weight * (design * (p * (1 - p))[:, None]).T @ design + precision
        step = np.linalg.solve(curvature, gradient)
        beta = beta - np.clip(step, -1, 1)
        if np.abs(step).max() < 1e-10:
            break
    return np.asarray(beta)


def _with_assets(inputs: Floats, asset: Ints, assets: int) -> Floats:
    return np.column_stack([np.clip(inputs, -INPUT_CLIP, INPUT_CLIP), np.eye(assets)[asset]])


def logit(p: Floats) -> Floats:
    """Return the log-odds of probabilities strictly inside (0, 1)."""
    return np.asarray(np.log(p) - np.log1p(-p))


def expit(x: Floats) -> Floats:
    """Return the probabilities of log-odds."""
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -50, 50))))

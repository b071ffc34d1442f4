"""Joint scenario paths from marginal quantiles: a Gaussian copula over (return, OI) x steps, drawn with common numbers.

The quantile function between forecast levels is linear. Beyond the outermost levels the tail is exponential: its scale
is what the two outermost quantiles of that side imply, so a value stays linear in the quantiles and every draw is a
fixed weighting of them. Gaussian dependence has no joint tail; what that costs p_unwind its calibration gives back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from oihedge.forecast.panel import Floats
from oihedge.forecast.unwind import barrier

SHRINKAGE = 0.1
"""Share of the identity in the copula's correlation."""
SOFTNESS = 0.05
"""Width of the barrier as a share of its depth: a path counts gradually, so that the probability is smooth."""
_CHUNK = 256


def quantile_weights(uniforms: Floats, levels: Sequence[float]) -> Floats:
    """Return w with value(u) = sum_k w[..., k] * quantile_k, for `uniforms` of any shape in (0, 1)."""
    a = np.asarray(levels, dtype=np.float64)
    u = np.asarray(uniforms, dtype=np.float64)
    k = np.clip(np.searchsorted(a, u, side="right") - 1, 0, len(a) - 2)
    right = (u - a[k]) / (a[k + 1] - a[k])
    right = np.where(u < a[0], np.log(u / a[0]) / np.log(a[1] / a[0]), right)
    above = 1 + np.log((1 - a[-1]) / (1 - u)) / np.log((1 - a[-2]) / (1 - a[-1]))
    right = np.where(u > a[-1], above, right)
    weights = np.zeros((*u.shape, len(a)))
    np.put_along_axis(weights, k[..., None], (1 - right)[..., None], axis=-1)
    np.put_along_axis(weights, k[..., None] + 1, right[..., None], axis=-1)
    return weights


def probability_transform(actual: Floats, quantiles: Floats, levels: Sequence[float]) -> Floats:
    """Return the forecast probability of a value at or below `actual`: the inverse of the quantile function.

    Args:
        actual: (...).
        quantiles: (..., levels), rising along the last axis.
        levels: probabilities of the quantiles.
    """
    a, q = np.asarray(levels, dtype=np.float64), _strictly_rising(quantiles)
    k = np.clip((actual[..., None] >= q).sum(axis=-1) - 1, 0, len(a) - 2)
    left, right = (np.take_along_axis(q, (k + i)[..., None], axis=-1)[..., 0] for i in (0, 1))
    inside = a[k] + (actual - left) / (right - left) * (a[k + 1] - a[k])
    low_scale = (q[..., 1] - q[..., 0]) / np.log(a[1] / a[0])
    high_scale = (q[..., -1] - q[..., -2]) / np.log((1 - a[-2]) / (1 - a[-1]))
    below = a[0] * np.exp(np.minimum(actual - q[..., 0], 0) / low_scale)
    above = 1 - (1 - a[-1]) * np.exp(-np.maximum(actual - q[..., -1], 0) / high_scale)
    return np.asarray(np.where(actual < q[..., 0], below, np.where(actual > q[..., -1], above, inside)))


def _strictly_rising(quantiles: Floats) -> Floats:
    steps = np.maximum(np.diff(quantiles, axis=-1), 1e-12)
    return np.concatenate([quantiles[..., :1], quantiles[..., :1] + np.cumsum(steps, axis=-1)], axis=-1)


def fit_copula(pits: Floats) -> Floats:
    """Fit the copula's correlation on held-back probability transforms.

    Overlapping forecasts hold few independent paths, so the dependence is taken as stationary along the horizon (one
    number per pair of targets and lag), shrunk towards independence and made positive definite.

    Args:
        pits: (forecasts, targets, steps) in (0, 1).

    Returns:
        Correlation (targets * steps, targets * steps), the first target's steps first.
    """
    _, targets, steps = pits.shape
    normal = np.clip(_probit(np.clip(pits, 1e-4, 1 - 1e-4)), -4, 4)
    normal = (normal - normal.mean(axis=(0, 2), keepdims=True)) / normal.std(axis=(0, 2), keepdims=True)
    flat = normal.reshape(len(normal), targets * steps)
    raw = (flat.T @ flat / len(flat)).reshape(targets, steps, targets, steps)
    lag = np.arange(steps)[None, :] - np.arange(steps)[:, None]
    smooth = np.empty_like(raw)
    for i in range(targets):
        for j in range(targets):
            by_lag = np.array([np.diagonal(raw[i, :, j, :], d).mean() for d in range(1 - steps, steps)])
            smooth[i, :, j, :] = by_lag[lag + steps - 1]
    size = targets * steps
    return _as_correlation((1 - SHRINKAGE) * smooth.reshape(size, size) + SHRINKAGE * np.eye(size))


def _as_correlation(matrix: Floats) -> Floats:
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    positive = (vectors * np.maximum(values, 1e-3)) @ vectors.T
    scale = np.sqrt(np.diag(positive))
    return np.asarray(positive / scale[:, None] / scale[None, :])


@dataclass(frozen=True)
class Scenarios:
    """Common random numbers mapped through any forecast's quantiles: the same `seed` draws the same paths."""

    correlation: Floats
    levels: tuple[float, ...]
    paths: int
    horizon_h: int
    seed: int

    def weights(self) -> Floats:
        """Return the weights (targets, paths, steps, levels) that turn quantiles into draws."""
        half = np.random.default_rng(self.seed).standard_normal((-(-self.paths // 2), len(self.correlation)))
        normal = np.concatenate([half, -half])[: self.paths] @ np.linalg.cholesky(self.correlation).T
        uniforms = np.clip(_normal_cdf(normal), 1e-6, 1 - 1e-6).reshape(self.paths, -1, self.horizon_h)
        return quantile_weights(uniforms, self.levels).transpose(1, 0, 2, 3)

    def draw(self, quantiles: Floats) -> Floats:
        """Draw joint paths of hourly log changes.

        Args:
            quantiles: (forecasts, targets, steps, levels) in log changes.

        Returns:
            (forecasts, targets, paths, steps).
        """
        return np.asarray(np.einsum("tshk,nthk->ntsh", self.weights(), quantiles, optimize=True))

    def first_passage(self, oi_quantiles: Floats, drop: float) -> Floats:
        """Return the share of paths on which cumulated OI falls by `drop` at some step, before calibration.

        Args:
            oi_quantiles: (forecasts, steps, levels) of the hourly log OI change.
            drop: share of the open interest.

        Returns:
            (forecasts,), strictly inside (0, 1).
        """
        level, weights = barrier(drop), self.weights()[1].transpose(1, 2, 0)
        width = SOFTNESS * abs(level)
        shares = np.empty(len(oi_quantiles))
        for start in range(0, len(oi_quantiles), _CHUNK):
            chunk = oi_quantiles[start : start + _CHUNK].transpose(1, 0, 2)
            reached = np.cumsum(chunk @ weights, axis=0).min(axis=0)
            soft = 1 / (1 + np.exp(np.clip((reached - level) / width, -50, 50)))
            shares[start : start + _CHUNK] = soft.mean(axis=-1)
        return np.asarray((shares * self.paths + 0.5) / (self.paths + 1))


def _normal_cdf(values: Floats) -> Floats:
    return np.asarray(torch.special.ndtr(torch.from_numpy(values)).numpy())


def _probit(values: Floats) -> Floats:
    return np.asarray(torch.special.ndtri(torch.from_numpy(values)).numpy())

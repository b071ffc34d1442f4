"""Joint scenario paths from marginal quantiles: a t copula over (return, OI) x steps, drawn with common numbers.

The quantile function between forecast levels is linear. Beyond the outermost levels the tail is exponential: its scale
is what the two outermost quantiles of that side imply, so a value stays linear in the quantiles and every draw is a
fixed weighting of them. The t copula gives a path one scale for all its hours and both targets, as volatility and
cascades do: quiet paths are quiet throughout, and extremes come together. Infinite degrees of freedom make it Gaussian.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import numpy as np
from scipy.special import gammaln, ndtr, ndtri, stdtr, stdtrit

from oihedge.forecast.panel import Floats
from oihedge.forecast.unwind import barrier

SHRINKAGE = 0.1
"""Share of the identity in the copula's correlation."""
FREEDOMS = (3.0, 4.0, 6.0, 10.0, 20.0, 50.0, math.inf)
"""Degrees of freedom that are tried."""
MOST_FORECASTS = 256
"""Forecasts, evenly spaced, that the degrees of freedom are judged on: neighbours overlap almost wholly."""
SOFTNESS = 0.05
"""Width of the barrier as a share of its depth: a path counts gradually, so that the probability is smooth."""
NEAREST = 0.2
"""Share of a forecast's paths, those nearest by OI change, that answer what the return is given that change."""
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


@dataclass(frozen=True)
class Copula:
    """Dependence of (targets * steps): `correlation`, the first target's steps first, and degrees of `freedom`."""

    correlation: Floats
    freedom: float = math.inf

    def uniforms(self, normal: Floats, chi_square: Floats) -> Floats:
        """Turn normals (paths, targets * steps) and chi-square draws over `freedom` (paths,) into uniforms."""
        drawn = normal @ np.linalg.cholesky(self.correlation).T
        if math.isinf(self.freedom):
            return np.asarray(ndtr(drawn))
        return np.asarray(stdtr(self.freedom, drawn / np.sqrt(chi_square)[:, None]))


def fit_copula(pits: Floats) -> Copula:
    """Fit a t copula on held-back probability transforms.

    Overlapping forecasts hold few independent paths, so the dependence is taken as stationary along the horizon (one
    number per pair of targets and lag), shrunk towards independence and made positive definite. The degrees of freedom
    are those of `FREEDOMS` under which the transforms are likeliest (the correlation being that of normal scores).

    Args:
        pits: (forecasts, targets, steps) in (0, 1).
    """
    _, targets, steps = pits.shape
    normal = np.clip(ndtri(np.clip(pits, 1e-4, 1 - 1e-4)), -4, 4)
    spread = normal.std(axis=(0, 2), keepdims=True)
    normal = (normal - normal.mean(axis=(0, 2), keepdims=True)) / np.where(spread > 0, spread, 1.0)
    flat = normal.reshape(len(normal), targets * steps)
    raw = (flat.T @ flat / len(flat)).reshape(targets, steps, targets, steps)
    lag = np.arange(steps)[None, :] - np.arange(steps)[:, None]
    smooth = np.empty_like(raw)
    for i in range(targets):
        for j in range(targets):
            by_lag = np.array([np.diagonal(raw[i, :, j, :], d).mean() for d in range(1 - steps, steps)])
            smooth[i, :, j, :] = by_lag[lag + steps - 1]
    size = targets * steps
    correlation = _as_correlation((1 - SHRINKAGE) * smooth.reshape(size, size) + SHRINKAGE * np.eye(size))
    few = ndtr(flat[:: -(-len(flat) // MOST_FORECASTS)])
    return Copula(correlation, max(FREEDOMS, key=lambda freedom: _log_likelihood(few, correlation, freedom)))


def _log_likelihood(uniforms: Floats, correlation: Floats, freedom: float) -> float:
    """Return the mean log density of a copula at `uniforms` (forecasts, dimensions)."""
    size, (_, log_determinant) = len(correlation), np.linalg.slogdet(correlation)
    x = ndtri(uniforms) if math.isinf(freedom) else stdtrit(freedom, uniforms)
    distance = np.einsum("ni,ni->n", x, np.linalg.solve(correlation, x.T).T)
    if math.isinf(freedom):
        return float((-0.5 * log_determinant - 0.5 * (distance - (x**2).sum(axis=1))).mean())
    joint = gammaln((freedom + size) / 2) + (size - 1) * gammaln(freedom / 2) - size * gammaln((freedom + 1) / 2)
    density = -(freedom + size) / 2 * np.log1p(distance / freedom) + (freedom + 1) / 2 * np.log1p(x**2 / freedom).sum(
        axis=1
    )
    return float((joint - 0.5 * log_determinant + density).mean())


def _as_correlation(matrix: Floats) -> Floats:
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    positive = (vectors * np.maximum(values, 1e-3)) @ vectors.T
    scale = np.sqrt(np.diag(positive))
    return np.asarray(positive / scale[:, None] / scale[None, :])


@dataclass(frozen=True)
class JointPaths:
    """Equally likely paths of hourly log changes, one set a forecast.

    `asset` and `at` (forecasts,) say whose and from when; `changes` (forecasts, 2, paths, steps), return before open
    interest. Path k of one forecast is drawn with the same random numbers as path k of any other.
    """

    asset: tuple[str, ...]
    at: tuple[datetime, ...]
    changes: Floats

    def return_given_oi(self, oi_change: Floats | Sequence[float], levels: Sequence[float]) -> Floats:
        """Return quantiles of the return over the horizon, given where open interest ends.

        The `NEAREST` share of the paths answers, each path's return moved to the value asked for along the straight
        line that fits these paths best. The line ends with them: beyond every path the answer is that at the outermost.

        Args:
            oi_change: log change of open interest in coins over the horizon: (forecasts, values), or (values,) to ask
                every forecast the same. Infinite: beyond every path, too. NaN is answered by NaN.
            levels: probabilities of the quantiles; beyond 1 / (paths that answer + 1) it is their extreme.

        Returns:
            (forecasts, values, levels), log changes of the price over the horizon.
        """
        price, oi = self.changes.sum(axis=-1).swapaxes(0, 1)
        asked = np.asarray(oi_change, dtype=np.float64)
        asked = np.broadcast_to(asked, (len(oi), asked.shape[-1]))
        # One value after the other: all at once would take `values` times the memory of the paths' sums.
        answers = [_price_given_oi(price, oi, value, levels) for value in asked.T]
        return np.stack(answers, axis=1) if answers else np.empty((len(oi), 0, len(levels)))


def _price_given_oi(price: Floats, oi: Floats, asked: Floats, levels: Sequence[float]) -> Floats:
    """Return quantiles (forecasts, levels) of `price` (forecasts, paths) where `oi` is nearest to `asked`."""
    count = max(1, round(NEAREST * oi.shape[1]))
    # From far enough away every path is equally far: the outermost are asked where they are.
    reached = np.clip(asked, oi.min(axis=-1), oi.max(axis=-1))
    near = np.argpartition(np.abs(oi - reached[:, None]), count - 1, axis=-1)[:, :count]
    price, oi = (np.take_along_axis(values, near, axis=-1) for values in (price, oi))
    apart = oi - oi.mean(axis=-1, keepdims=True)
    slope = (apart * price).sum(axis=-1) / np.maximum((apart**2).sum(axis=-1), 1e-12)
    moved = price + slope[:, None] * (reached[:, None] - oi)
    # Few paths answer; of the usual definitions, Weibull's quantiles alone cover a further draw as often as they say.
    return np.asarray(np.quantile(moved, levels, axis=-1, method="weibull")).T


@dataclass(frozen=True)
class Scenarios:
    """Common random numbers mapped through any forecast's quantiles: the same `seed` draws the same paths."""

    copula: Copula
    levels: tuple[float, ...]
    paths: int
    horizon_h: int
    seed: int

    @cached_property
    def weights(self) -> Floats:
        """The weights (targets, paths, steps, levels) that turn quantiles into draws; not to be written to."""
        draw, pairs = np.random.default_rng(self.seed), -(-self.paths // 2)
        half = draw.standard_normal((pairs, len(self.copula.correlation)))
        normal = np.concatenate([half, -half])[: self.paths]
        freedom = self.copula.freedom
        scale = np.ones(pairs) if math.isinf(freedom) else draw.chisquare(freedom, pairs) / freedom
        uniforms = self.copula.uniforms(normal, np.concatenate([scale, scale])[: self.paths])
        uniforms = np.clip(uniforms, 1e-6, 1 - 1e-6).reshape(self.paths, -1, self.horizon_h)
        weights = quantile_weights(uniforms, self.levels).transpose(1, 0, 2, 3)
        weights.flags.writeable = False
        return weights

    def draw(self, quantiles: Floats) -> Floats:
        """Draw joint paths of hourly log changes.

        Args:
            quantiles: (forecasts, targets, steps, levels) in log changes.

        Returns:
            (forecasts, targets, paths, steps).
        """
        return np.asarray(np.einsum("tshk,nthk->ntsh", self.weights, quantiles, optimize=True))

    def first_passage(self, oi_quantiles: Floats, drop: float) -> Floats:
        """Return the share of paths on which cumulated OI falls by `drop` at some step, before calibration.

        Args:
            oi_quantiles: (forecasts, steps, levels) of the hourly log OI change.
            drop: share of the open interest.

        Returns:
            (forecasts,), strictly inside (0, 1).
        """
        level, weights = barrier(drop), self.weights[1].transpose(1, 2, 0)
        width = SOFTNESS * abs(level)
        shares = np.empty(len(oi_quantiles))
        for start in range(0, len(oi_quantiles), _CHUNK):
            chunk = oi_quantiles[start : start + _CHUNK].transpose(1, 0, 2)
            reached = np.cumsum(chunk @ weights, axis=0).min(axis=0)
            soft = 1 / (1 + np.exp(np.clip((reached - level) / width, -50, 50)))
            shares[start : start + _CHUNK] = soft.mean(axis=-1)
        return np.asarray((shares * self.paths + 0.5) / (self.paths + 1))

"""How far each quantile ought to lie from the median to have held as often as it says over the training window.

A network whose training stopped early, or whose steps were few, has quantiles of the wrong shape: the middle ones too
close together, say, and the outer ones right. One factor per target and level sets that right, read off the hours that
it was trained on, of which there are many. How wild these weeks are is not asked here: that is `spread`'s, from hours
held back.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from oihedge.forecast.panel import Floats

MOST = 3.0
"""No quantile is put more than so many times as far from the median, or as near."""


def fit_recalibration(actual: Floats, quantiles: Floats, levels: Sequence[float]) -> Floats:
    """Return the factors (targets, levels); 1 at the median, and where quantiles coincide with it.

    Args:
        actual: what came (forecasts, targets, steps).
        quantiles: the forecasts (forecasts, targets, steps, levels), sorted.
        levels: their probabilities, 0.5 among them.
    """
    middle = list(levels).index(0.5)
    median = quantiles[..., middle]
    factors = np.ones((quantiles.shape[1], len(levels)))
    for k, level in enumerate(levels):
        if k == middle:
            continue
        apart = quantiles[..., k] - median
        for n in range(len(factors)):
            away = np.abs(apart[:, n]) > 0
            if away.any():
                # Below the median both are negative: what lies beyond the quantile has the greater ratio there too.
                ratio = (actual - median)[:, n][away] / apart[:, n][away]
                factors[n, k] = np.quantile(ratio, max(level, 1 - level))
    return np.clip(factors, 1 / MOST, MOST)


def recalibrated(quantiles: Floats, factors: Floats, levels: Sequence[float]) -> Floats:
    """Return sorted `quantiles` (forecasts, targets, steps, levels) put as far from their median as `factors` say."""
    middle = list(levels).index(0.5)
    median = quantiles[..., middle : middle + 1]
    return np.asarray(np.sort(median + factors[:, None, :] * (quantiles - median), axis=-1))

"""How far a forecast's quantiles ought to lie from their median, learnt on the newest hours held back.

A network learns how wide its quantiles are from the whole training window; the market of its last weeks may be wilder
or calmer. One factor per target, which minimises the quantile loss of the calibration block, follows it there. Hours in
a row share their volatility, so the factor's error is taken from leaving out days at a time, and only what exceeds
two such errors is believed: without evidence the factor is 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from oihedge.forecast.panel import Floats, Ints

BLOCK_H = 48
ERRORS = 2.0
"""Standard errors that a factor's logarithm must lie from 0 before any of it counts."""
FACTORS = np.exp(np.linspace(-0.7, 0.7, 57))
"""Those that are tried: half to twice."""


def fit_spread(actual: Floats, quantiles: Floats, levels: Sequence[float], hour: Ints) -> tuple[float, ...]:
    """Return one factor per target.

    Args:
        actual: what came (forecasts, targets, steps).
        quantiles: the forecasts (forecasts, targets, steps, levels), sorted.
        levels: their probabilities, 0.5 among them.
        hour: the instants of the forecasts (forecasts,).
    """
    # Twice the horizon: most forecasts of a block then share no hour with those of another.
    block = (hour - hour.min()) // max(BLOCK_H, 2 * actual.shape[-1])
    return tuple(
        _factor(_losses(actual[:, n], quantiles[:, n], np.asarray(levels, dtype=np.float64), block))
        for n in range(actual.shape[1])
    )


def widened(quantiles: Floats, factors: Sequence[float], levels: Sequence[float]) -> Floats:
    """Return `quantiles` (forecasts, targets, steps, levels) as far from their median as `factors` (targets,) say."""
    middle = list(levels).index(0.5)
    median = quantiles[..., middle : middle + 1]
    return np.asarray(median + np.asarray(factors)[:, None, None] * (quantiles - median))


def at_edge(factors: Mapping[str, float]) -> list[str]:
    """Say of which target's factor the edge of what is tried is all that is known: a block with a frozen feed does so.

    Args:
        factors: by target, as a fit's `facts["spread"]` holds them.
    """
    return [
        f"spread of {target} is {factor:.2f}, the edge of what is tried: its calibration block is not like what was "
        "trained on, look for a frozen feed there"
        for target, factor in factors.items()
        if np.isclose(factor, FACTORS[[0, -1]]).any()
    ]


def _losses(actual: Floats, quantiles: Floats, levels: Floats, block: Ints) -> Floats:
    """Return the quantile loss summed over each block's forecasts, (factors, blocks); empty blocks are left out."""
    median = quantiles[..., list(levels).index(0.5), None]
    apart, miss = quantiles - median, actual[..., None] - median
    _, of = np.unique(block, return_inverse=True)
    sums = []
    for factor in FACTORS:
        over = miss - factor * apart
        sums.append(np.bincount(of, np.maximum(levels * over, (levels - 1) * over).sum(axis=(1, 2))))
    return np.array(sums)


def _factor(losses: Floats) -> float:
    """Return the factor of least loss, its logarithm shrunk by what leaving out each block shows of its error."""
    tried, total, blocks = np.log(FACTORS), losses.sum(axis=1), losses.shape[1]
    best = tried[total.argmin()]
    without = tried[(total[:, None] - losses).argmin(axis=0)]
    variance = (blocks - 1) / blocks * ((without - without.mean()) ** 2).sum()
    if blocks < 2 or best == 0:
        return 1.0
    return float(np.exp(best * max(0.0, 1 - ERRORS**2 * variance / best**2)))

"""How far a forecast's quantiles ought to lie from their median, learnt on the newest hours held back.

A network learns how wide its quantiles are from the whole training window; the market of its last weeks may be wilder
or calmer. One factor per target, which minimises the quantile loss of the calibration block, follows it there. Hours in
a row share their volatility, so the factor's error is taken from leaving out days at a time, and only what exceeds
two such errors is believed: without evidence the factor is 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

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
    block = blocks_of(hour, actual.shape[-1])
    tried = np.log(FACTORS)
    losses = (losses_by_block(actual[:, n], quantiles[:, n], levels, block, FACTORS) for n in range(actual.shape[1]))
    return tuple(float(np.exp(believed(tried, of))) for of in losses)


def widened(quantiles: Floats, factors: Floats | Sequence[float], levels: Sequence[float]) -> Floats:
    """Return `quantiles` (forecasts, targets, steps, levels) as far from their median as `factors` say.

    Args:
        quantiles: sorted.
        factors: (targets,), or (forecasts, targets).
        levels: probabilities of the quantiles, 0.5 among them.
    """
    middle = list(levels).index(0.5)
    median = quantiles[..., middle : middle + 1]
    return np.asarray(median + np.asarray(factors)[..., None, None] * (quantiles - median))


def at_edge(factors: Mapping[str, float]) -> list[str]:
    """Say of which target's factor the edge of what is tried is all that is known: bad data in the block does so.

    Args:
        factors: by target, as a fit's `facts["spread"]` holds them.
    """
    return [
        f"spread of {target} is {factor:.2f}, the edge of what is tried: its calibration block is far {what} there"
        for target, factor in factors.items()
        for edge, what in (
            (FACTORS[0], "calmer than the training window, look for a frozen feed"),
            (FACTORS[-1], "wilder than the training window, look for bad values"),
        )
        if np.isclose(factor, edge)
    ]


def blocks_of(hour: Ints, horizon_h: int) -> Ints:
    """Return which block each forecast belongs to; twice the horizon long, most of two blocks share no hour ahead."""
    return np.asarray((hour - hour.min()) // max(BLOCK_H, 2 * horizon_h))


def losses_by_block(
    actual: Floats, quantiles: Floats, levels: Sequence[float], block: Ints, tried: Iterable[Floats | float]
) -> Floats:
    """Return one target's quantile loss summed over each block's forecasts, (tried, blocks), empty blocks left out.

    Args:
        actual: (forecasts, steps).
        quantiles: (forecasts, steps, levels), sorted.
        levels: their probabilities.
        block: of each forecast.
        tried: what the distances from the median are multiplied by: one number, or one a forecast (forecasts,).
    """
    at = np.asarray(levels, dtype=np.float64)
    median = quantiles[..., list(levels).index(0.5), None]
    apart, miss = quantiles - median, actual[..., None] - median
    _, of = np.unique(block, return_inverse=True)
    sums = []
    for factor in tried:
        over = miss - np.reshape(factor, (-1, 1, 1)) * apart
        sums.append(np.bincount(of, np.maximum(at * over, (at - 1) * over).sum(axis=(1, 2))))
    return np.array(sums)


def believed(tried: Floats, losses: Floats) -> float:
    """Return what has the least loss, shrunk towards 0 by what leaving out each block shows of its error.

    Args:
        tried: (tried,), evenly spaced, 0 for no change.
        losses: (tried, blocks).
    """
    total, blocks = losses.sum(axis=1, keepdims=True), losses.shape[1]
    (best,), without = _least(tried, total), _least(tried, total - losses)
    variance = (blocks - 1) / blocks * ((without - without.mean()) ** 2).sum()
    if blocks < 2 or best == 0:
        return 0.0
    return float(best * max(0.0, 1 - ERRORS**2 * variance / best**2))


def _least(tried: Floats, losses: Floats) -> Floats:
    """Return where each column of `losses` (tried, columns) is least, between those tried by a parabola.

    The nearest one tried would not do: leaving out a block moves it by a whole step or not at all, which is no error.
    """
    at = losses.argmin(axis=0)
    inside = np.clip(at, 1, len(tried) - 2)
    before, here, after = (np.take_along_axis(losses, (inside + step)[None], axis=0)[0] for step in (-1, 0, 1))
    bend = before - 2 * here + after
    off = np.where(bend > 0, (before - after) / 2 / np.where(bend > 0, bend, 1.0), 0.0)
    between = tried[inside] + np.clip(off, -0.5, 0.5) * (tried[1] - tried[0])
    return np.asarray(np.where(at == inside, between, tried[at]))

"""How much wider or narrower a forecast ought to be for how much its target has just moved.

A network of few steps learns how wide its quantiles are on average, and answers the volatility of the moment only
half-way. One exponent per target, which minimises the quantile loss over the training window, makes up for the rest:
the width goes with (lately / usual) ** exponent, `lately` being an exponentially weighted mean of the absolute hourly
changes (as RiskMetrics weights them, J.P. Morgan 1996) over the hours that the network sees. As with `spread`, only
what exceeds two of the exponent's own errors is believed. A network that answers as it should is left alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from oihedge.core.forecasts import PATH_TARGETS
from oihedge.forecast.panel import Floats, Ints
from oihedge.forecast.spread import believed, blocks_of, losses_by_block

HALF_LIFE_H = 6.0
LEAST = 0.05
"""What a target that stands still moves at least, in units of its training spread."""
MOST = 3.0
"""No forecast is made more than so many times as wide, or as narrow."""
EXPONENTS = np.arange(-10, 21) / 20
"""Those that are tried."""


@dataclass(frozen=True)
class Reaction:
    """Per target of the paths: the exponent, and what `lately` usually is; further targets, being levels, have none."""

    exponents: tuple[float, ...] = (0.0,) * len(PATH_TARGETS)
    usual: tuple[float, ...] = (1.0,) * len(PATH_TARGETS)

    def widths(self, lately: Floats) -> Floats:
        """Return what the distances from the median are multiplied by (forecasts, targets of the paths)."""
        return _widths(lately / np.asarray(self.usual), np.asarray(self.exponents))


def lately_moved(changes: Floats, rows: Ints, encoder_h: int) -> Floats:
    """Return how much each target moved over the encoder's hours, those at `rows` the newest: (forecasts, targets).

    Args:
        changes: hourly, in units of their training spread (rows, targets); a forecast reads its encoder's rows alone.
        rows: the instants, each with `encoder_h` unbroken rows of its asset.
        encoder_h: hours.
    """
    weights = 0.5 ** (np.arange(encoder_h) / HALF_LIFE_H)
    moved = [np.convolve(np.abs(of), weights / weights.sum())[rows] for of in changes.T]
    return np.asarray(np.maximum(np.column_stack(moved), LEAST))


def fit_reaction(actual: Floats, quantiles: Floats, levels: Sequence[float], lately: Floats, hour: Ints) -> Reaction:
    """Return the exponents of least quantile loss.

    Args:
        actual: what came (forecasts, targets, steps), the targets of the paths alone.
        quantiles: the network's forecasts (forecasts, targets, steps, levels), sorted.
        levels: their probabilities, 0.5 among them.
        lately: by `lately_moved` (forecasts, targets).
        hour: the instants of the forecasts (forecasts,).
    """
    usual = np.exp(np.log(lately).mean(axis=0))
    block = blocks_of(hour, actual.shape[-1])
    exponents = []
    for n, moved in enumerate((lately / usual).T):
        tried = (_widths(moved, exponent) for exponent in EXPONENTS)
        exponents.append(believed(EXPONENTS, losses_by_block(actual[:, n], quantiles[:, n], levels, block, tried)))
    return Reaction(tuple(exponents), tuple(usual.tolist()))


def _widths(moved: Floats, exponent: Floats | float) -> Floats:
    return np.asarray(np.clip(moved**exponent, 1 / MOST, MOST))

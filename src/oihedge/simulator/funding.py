"""The venues' funding rule: an interval's mean premium, and the interest rate's distance to it within a clamp."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from oihedge.simulator.parameters import Floats
from oihedge.simulator.settings import Simulator


def per_interval(settings: Simulator, mean: Floats, interval_h: int) -> Floats:
    """Return the rate of intervals of `interval_h` hours from their mean premium, rounded as the venues write it."""
    clamp = settings.funding_clamp
    per_8h = mean + np.clip(settings.interest_rate - mean, -clamp, clamp)
    return np.asarray(np.rint(per_8h * interval_h / 8.0 * 1e8) / 1e8)


def mean_premium(premium: Floats, ends: NDArray[np.int64], interval_h: int) -> Floats:
    """Return the mean of the hourly `premium` over the `interval_h` hours that end at each position of `ends`."""
    total = np.zeros(len(ends))
    for back in range(interval_h):
        total = total + premium[ends - back]
    return total / interval_h

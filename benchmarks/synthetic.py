"""Synthetic hours that every forecasting benchmark trains on, and the sizes it trains with.

numpy and pandas only: the benchmarks of other packages run in an environment where the project is not.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

HOURS, HELD_BACK = 8760, 1200
ENCODER, HORIZON, VARIABLES, KNOWN, BATCH = 168, 24, 22, 6, 128
HIDDEN = {"hidden_size": 32, "hidden_continuous_size": 16, "attention_head_size": 4, "dropout": 0.1}
QUANTILES = [0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98]
RATE, CLIP = 2e-3, 0.1


def frame(hours: int, assets: int = 3, seed: int = 7) -> pd.DataFrame:
    """Return hourly rows in which leverage builds up, volatility follows it, and both can be foretold in part.

    Columns: asset, hour, v0 to v5 (the clock, known ahead), v6 to v21 (two drivers, and noisy views on them), y, z.
    """
    draw = np.random.default_rng(seed)
    parts = []
    for number in range(assets):
        clock = np.arange(hours) * 2 * np.pi
        known = [
            np.sin(clock / 24),
            np.cos(clock / 24),
            np.sin(clock / 168),
            np.cos(clock / 168),
            np.sin(clock / 8),
            np.cos(clock / 8),
        ]
        level, heat = np.zeros(hours), np.zeros(hours)
        shocks = draw.standard_normal((2, hours))
        for t in range(1, hours):
            level[t] = 0.98 * level[t - 1] + 0.2 * shocks[0, t]
            heat[t] = 0.9 * heat[t - 1] + 0.3 * shocks[1, t]
        spread = np.exp(0.4 * heat + 0.3 * np.sin(clock / 24))
        noise = draw.standard_normal((2, hours)) * spread
        pull = np.roll(level, 1)
        y = 0.35 * np.tanh(-pull) + 0.2 * np.sin(clock / 24) + 0.5 * noise[0]
        z = -0.3 * pull * (heat > 0) + 0.2 * np.cos(clock / 168) + 0.5 * noise[1]
        views = [
            (level if k % 2 else heat) + draw.standard_normal(hours) * 0.5 * (1 + k / 4)
            for k in range(VARIABLES - KNOWN)
        ]
        columns = dict(zip((f"v{k}" for k in range(VARIABLES)), [*known, *views], strict=True))
        parts.append(pd.DataFrame({"asset": f"A{number}", "hour": np.arange(hours), **columns, "y": y, "z": z}))
    return pd.concat(parts, ignore_index=True)

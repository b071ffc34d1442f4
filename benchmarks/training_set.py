"""What both forecasting benchmarks measure on: synthetic hours of some assets, the stock network and the own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from pytorch_forecasting import TemporalFusionTransformer, TimeSeriesDataSet
from pytorch_forecasting.data.encoders import MultiNormalizer, NaNLabelEncoder, TorchNormalizer
from pytorch_forecasting.metrics import MultiLoss, QuantileLoss

from oihedge.forecast.tft import SharedTft

ENCODER, HORIZON, VARIABLES, KNOWN, BATCH = 168, 24, 22, 6, 128
WINDOWS, STRIDE = 16, 12
HIDDEN = {"hidden_size": 32, "hidden_continuous_size": 16, "attention_head_size": 4, "dropout": 0.1}
QUANTILES = [0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98]
RATE = 2e-3


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


def dataset(rows: pd.DataFrame) -> Any:
    """Return pytorch-forecasting's windows of `rows`; values are in scale already."""
    names = [f"v{k}" for k in range(VARIABLES)]
    return TimeSeriesDataSet(
        rows, time_idx="hour", target=["y", "z"], group_ids=["asset"],
        static_categoricals=["asset"] if rows["asset"].nunique() > 1 else [],
        time_varying_known_reals=names[:KNOWN], time_varying_unknown_reals=names[KNOWN:],
        min_encoder_length=ENCODER, max_encoder_length=ENCODER,
        min_prediction_length=HORIZON, max_prediction_length=HORIZON,
        target_normalizer=MultiNormalizer([TorchNormalizer(method="identity")] * 2),
        categorical_encoders={"asset": NaNLabelEncoder()}, scalers=dict.fromkeys(names),
    )  # fmt: skip


def network(kind: type[TemporalFusionTransformer], data: Any, seed: int) -> Any:
    """Return a network of that class with the weights of that seed."""
    torch.manual_seed(seed)
    return kind.from_dataset(
        data, **HIDDEN, loss=MultiLoss([QuantileLoss(QUANTILES)] * 2), learning_rate=RATE, optimizer="adam",
        logging_metrics=torch.nn.ModuleList([]), log_interval=-1, reduce_on_plateau_patience=10**6,
    )  # fmt: skip


class Plain(SharedTft):
    """The own network with the stock one's optimiser: Adam at a constant rate."""

    def configure_optimizers(self) -> Any:
        """Return fused Adam at a constant learning rate."""
        return torch.optim.Adam(self.trained(), lr=RATE, fused=True)

"""What both forecasting benchmarks measure on: windows of synthetic hours, the stock network and the own."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch
from pytorch_forecasting import TemporalFusionTransformer, TimeSeriesDataSet
from pytorch_forecasting.data.encoders import MultiNormalizer, NaNLabelEncoder, TorchNormalizer
from pytorch_forecasting.metrics import MultiLoss, QuantileLoss
from synthetic import ENCODER, HIDDEN, HORIZON, KNOWN, QUANTILES, RATE, VARIABLES
from synthetic import frame as frame

from oihedge.forecast.tft import SharedTft

WINDOWS, STRIDE = 16, 12


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

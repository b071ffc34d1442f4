"""What both forecasting benchmarks measure on: windows of synthetic hours, the stock network and the own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import torch
from pytorch_forecasting import TemporalFusionTransformer, TimeSeriesDataSet
from pytorch_forecasting.data.encoders import MultiNormalizer, NaNLabelEncoder, TorchNormalizer
from pytorch_forecasting.metrics import MultiLoss, QuantileLoss
from synthetic import ENCODER, HIDDEN, HORIZON, KNOWN, QUANTILES, RATE, VARIABLES
from synthetic import frame as frame

from oihedge.core.forecasts import PATH_TARGETS
from oihedge.forecast.calibration import Calibration, EventScore
from oihedge.forecast.learned import LearnedModel
from oihedge.forecast.reaction import Reaction
from oihedge.forecast.scaling import Scalers
from oihedge.forecast.scenarios import Copula, Scenarios
from oihedge.forecast.tft import SharedTft

WINDOWS, STRIDE = 16, 12
NAMES = [f"v{k}" for k in range(VARIABLES)]
AS_FEATURES = dict(zip(NAMES[-len(PATH_TARGETS) :], PATH_TARGETS, strict=True))
"""A model that is served reads its targets' own history: the last two variables stand for it."""
PATHS = 256


def dataset(rows: pd.DataFrame) -> Any:
    """Return pytorch-forecasting's windows of `rows`; values are in scale already."""
    return TimeSeriesDataSet(
        rows, time_idx="hour", target=["y", "z"], group_ids=["asset"],
        static_categoricals=["asset"] if rows["asset"].nunique() > 1 else [],
        time_varying_known_reals=NAMES[:KNOWN], time_varying_unknown_reals=NAMES[KNOWN:],
        min_encoder_length=ENCODER, max_encoder_length=ENCODER,
        min_prediction_length=HORIZON, max_prediction_length=HORIZON,
        target_normalizer=MultiNormalizer([TorchNormalizer(method="identity")] * 2),
        categorical_encoders={"asset": NaNLabelEncoder()}, scalers=dict.fromkeys(NAMES),
    )  # fmt: skip


def network(kind: type[TemporalFusionTransformer], data: Any, seed: int) -> Any:
    """Return a network of that class with the weights of that seed."""
    torch.manual_seed(seed)
    return kind.from_dataset(
        data, **HIDDEN, loss=MultiLoss([QuantileLoss(QUANTILES)] * 2), learning_rate=RATE, optimizer="adam",
        logging_metrics=torch.nn.ModuleList([]), log_interval=-1, reduce_on_plateau_patience=10**6,
    )  # fmt: skip


def forecaster(trained: SharedTft, assets: Sequence[str]) -> LearnedModel:
    """Return `trained` as the model that is saved and served: with scalers, scenarios and calibration of a usual size.

    What these hold is arbitrary: how long they take does not depend on it.
    """
    names, count = tuple(AS_FEATURES.get(name, name) for name in NAMES), len(assets)
    columns, targets = (count, VARIABLES), (count, len(PATH_TARGETS))
    scalers = Scalers(
        tuple(assets), names, PATH_TARGETS, np.zeros(columns), np.ones(columns), np.zeros(targets),
        np.full(targets, 0.01),
    )  # fmt: skip
    copula = Copula(np.eye(len(PATH_TARGETS) * HORIZON), freedom=6.0)
    return LearnedModel(
        network=trained, scalers=scalers, scenarios=Scenarios(copula, tuple(QUANTILES), PATHS, HORIZON, seed=7),
        score=EventScore(-3.0, (0.1,) * (VARIABLES + count)), calibration=Calibration(), known=names[:KNOWN],
        shape=(ENCODER, HORIZON), drop=0.1, threads=2, learnt_until=None, spread=(1.0,) * len(PATH_TARGETS),
        recalibration=np.ones((len(PATH_TARGETS), len(QUANTILES))), reaction=Reaction((0.3, 0.1)),
    )  # fmt: skip


def features(rows: pd.DataFrame) -> pl.DataFrame:
    """Return `rows` as the feature rows that a model is asked with: `ts` instead of the hour."""
    ts = pl.from_epoch(pl.Series(rows["hour"].to_numpy() * 3600), time_unit="s").dt.replace_time_zone("UTC")
    return pl.from_pandas(rows.drop(columns="hour")).with_columns(ts.alias("ts")).rename(AS_FEATURES)


class Plain(SharedTft):
    """The own network with the stock one's optimiser: Adam at a constant rate."""

    def configure_optimizers(self) -> Any:
        """Return fused Adam at a constant learning rate."""
        return torch.optim.Adam(self.trained(), lr=RATE, fused=True)

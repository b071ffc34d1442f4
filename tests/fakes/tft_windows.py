"""Small windows of pytorch-forecasting's and TFTs that fit them, stock's own settings and corners among them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from pytorch_forecasting import TimeSeriesDataSet
from pytorch_forecasting.data.encoders import GroupNormalizer, MultiNormalizer, NaNLabelEncoder
from pytorch_forecasting.metrics import MultiLoss, QuantileLoss

from oihedge.forecast.tft import SharedTft

LEVELS = [0.1, 0.5, 0.9]
QUIET = [
    # Lightning's hint about modules among hyper-parameters: no checkpoint of its kind is ever written
    pytest.mark.filterwarnings("ignore:Attribute '.*' is an instance of `nn.Module`:UserWarning"),
    # pytorch-forecasting's normalisers with pandas 3
    pytest.mark.filterwarnings("ignore:The given NumPy array is not writable:UserWarning"),
]
CORNERS = {
    "nothing known ahead": ({"assets": 1, "targets": 1, "known": 0}, {"attention_head_size": 1}, 0, 1),
    "everything known ahead": (
        {"assets": 1, "targets": 1, "known": 5, "shape": (2, 1)},
        {"attention_head_size": 1, "share_single_variable_networks": True}, 3, 2,
    ),
    "all there is": (
        {"static_reals": ["size"], "time_varying_known_categoricals": ["weekday"], "add_target_scales": True},
        {"hidden_size": 6, "lstm_layers": 2, "causal_attention": True}, 1, 2,
    ),
}  # fmt: skip


def frame(hours: int = 60, assets: int = 3, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    names = [f"v{i}" for i in range(5)]
    parts = [
        pd.DataFrame(rng.normal(size=(hours, 5)), columns=names).assign(
            asset=f"A{n}", hour=np.arange(hours), weekday=[str(k // 24 % 7) for k in range(hours)],
            size=float(n), y=rng.normal(size=hours) * 3 + n, z=rng.normal(size=hours),
        )
        for n in range(assets)
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def dataset(shape=(7, 3), assets=3, known=2, targets=2, hours=60, **more) -> TimeSeriesDataSet:
    names = ["y", "z"][:targets]
    scale = more.pop("normalizer", GroupNormalizer)
    normalizer = [scale(groups=["asset"]) if scale is GroupNormalizer else scale() for _ in names]
    settings_ = {
        "static_categoricals": ["asset"] if assets > 1 else [],
        "time_varying_known_reals": [f"v{i}" for i in range(known)],
        "time_varying_unknown_reals": [f"v{i}" for i in range(known, 5)],
        "min_encoder_length": shape[0], "max_encoder_length": shape[0],
        "min_prediction_length": shape[1], "max_prediction_length": shape[1],
    } | more  # fmt: skip
    return TimeSeriesDataSet(
        frame(hours, assets), time_idx="hour", target=names if targets > 1 else names[0], group_ids=["asset"],
        target_normalizer=MultiNormalizer(normalizer) if targets > 1 else normalizer[0],
        categorical_encoders={"asset": NaNLabelEncoder(), "weekday": NaNLabelEncoder()}, **settings_,
    )  # fmt: skip


def network(data, seed=0, **more) -> SharedTft:
    torch.manual_seed(seed)
    losses = [QuantileLoss(LEVELS) for _ in data.target_names]
    arguments = {"hidden_size": 8, "hidden_continuous_size": 4, "attention_head_size": 2, "dropout": 0.1} | more
    made = SharedTft.from_dataset(
        data, loss=MultiLoss(losses) if len(losses) > 1 else losses[0], logging_metrics=torch.nn.ModuleList([]),
        log_interval=-1, **arguments,
    )  # fmt: skip
    with torch.no_grad():  # biases and norms start at 0 and 1, where a mistake in them would not show
        for one in made.parameters():
            one.add_(torch.randn_like(one) * 0.2)
    return made.eval()


def gradients(model):
    return {name: one.grad.detach().clone() for name, one in model.named_parameters() if one.grad is not None}

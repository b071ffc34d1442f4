"""The Temporal Fusion Transformer itself: pytorch-forecasting's, told how to start and how to step."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from pytorch_forecasting import TemporalFusionTransformer
from pytorch_forecasting.data.encoders import MultiNormalizer, TorchNormalizer
from pytorch_forecasting.metrics import MultiLoss, QuantileLoss
from pytorch_forecasting.models.nn import LSTM

from oihedge.core.errors import ModelError
from oihedge.forecast.panel import TARGETS, Floats
from oihedge.forecast.settings import Forecast
from oihedge.forecast.windows import WindowTensors

_CHUNK = 512
_HYPER_PARAMETERS = (
    "hidden_size", "lstm_layers", "dropout", "output_size", "attention_head_size", "max_encoder_length",
    "static_categoricals", "static_reals", "time_varying_categoricals_encoder", "time_varying_categoricals_decoder",
    "categorical_groups", "time_varying_reals_encoder", "time_varying_reals_decoder", "x_reals", "x_categoricals",
    "hidden_continuous_size", "hidden_continuous_sizes", "embedding_sizes", "embedding_paddings", "embedding_labels",
    "share_single_variable_networks", "causal_attention", "mask_bias",
)  # fmt: skip


class _EvenLSTM(LSTM):  # type: ignore[misc]
    """Every window has the same lengths, so nothing needs packing; the numbers are the same."""

    def forward(self, x: Any, hx: Any = None, lengths: Any = None, enforce_sorted: bool = True) -> Any:
        return torch.nn.LSTM.forward(self, x, hx)


class Network(TemporalFusionTransformer):  # type: ignore[misc]
    """pytorch-forecasting's TFT with Adam and a one-cycle learning rate over `total_steps`; same state_dict."""

    total_steps: int = 1

    def configure_optimizers(self) -> Any:
        """Return fused Adam and its one-cycle schedule, stepped every batch."""
        rate = float(self.hparams.learning_rate)
        optimizer = torch.optim.Adam(self.parameters(), lr=rate, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=rate, total_steps=max(self.total_steps, 2), pct_start=0.2, final_div_factor=50
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def network_for(dataset: Any, settings: Forecast) -> Network:
    """Build an untrained network that fits `dataset`."""
    with _no_hint():
        network: Network = Network.from_dataset(
            dataset,
            hidden_size=settings.hidden_size,
            hidden_continuous_size=settings.hidden_continuous_size,
            attention_head_size=settings.attention_heads,
            dropout=settings.dropout,
            learning_rate=settings.learning_rate,
            loss=_loss(settings.quantiles),
            logging_metrics=torch.nn.ModuleList([]),
        )
    return _evened(network)


def network_from(stored: Mapping[str, Any]) -> Network:
    """Build the network that `hyper_parameters` described, with fresh weights.

    Raises:
        ModelError: if the description does not make a network.
    """
    try:
        arguments = {name: stored["arguments"][name] for name in _HYPER_PARAMETERS}
        arguments["embedding_sizes"] = {name: tuple(size) for name, size in arguments["embedding_sizes"].items()}
        with _no_hint():
            network = Network(
                **arguments,
                loss=_loss(stored["quantiles"]),
                logging_metrics=torch.nn.ModuleList([]),
                output_transformer=MultiNormalizer([TorchNormalizer(method="identity") for _ in TARGETS]),
            )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"the stored network cannot be rebuilt: {type(error).__name__} {error}") from error
    return _evened(network)


def hyper_parameters(network: Network, quantiles: Sequence[float]) -> dict[str, Any]:
    """Return, as plain JSON values, all that `network_from` needs."""
    arguments = {name: network.hparams[name] for name in _HYPER_PARAMETERS}
    plain: dict[str, Any] = json.loads(json.dumps({"arguments": arguments, "quantiles": list(quantiles)}))
    return plain


def start_at(network: Network, quantiles: Floats) -> None:
    """Let an untrained network forecast `quantiles` (targets, levels), so that training starts from the baseline."""
    with torch.no_grad():
        for layer, start in zip(network.output_layer, quantiles, strict=True):
            layer.weight.mul_(0.1)
            layer.bias.copy_(torch.as_tensor(start, dtype=torch.float32))


def forecast_windows(network: Network, tensors: WindowTensors, first: torch.Tensor) -> Floats:
    """Return the network's quantiles (windows, targets, steps, levels) in scaled units, in float64."""
    network.eval()
    parts = []
    with torch.inference_mode():
        for part in torch.split(first, _CHUNK):
            x, _ = tensors.batch(part)
            parts.append(torch.stack(network(x)["prediction"], dim=1).double())
    return torch.cat(parts).numpy()


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Run with `count` threads: sums, and so weights, depend on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _no_hint() -> Iterator[None]:
    """Keep Lightning's hint about modules among hyper-parameters away: no checkpoint of its kind is ever written."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Attribute '.*' is an instance of `nn.Module`.*")
        yield


def _loss(quantiles: Sequence[float]) -> MultiLoss:
    return MultiLoss([QuantileLoss(list(quantiles)) for _ in TARGETS])


def _evened(network: Network) -> Network:
    network.lstm_encoder.__class__ = _EvenLSTM
    network.lstm_decoder.__class__ = _EvenLSTM
    return network

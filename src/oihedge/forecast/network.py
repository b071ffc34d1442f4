"""The Temporal Fusion Transformer itself: pytorch-forecasting's, trained and asked in shared segments."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from pytorch_forecasting import TemporalFusionTransformer
from pytorch_forecasting.data.encoders import MultiNormalizer, TorchNormalizer
from pytorch_forecasting.metrics import MultiLoss, QuantileLoss

from oihedge.core.errors import ModelError
from oihedge.forecast.folding import fold
from oihedge.forecast.panel import TARGETS, Floats, Ints
from oihedge.forecast.parallel import flat_loss, parallel_loss, predict_in_parallel
from oihedge.forecast.segments import Batch, Cover, Rows
from oihedge.forecast.settings import Forecast

_FLAT = "_flat"
_HYPER_PARAMETERS = (
    "hidden_size", "lstm_layers", "dropout", "output_size", "attention_head_size", "max_encoder_length",
    "static_categoricals", "static_reals", "time_varying_categoricals_encoder", "time_varying_categoricals_decoder",
    "categorical_groups", "time_varying_reals_encoder", "time_varying_reals_decoder", "x_reals", "x_categoricals",
    "hidden_continuous_size", "hidden_continuous_sizes", "embedding_sizes", "embedding_paddings", "embedding_labels",
    "share_single_variable_networks", "causal_attention", "mask_bias",
)  # fmt: skip


class Network(TemporalFusionTransformer):  # type: ignore[misc]
    """pytorch-forecasting's TFT with Adam and a one-cycle learning rate over `total_steps`; same state_dict.

    It takes pytorch-forecasting's own batches as ever, and a `Batch` of segments by the shared path, of which `workers`
    threads each do a part.
    """

    total_steps: int = 1
    workers: int = 1
    seed: int = 0
    compiled: bool = True

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """Return the loss of a batch."""
        if not isinstance(batch, Batch):
            return super().training_step(batch, batch_idx)
        step = int(self.global_step)
        seeds = np.random.SeedSequence([self.seed, step]).generate_state(self.workers).tolist()
        loss = parallel_loss(fold(self), batch, seeds, compiled=self.compiled)
        flat = self.__dict__.get(_FLAT)
        if flat is not None:
            loss = flat_loss(loss, list(self.parameters()), flat)
        self.log("train_loss", loss.detach(), on_step=True, on_epoch=True, batch_size=batch.segments.offsets.numel())
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        """Log the loss of a batch."""
        if not isinstance(batch, Batch):
            return super().validation_step(batch, batch_idx)
        loss = parallel_loss(fold(self), batch, [None] * self.workers, compiled=self.compiled)
        self.log("val_loss", loss, on_step=False, on_epoch=True, batch_size=batch.segments.offsets.numel())
        return None

    def trained(self) -> list[torch.Tensor]:
        """Return what the optimiser steps: all parameters, or the one that they are views of (`in_one_piece`)."""
        flat = self.__dict__.get(_FLAT)
        return list(self.parameters()) if flat is None else [flat]

    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        """Leave segments where they are, on the CPU."""
        return batch if isinstance(batch, Batch) else super().transfer_batch_to_device(batch, device, dataloader_idx)

    def configure_optimizers(self) -> Any:
        """Return fused Adam and its one-cycle schedule, stepped every batch."""
        rate = float(self.hparams.learning_rate)
        optimizer = torch.optim.Adam(self.trained(), lr=rate, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=rate, total_steps=max(self.total_steps, 2), pct_start=0.2, final_div_factor=50
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


@contextmanager
def in_one_piece(network: Network) -> Iterator[None]:
    """Let all parameters be views of one, so that clipping and stepping are two operations instead of hundreds."""
    parts = list(network.parameters())
    flat = torch.nn.Parameter(torch.cat([part.detach().flatten() for part in parts]))
    for part, view in zip(parts, torch.split(flat.data, [part.numel() for part in parts]), strict=True):
        part.data = view.view_as(part)
    network.__dict__[_FLAT] = flat
    try:
        yield
    finally:
        del network.__dict__[_FLAT]
        for part in parts:
            part.data = part.data.clone()


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
    return network


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
    return network


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


def forecast_windows(network: Network, rows: Rows, first: Ints) -> Floats:
    """Return the network's quantiles (windows, targets, steps, levels) in scaled units, in float64, as `first` asks."""
    network.eval()
    cover = Cover(rows, first)
    said = predict_in_parallel(network, list(cover), network.workers, compiled=network.compiled)
    return np.asarray(torch.cat(said).double().numpy()[cover.order])


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

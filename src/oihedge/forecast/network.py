"""What every trained network shares: steps on segments, optimiser and schedule, its parameters in one piece."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from lightning.pytorch import LightningModule
from pytorch_forecasting.metrics import MultiLoss, QuantileLoss

from oihedge.core.errors import ModelError, one_line
from oihedge.forecast.categories import Categories, known_categories, no_categories
from oihedge.forecast.one_piece import HELD_BY, OnePiece
from oihedge.forecast.panel import Floats, Ints, Panel
from oihedge.forecast.segments import Batch, Cover, Rows
from oihedge.forecast.settings import Forecast


class Network(LightningModule, ABC):  # type: ignore[misc]
    """Windows in segments to quantiles, trained with Adam and a one-cycle learning rate over `total_steps`.

    Its `loss` is pytorch-forecasting's, its `hparams` hold the highest learning rate, and its `output_layer` is one
    linear layer per target, whose outputs end with the quantile levels.
    """

    kind: ClassVar[str]
    output_layer: Any
    total_steps: int = 1
    reads_categories: ClassVar[bool] = False
    """Whether it looks at `known_categories` of the hours ahead."""
    compiled: bool = False
    """Whether it computes by compiled loops."""
    workers: int = 1
    seed: int = 0
    bf16: bool = False
    """Whether steps of training compute in bfloat16 what holds in it; all else is judged as it will forecast."""

    @classmethod
    def categories_of(cls, panel: Panel, known: Sequence[str]) -> Categories:
        """Return what its windows carry after the asset's code: `known_categories`, or none."""
        return known_categories(panel, known) if cls.reads_categories else no_categories(panel)

    @classmethod
    @abstractmethod
    def untrained(cls, dataset: Any, settings: Forecast) -> Self:
        """Build a network that fits the windows of a TimeSeriesDataSet, with fresh weights."""

    @classmethod
    @abstractmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Build the network that `as_json` described, with fresh weights.

        Raises:
            ModelError: if the description does not make a network.
        """

    @classmethod
    def bytes_of(cls, stored: Mapping[str, Any]) -> int:
        """Return how many bytes the weights of the network that `as_json` described take, without taking them.

        Raises:
            ModelError: if the description does not make a network.
        """
        try:
            with torch.device("meta"):
                state = cls.from_json(stored).state_dict(keep_vars=True)
        except (RuntimeError, OverflowError) as error:
            raise ModelError(f"the stored network cannot be rebuilt: {one_line(error)}") from error
        return sum({id(value): value.nbytes for value in state.values()}.values())

    @abstractmethod
    def as_json(self) -> dict[str, Any]:
        """Return, as plain JSON values, all that `from_json` needs."""

    @property
    @abstractmethod
    def reads_and_says(self) -> tuple[tuple[str, ...], tuple[str, ...], tuple[float, ...]]:
        """Return the names of its inputs in order, of those known ahead, and the levels of its quantiles."""

    @abstractmethod
    def batch_loss(self, batch: Batch, seeds: Sequence[int | None]) -> torch.Tensor:
        """Return the quantile loss of a batch, with a dropout seed for each of the workers; None drops nothing."""

    @abstractmethod
    def batch_quantiles(self, cover: Cover) -> list[torch.Tensor]:
        """Return, batch by batch, (windows, targets, steps, levels)."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """Return the loss of a batch."""
        step = int(self.global_step)
        seeds = np.random.SeedSequence([self.seed, step]).generate_state(self._parts).tolist()
        loss = self.batch_loss(batch, seeds)
        if self.one_piece is not None:
            loss = self.one_piece.flat(loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        """Log the loss of a batch."""
        loss = self.batch_loss(batch, [None] * self._parts)
        self.log("val_loss", loss, on_step=False, on_epoch=True, batch_size=batch.segments.offsets.numel())

    @property
    def _parts(self) -> int:
        """Return in how many parts a step is worked out; a GPU takes it whole."""
        return self.workers if self.device.type == "cpu" else 1

    @property
    def one_piece(self) -> OnePiece | None:
        """Return what all parameters are views of, while they are (`in_one_piece`)."""
        return self.__dict__.get(HELD_BY)

    def trained(self) -> list[torch.Tensor]:
        """Return what the optimiser steps: all parameters, or the one that they are views of."""
        return list(self.parameters()) if self.one_piece is None else [self.one_piece.whole]

    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        """Leave segments where they are: the rows that they were cut from are on the device already."""
        return batch if isinstance(batch, Batch) else super().transfer_batch_to_device(batch, device, dataloader_idx)

    def configure_optimizers(self) -> Any:
        """Return fused Adam and its one-cycle schedule, stepped every batch."""
        rate = float(self.hparams.learning_rate)
        optimizer = torch.optim.Adam(self.trained(), lr=rate, fused=True)
        # Of five steps, a rise over a fifth ends at the first: its length of none is what torch would divide by.
        rise = 0.1 if self.total_steps == 5 else 0.2
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=rate, total_steps=max(self.total_steps, 2), pct_start=rise, final_div_factor=50
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def start_at(self, quantiles: Floats) -> None:
        """Let an untrained network forecast `quantiles` (targets, levels): training starts from the baseline."""
        with torch.no_grad():
            for layer, start in zip(self.output_layer, quantiles, strict=True):
                layer.weight.mul_(0.1)
                bias = torch.as_tensor(start, dtype=torch.float32)
                layer.bias.copy_(bias.repeat(layer.out_features // len(bias)))


def quantile_losses(levels: Sequence[float], targets: int) -> MultiLoss:
    """Return the loss of the quantiles at `levels` of as many targets."""
    return MultiLoss([QuantileLoss(list(levels)) for _ in range(targets)])


def forecast_windows(network: Network, rows: Rows, first: Ints) -> Floats:
    """Return the network's quantiles (windows, targets, steps, levels) in scaled units, in float64, as `first` asks."""
    if network.training:  # walking through hundreds of modules takes as long as a small forecast
        network.eval()
    cover = Cover(rows, first)
    return np.asarray(torch.cat(network.batch_quantiles(cover)).double().numpy()[cover.order])

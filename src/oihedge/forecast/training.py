"""One bounded training run with Lightning: seeded, silent, nothing left on disk."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import lightning.pytorch as lightning
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, Timer

from oihedge.core.errors import ModelError
from oihedge.core.protocols import EpochReporter
from oihedge.forecast.network import Network, in_one_piece
from oihedge.forecast.segments import Cover, Deck
from oihedge.forecast.settings import Forecast


@dataclass(frozen=True)
class Trained:
    """How a training run went; `stopped_by` is epochs, patience or time."""

    epochs: int
    steps: int
    best_epoch: int
    best_loss: float
    stopped_by: str


class _Best(Callback):  # type: ignore[misc]
    """Reports each epoch and keeps the weights of the best one in memory."""

    def __init__(self, report: EpochReporter) -> None:
        self._report = report
        self._reported = -1
        self.loss, self.epoch = float("inf"), -1
        self.state: dict[str, torch.Tensor] = {}

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        loss = metrics.get("val_loss", float("inf"))
        if loss < self.loss:
            self.loss, self.epoch = loss, trainer.current_epoch
            self.state = {name: value.clone() for name, value in pl_module.state_dict().items()}
        told = {"train_loss": metrics.get("train_loss_epoch"), "val_loss": metrics.get("val_loss")}
        self._report(trainer.current_epoch, {name: value for name, value in told.items() if value is not None})


def train(network: Network, training: Deck, validation: Cover, settings: Forecast, report: EpochReporter) -> Trained:
    """Train `network` in place; it ends with the weights of its best epoch on `validation`.

    Raises:
        ModelError: if the loss was never a number.
    """
    best, patience = _Best(report), EarlyStopping("val_loss", patience=settings.patience, check_finite=True)
    timer = Timer(timedelta(seconds=settings.max_train_s), interval="step", verbose=False)
    network.total_steps = settings.max_epochs * len(training)
    with _quiet(), in_one_piece(network):
        trainer = lightning.Trainer(
            accelerator="cpu", devices=1, max_epochs=settings.max_epochs, min_epochs=1, min_steps=1,
            gradient_clip_val=settings.gradient_clip, callbacks=[best, patience, timer], logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            num_sanity_val_steps=0, use_distributed_sampler=False,
        )  # fmt: skip
        trainer.fit(network, training, validation)
    if not best.state:
        raise ModelError(
            "training gave no finite loss", expected="a falling quantile loss", do="lower forecast.learning_rate"
        )
    network.load_state_dict(best.state)
    network.trainer = None
    return Trained(
        epochs=trainer.current_epoch,
        steps=trainer.global_step,
        best_epoch=best.epoch,
        best_loss=best.loss,
        stopped_by=_stopped_by(trainer, timer, patience),
    )


def _stopped_by(trainer: Any, timer: Any, patience: Any) -> str:
    if patience.stopped_epoch:
        return "patience"
    remaining = timer.time_remaining()
    if trainer.should_stop and remaining is not None and remaining <= 0:
        return "time"
    return "epochs"


@contextmanager
def _quiet() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "lightning")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for message in (".*does not have many workers.*", ".*smaller than the logging interval.*", ".*LeafSpec.*"):
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

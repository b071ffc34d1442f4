"""One bounded training run with Lightning: seeded, silent, and resumable at its last finished epoch."""

from __future__ import annotations

import json
import logging
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint, EarlyStopping, Timer

from oihedge.core.errors import ConfigError, ModelError
from oihedge.core.protocols import EpochReporter
from oihedge.forecast.checkpoint import State, read_checkpoint, sum_of, write_checkpoint
from oihedge.forecast.memory import kept_memory
from oihedge.forecast.network import Network
from oihedge.forecast.one_piece import in_one_piece
from oihedge.forecast.parallel import quantile_loss
from oihedge.forecast.segments import Cover, Deck
from oihedge.forecast.settings import Forecast

DIVERGED = 2.0
"""A best loss above so many times `baseline_loss` is that of a fit that ran away: it forecasts nonsense."""


@dataclass(frozen=True)
class Trained:
    """How a training run went; `stopped_by` is epochs, patience or time, `start` tells of the checkpoint.

    `baseline_loss` is that of forecasting, at any hour, the quantiles of all hours that are learnt from.
    """

    epochs: int
    steps: int
    best_epoch: int
    best_loss: float
    baseline_loss: float
    stopped_by: str
    start: str


class _Best(Callback):  # type: ignore[misc]
    """Reports each epoch and keeps the weights of the best one in memory."""

    def __init__(self, report: EpochReporter) -> None:
        self._report = report
        self.told: list[dict[str, float]] = []
        self.loss, self.epoch = float("inf"), -1
        self.state: dict[str, torch.Tensor] = {}
        self._sum, self._batches = torch.zeros(()), 0

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._sum, self._batches = torch.zeros((), device=pl_module.device), 0

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        # A deck's batches are of one size. Lightning's own log would take a millisecond a step.
        self._sum, self._batches = self._sum + outputs["loss"], self._batches + 1

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        loss = metrics.get("val_loss", float("inf"))
        if loss < self.loss:
            self.loss, self.epoch = loss, trainer.current_epoch
            self.state = {name: value.clone() for name, value in pl_module.state_dict().items()}
        told = {"train_loss": float(self._sum / self._batches), "val_loss": metrics.get("val_loss")}
        self.told.append({name: value for name, value in told.items() if value is not None})
        self._report(trainer.current_epoch, self.told[-1])

    def restore(self, state: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:
        """Stand where the run did that said `facts`, and report its epochs again."""
        self.loss, self.epoch, self.told, self.state = facts["loss"], facts["epoch"], facts["told"], state
        for epoch, told in enumerate(self.told):
            self._report(epoch, told)


class _Keeper(Checkpoint):  # type: ignore[misc]
    """Keeps the whole state of a run on disk, epoch by epoch; as a Checkpoint it is called after early stopping."""

    def __init__(self, path: Path, fingerprint: str, deck: Deck, best: _Best, patience: Any, timer: Any) -> None:
        self._path, self._fingerprint = path, fingerprint
        self._deck, self._best, self._patience, self._timer = deck, best, patience, timer
        self._found: State | None = None

    def resume(self, trainer: Any, network: Network) -> str:
        """Put back what an earlier process left, all but what `on_train_start` does, and say whether it did."""
        try:
            found = read_checkpoint(self._path, self._fingerprint)
        except ModelError as error:
            return f"anew: {error}"
        if found is None:
            return "anew"
        facts, self._found = found.facts, found
        network.load_state_dict(found.under("weights."))
        self._best.restore(found.under("best."), facts["best"])
        self._deck.restore(found.under("deck."), facts["deck"])
        best_score = torch.tensor(facts["patience"]["best_score"])
        self._patience.load_state_dict({**facts["patience"], "best_score": best_score})
        self._timer.load_state_dict(facts["timer"])
        progress = trainer.fit_loop.epoch_progress.current
        progress.ready = progress.started = progress.processed = progress.completed = facts["epochs"]
        steps = trainer.fit_loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step.total
        steps.ready = steps.completed = facts["steps"]
        trainer.should_stop = facts["over"]
        return f"resumed after {facts['epochs']} epochs"

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Put back what exists only now, and the random state that setting up has moved."""
        if self._found is None:
            return
        state: dict[int, dict[str, Any]] = {}
        for name, value in self._found.under("optimizer.").items():
            index, _, part = name.partition(".")
            state.setdefault(int(index), {})[part] = value
        facts = self._found.facts
        trainer.optimizers[0].load_state_dict({"state": state, "param_groups": facts["groups"]})
        trainer.lr_scheduler_configs[0].scheduler.load_state_dict(facts["schedule"])
        torch.set_rng_state(self._found.tensors["rng"])

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        optimizer, best, patience = trainer.optimizers[0].state_dict(), self._best, self._patience.state_dict()
        cut, deck = self._deck.state()
        parts = {
            "weights.": pl_module.state_dict(),
            "best.": best.state,
            "deck.": cut,
            **{f"optimizer.{index}.": state for index, state in optimizer["state"].items()},
        }
        tensors = {prefix + name: value.cpu() for prefix, part in parts.items() for name, value in part.items()}
        epochs = trainer.current_epoch + 1  # Lightning counts it only after the callbacks
        facts = {
            "epochs": epochs, "steps": trainer.global_step, "deck": deck,
            "over": trainer.should_stop or epochs >= trainer.max_epochs,
            "best": {"loss": best.loss, "epoch": best.epoch, "told": best.told},
            "patience": {**patience, "best_score": float(patience["best_score"])},
            "timer": self._timer.state_dict(), "groups": optimizer["param_groups"],
            "schedule": trainer.lr_scheduler_configs[0].scheduler.state_dict(),
        }  # fmt: skip
        write_checkpoint(self._path, State({**tensors, "rng": torch.get_rng_state()}, facts), self._fingerprint)


class _OwnSigterm(Callback):  # type: ignore[misc]
    """Leaves SIGTERM to whoever handled it before: Lightning ends the process with exit code 0, batches later."""

    def __init__(self) -> None:
        self._handler = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        if self._handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._handler)


def train(
    network: Network, training: Deck, validation: Cover, settings: Forecast, report: EpochReporter, *,
    checkpoint: Path | None = None,
) -> Trained:  # fmt: skip
    """Train `network` in place; it ends with the weights of its best epoch on `validation`.

    Args:
        network: what is trained, from the weights that it has.
        training: dealt from; its rows stay on the accelerator afterwards, as those of `validation` do.
        validation: what each epoch is judged on.
        settings: bounds of the training.
        report: told each epoch's train_loss and val_loss; those before a resumption are told again.
        checkpoint: where the state after each epoch is kept. A training killed at any moment goes on from there when it
            is started again with the same weights, data and settings, and ends with the very same weights. The file
            stays when training has ended, so that what comes after may be killed too; removing it is the caller's.

    Raises:
        ConfigError: if this machine lacks the accelerator.
        ModelError: if the loss was never a number, or at its best is far above that of no model at all.
        KeyboardInterrupt: on Ctrl-C, as anywhere else.
    """
    device = accelerator(settings)
    best, patience = _Best(report), EarlyStopping("val_loss", patience=settings.patience, check_finite=True)
    timer = Timer(timedelta(seconds=settings.max_train_s), interval="step", verbose=False)
    network.total_steps, network.bf16 = settings.max_epochs * len(training), settings.precision == "bf16"
    callbacks, start = [best, patience, timer, _OwnSigterm()], "anew"
    if checkpoint is not None:
        fingerprint = _fingerprint(network, training, validation, settings)
        callbacks.append(keeper := _Keeper(checkpoint, fingerprint, training, best, patience, timer))
    for rows in (training.rows, validation.rows):
        rows.to(device)
    # On a GPU an LSTM lays its weights out anew for cuDNN, wherever they were.
    with _quiet(), kept_memory(), in_one_piece(network) if device.type == "cpu" else nullcontext():
        trainer = lightning.Trainer(
            accelerator=device.type, devices=1, max_epochs=settings.max_epochs, min_epochs=1, min_steps=1,
            gradient_clip_val=settings.gradient_clip, callbacks=callbacks, logger=False,
            enable_checkpointing=checkpoint is not None, enable_progress_bar=False, enable_model_summary=False,
            num_sanity_val_steps=0, use_distributed_sampler=False,
        )  # fmt: skip
        if checkpoint is not None:
            start = keeper.resume(trainer, network)
        if not trainer.should_stop:
            with _told_of_ctrl_c():
                trainer.fit(network, training, validation)
    baseline = _baseline_loss(network, training, validation)
    _require_learning(best, baseline)
    network.load_state_dict(best.state)
    network.trainer = None
    return Trained(
        epochs=trainer.current_epoch,
        steps=trainer.global_step,
        best_epoch=best.epoch,
        best_loss=best.loss,
        baseline_loss=baseline,
        stopped_by=_stopped_by(trainer, timer, patience),
        start=start,
    )


def _require_learning(best: _Best, baseline: float) -> None:
    """Refuse a training that ran away."""
    if not best.state:
        raise ModelError(
            "training gave no finite loss", expected="a falling quantile loss", do="lower forecast.learning_rate"
        )
    if best.loss > DIVERGED * baseline:
        raise ModelError(
            "training diverged",
            expected=f"a loss below {baseline:.4g}, that of the same quantiles at every hour",
            got=f"{best.loss:.4g} at best",
            do="lower forecast.learning_rate",
        )


def _baseline_loss(network: Network, training: Deck, validation: Cover) -> float:
    """Return the loss on `validation` of the quantiles of all `training` rows, whatever the window."""
    _, _, levels = network.reads_and_says
    quantiles = [torch.as_tensor(np.quantile(aim.cpu().numpy(), levels)).to(aim) for aim in training.rows.targets]
    losses, windows = [], []
    for batch in validation:
        said = [same.expand(*aim.shape, -1) for same, aim in zip(quantiles, batch.targets, strict=True)]
        losses.append(float(quantile_loss(network, said, batch.targets)))
        windows.append(len(batch.targets[0]))
    return float(np.average(losses, weights=windows))


def accelerator(settings: Forecast) -> torch.device:
    """Return what trains a network.

    Raises:
        ConfigError: if this machine lacks it.
    """
    if settings.accelerator == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "forecast.accelerator asks for a GPU that is not there",
            expected="a GPU that torch can use",
            got=f"torch {torch.__version__}, which finds none",
            do="set forecast.accelerator=cpu, or install a build of torch for this machine's GPU",
        )
    return torch.device(settings.accelerator)


def _fingerprint(network: Network, training: Deck, validation: Cover, settings: Forecast) -> str:
    """Digest all that the weights at the end depend on."""
    cut, deck = training.state()
    judged = {
        f"{number} {name}": value
        for number, batch in enumerate(validation)
        for name, value in (("reals", batch.segments.reals), *((f"target {i}", t) for i, t in enumerate(batch.targets)))
    }
    texts = [
        settings.model_dump_json(),
        json.dumps(deck),
        f"{len(training)} {network.workers} {network.seed} {network.compiled}",
    ]
    return sum_of(texts, {**network.state_dict(), **training.tensors(), **cut, **judged})


def _stopped_by(trainer: Any, timer: Any, patience: Any) -> str:
    if patience.stopped_epoch:
        return "patience"
    remaining = timer.time_remaining()
    if trainer.should_stop and remaining is not None and remaining <= 0:
        return "time"
    return "epochs"


@contextmanager
def _told_of_ctrl_c() -> Iterator[None]:
    """Let Ctrl-C be what it is elsewhere: Lightning makes it an exit without a word."""
    try:
        yield
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt("stopped by Ctrl-C (SIGINT)") from None
        raise


@contextmanager
def _quiet() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "lightning")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for message in (
                ".*does not have many workers.*",
                ".*smaller than the logging interval.*",
                ".*LeafSpec.*",
                ".*not part of single contiguous chunk.*",
            ):
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

"""Fit a network: train it, then learn what turns its quantiles into p_unwind."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from oihedge.core.errors import DataError, ModelError, is_out_of_memory, one_line
from oihedge.core.forecasts import PATH_TARGETS
from oihedge.core.protocols import EpochReporter, FittedModel
from oihedge.forecast.blocks import Blocks
from oihedge.forecast.calibration import Calibration, EventScore, fit_calibration, fit_event_score
from oihedge.forecast.kinds import network_class
from oihedge.forecast.learned import LearnedModel
from oihedge.forecast.memory import kept_memory
from oihedge.forecast.panel import Floats, Ints, Mask, Roles
from oihedge.forecast.reaction import fit_reaction
from oihedge.forecast.recalibration import fit_recalibration, recalibrated
from oihedge.forecast.scaling import Scalers, fit_scalers
from oihedge.forecast.scenarios import Copula, Scenarios, fit_copula, probability_transform
from oihedge.forecast.segments import Cover, Rows, evenly
from oihedge.forecast.settings import Forecast
from oihedge.forecast.spread import fit_spread, widened
from oihedge.forecast.threads import torch_threads
from oihedge.forecast.training import accelerator, train
from oihedge.forecast.unwind import unwind_labels
from oihedge.forecast.warm_start import warm_start
from oihedge.forecast.windows import first_rows, training_batches, window_dataset

TRAINING_FORECASTS = 4096
"""Forecasts of the training window, evenly spaced, that quantiles are judged on: neighbours overlap almost wholly."""


def fit_learned(
    blocks: Blocks, roles: Roles, settings: Forecast, report: EpochReporter, *,
    checkpoint: Path | None = None, start_from: FittedModel | None = None,
) -> LearnedModel:  # fmt: skip
    """Train the network on the learning rows and the event score on the training window, then calibrate held back.

    Raises:
        DataError: if a target is constant or a block holds no whole window.
        ConfigError: if this machine lacks the accelerator.
        ModelError: if training gave no finite loss, or memory did not suffice.
    """
    began = time.perf_counter()
    accelerator(settings)
    rows = blocks.calibration_instants(settings.calibration_stride_h)
    _require_windows(blocks)
    _require(rows, "calibration block", blocks.shape)
    _require(blocks.validation_instants(), "held-back tail of the training window", blocks.shape)
    scalers = fit_scalers(blocks.panel, blocks.panel.columns, settings.targets, blocks.learning)
    label, _ = unwind_labels(blocks.panel, settings.horizon_h, settings.drop)
    score = _event_score(blocks, scalers, label, settings)
    with torch.random.fork_rng(devices=[]), torch_threads(settings.threads), _enough_memory(blocks, settings):
        torch.manual_seed(settings.seed)
        untold = _train(blocks, roles, scalers, score, settings, report, checkpoint, start_from)
    with kept_memory():
        model, calibrated = _calibrate(untold, blocks, rows, label, settings)
    model.facts = {**untold.facts, **calibrated, "fit_seconds": time.perf_counter() - began}
    return model


def _train(
    blocks: Blocks, roles: Roles, scalers: Scalers, score: EventScore, settings: Forecast, report: EpochReporter,
    checkpoint: Path | None, start_from: FittedModel | None,
) -> LearnedModel:  # fmt: skip
    """Return the trained model, not yet calibrated."""
    panel, shape, learning = blocks.panel, blocks.shape, blocks.learning & blocks.complete
    dataset, held_back = _laid_out(blocks, roles, scalers, settings)
    network = network_class(settings.model).untrained(dataset, settings)
    network.start_at(np.quantile(scalers.scaled_targets(panel)[learning], settings.quantiles, axis=0).T)
    network.seed = settings.seed
    independent = Copula(np.eye(len(PATH_TARGETS) * settings.horizon_h))
    model = LearnedModel(
        network=network, scalers=scalers, scenarios=_scenarios(independent, settings), score=score,
        calibration=Calibration(), known=tuple(roles.known), shape=shape, drop=settings.drop, threads=settings.threads,
        learnt_until=blocks.last_training_hour, spread=(1.0,) * len(settings.targets),
        recalibration=np.ones((len(settings.targets), len(settings.quantiles))),
    )  # fmt: skip
    warm = warm_start(model, start_from)
    validation = evenly(first_rows(blocks.validation_instants(), shape[0]), settings.validation_windows)
    deck = training_batches(
        dataset, batch_size=settings.batch_size, windows=settings.segment_windows, stride=settings.segment_stride_h,
        steps=settings.max_steps_per_epoch, seed=settings.seed,
    )  # fmt: skip
    trained = train(network, deck, Cover(held_back, validation), settings, report, checkpoint=checkpoint)
    model.facts = {
        "model": settings.model, **asdict(trained), "warm_start": warm, "train_rows": int(learning.sum()),
        "train_windows": len(dataset), "parameters": sum(p.numel() for p in network.parameters()),
        "compiled_loops": network.compiled,
    }  # fmt: skip
    return model


def _laid_out(blocks: Blocks, roles: Roles, scalers: Scalers, settings: Forecast) -> tuple[Any, Rows]:
    """Return the windows to learn from, and the tensors that the held-back ones are cut from."""
    panel, shape = blocks.panel, blocks.shape
    inputs, targets = scalers.inputs(panel), scalers.scaled_targets(panel)
    categories = network_class(settings.model).categories_of(panel, roles.known)
    learning = blocks.learning & blocks.complete
    dataset = window_dataset(panel, roles.known, inputs, targets, learning, shape, categories)
    return dataset, Rows.of_panel(panel, inputs, shape, targets, categories.codes)


def _event_score(blocks: Blocks, scalers: Scalers, label: Mask, settings: Forecast) -> EventScore:
    panel, rows = blocks.panel, blocks.training_instants()
    inputs = scalers.inputs(panel)[rows]
    effective = len(rows) / settings.horizon_h
    return fit_event_score(inputs, panel.asset[rows], len(panel.assets), label[rows], effective=effective)


def _calibrate(
    model: LearnedModel, blocks: Blocks, rows: Ints, label: Mask, settings: Forecast
) -> tuple[LearnedModel, dict[str, Any]]:
    panel, training = blocks.panel, blocks.training_instants()
    model = _as_trained(model, blocks, evenly(training, TRAINING_FORECASTS), settings)
    came, quantiles = _ahead(blocks, rows, settings.targets), model.quantiles(panel, rows)
    spread = fit_spread(came, quantiles, settings.quantiles, panel.hour[rows])
    quantiles = widened(quantiles, spread, settings.quantiles)
    paths = len(PATH_TARGETS)
    pits = probability_transform(came[:, :paths], quantiles[:, :paths], settings.quantiles)
    joint = replace(model, scenarios=_scenarios(fit_copula(pits), settings), spread=spread)
    base_rate = float(label[training].mean()) if len(training) else 0.0
    # Assets unwind together: an hour counts once, however many of them are forecast at it.
    effective = len(np.unique(panel.hour[rows])) * settings.calibration_stride_h / settings.horizon_h
    calibration = fit_calibration(
        joint.views(panel, rows, quantiles), label[rows], effective=effective, base_rate=base_rate
    )
    return replace(joint, calibration=calibration), {
        "p_unwind": "calibrated"
        if calibration.told
        else "base rate: the calibration block does not hold both outcomes",
        "base_rate": base_rate,
        "copula_freedom": None if np.isinf(joint.scenarios.copula.freedom) else joint.scenarios.copula.freedom,
        "spread": dict(zip(settings.targets, spread, strict=True)),
        "reaction": dict(zip(PATH_TARGETS, joint.reaction.exponents, strict=True)),
        "calibration_forecasts": len(rows),
        "calibration_events": int(label[rows].sum()),
    }


def _as_trained(model: LearnedModel, blocks: Blocks, rows: Ints, settings: Forecast) -> LearnedModel:
    """Learn the quantiles' shape and reaction on the training window: forty-five held-back days see too few moods."""
    panel, levels, paths = blocks.panel, settings.quantiles, len(PATH_TARGETS)
    came, quantiles = _ahead(blocks, rows, settings.targets), model.quantiles(panel, rows)
    factors = fit_recalibration(came, quantiles, levels)
    shaped = recalibrated(quantiles, factors, levels)[:, :paths]
    reaction = fit_reaction(came[:, :paths], shaped, levels, model.lately(panel, rows), panel.hour[rows])
    return replace(model, recalibration=factors, reaction=reaction)


def _ahead(blocks: Blocks, rows: Ints, targets: Sequence[str]) -> Floats:
    """Return what came (forecasts, targets, steps) after each row."""
    steps = np.arange(1, blocks.shape[1] + 1)
    return np.asarray(blocks.panel.select(targets)[rows[:, None] + steps].transpose(0, 2, 1))


def _scenarios(copula: Copula, settings: Forecast) -> Scenarios:
    return Scenarios(copula, settings.quantiles, settings.scenario_paths, settings.horizon_h, settings.seed)


def _require(rows: Ints, block: str, shape: tuple[int, int]) -> None:
    if not len(rows):
        raise DataError(
            f"the {block} holds no whole window",
            expected=f"at least one hour with {shape[0]} unbroken rows before it and {shape[1]} after it inside",
            do="widen forecast.train_days or forecast.calibration_days",
        )


def _require_windows(blocks: Blocks) -> None:
    """Refuse an asset without a single whole window to learn from, naming what its hours lack."""
    panel, needed = blocks.panel, sum(blocks.shape)
    unbroken = panel.run_until(blocks.learning & blocks.complete)
    for code, asset in enumerate(panel.assets):
        own = blocks.learning & (panel.asset == code)
        longest = int(unbroken[own].max(initial=0))
        if longest < needed:
            missing = np.isnan(panel.values[own]).sum(axis=0)
            raise DataError(
                f"{asset} has no whole window to learn from",
                expected=f"{needed} unbroken hourly rows before the held-back tail",
                got=f"at most {longest}; {panel.columns[int(missing.argmax())]!r} is missing most often",
                do="bring in more history, or lower forecast.encoder_h or forecast.horizon_h",
            )


@contextmanager
def _enough_memory(blocks: Blocks, settings: Forecast) -> Iterator[None]:
    """Tell what to lower where memory does not suffice."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise ModelError(
            f"out of memory in training {settings.model} on {len(blocks.training_instants())} windows, "
            f"{settings.batch_size} a step",
            got=one_line(error),
            do="lower forecast.batch_size, forecast.hidden_size, forecast.encoder_h or forecast.train_days",
        ) from error

"""Fit the Temporal Fusion Transformer: train, then learn what turns its quantiles into p_unwind."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch

from oihedge.core.errors import DataError
from oihedge.core.protocols import EpochReporter
from oihedge.forecast.blocks import Blocks
from oihedge.forecast.calibration import Calibration, EventScore, fit_calibration, fit_event_score
from oihedge.forecast.network import Network, network_for, start_at, torch_threads
from oihedge.forecast.panel import TARGETS, Floats, Ints, Mask, Roles
from oihedge.forecast.scaling import Scalers, fit_scalers
from oihedge.forecast.scenarios import Scenarios, fit_copula, probability_transform
from oihedge.forecast.segments import Cover, Rows, evenly
from oihedge.forecast.settings import Forecast
from oihedge.forecast.tft import TftModel
from oihedge.forecast.training import Trained, train
from oihedge.forecast.unwind import unwind_labels
from oihedge.forecast.windows import first_rows, training_batches, window_dataset


def fit_tft(blocks: Blocks, roles: Roles, settings: Forecast, report: EpochReporter) -> TftModel:
    """Train the network on the learning rows and the event score on the training window, then calibrate held back.

    Raises:
        DataError: if a target is constant or a block holds no whole window.
        ModelError: if training gave no finite loss.
    """
    began = time.perf_counter()
    rows = blocks.calibration_instants(settings.calibration_stride_h)
    _require(rows, "calibration block", blocks.shape)
    _require(blocks.validation_instants(), "held-back tail of the training window", blocks.shape)
    scalers = fit_scalers(blocks.panel, blocks.panel.columns, blocks.learning)
    with torch.random.fork_rng(devices=[]), torch_threads(settings.threads):
        torch.manual_seed(settings.seed)
        network, trained, windows = _train(blocks, roles, scalers, settings, report)
    label, _ = unwind_labels(blocks.panel, settings.horizon_h, settings.drop)
    untold = TftModel(
        network=network, scalers=scalers, scenarios=_scenarios(np.eye(2 * settings.horizon_h), settings),
        score=_event_score(blocks, scalers, label, settings), calibration=Calibration(), known=tuple(roles.known),
        shape=blocks.shape, drop=settings.drop, threads=settings.threads,
    )  # fmt: skip
    model, calibrated = _calibrate(untold, blocks, rows, label, settings)
    model.facts = {
        "model": "tft", **asdict(trained), "train_rows": int((blocks.learning & blocks.complete).sum()),
        "train_windows": windows, "parameters": sum(p.numel() for p in network.parameters()), **calibrated,
        "fit_seconds": time.perf_counter() - began,
    }  # fmt: skip
    return model


def _train(
    blocks: Blocks, roles: Roles, scalers: Scalers, settings: Forecast, report: EpochReporter
) -> tuple[Network, Trained, int]:
    panel, shape = blocks.panel, blocks.shape
    inputs, targets = scalers.inputs(panel), scalers.targets(panel)
    learning = blocks.learning & blocks.complete
    dataset = window_dataset(panel, roles.known, inputs, targets, learning, shape)
    network = network_for(dataset, settings)
    start_at(network, np.quantile(targets[learning], settings.quantiles, axis=0).T)
    held_back = Rows.of_panel(panel, inputs, shape, targets)
    validation = evenly(first_rows(blocks.validation_instants(), shape[0]), settings.validation_windows)
    deck = training_batches(
        dataset, batch_size=settings.batch_size, windows=settings.segment_windows, stride=settings.segment_stride_h,
        steps=settings.max_steps_per_epoch, seed=settings.seed,
    )  # fmt: skip
    network.workers, network.seed = settings.threads, settings.seed
    trained = train(network, deck, Cover(held_back, validation), settings, report)
    return network, trained, len(dataset)


def _event_score(blocks: Blocks, scalers: Scalers, label: Mask, settings: Forecast) -> EventScore:
    panel, rows = blocks.panel, blocks.training_instants()
    inputs = scalers.inputs(panel)[rows]
    effective = len(rows) / settings.horizon_h
    return fit_event_score(inputs, panel.asset[rows], len(panel.assets), label[rows], effective=effective)


def _calibrate(
    model: TftModel, blocks: Blocks, rows: Ints, label: Mask, settings: Forecast
) -> tuple[TftModel, dict[str, Any]]:
    panel = blocks.panel
    quantiles = model.quantiles(panel, rows)
    pits = probability_transform(_ahead(blocks, rows), quantiles, settings.quantiles)
    joint = replace(model, scenarios=_scenarios(fit_copula(pits), settings))
    training = blocks.training_instants()
    base_rate = float(label[training].mean()) if len(training) else 0.0
    effective = len(rows) * settings.calibration_stride_h / settings.horizon_h
    calibration = fit_calibration(
        joint.views(panel, rows, quantiles), label[rows], effective=effective, base_rate=base_rate
    )
    return replace(joint, calibration=calibration), {
        "p_unwind": "calibrated"
        if calibration.told
        else "base rate: the calibration block does not hold both outcomes",
        "base_rate": base_rate,
        "calibration_forecasts": len(rows),
        "calibration_events": int(label[rows].sum()),
    }


def _ahead(blocks: Blocks, rows: Ints) -> Floats:
    """Return what came (forecasts, targets, steps) after each row."""
    steps = np.arange(1, blocks.shape[1] + 1)
    return np.asarray(blocks.panel.select(TARGETS)[rows[:, None] + steps].transpose(0, 2, 1))


def _scenarios(correlation: Floats, settings: Forecast) -> Scenarios:
    return Scenarios(correlation, settings.quantiles, settings.scenario_paths, settings.horizon_h, settings.seed)


def _require(rows: Ints, block: str, shape: tuple[int, int]) -> None:
    if not len(rows):
        raise DataError(
            f"the {block} holds no whole window",
            expected=f"at least one hour with {shape[0]} unbroken rows before it and {shape[1]} after it inside",
            do="widen forecast.train_days or forecast.calibration_days",
        )

"""The fitted Temporal Fusion Transformer: network, scalers, copula and calibration behind `FittedModel`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from oihedge.core.errors import DataError, ModelError
from oihedge.core.protocols import EpochReporter
from oihedge.forecast.artifact import write_artifact
from oihedge.forecast.blocks import Blocks
from oihedge.forecast.calibration import Calibration, fit_calibration
from oihedge.forecast.frames import forecast_frame, wanted_rows
from oihedge.forecast.network import (
    Network,
    forecast_windows,
    hyper_parameters,
    network_for,
    network_from,
    start_at,
    torch_threads,
)
from oihedge.forecast.panel import Floats, Ints, Panel, Roles, build_panel
from oihedge.forecast.scaling import Scalers, fit_scalers
from oihedge.forecast.scenarios import Scenarios, fit_copula, probability_transform
from oihedge.forecast.settings import Forecast
from oihedge.forecast.training import Trained, train
from oihedge.forecast.unwind import unwind_labels
from oihedge.forecast.windows import Batches, FixedBatches, WindowTensors, evenly, first_rows, window_dataset

WEIGHTS, COPULA = "network.safetensors", "copula.safetensors"


@dataclass
class TftModel:
    """A trained network with all that turns its output into forecasts; `facts` tell how the fit went."""

    network: Network
    scalers: Scalers
    scenarios: Scenarios
    calibration: Calibration
    known: tuple[str, ...]
    shape: tuple[int, int]
    drop: float
    threads: int
    facts: dict[str, Any] = field(default_factory=dict)
    kind: str = field(default="tft", init=False)

    def predict(self, features: pl.DataFrame, at: Sequence[datetime] | None = None) -> pl.DataFrame:
        """Forecast; see `core.protocols.FittedModel.predict`.

        Args:
            features: rows (asset, ts, inputs) that, besides the history, reach H hours past each instant with at least
                the known columns filled (the others may be null and are not read there).
            at: the instants. An asset without unbroken history up to an instant is left out at that instant.

        Raises:
            DataError: if a column is missing, an asset is unknown, the rows ahead are missing, or nothing asked for can
                be forecast.
        """
        panel = build_panel(features, self.scalers.columns, self.scalers.assets)
        rows = wanted_rows(panel, self.known, self.shape, at)
        quantiles = self._quantiles(panel, rows)
        share = self.scenarios.first_passage(quantiles[:, 1], self.drop)
        return forecast_frame(panel, rows, quantiles, self.scenarios.levels, self.calibration.apply(share))

    def _quantiles(self, panel: Panel, rows: Ints) -> Floats:
        """Return the quantiles (forecasts, targets, steps, levels), sorted, in hourly log changes."""
        tensors = WindowTensors.of_panel(panel, self.scalers.inputs(panel), self.shape)
        with torch_threads(self.threads):
            scaled = forecast_windows(self.network, tensors, first_rows(rows, self.shape[0]))
        spread = self.scalers.target_spread[panel.asset[rows]]
        return np.sort(scaled, axis=-1) * spread[:, :, None, None]

    def save(self, folder: Path) -> None:
        """Write the model into `folder` as JSON and safetensors; how long training took is left out."""
        levels = self.scenarios.levels
        description = {
            "network": hyper_parameters(self.network, levels),
            "scalers": self.scalers.as_json(),
            "scenarios": {"paths": self.scenarios.paths, "seed": self.scenarios.seed, "levels": list(levels)},
            "calibration": asdict(self.calibration),
            "known": list(self.known),
            "shape": list(self.shape),
            "drop": self.drop,
            "threads": self.threads,
        }
        copula = {"correlation": torch.from_numpy(self.scenarios.correlation)}
        files = {WEIGHTS: save_tensors(_distinct(self.network)), COPULA: save_tensors(copula)}
        write_artifact(folder, self.kind, description, files)

    @classmethod
    def from_parts(cls, description: Mapping[str, Any], tensors: Mapping[str, bytes]) -> TftModel:
        """Return the model that `save` wrote.

        Raises:
            ModelError: if a part is missing or does not fit the others.
        """
        try:
            shape = (int(description["shape"][0]), int(description["shape"][1]))
            network = network_from(description["network"])
            missing = network.load_state_dict(load_tensors(tensors[WEIGHTS]), strict=False)
            if missing.unexpected_keys or set(missing.missing_keys) != _repeated(network):
                raise ModelError("the stored weights do not fit the stored network", do="register the model again")
            drawn = description["scenarios"]
            correlation = load_tensors(tensors[COPULA])["correlation"].numpy()
            return cls(
                network=network,
                scalers=Scalers.from_json(description["scalers"]),
                scenarios=Scenarios(correlation, tuple(drawn["levels"]), drawn["paths"], shape[1], drawn["seed"]),
                calibration=Calibration(**description["calibration"]),
                known=tuple(description["known"]),
                shape=shape,
                drop=float(description["drop"]),
                threads=int(description["threads"]),
            )
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            raise ModelError(f"the stored TFT lacks a part: {str(error).splitlines()[0]}") from error


def _distinct(network: Network) -> dict[str, torch.Tensor]:
    """Return the state without the further names of shared tensors, which safetensors does not hold twice."""
    repeated = _repeated(network)
    return {name: value.contiguous() for name, value in network.state_dict().items() if name not in repeated}


def _repeated(network: Network) -> set[str]:
    seen: set[int] = set()
    repeated = set()
    for name, value in network.state_dict().items():
        if value.data_ptr() in seen and value.numel():
            repeated.add(name)
        seen.add(value.data_ptr())
    return repeated


def fit_tft(blocks: Blocks, roles: Roles, settings: Forecast, report: EpochReporter) -> TftModel:
    """Train the network on the learning rows, then fit copula and calibration on the calibration block.

    Raises:
        DataError: if a target is constant or a block holds no whole window.
        ModelError: if training gave no finite loss.
    """
    began = time.perf_counter()
    panel, shape = blocks.panel, blocks.shape
    calibration_rows = blocks.calibration_instants(settings.calibration_stride_h)
    _require(calibration_rows, "calibration block", shape)
    _require(blocks.validation_instants(), "held-back tail of the training window", shape)
    scalers = fit_scalers(panel, panel.columns, blocks.learning)
    with torch.random.fork_rng(devices=[]), torch_threads(settings.threads):
        torch.manual_seed(settings.seed)
        network, trained, windows = _train(blocks, roles, scalers, settings, report)
    independent = Scenarios(np.eye(2 * shape[1]), settings.quantiles, settings.scenario_paths, shape[1], settings.seed)
    model = TftModel(
        network, scalers, independent, Calibration(), tuple(roles.known), shape, settings.drop, settings.threads
    )
    model, calibrated = _calibrate(model, blocks, calibration_rows, settings)
    facts = {
        "model": "tft", **asdict(trained), "train_rows": int((blocks.learning & blocks.complete).sum()),
        "train_windows": windows, "parameters": sum(p.numel() for p in network.parameters()), **calibrated,
        "fit_seconds": time.perf_counter() - began,
    }  # fmt: skip
    model.facts.update(facts)
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
    tensors, first = WindowTensors.of_dataset(dataset)
    held_back = WindowTensors.of_panel(panel, inputs, shape, targets)
    validation = evenly(first_rows(blocks.validation_instants(), shape[0]), settings.validation_windows)
    steps = min(settings.max_steps_per_epoch, max(len(first) // settings.batch_size, 1))
    deck = Batches(tensors, first, size=settings.batch_size, steps=steps, seed=settings.seed)
    trained = train(network, deck, FixedBatches(held_back, validation, size=256), settings, report)
    return network, trained, len(first)


def _calibrate(model: TftModel, blocks: Blocks, rows: Ints, settings: Forecast) -> tuple[TftModel, dict[str, Any]]:
    panel, (_, horizon) = blocks.panel, blocks.shape
    quantiles = model._quantiles(panel, rows)
    ahead = panel.select(("log_return", "log_oi"))[rows[:, None] + np.arange(1, horizon + 1)]
    pits = probability_transform(ahead.transpose(0, 2, 1), quantiles, settings.quantiles)
    scenarios = Scenarios(fit_copula(pits), settings.quantiles, settings.scenario_paths, horizon, settings.seed)
    label, complete = unwind_labels(panel, horizon, settings.drop)
    inside = complete & (panel.hour + horizon <= blocks.last_training_hour)
    base_rate = float(label[inside].mean()) if inside.any() else 0.0
    share = scenarios.first_passage(quantiles[:, 1], settings.drop)
    effective = len(rows) * settings.calibration_stride_h / horizon
    calibration = fit_calibration(share, label[rows], effective=effective, base_rate=base_rate)
    fitted = TftModel(
        model.network, model.scalers, scenarios, calibration, model.known, model.shape, model.drop, model.threads
    )
    how = "calibrated" if calibration.base_rate is None else "base rate: the calibration block holds no unwind"
    return fitted, {
        "p_unwind": how,
        "base_rate": base_rate,
        "calibration_forecasts": len(rows),
        "calibration_events": int(label[rows].sum()),
        "raw_share_mean": float(share.mean()),
    }


def _require(rows: Ints, block: str, shape: tuple[int, int]) -> None:
    if not len(rows):
        raise DataError(
            f"the {block} holds no whole window",
            expected=f"at least one hour with {shape[0]} unbroken rows before it and {shape[1]} after it inside",
            do="widen forecast.train_days or forecast.calibration_days",
        )

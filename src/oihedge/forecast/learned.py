"""A fitted network with its scalers, scenarios and calibration behind `FittedModel`, whichever network it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from oihedge.core.errors import ModelError, one_line
from oihedge.core.forecasts import PATH_TARGETS
from oihedge.forecast.artifact import write_artifact
from oihedge.forecast.calibration import Calibration, EventScore, logit
from oihedge.forecast.described import Learned, require
from oihedge.forecast.frames import forecast_frame, wanted_rows
from oihedge.forecast.kinds import network_class
from oihedge.forecast.network import Network, forecast_windows
from oihedge.forecast.panel import Floats, Ints, Panel, build_panel
from oihedge.forecast.reaction import Reaction, lately_moved
from oihedge.forecast.recalibration import recalibrated
from oihedge.forecast.scaling import Scalers
from oihedge.forecast.scenarios import Copula, JointPaths, Scenarios
from oihedge.forecast.segments import Rows
from oihedge.forecast.spread import widened
from oihedge.forecast.threads import torch_threads
from oihedge.forecast.windows import first_rows

WEIGHTS, COPULA = "network.safetensors", "copula.safetensors"


@dataclass
class LearnedModel:
    """A trained network with all that turns its output into forecasts; `facts` tell how the fit went."""

    network: Network
    scalers: Scalers
    scenarios: Scenarios
    score: EventScore
    calibration: Calibration
    known: tuple[str, ...]
    shape: tuple[int, int]
    drop: float
    threads: int
    learnt_until: int | None
    """The last hour (since 1970) that its weights have seen; None in what was stored before this was."""
    spread: tuple[float, ...]
    """Per target, what the network's distances from its median are multiplied by (`spread`)."""
    recalibration: Floats
    """Before that, by level (targets, levels): what the training window says of the quantiles' shape."""
    reaction: Reaction = field(default_factory=Reaction)
    """By how much more or less at an hour, for how much the target has just moved."""
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.network.workers = self.threads

    @property
    def kind(self) -> str:
        """Which network it is."""
        return self.network.kind

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
        quantiles = self.quantiles(panel, rows)
        p_unwind = self.calibration.apply(self.views(panel, rows, quantiles))
        targets, levels = self.scalers.targets, self.scenarios.levels
        return forecast_frame(panel, rows, quantiles, targets, levels, p_unwind, self.calibration.base_rate)

    def paths(self, features: pl.DataFrame, at: Sequence[datetime] | None = None) -> JointPaths:
        """Draw joint scenario paths of return and open interest; arguments and errors as for `predict`.

        Their marginals are the forecast's quantiles, their dependence the copula fitted on held-back hours.
        """
        panel = build_panel(features, self.scalers.columns, self.scalers.assets)
        rows = wanted_rows(panel, self.known, self.shape, at)
        changes = self.scenarios.draw(self.quantiles(panel, rows)[:, : len(PATH_TARGETS)])
        instants = (datetime.fromtimestamp(int(hour) * 3600, UTC) for hour in panel.hour[rows])
        return JointPaths(tuple(panel.assets[code] for code in panel.asset[rows]), tuple(instants), changes)

    def views(self, panel: Panel, rows: Ints, quantiles: Floats) -> Floats:
        """Return the two views on an unwind as log-odds (forecasts, 2): the paths' share, and the score."""
        share = self.scenarios.first_passage(quantiles[:, 1], self.drop)
        inputs = self.scalers.inputs(panel)[rows]
        score = self.score.log_odds(inputs, panel.asset[rows], len(panel.assets))
        return np.column_stack([logit(share), score])

    def quantiles(self, panel: Panel, rows: Ints) -> Floats:
        """Return the quantiles (forecasts, targets, steps, levels), sorted, in the targets' units."""
        codes = self.network.categories_of(panel, self.known).codes
        tensors = Rows.of_panel(panel, self.scalers.inputs(panel), self.shape, codes=codes)
        with torch_threads(self.threads):
            scaled = forecast_windows(self.network, tensors, first_rows(rows, self.shape[0]))
        told = self.scalers.restore(np.sort(scaled, axis=-1), panel.asset[rows])
        told = recalibrated(told, self.recalibration, self.scenarios.levels)
        factors = np.tile(self.spread, (len(rows), 1))
        factors[:, : len(PATH_TARGETS)] *= self.reaction.widths(self.lately(panel, rows))
        return widened(told, factors, self.scenarios.levels)

    def lately(self, panel: Panel, rows: Ints) -> Floats:
        """Return how much each target of the paths has moved up to `rows` (forecasts, targets), by `lately_moved`."""
        changes = self.scalers.scaled_targets(panel)[:, : len(PATH_TARGETS)]
        return lately_moved(changes, rows, self.shape[0])

    def save(self, folder: Path) -> None:
        """Write the model into `folder` as JSON and safetensors; how long training took is left out."""
        levels, freedom = self.scenarios.levels, self.scenarios.copula.freedom
        description = {
            "network": self.network.as_json(),
            "scalers": self.scalers.as_json(),
            "scenarios": {
                "paths": self.scenarios.paths,
                "seed": self.scenarios.seed,
                "levels": list(levels),
                "freedom": None if math.isinf(freedom) else freedom,
            },
            "score": asdict(self.score),
            "calibration": asdict(self.calibration),
            "known": list(self.known),
            "shape": list(self.shape),
            "drop": self.drop,
            "threads": self.threads,
            "learnt_until": self.learnt_until,
            "spread": list(self.spread),
            "recalibration": self.recalibration.tolist(),
            "reaction": asdict(self.reaction),
        }
        copula = {"correlation": torch.from_numpy(self.scenarios.copula.correlation)}
        files = {WEIGHTS: save_tensors(_distinct(self.network)), COPULA: save_tensors(copula)}
        write_artifact(folder, self.kind, description, files)

    @classmethod
    def from_parts(cls, kind: str, description: Mapping[str, Any], tensors: Mapping[str, bytes]) -> LearnedModel:
        """Return the model that `save` wrote.

        Raises:
            ModelError: if a part is missing, could not have come from a fit, or does not fit the others.
        """
        told = Learned.of(kind, description)
        try:
            network = network_class(kind).from_json(told.network)
            missing = network.load_state_dict(load_tensors(tensors[WEIGHTS]), strict=False)
            if missing.unexpected_keys or set(missing.missing_keys) != _repeated(network):
                raise ModelError("the stored weights do not fit the stored network", do="register the model again")
            scalers = Scalers.from_json(told.scalers.model_dump(exclude_none=True))
            drawn = told.scenarios
            copula = Copula(load_tensors(tensors[COPULA])["correlation"].numpy(), drawn.freedom or math.inf)
            model = cls(
                network=network,
                scalers=scalers,
                scenarios=Scenarios(copula, drawn.levels, drawn.paths, told.shape[1], drawn.seed),
                score=EventScore(**told.score.model_dump()),
                calibration=Calibration(**told.calibration.model_dump()),
                known=told.known,
                shape=told.shape,
                drop=told.drop,
                threads=told.threads,
                learnt_until=told.learnt_until,
                spread=told.spread or (1.0,) * len(scalers.targets),
                recalibration=np.array(told.recalibration or np.ones((len(scalers.targets), len(drawn.levels)))),
                reaction=Reaction(**told.reaction.model_dump()) if told.reaction else Reaction(),
            )
            require(kind, _fitting(model))
            require(kind, {"forecast of an empty market": _forecasts(model)})
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            raise ModelError(f"the stored {kind} lacks a part: {one_line(error)}") from error
        return model


def _fitting(model: LearnedModel) -> dict[str, bool]:
    """Tell of each part whether it fits the others."""
    scalers, correlation = model.scalers, model.scenarios.copula.correlation
    assets, columns, targets = len(scalers.assets), len(scalers.columns), len(scalers.targets)
    size = len(PATH_TARGETS) * model.shape[1]
    of_network = (scalers.columns, model.known, model.scenarios.levels)
    return {
        "shape": model.network.hparams.get("max_encoder_length", model.shape[0]) == model.shape[0],
        "scalers": scalers.center.shape == scalers.spread.shape == (assets, columns)
        and scalers.target_center.shape == scalers.target_spread.shape == (assets, targets),
        "spread": len(model.spread) == targets,
        "recalibration": model.recalibration.shape == (targets, len(model.scenarios.levels)),
        "score": len(model.score.weights) == columns + assets,
        "correlation": correlation.shape == (size, size)
        and bool(np.allclose(correlation, correlation.T) and np.allclose(np.diagonal(correlation), 1)),
        "network's columns, known columns or quantiles": model.network.reads_and_says == of_network,
        "weights": all(bool(torch.isfinite(value).all()) for value in model.network.state_dict().values()),
    }


def _forecasts(model: LearnedModel) -> bool:
    """Tell whether hours that are all average give a forecast of each asset that has its shape and is made of numbers.

    Raises:
        RuntimeError, ValueError, IndexError: where the parts do not fit.
    """
    scalers, (encoder, horizon) = model.scalers, model.shape
    asset = np.repeat(np.arange(len(scalers.assets)), encoder + horizon)
    hour = np.tile(np.arange(encoder + horizon), len(scalers.assets))
    panel = Panel(scalers.assets, scalers.columns, scalers.center[asset], asset, hour)
    rows = np.flatnonzero(hour == encoder - 1)
    quantiles = model.quantiles(panel, rows)
    p_unwind = model.calibration.apply(model.views(panel, rows, quantiles))
    shape = (len(rows), len(scalers.targets), horizon, len(model.scenarios.levels))
    return quantiles.shape == shape and bool(np.isfinite(quantiles).all() and np.isfinite(p_unwind).all())


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

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

from oihedge.core.errors import ModelError
from oihedge.core.forecasts import PATH_TARGETS
from oihedge.forecast.artifact import write_artifact
from oihedge.forecast.calibration import Calibration, EventScore, logit
from oihedge.forecast.frames import forecast_frame, wanted_rows
from oihedge.forecast.kinds import network_class
from oihedge.forecast.network import Network, forecast_windows, torch_threads
from oihedge.forecast.panel import Floats, Ints, Panel, build_panel
from oihedge.forecast.scaling import Scalers
from oihedge.forecast.scenarios import Copula, JointPaths, Scenarios
from oihedge.forecast.segments import Rows
from oihedge.forecast.spread import widened
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
    spread: tuple[float, ...]
    """Per target, what the network's distances from its median are multiplied by (`spread`)."""
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
        return widened(told, self.spread, self.scenarios.levels)

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
            "spread": list(self.spread),
        }
        copula = {"correlation": torch.from_numpy(self.scenarios.copula.correlation)}
        files = {WEIGHTS: save_tensors(_distinct(self.network)), COPULA: save_tensors(copula)}
        write_artifact(folder, self.kind, description, files)

    @classmethod
    def from_parts(cls, kind: str, description: Mapping[str, Any], tensors: Mapping[str, bytes]) -> LearnedModel:
        """Return the model that `save` wrote.

        Raises:
            ModelError: if a part is missing or does not fit the others.
        """
        try:
            shape = (int(description["shape"][0]), int(description["shape"][1]))
            network = network_class(kind).from_json(description["network"])
            missing = network.load_state_dict(load_tensors(tensors[WEIGHTS]), strict=False)
            if missing.unexpected_keys or set(missing.missing_keys) != _repeated(network):
                raise ModelError("the stored weights do not fit the stored network", do="register the model again")
            scalers = Scalers.from_json(description["scalers"])
            drawn, score, pooled = (description[name] for name in ("scenarios", "score", "calibration"))
            # Without degrees of freedom, as in what was written before there were any, the copula is Gaussian.
            freedom = math.inf if drawn.get("freedom") is None else float(drawn["freedom"])
            copula = Copula(load_tensors(tensors[COPULA])["correlation"].numpy(), freedom)
            model = cls(
                network=network,
                scalers=scalers,
                scenarios=Scenarios(copula, tuple(drawn["levels"]), drawn["paths"], shape[1], drawn["seed"]),
                score=EventScore(score["intercept"], tuple(score["weights"])),
                calibration=Calibration(
                    pooled["intercept"],
                    tuple(pooled["slopes"]),
                    tuple(pooled["centers"]),
                    float(pooled["base_rate"]),
                    bool(pooled["told"]),
                ),
                known=tuple(description["known"]),
                shape=shape,
                drop=float(description["drop"]),
                threads=int(description["threads"]),
                # What was written before there were factors has none.
                spread=tuple(map(float, description.get("spread", [1.0] * len(scalers.targets)))),
            )
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            raise ModelError(f"the stored {kind} lacks a part: {str(error).splitlines()[0]}") from error
        odd = _odd(model)
        if odd is not None:
            raise ModelError(f"the stored {kind} holds an impossible {odd}", do="register the model again")
        return model


def _odd(model: LearnedModel) -> str | None:
    """Return which number could not have come from a fit, and would make a forecast that is none; None if all could."""
    drawn, pooled, targets = model.scenarios, model.calibration, model.scalers.targets
    levels, size = drawn.levels, len(PATH_TARGETS) * model.shape[1]
    pool = (pooled.intercept, *pooled.slopes, *pooled.centers, model.score.intercept, *model.score.weights)
    views, inputs = 2, len(model.scalers.columns) + len(model.scalers.assets)
    possible = {
        "targets": targets[: len(PATH_TARGETS)] == PATH_TARGETS,
        "spread": len(model.spread) == len(targets) and all(0 < one < math.inf for one in model.spread),
        "quantile levels": 0.5 in levels and list(levels) == sorted({*levels}) and levels[0] > 0 and levels[-1] < 1,
        "degrees of freedom": drawn.copula.freedom > 0,
        "correlation": drawn.copula.correlation.shape == (size, size),
        "number of paths": isinstance(drawn.paths, int) and drawn.paths > 0,
        "calibration": len(pooled.slopes) == len(pooled.centers) == views and all(math.isfinite(one) for one in pool),
        "score": len(model.score.weights) == inputs,
        "base rate": 0 <= pooled.base_rate <= 1,
        "drop": 0 < model.drop < 1,
        "number of threads": model.threads > 0,
    }
    return next((name for name, holds in possible.items() if not holds), None)


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

"""The baseline: nothing changes, as uncertain as it was in the training window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from oihedge.core.errors import ModelError
from oihedge.forecast.artifact import write_artifact
from oihedge.forecast.blocks import Blocks
from oihedge.forecast.frames import forecast_frame, wanted_rows
from oihedge.forecast.panel import TARGETS, Floats, Mask, Roles, build_panel, input_columns
from oihedge.forecast.settings import Forecast
from oihedge.forecast.unwind import unwind_labels


class PersistenceModel:
    """Median no change; quantiles and p_unwind are those of the asset's training window, at every instant.

    It forecasts exactly the instants that a learning model of the same shape and columns can, so that both are judged
    on the same ones.
    """

    kind = "persistence"

    def __init__(
        self, *, assets: tuple[str, ...], known: tuple[str, ...], columns: tuple[str, ...], shape: tuple[int, int],
        levels: tuple[float, ...], quantiles: Floats, rates: Floats, base_rate: float,
        facts: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self._assets, self._known, self._columns, self._shape = assets, known, columns, shape
        self._levels, self._quantiles, self._rates, self._base_rate = levels, quantiles, rates, base_rate
        self.facts: dict[str, Any] = dict(facts or {})

    def predict(self, features: pl.DataFrame, at: Sequence[datetime] | None = None) -> pl.DataFrame:
        """Forecast; see `core.protocols.FittedModel.predict`.

        Raises:
            DataError: if a column is missing, an asset is unknown, or nothing asked for can be forecast.
        """
        panel = build_panel(features, self._columns, self._assets)
        rows = wanted_rows(panel, self._known, self._shape, at)
        own = self._quantiles[panel.asset[rows]]
        steps = np.repeat(own[:, :, None, :], self._shape[1], axis=2)
        return forecast_frame(panel, rows, steps, self._levels, self._rates[panel.asset[rows]], self._base_rate)

    def save(self, folder: Path) -> None:
        """Write the model into `folder` as JSON."""
        description = {
            "assets": list(self._assets), "known": list(self._known), "columns": list(self._columns),
            "shape": list(self._shape), "levels": list(self._levels), "quantiles": self._quantiles.tolist(),
            "rates": self._rates.tolist(), "base_rate": self._base_rate,
        }  # fmt: skip
        write_artifact(folder, self.kind, description, {})

    @classmethod
    def from_parts(cls, description: Mapping[str, Any], tensors: Mapping[str, bytes]) -> PersistenceModel:
        """Return the model that `save` wrote.

        Raises:
            ModelError: if a part is missing.
        """
        try:
            return cls(
                assets=tuple(description["assets"]),
                known=tuple(description["known"]),
                columns=tuple(description["columns"]),
                shape=(description["shape"][0], description["shape"][1]),
                levels=tuple(description["levels"]),
                quantiles=np.array(description["quantiles"], dtype=np.float64),
                rates=np.array(description["rates"], dtype=np.float64),
                base_rate=float(description["base_rate"]),
            )
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ModelError(f"the stored persistence model lacks a part: {error}") from error


def fit_persistence(blocks: Blocks, roles: Roles, settings: Forecast) -> PersistenceModel:
    """Take the quantiles of the hourly changes and the share of unwinds over the whole training window, per asset."""
    panel = blocks.panel
    label, complete = unwind_labels(panel, settings.horizon_h, settings.drop)
    quantiles = np.empty((len(panel.assets), len(TARGETS), len(settings.quantiles)))
    rates = np.empty(len(panel.assets))
    whole = blocks.training & complete & (panel.hour + settings.horizon_h <= blocks.last_training_hour)
    for code in range(len(panel.assets)):
        own = blocks.training & (panel.asset == code)
        spread = np.nanquantile(panel.select(TARGETS)[own], settings.quantiles, axis=0).T
        quantiles[code] = spread - spread[:, [settings.quantiles.index(0.5)]]
        rates[code] = _share(label[own & whole])
    return PersistenceModel(
        assets=panel.assets,
        known=roles.known,
        columns=input_columns(roles),
        shape=(settings.encoder_h, settings.horizon_h),
        levels=settings.quantiles,
        quantiles=quantiles,
        rates=rates,
        base_rate=_share(label[whole]),
        facts={"model": "persistence", "train_rows": int(blocks.training.sum())},
    )


def _share(label: Mask) -> float:
    return float(label.mean()) if len(label) else 0.0

"""Models that are counted, not trained: quantiles and shares of unwinds by asset and hour of a cycle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from oihedge.forecast.artifact import write_artifact
from oihedge.forecast.blocks import Blocks
from oihedge.forecast.described import Counted, impossible, require
from oihedge.forecast.frames import forecast_frame, wanted_rows
from oihedge.forecast.panel import Floats, Ints, Mask, Roles, build_panel
from oihedge.forecast.settings import Forecast
from oihedge.forecast.unwind import unwind_labels

ROWS_BEYOND = 5
"""Values that must lie beyond the outermost quantile of a cell; with fewer a coarser cell speaks for it."""
OUTCOMES = 30
"""Unwinds, and hours without, that a cell's share of them rests on at least."""


@dataclass(frozen=True)
class ClosedForm:
    """Looks forecasts up by asset and cell; an hour's cell is its number since 1970 modulo the number of cells.

    It forecasts exactly the instants that a learning model of the same shape and columns can, so that both are judged
    on the same ones. `quantiles` (assets, cells, targets, levels) in the targets' units, `rates` (assets, cells). The
    quantiles of a target in `carried` are distances from its newest value.
    """

    kind: str
    assets: tuple[str, ...]
    known: tuple[str, ...]
    columns: tuple[str, ...]
    targets: tuple[str, ...]
    shape: tuple[int, int]
    levels: tuple[float, ...]
    quantiles: Floats
    rates: Floats
    base_rate: float
    carried: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    def predict(self, features: pl.DataFrame, at: Sequence[datetime] | None = None) -> pl.DataFrame:
        """Forecast; see `core.protocols.FittedModel.predict`.

        Raises:
            DataError: if a column is missing, an asset is unknown, or nothing asked for can be forecast.
        """
        panel = build_panel(features, self.columns, self.assets)
        rows = wanted_rows(panel, self.known, self.shape, at)
        asset, hour, cells = panel.asset[rows], panel.hour[rows], self.rates.shape[1]
        ahead = (hour[:, None] + np.arange(1, self.shape[1] + 1)) % cells
        start = np.where(np.isin(self.targets, self.carried), panel.select(self.targets)[rows], 0.0)
        quantiles = self.quantiles[asset[:, None], ahead].transpose(0, 2, 1, 3) + start[:, :, None, None]
        p_unwind = self.rates[asset, hour % cells]
        return forecast_frame(panel, rows, quantiles, self.targets, self.levels, p_unwind, self.base_rate)

    def save(self, folder: Path) -> None:
        """Write the model into `folder` as JSON."""
        description = {
            "assets": list(self.assets), "known": list(self.known), "columns": list(self.columns),
            "targets": list(self.targets), "carried": list(self.carried),
            "shape": list(self.shape), "levels": list(self.levels), "quantiles": self.quantiles.tolist(),
            "rates": self.rates.tolist(), "base_rate": self.base_rate,
        }  # fmt: skip
        write_artifact(folder, self.kind, description, {})

    @classmethod
    def from_parts(cls, kind: str, description: Mapping[str, Any]) -> ClosedForm:
        """Return the model that `save` wrote; what was written without cells has one, without targets the paths' two.

        Raises:
            ModelError: if a part is missing, could not have come from a fit, or does not fit the others.
        """
        told = Counted.of(kind, description)
        assets, targets, levels = len(told.assets), len(told.targets), len(told.levels)
        try:
            quantiles = np.array(told.quantiles, dtype=np.float64).reshape(assets, -1, targets, levels)
            rates = np.array(told.rates, dtype=np.float64).reshape(assets, -1)
        except (TypeError, ValueError) as error:
            raise impossible(kind, "quantiles or rates", str(error)) from None
        possible = {
            "assets": 0 < assets == len({*told.assets}),
            "known, targets or carried": {*told.known, *told.targets} <= {*told.columns}
            and {*told.carried} <= {*told.targets},
            "quantiles": bool(np.isfinite(quantiles).all() and (np.diff(quantiles) >= 0).all()),
            "rates": rates.shape == quantiles.shape[:2] and bool(((rates >= 0) & (rates <= 1)).all()),
        }
        require(kind, possible)
        named = told.model_dump(exclude={"quantiles", "rates"})
        return cls(kind=kind, quantiles=quantiles, rates=rates, **named)


def fit_cells(kind: str, blocks: Blocks, roles: Roles, settings: Forecast, periods: Sequence[int]) -> ClosedForm:
    """Count quantiles and shares of unwinds over the whole training window, per asset and hour of the cycle.

    Args:
        kind: which model it is.
        blocks: of which the training rows are read.
        roles: which columns instants must have.
        settings: targets, horizon, drop and quantiles.
        periods: hours of the cycles, from 1 to ever longer ones, each a multiple of the one before.
    """
    panel, values = blocks.panel, blocks.panel.select(settings.targets)
    label, complete = unwind_labels(panel, settings.horizon_h, settings.drop)
    told = blocks.training & complete & (panel.hour + settings.horizon_h <= blocks.last_training_hour)
    quantiles = np.empty((len(panel.assets), periods[-1], len(settings.targets), len(settings.quantiles)))
    rates = np.empty(quantiles.shape[:2])
    rare = min(settings.quantiles[0], 1 - settings.quantiles[-1])

    def spread(rows: Ints) -> Floats:
        return np.asarray(np.nanquantile(values[rows], settings.quantiles, axis=0).T)

    def enough_values(rows: Ints) -> bool:
        return bool(np.isfinite(values[rows]).sum(axis=0).min() * rare >= ROWS_BEYOND)

    def enough_outcomes(rows: Ints) -> bool:
        return min(int(label[rows].sum()), int((~label[rows]).sum())) >= OUTCOMES

    for code in range(len(panel.assets)):
        own = panel.asset == code
        _fill(quantiles[code], panel.hour, blocks.training & own, periods, spread, enough_values)
        _fill(rates[code], panel.hour, told & own, periods, lambda rows: _share(label[rows]), enough_outcomes)
    return ClosedForm(
        kind=kind, assets=panel.assets, known=roles.known, columns=panel.columns,
        targets=settings.targets, shape=blocks.shape,
        levels=settings.quantiles, quantiles=quantiles, rates=rates, base_rate=_share(label[told]),
        facts={"model": kind, "train_rows": int(blocks.training.sum())},
    )  # fmt: skip


def _fill(
    table: Floats, hour: Ints, rows: Mask, periods: Sequence[int],
    value: Callable[[Ints], Floats | float], enough: Callable[[Ints], bool],
) -> None:  # fmt: skip
    """Fill `table` (cells, ...) from coarse to fine, so that a cell with too few rows keeps the coarser one's value."""
    for period in periods:
        for cell in range(period):
            here = np.flatnonzero(rows & (hour % period == cell))
            if period == 1 or enough(here):
                table[cell::period] = value(here)


def _share(label: Mask) -> float:
    return float(label.mean()) if len(label) else 0.0

"""Scalers as plain numbers: fitted on training rows only, written as JSON, never as a pickled object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from oihedge.core.errors import DataError
from oihedge.forecast.panel import TARGETS, Floats, Mask, Panel

CLIP = 8.0
"""Scaled inputs are cut at this many standard deviations: crypto features are heavy-tailed."""


@dataclass(frozen=True)
class Scalers:
    """Per asset: centre and spread of each input column (assets, columns) and spread of each target (assets, 2)."""

    assets: tuple[str, ...]
    columns: tuple[str, ...]
    center: Floats
    spread: Floats
    target_spread: Floats

    def inputs(self, panel: Panel) -> Floats:
        """Return the scaled, clipped inputs of `panel` (rows, columns); NaN stays NaN."""
        scaled = (panel.select(self.columns) - self.center[panel.asset]) / self.spread[panel.asset]
        return np.clip(scaled, -CLIP, CLIP)

    def targets(self, panel: Panel) -> Floats:
        """Return the targets in units of their training spread (rows, 2), neither centred nor clipped."""
        return panel.select(TARGETS) / self.target_spread[panel.asset]

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values, numbers at full precision."""
        return {
            "columns": list(self.columns),
            "assets": {
                asset: {
                    "center": self.center[i].tolist(),
                    "spread": self.spread[i].tolist(),
                    "target_spread": self.target_spread[i].tolist(),
                }
                for i, asset in enumerate(self.assets)
            },
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Scalers:
        """Return what `as_json` wrote."""
        assets: Mapping[str, Mapping[str, Sequence[float]]] = stored["assets"]
        center, spread, target = (
            np.array([parts[name] for parts in assets.values()], dtype=np.float64)
            for name in ("center", "spread", "target_spread")
        )
        return cls(tuple(assets), tuple(stored["columns"]), center, spread, target)


def fit_scalers(panel: Panel, columns: Sequence[str], rows: Mask) -> Scalers:
    """Fit mean and standard deviation per asset and column on the complete rows selected by `rows`.

    A column that does not move in these rows gets spread 1: it carries nothing, and must not blow up later.

    Raises:
        DataError: if a target is constant for an asset.
    """
    names = tuple(columns)
    good = rows & panel.complete((*names, *TARGETS))
    center, spread, target_spread = [], [], []
    for code, asset in enumerate(panel.assets):
        own = good & (panel.asset == code)
        values, targets = panel.select(names)[own], panel.select(TARGETS)[own]
        still = [name for name, std in zip(TARGETS, targets.std(axis=0), strict=True) if not std > 1e-12]
        if still:
            raise DataError(f"target {still[0]} of {asset} is constant over the training rows", do="check its inputs")
        mean, std = values.mean(axis=0), values.std(axis=0)
        center.append(mean)
        spread.append(np.where(std > 1e-9 * np.maximum(1.0, np.abs(mean)), std, 1.0))
        target_spread.append(targets.std(axis=0))
    return Scalers(panel.assets, names, np.array(center), np.array(spread), np.array(target_spread))

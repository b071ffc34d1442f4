"""Scalers as plain numbers: fitted on training rows only, written as JSON, never as a pickled object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from oihedge.core.forecasts import PATH_TARGETS
from oihedge.forecast.panel import Floats, Ints, Mask, Panel

CLIP = 8.0
"""Scaled inputs are cut at this many standard deviations: crypto features are heavy-tailed."""


@dataclass(frozen=True)
class Scalers:
    """Per asset: centre and spread of each input column (assets, columns) and of each target (assets, targets).

    The hourly changes are centred on 0, further targets, which are levels, on their mean.
    """

    assets: tuple[str, ...]
    columns: tuple[str, ...]
    targets: tuple[str, ...]
    center: Floats
    spread: Floats
    target_center: Floats
    target_spread: Floats

    def inputs(self, panel: Panel) -> Floats:
        """Return the scaled, clipped inputs of `panel` (rows, columns); NaN stays NaN."""
        scaled = (panel.select(self.columns) - self.center[panel.asset]) / self.spread[panel.asset]
        return np.clip(scaled, -CLIP, CLIP)

    def scaled_targets(self, panel: Panel) -> Floats:
        """Return the targets in units of their training spread (rows, targets), not clipped."""
        return (panel.select(self.targets) - self.target_center[panel.asset]) / self.target_spread[panel.asset]

    def restore(self, quantiles: Floats, asset: Ints) -> Floats:
        """Return scaled quantiles (forecasts, targets, steps, levels) of `asset` (forecasts,) in the targets' units."""
        spread, center = (of[asset][:, :, None, None] for of in (self.target_spread, self.target_center))
        return quantiles * spread + center

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values, numbers at full precision."""
        return {
            "columns": list(self.columns),
            "targets": list(self.targets),
            "assets": {
                asset: {
                    "center": self.center[i].tolist(),
                    "spread": self.spread[i].tolist(),
                    "target_center": self.target_center[i].tolist(),
                    "target_spread": self.target_spread[i].tolist(),
                }
                for i, asset in enumerate(self.assets)
            },
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Scalers:
        """Return what `as_json` wrote; what was written without targets has the two of the paths, centred on 0."""
        assets: Mapping[str, Mapping[str, Sequence[float]]] = stored["assets"]
        targets = tuple(stored.get("targets", PATH_TARGETS))
        none = {"target_center": [0.0] * len(targets)}
        numbers = (
            np.array([{**none, **parts}[name] for parts in assets.values()], dtype=np.float64)
            for name in ("center", "spread", "target_center", "target_spread")
        )
        return cls(tuple(assets), tuple(stored["columns"]), targets, *numbers)


def fit_scalers(panel: Panel, columns: Sequence[str], targets: Sequence[str], rows: Mask) -> Scalers:
    """Fit mean and standard deviation per asset and column on the complete rows selected by `rows`.

    A column that does not move in these rows gets spread 1: it carries nothing, and must not blow up later. That the
    targets move, `cut_blocks` has seen to.
    """
    names, aims = tuple(columns), tuple(targets)
    good = rows & panel.complete((*names, *aims))
    level = ~np.isin(aims, PATH_TARGETS)
    center, spread, target_center, target_spread = [], [], [], []
    for code in range(len(panel.assets)):
        own = good & (panel.asset == code)
        values, aimed = panel.select(names)[own], panel.select(aims)[own]
        mean, std = values.mean(axis=0), values.std(axis=0)
        center.append(mean)
        spread.append(np.where(std > 1e-9 * np.maximum(1.0, np.abs(mean)), std, 1.0))
        target_center.append(np.where(level, aimed.mean(axis=0), 0.0))
        target_spread.append(aimed.std(axis=0))
    numbers = (np.array(of) for of in (center, spread, target_center, target_spread))
    return Scalers(panel.assets, names, aims, *numbers)

"""The baseline: nothing changes, as uncertain as it was in the training window."""

from __future__ import annotations

from dataclasses import replace

from oihedge.forecast.blocks import Blocks
from oihedge.forecast.closed_form import ClosedForm, fit_cells
from oihedge.forecast.panel import Roles
from oihedge.forecast.settings import Forecast


def fit(blocks: Blocks, roles: Roles, settings: Forecast) -> ClosedForm:
    """Take the quantiles of the hourly changes, about their median, and the share of unwinds, per asset."""
    counted = fit_cells("persistence", blocks, roles, settings, periods=(1,))
    middle = settings.quantiles.index(0.5)
    return replace(counted, quantiles=counted.quantiles - counted.quantiles[..., [middle]])

"""What an hour of the week usually brings: the training window's quantiles and share of unwinds at that hour."""

from __future__ import annotations

from oihedge.forecast.blocks import Blocks
from oihedge.forecast.closed_form import ClosedForm, fit_cells
from oihedge.forecast.panel import Roles
from oihedge.forecast.settings import Forecast

DAY_H, WEEK_H = 24, 168


def fit(blocks: Blocks, roles: Roles, settings: Forecast) -> ClosedForm:
    """Count per asset and hour of the week; where that is too little, per hour of the day, then over all hours."""
    return fit_cells("climatology", blocks, roles, settings, periods=(1, DAY_H, WEEK_H))

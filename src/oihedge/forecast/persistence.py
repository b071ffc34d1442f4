"""The baseline: nothing changes, as uncertain as it was in the training window."""

from __future__ import annotations

from dataclasses import replace

from oihedge.core.forecasts import PATH_TARGETS
from oihedge.forecast.blocks import Blocks
from oihedge.forecast.closed_form import ClosedForm, fit_cells
from oihedge.forecast.panel import Roles
from oihedge.forecast.settings import Forecast


def fit(blocks: Blocks, roles: Roles, settings: Forecast) -> ClosedForm:
    """Take the quantiles of the hourly changes, about their median, and the share of unwinds, per asset.

    Further targets are levels: what they were goes on, as spread as they were about their median.
    """
    counted = fit_cells("persistence", blocks, roles, settings, periods=(1,))
    middle = settings.quantiles.index(0.5)
    about = counted.quantiles - counted.quantiles[..., [middle]]
    return replace(counted, quantiles=about, carried=settings.targets[len(PATH_TARGETS) :])

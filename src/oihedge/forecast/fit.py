"""Fit a forecaster on feature rows."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from oihedge.core.protocols import EpochReporter, FittedModel
from oihedge.forecast.blocks import cut_blocks
from oihedge.forecast.kinds import LEARNED, closed_form_fit
from oihedge.forecast.panel import Roles
from oihedge.forecast.settings import Forecast


class Fitted(FittedModel, Protocol):
    """A FittedModel fresh from training; `facts` tell how that went (plain JSON values, seconds among them)."""

    @property
    def facts(self) -> dict[str, Any]:
        """How the fit went."""
        ...


def quiet(epoch: int, metrics: Mapping[str, float]) -> None:
    """Be an EpochReporter that says nothing."""


def fit(
    features: pl.DataFrame, roles: Roles, settings: Forecast, *,
    train_start: datetime, train_end: datetime, calibration_end: datetime, report: EpochReporter = quiet,
    checkpoint: Path | None = None, start_from: FittedModel | None = None,
) -> Fitted:  # fmt: skip
    """Fit the model that `settings.model` names.

    Trains on rows in [train_start, train_end]; p_unwind is calibrated on instants in (train_end + horizon,
    calibration_end - horizon], whose labels are complete by calibration_end. No row after calibration_end is read.
    Rows with a null input split the history: no window spans one.

    Args:
        features: rows (asset, ts, inputs, log_return, log_oi), hourly.
        roles: which columns are inputs, known ahead or not.
        settings: model, sizes and bounds of the training.
        train_start: first instant of the training window.
        train_end: last instant of the training window.
        calibration_end: last instant that may be read.
        report: told each epoch's train_loss and val_loss.
        checkpoint: the file by which a killed training goes on where it stood; see `training.train`.
        start_from: a model whose weights training starts from, if they fit; `facts["warm_start"]` says whether.

    Raises:
        SchemaError: if a column is missing or not numeric.
        DataError: for NaN or infinite values, an empty column, a constant target or too little history.
        ConfigError: if a network is to be trained by an accelerator that this machine lacks.
        ModelError: if training gave no finite loss or ran away, or memory did not suffice.
    """
    blocks = cut_blocks(
        features, roles, settings, train_start=train_start, train_end=train_end, calibration_end=calibration_end
    )
    if settings.model not in LEARNED:
        return closed_form_fit(settings.model)(blocks, roles, settings)
    from oihedge.forecast.learned_fit import fit_learned

    return fit_learned(blocks, roles, settings, report, checkpoint=checkpoint, start_from=start_from)

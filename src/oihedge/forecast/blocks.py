"""How a fit divides time: training, its held-back tail, and the calibration block, none touching the other."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl

from oihedge.core.clock import floor_hour, iso
from oihedge.core.errors import DataError
from oihedge.forecast.panel import Ints, Mask, Panel, Roles, build_panel, hour_of, input_columns, refuse_bad_numbers
from oihedge.forecast.settings import Forecast


@dataclass(frozen=True)
class Blocks:
    """The panel from train_start to calibration_end and which of its rows serve what.

    `training` are all rows of the training window, `learning` those before its held-back tail (purged by the horizon).
    """

    panel: Panel
    training: Mask
    learning: Mask
    complete: Mask
    first_validation_hour: int
    last_training_hour: int
    last_calibration_hour: int
    shape: tuple[int, int]

    def training_instants(self) -> Ints:
        """Return the rows with enough history whose H hours ahead lie wholly in the training window."""
        return self._instants(0, self.last_training_hour)

    def validation_instants(self) -> Ints:
        """Return the rows whose H hours ahead lie wholly in the held-back tail."""
        return self._instants(self.first_validation_hour, self.last_training_hour)

    def calibration_instants(self, stride_h: int) -> Ints:
        """Return every `stride_h`-th hour's rows in (train_end + horizon, calibration_end - horizon]."""
        rows = self._instants(self.last_training_hour + self.shape[1] + 1, self.last_calibration_hour)
        return np.asarray(rows[self.panel.hour[rows] % stride_h == 0])

    def _instants(self, first_hour: int, last_hour: int) -> Ints:
        encoder, horizon = self.shape
        inside = (self.panel.hour >= first_hour) & (self.panel.hour + horizon <= last_hour)
        enough = self.panel.run_until(self.complete) >= encoder
        return np.flatnonzero(inside & enough & (self.panel.run_after(self.complete) >= horizon))


def cut_blocks(
    features: pl.DataFrame, roles: Roles, settings: Forecast, *,
    train_start: datetime, train_end: datetime, calibration_end: datetime,
) -> Blocks:  # fmt: skip
    """Check the rows between train_start and calibration_end, and divide them.

    Raises:
        SchemaError: if a column is missing or not numeric.
        DataError: for NaN, infinity, an empty column, too little history or a constant target; names asset and column.
    """
    if not train_start < train_end < calibration_end:
        raise DataError(
            "the training window is empty",
            expected="train_start < train_end < calibration_end",
            got=f"{iso(train_start)}, {iso(train_end)}, {iso(calibration_end)}",
        )
    columns = input_columns(roles, settings.targets)
    rows = features.filter(pl.col("ts").is_between(train_start, calibration_end))
    panel = build_panel(rows, columns)
    refuse_bad_numbers(rows, columns)
    complete = panel.complete(columns)
    last = hour_of(floor_hour(train_end))
    training = panel.hour <= last
    _require_history(panel, complete & training, settings)
    tail = int(settings.validation_share * (last - int(panel.hour.min())))
    first_validation = last - max(tail, settings.horizon_h + 1)
    learning = panel.hour <= first_validation - settings.horizon_h
    _require_movement(panel, complete & learning, settings)
    return Blocks(
        panel=panel,
        training=training,
        learning=learning,
        complete=complete,
        first_validation_hour=first_validation,
        last_training_hour=last,
        last_calibration_hour=int(panel.hour.max()),
        shape=(settings.encoder_h, settings.horizon_h),
    )


def _require_history(panel: Panel, usable: Mask, settings: Forecast) -> None:
    needed = max(settings.min_train_rows, settings.encoder_h + 3 * settings.horizon_h)
    if not panel.assets:
        raise DataError("too little history to train", expected=f"{needed} complete feature rows per asset", got="none")
    for code, asset in enumerate(panel.assets):
        count = int((usable & (panel.asset == code)).sum())
        if count < needed:
            raise DataError(
                f"too little history to train on {asset}",
                expected=f"{needed} complete feature rows in the training window",
                got=str(count),
                do="bring in more history or lower forecast.min_train_rows",
            )


def _require_movement(panel: Panel, usable: Mask, settings: Forecast) -> None:
    """Refuse a target that stands still, whatever the kind of model: its feed is broken, or nothing is to be learnt."""
    for code, asset in enumerate(panel.assets):
        aimed = panel.select(settings.targets)[usable & (panel.asset == code)]
        for name, values in zip(settings.targets, aimed.T, strict=True):
            if len(values) and not values.std() > 1e-12:
                raise DataError(f"target {name} of {asset} is constant over the training rows", do="check its inputs")

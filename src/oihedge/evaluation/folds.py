"""Rolling walk-forward folds with a purge on both sides of the validation window."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from oihedge.core.clock import floor_hour, iso, require_utc
from oihedge.core.errors import DataError
from oihedge.evaluation.settings import Evaluation

MIN_TRAIN_SHARE = 0.5


@dataclass(frozen=True)
class Fold:
    """One step of the walk-forward, all instants UTC and on the hour.

    Train on rows in [train_start, train_end], calibrate on [validation_start, calibration_end], test at instants in
    [test_start, test_end). Between train_end and validation_start, and between calibration_end and test_start, lies
    the purge, so that no label of one window looks into the next.
    """

    index: int
    train_start: datetime
    train_end: datetime
    validation_start: datetime
    calibration_end: datetime
    test_start: datetime
    test_end: datetime


def folds(start: datetime, end: datetime, settings: Evaluation, train_days: int, calibration_days: int) -> list[Fold]:
    """Lay `settings.folds` contiguous test windows so that the newest ends at `end`, oldest first.

    The training window rolls: `train_days` long, or from `start` where the history is shorter, but never under half
    of `train_days`.

    Args:
        start: first instant that has an exact feature row.
        end: instant after the newest test instant; both are brought down to the hour.
        settings: folds, test_days and purge_h (hours).
        train_days: length of the rolling training window.
        calibration_days: length of the validation window between training and test.

    Raises:
        DataError: if the oldest fold is left with less than half of `train_days` to train on.
    """
    first, last = floor_hour(require_utc(start, "start")), floor_hour(require_utc(end, "end"))
    test, purge = timedelta(days=settings.test_days), timedelta(hours=settings.purge_h)
    laid = []
    for index in range(settings.folds):
        test_end = last - test * (settings.folds - 1 - index)
        calibration_end = test_end - test - purge
        validation_start = calibration_end - timedelta(days=calibration_days)
        train_end = validation_start - purge
        train_start = max(first, train_end - timedelta(days=train_days))
        laid.append(Fold(index, train_start, train_end, validation_start, calibration_end, test_end - test, test_end))
    _require_enough(laid[0], first, last, timedelta(days=train_days))
    return laid


def _require_enough(oldest: Fold, first: datetime, last: datetime, train: timedelta) -> None:
    short = train * MIN_TRAIN_SHARE - (oldest.train_end - oldest.train_start)
    if short <= timedelta(0):
        return
    need, have = last - first + short, last - first
    raise DataError(
        "too little history for the walk-forward",
        expected=f"at least {need / timedelta(days=1):.1f} days of features before {iso(last)}",
        got=f"{max(have, timedelta(0)) / timedelta(days=1):.1f} days from {iso(first)}",
        do="backfill more, or lower evaluation.folds, evaluation.test_days or forecast.train_days",
    )

"""The shapes in which rooms hand work to each other without importing one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

import polars as pl


class EpochReporter(Protocol):
    """Receives one training epoch's metrics; registry provides one that writes to MLflow."""

    def __call__(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Record `metrics` (names to values) for `epoch`, counted from 0."""
        ...


class Progress(Protocol):
    """Receives the progress of long work."""

    def __call__(self, done: int, total: int, what: str, lane: str = "") -> None:
        """Tell that `done` of `total` steps are finished, the newest being `what`.

        `lane` names which of several works that go on side by side this is; each counts for itself.
        """
        ...


def silent(done: int, total: int, what: str, lane: str = "") -> None:
    """Be a Progress that says nothing."""


class FittedModel(Protocol):
    """A trained forecaster: forecasts from feature rows, saved without pickle."""

    @property
    def kind(self) -> str:
        """Which forecaster it is, e.g. `tft`."""
        ...

    @property
    def shape(self) -> tuple[int, int]:
        """Hours of unbroken history that a forecast takes (the encoder length), and hours ahead that it tells."""
        ...

    def predict(self, features: pl.DataFrame, at: Sequence[datetime] | None = None) -> pl.DataFrame:
        """Forecast at each instant in `at` (all with enough history when None).

        Args:
            features: feature rows (asset, ts, ...) that reach back at least the encoder length before each instant;
                rows after an instant never change its forecast.
            at: the instants, aware, UTC, on the hour.

        Returns:
            One row per asset, instant and step: asset, ts (the instant), step (1..horizon, hours), p_unwind (calibrated
            probability), p_unwind_base (share of hours in which the event came in the training window; both the same on
            all steps of one forecast), and for each target, log_return and log_oi first, and each
            level its quantile at ts + step as f"{target}_q{100*level:02.0f}"; the two are hourly log changes.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write safetensors and JSON into `folder`, with no pickle."""
        ...

"""Settings of forecast/, filled from conf/forecast/."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from oihedge.core.settings import Count, Positive, Settings, Share


class Forecast(Settings):
    """The forecaster and its training."""

    model: Literal["tft", "persistence"]
    encoder_h: Count
    horizon_h: Count
    drop: Share
    quantiles: tuple[Share, ...]
    train_days: Count
    calibration_days: Count
    hidden_size: Count
    hidden_continuous_size: Count
    attention_heads: Count
    dropout: Share
    learning_rate: Positive
    batch_size: Count
    max_epochs: Count
    max_steps_per_epoch: Count
    max_train_s: Positive
    """Wall-clock ceiling of one fit; reaching it is reported on the run."""
    gradient_clip: Positive
    patience: Count
    seed: int
    scenario_paths: Count
    min_train_rows: Count
    expiration_h: Count
    """A model trained longer ago than this no longer decides."""

    @model_validator(mode="after")
    def _quantiles_rise(self) -> Self:
        q = self.quantiles
        if list(q) != sorted(set(q)) or 0.5 not in q or not all(0 < level < 1 for level in q):
            raise ValueError("quantiles must rise strictly inside (0, 1) and contain 0.5")
        return self

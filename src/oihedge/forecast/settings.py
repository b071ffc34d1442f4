"""Settings of forecast/, filled from conf/forecast/."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from oihedge.core.forecasts import PATH_TARGETS, quantile_column
from oihedge.core.settings import Count, Positive, Settings, Share
from oihedge.forecast.kinds import known_kind


class Forecast(Settings):
    """The forecaster and its training."""

    model: Annotated[str, AfterValidator(known_kind)]
    encoder_h: Count
    horizon_h: Count
    targets: tuple[Literal["log_return", "log_oi", "realised_downside", "hedge_ratio"], ...] = ("log_return", "log_oi")
    """What is forecast k hours ahead: the hour's log changes, and what the `features.realised_h` hours that end there
    realise; the last step's value of those lies wholly ahead of the forecast."""
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
    """Windows of a training step, in segments of `segment_windows`."""
    segment_windows: Count = 16
    """Windows that share what is computed per time step: more are quicker, fewer segments a step learn less from it."""
    segment_stride_h: Count = 12
    """Hours between neighbouring windows of a segment: next to one another they teach the same."""
    warm_start: bool = False
    """Whether a retrain starts from the champion's weights, where they fit."""
    max_epochs: Count
    max_steps_per_epoch: Count
    max_train_s: Positive
    """Wall-clock ceiling of one fit; reaching it is reported on the run."""
    gradient_clip: Positive
    patience: Count
    validation_share: Annotated[float, Field(gt=0, lt=0.5)]
    """Newest share of the training window, held back (purged by the horizon) for early stopping."""
    validation_windows: Count
    """Evenly spaced windows of the held-back tail that each epoch is judged on."""
    calibration_stride_h: Count
    """Every how many hours of the calibration block a forecast is made; neighbouring hours overlap almost wholly."""
    threads: Count
    """Threads that share each step of a fit: weights are the same on one machine only for the same number."""
    accelerator: Literal["cpu", "cuda"] = "cpu"
    """What trains a network; forecasts are always made on the CPU. On a GPU one run repeats another but for the order
    in which it adds."""
    precision: Literal["32", "bf16"] = "32"
    """What a training step computes in. bf16: matrix products in bfloat16; weights, recurrence, softmax, norms, output
    layer, loss and optimiser stay float32, and so do validation and forecasts. `linear` is all output layer. It is for
    a GPU: CPUs without such instructions are many times slower at it."""
    seed: int
    scenario_paths: Count
    min_train_rows: Count
    expiration_h: Count
    """A model trained longer ago than this no longer decides."""

    @model_validator(mode="after")
    def _paths_lead(self) -> Self:
        if self.targets[: len(PATH_TARGETS)] != PATH_TARGETS:
            raise ValueError(f"targets must begin with {', '.join(PATH_TARGETS)}: p_unwind is made of them")
        twice = [name for name in self.targets if self.targets.count(name) > 1]
        if twice:
            raise ValueError(f"targets names {twice[0]} twice")
        return self

    @model_validator(mode="after")
    def _quantiles_rise(self) -> Self:
        q = self.quantiles
        if list(q) != sorted(set(q)) or 0.5 not in q or not all(0 < level < 1 for level in q):
            raise ValueError("quantiles must rise strictly inside (0, 1) and contain 0.5")
        if len(q) < 3 or len({quantile_column("", level) for level in q}) < len(q):
            raise ValueError("quantiles must be at least three and differ in whole percents, which name their columns")
        return self

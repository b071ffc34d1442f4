"""Settings of forecast/, filled from conf/forecast/."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from oihedge.core.forecasts import PATH_TARGETS, quantile_column
from oihedge.core.settings import Count, Days, Hours, Positive, Settings, Share
from oihedge.forecast.kinds import known_kind


def _paths_lead(targets: tuple[str, ...]) -> tuple[str, ...]:
    if targets[: len(PATH_TARGETS)] != PATH_TARGETS:
        raise ValueError(f"must begin with {', '.join(PATH_TARGETS)}: p_unwind is made of them")
    twice = [name for name in targets if targets.count(name) > 1]
    if twice:
        raise ValueError(f"names {twice[0]} twice")
    return targets


def _rise(levels: tuple[float, ...]) -> tuple[float, ...]:
    if list(levels) != sorted(set(levels)) or 0.5 not in levels or not all(0 < level < 1 for level in levels):
        raise ValueError("must rise strictly inside (0, 1) and contain 0.5")
    if len(levels) < 3 or len({quantile_column("", level) for level in levels}) < len(levels):
        raise ValueError("must be at least three and differ in whole percents, which name their columns")
    return levels


Target = Literal["log_return", "log_oi", "realised_downside", "hedge_ratio"]
Targets = Annotated[tuple[Target, ...], AfterValidator(_paths_lead)]
Levels = Annotated[tuple[Share, ...], AfterValidator(_rise)]
Drop = Annotated[float, Field(gt=0, lt=1)]
Threads = Annotated[int, Field(ge=1, le=256)]
Paths = Annotated[int, Field(ge=1, le=10_000)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
MOST_WIDE, MOST_HEADS = 1024, 64
"""Of a layer, and of attention: at the most the weights are hundreds of megabytes."""
Width = Annotated[int, Field(ge=1, le=MOST_WIDE)]
Heads = Annotated[int, Field(ge=1, le=MOST_HEADS)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Windows = Annotated[int, Field(ge=1, le=100_000)]
Seconds = Annotated[float, Field(gt=0, le=1e8)]


class Forecast(Settings):
    """The forecaster and its training."""

    model: Annotated[str, AfterValidator(known_kind)]
    encoder_h: Hours
    horizon_h: Hours
    targets: Targets = PATH_TARGETS
    """What is forecast k hours ahead: the hour's log changes, and what the `features.realised_h` hours that end there
    realise; the last step's value of those lies wholly ahead of the forecast."""
    drop: Drop
    quantiles: Levels
    train_days: Days
    calibration_days: Days
    hidden_size: Width
    hidden_continuous_size: Width
    attention_heads: Heads
    dropout: Dropout
    learning_rate: Positive
    batch_size: Windows
    """Windows of a training step, in segments of `segment_windows`; at most as many as there are."""
    segment_windows: Windows = 16
    """Windows that share what is computed per time step: more are quicker, fewer segments a step learn less from it."""
    segment_stride_h: Count = 12
    """Hours between neighbouring windows of a segment: next to one another they teach the same."""
    warm_start: bool = False
    """Whether a retrain starts from the champion's weights, where they fit."""
    max_epochs: Count
    max_steps_per_epoch: Count
    max_train_s: Seconds
    """Wall-clock ceiling of one fit; reaching it is reported on the run."""
    gradient_clip: Positive
    patience: Count
    validation_share: Annotated[float, Field(gt=0, lt=0.5)]
    """Newest share of the training window, held back (purged by the horizon) for early stopping."""
    validation_windows: Count
    """Evenly spaced windows of the held-back tail that each epoch is judged on."""
    calibration_stride_h: Hours
    """Every how many hours of the calibration block a forecast is made; neighbouring hours overlap almost wholly."""
    threads: Threads
    """Threads that share each step of a fit: weights are the same on one machine only for the same number."""
    accelerator: Literal["cpu", "cuda"] = "cpu"
    """What trains a network; forecasts are always made on the CPU. On a GPU one run repeats another but for the order
    in which it adds."""
    precision: Literal["32", "bf16"] = "32"
    """What a training step computes in. bf16: matrix products in bfloat16; weights, recurrence, softmax, norms, output
    layer, loss and optimiser stay float32, and so do validation and forecasts. `linear` is all output layer. It is for
    a GPU: CPUs without such instructions are many times slower at it."""
    seed: Seed
    scenario_paths: Paths
    min_train_rows: Count
    expiration_h: Hours
    """A model trained longer ago than this no longer decides."""

    @field_validator("attention_heads")
    @classmethod
    def _divide(cls, heads: int, info: ValidationInfo) -> int:
        """Refuse heads of no width."""
        if heads > info.data.get("hidden_size", heads):
            raise ValueError(f"must be at most hidden_size, {info.data['hidden_size']}, which they divide")
        return heads

    @field_validator("calibration_stride_h")
    @classmethod
    def _in_the_block(cls, stride: int, info: ValidationInfo) -> int:
        """Refuse a stride that may pass over every hour of the calibration block."""
        if {"calibration_days", "horizon_h"} <= info.data.keys():
            hours = 24 * info.data["calibration_days"] - 2 * info.data["horizon_h"]
            if 0 < hours < stride:  # a block without an hour is told by what cuts it
                raise ValueError(f"must be at most {hours}, the hours that calibration_days has to forecast from")
        return stride

"""Small markets with volatility that comes in clusters and open interest that now and then collapses."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from oihedge.forecast.fit import fit
from oihedge.forecast.settings import Forecast

START = datetime(2025, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
ENCODER, HORIZON = 8, 4


@dataclass(frozen=True)
class Columns:
    known: tuple[str, ...] = ("hour_sin", "hour_cos")
    unknown: tuple[str, ...] = ("log_return", "log_oi", "volatility")


ROLES = Columns()


def make_features(hours: int = 720, assets: tuple[str, ...] = ("BTC", "ETH"), seed: int = 1) -> pl.DataFrame:
    frames = []
    for i, asset in enumerate(assets):
        rng = np.random.default_rng(seed + i)
        volatility = 0.01 * np.exp(0.5 * np.sin(np.arange(hours) / 30) + 0.1 * rng.normal(size=hours))
        log_oi = rng.normal(0, 0.01, hours) - 0.06 * (rng.random(hours) < 0.02)
        angle = 2 * np.pi * (np.arange(hours) % 24) / 24
        frames.append(
            pl.DataFrame(
                {
                    "asset": [asset] * hours,
                    "ts": [START + HOUR * k for k in range(hours)],
                    "hour_sin": np.sin(angle),
                    "hour_cos": np.cos(angle),
                    "log_return": rng.normal(size=hours) * volatility,
                    "log_oi": log_oi,
                    "volatility": volatility,
                }
            ).with_columns(pl.col("ts").cast(pl.Datetime("us", "UTC")))
        )
    return pl.concat(frames)


def make_settings(**changes: Any) -> Forecast:
    base: dict[str, Any] = {
        "model": "tft", "encoder_h": ENCODER, "horizon_h": HORIZON, "drop": 0.05, "quantiles": (0.1, 0.5, 0.9),
        "train_days": 20, "calibration_days": 8, "hidden_size": 4, "hidden_continuous_size": 2, "attention_heads": 1,
        "dropout": 0.1, "learning_rate": 0.01, "batch_size": 16, "max_epochs": 2, "max_steps_per_epoch": 3,
        "max_train_s": 600.0, "gradient_clip": 1.0, "patience": 5, "validation_share": 0.1, "validation_windows": 32,
        "calibration_stride_h": 1, "threads": 1, "seed": 3, "scenario_paths": 32, "min_train_rows": 100,
        "expiration_h": 168,
    }  # fmt: skip
    return Forecast(**{**base, **changes})


WINDOW = {
    "train_start": START,
    "train_end": START + HOUR * 480,
    "calibration_end": START + HOUR * 660,
}


@pytest.fixture
def features() -> pl.DataFrame:
    return make_features()


@pytest.fixture(scope="session")
def settings() -> Callable[..., Forecast]:
    return make_settings


@pytest.fixture
def window() -> dict[str, datetime]:
    return dict(WINDOW)


@pytest.fixture(scope="session")
def roles() -> Columns:
    return ROLES


@pytest.fixture(scope="session")
def market() -> Callable[..., pl.DataFrame]:
    return make_features


@pytest.fixture(scope="session")
def fitted() -> Callable[[str], Any]:
    """Return the model of a kind, fitted once."""
    return functools.cache(lambda kind: fit(make_features(), ROLES, make_settings(model=kind), **WINDOW))


@pytest.fixture(scope="session")
def tft(fitted: Callable[[str], Any]) -> Any:
    return fitted("tft")


@pytest.fixture(scope="session")
def persistence(fitted: Callable[[str], Any]) -> Any:
    return fitted("persistence")

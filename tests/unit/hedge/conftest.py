"""Settings and feature rows of a calm hour, which the hedge tests change one value at a time."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from hypothesis import HealthCheck
from hypothesis import settings as budget

from oihedge.hedge.settings import Hedge

budget.register_profile("steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
budget.load_profile("steady")

CONF = Path(__file__).resolve().parents[3] / "conf" / "hedge"
START = datetime(2025, 6, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
CALM: dict[str, Any] = {
    "spot_price": 100.0, "volatility": 0.6, "oi_divergence": 0.0, "oi_divergence_rank": 0.5, "venue_divergence": 0.0,
    "oi_price_gap_z": 0.0, "funding_z": 0.0, "n_oi_venues": 3, "n_oi_tracked": 3, "oi_leader": "bybit",
}  # fmt: skip
MakeSettings = Callable[..., Hedge]
MakeRows = Callable[..., pl.DataFrame]


@cache
def _shipped() -> str:
    return json.dumps(yaml.safe_load((CONF / "default.yaml").read_text()))


def hedge_settings(**changes: Any) -> Hedge:
    """The shipped settings with dotted names changed (`limits__max_ratio=1.2`) and p_unwind's lifts fixed."""
    raw = json.loads(_shipped())
    raw["signals"]["p_unwind_lift"] = {"enter": 2.0, "deep": 3.5, "extreme": 5.0, "exit": 1.2}
    for name, value in changes.items():
        *path, last = name.split("__")
        place = raw
        for part in path:
            place = place[part]
        place[last] = value
    return Hedge.model_validate_json(json.dumps(raw))


def feature_rows(*changes: dict[str, Any], asset: str = "BTC", start: datetime = START) -> pl.DataFrame:
    """One calm hour per entry, with its changes."""
    rows = []
    for hour, change in enumerate(changes):
        ts = start + hour * HOUR
        rows.append({"asset": asset, "ts": ts, "available_at": ts + timedelta(seconds=5), **CALM, **change})
    floats = {name: pl.Float64 for name, value in CALM.items() if isinstance(value, float)}
    stamps = {"ts": pl.Datetime("us", "UTC"), "available_at": pl.Datetime("us", "UTC")}
    return pl.DataFrame(rows, schema_overrides={**floats, **stamps})


@pytest.fixture(scope="session")
def make_settings() -> MakeSettings:
    return hedge_settings


@pytest.fixture(scope="session")
def make_rows() -> MakeRows:
    return feature_rows


@pytest.fixture(scope="session")
def settings() -> Hedge:
    return hedge_settings()

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from oihedge.lake.store import Lake

Funding = Callable[..., pl.DataFrame]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake", simulated=True)


@pytest.fixture
def funding() -> Funding:
    """Make funding rows: one per rate, 8 h apart, each available 5 s after its payment."""

    def make(
        *rates: float | None, first: datetime = datetime(2025, 1, 1, tzinfo=UTC), symbol: str = "BTC/USDT:USDT"
    ) -> pl.DataFrame:
        ts = [first + timedelta(hours=8 * i) for i in range(len(rates))]
        return pl.DataFrame(
            {
                "venue": ["bybit"] * len(rates),
                "symbol": [symbol] * len(rates),
                "asset": ["BTC"] * len(rates),
                "ts": ts,
                "rate": list(rates),
                "interval_h": [8.0] * len(rates),
                "available_at": [t + timedelta(seconds=5) for t in ts],
            },
            schema_overrides={
                "ts": pl.Datetime("us", "UTC"), "available_at": pl.Datetime("us", "UTC"), "rate": pl.Float64,
                "venue": pl.String, "symbol": pl.String, "asset": pl.String, "interval_h": pl.Float64,
            },
        )  # fmt: skip

    return make

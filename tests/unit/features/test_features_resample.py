"""Minute bars become the hourly bars that the venue itself would have sent, and no hour is guessed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from oihedge.features.resample import hourly

START = datetime(2025, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
UTC_TIME = pl.Datetime("us", "UTC")


def minutes(count: int, *, symbol: str = "BTC/USDT", seed: int = 1) -> pl.DataFrame:
    draw = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(draw.normal(0, 1e-3, count)))
    opened = np.r_[100.0, close[:-1]]
    stamps = pl.datetime_range(START, START + (count - 1) * MINUTE, "1m", time_zone="UTC", eager=True).cast(UTC_TIME)
    frame = pl.DataFrame({"ts": stamps, "open": opened, "close": close, "volume": draw.uniform(1, 2, count)})
    return frame.with_columns(
        high=pl.max_horizontal("open", "close") * 1.0001, low=pl.min_horizontal("open", "close") * 0.9999,
        venue=pl.lit("binance"), symbol=pl.lit(symbol), asset=pl.lit("BTC"), kind=pl.lit("spot"),
        timeframe=pl.lit("1m"), filled=pl.lit(None, pl.Boolean),
        available_at=pl.col("ts") + MINUTE + timedelta(seconds=5),
    )  # fmt: skip


def made(bars: pl.DataFrame) -> pl.DataFrame:
    return hourly(bars.lazy()).collect().sort("symbol", "ts")


def test_an_hour_is_its_first_open_extremes_last_close_and_sum() -> None:
    bars = minutes(180)
    rows = made(bars.sample(fraction=1.0, shuffle=True, seed=4))
    assert rows["ts"].to_list() == [START + timedelta(hours=hour) for hour in range(3)]
    second = bars[60:120]
    told = rows.row(1, named=True)
    assert (told["open"], told["close"]) == (second["open"][0], second["close"][-1])
    assert (told["high"], told["low"]) == (second["high"].max(), second["low"].min())
    assert told["volume"] == pytest.approx(second["volume"].sum())
    assert (told["timeframe"], told["filled"]) == ("1h", False)


def test_an_hour_is_known_when_its_last_minute_is_and_not_before() -> None:
    bars = minutes(60).with_columns(
        available_at=pl.when(pl.col("ts") == START + 7 * MINUTE)
        .then(pl.lit(START + timedelta(days=1), UTC_TIME))
        .otherwise("available_at")
    )
    assert made(bars)["available_at"].to_list() == [START + timedelta(days=1)]
    assert made(minutes(60))["available_at"].to_list() == [START + timedelta(hours=1, seconds=5)]


@pytest.mark.parametrize("lost", [0, 30, 59])
def test_an_hour_that_lacks_a_minute_has_no_bar(lost: int) -> None:
    bars = minutes(120).filter(pl.col("ts") != START + lost * MINUTE)
    assert made(bars)["ts"].to_list() == [START + timedelta(hours=1)]


def test_a_filled_minute_marks_its_hour_and_series_stay_apart() -> None:
    marked = minutes(60).with_columns(filled=pl.col("ts") == START + 5 * MINUTE)
    both = made(pl.concat([marked, minutes(60, symbol="BTC/USDC", seed=2)]))
    assert dict(zip(both["symbol"], both["filled"], strict=True)) == {"BTC/USDT": True, "BTC/USDC": False}


def test_later_minutes_change_no_earlier_hour() -> None:
    bars = minutes(240)
    future = bars.with_columns(
        pl.when(pl.col("ts") >= START + timedelta(hours=2)).then(pl.col(name) * 3).otherwise(pl.col(name)).alias(name)
        for name in ("open", "high", "low", "close")
    )
    cut = START + timedelta(hours=2)
    assert made(bars).filter(pl.col("ts") < cut).equals(made(future).filter(pl.col("ts") < cut))

"""What may leave the quarantine, and many rows at once."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from oihedge.cli import main
from oihedge.config import Config, load
from oihedge.core.errors import DataError
from oihedge.core.tables import RAW_TABLES
from oihedge.jobs import quarantine
from oihedge.jobs.opening import open_lake
from oihedge.quality.quarantine import quarantine_rows
from oihedge.quality.suites import JUDGEMENTS, rules

T0 = datetime(2025, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
NOW = T0 + timedelta(days=2)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return load(home=tmp_path)


def hold(config: Config, *reasons: str) -> list[str]:
    """Put one bar an hour into quarantine, each for one reason, and return their keys."""
    ts = [T0 + hour * HOUR for hour in range(len(reasons))]
    bars = pl.DataFrame({"ts": ts, "reason": reasons}).with_columns(
        pl.col("ts").cast(pl.Datetime("us", "UTC")), venue=pl.lit("bybit"), symbol=pl.lit("BTC/USDT:USDT"),
        asset=pl.lit("BTC"), kind=pl.lit("perp"), timeframe=pl.lit("1h"), open=-102.8, high=3.0, low=1.0, close=2.0,
        volume=5.0, filled=pl.lit(None, pl.Boolean),
    )  # fmt: skip
    bars = bars.with_columns(available_at=pl.col("ts") + HOUR, ingested_at=pl.col("ts") + HOUR)
    rows = quarantine_rows("ohlcv", bars)
    open_lake(config).append("derived", "quarantine", rows, now=NOW)
    return rows["payload_hash"].str.head(12).to_list()


def test_every_judgement_is_a_reason_that_rows_are_held_for(config: Config) -> None:
    names = {rule.name for table in RAW_TABLES for rule in rules(table.name, config.quality) if not rule.told}
    assert names >= JUDGEMENTS
    words = ("missing", "positive", "negative", "below", "above", "duplicate", "conflict", "grid", "unknown", "early")
    assert not [name for name in JUDGEMENTS if any(word in name for word in words)]


@pytest.mark.parametrize("reason", ["open_below_low", "price_jump; open_below_low", "a_reason_of_tomorrow"])
def test_a_row_that_cannot_be_so_is_not_released(config: Config, reason: str) -> None:
    (key,) = hold(config, reason)
    with pytest.raises(DataError, match=f"cannot be released: .*{reason.split()[-1]}"):
        quarantine.release(config, key, as_of=NOW)
    assert open_lake(config).read("validated", "ohlcv").collect().is_empty()


def test_several_keys_at_once_and_every_row_is_told(config: Config, capfd: pytest.CaptureFixture[str]) -> None:
    keys = hold(config, "price_jump", "frozen", "price_jump; low_not_positive")
    told = ["--home", str(config.home), "--json", "--reason", "a real crash"]
    assert main(["quarantine", "release", *keys[:2], "quality.min_good_share=0.5", *told]) == 0
    report = json.loads(capfd.readouterr().out)
    assert [(row["key"], row["released"]) for row in report["rows"]] == [(keys[0], True), (keys[1], True)]
    assert main(["quarantine", "release", *keys, *told]) == 3
    out, err = capfd.readouterr()
    assert [row["released"] for row in json.loads(out)["rows"]] == [False, False]
    assert "low_not_positive" in json.loads(out)["refused"][0]
    assert err.splitlines()[-1] == "oihedge: 1 of 3 rows were not released"


def test_rows_are_released_by_the_filters_of_the_list(config: Config, capfd: pytest.CaptureFixture[str]) -> None:
    hold(config, "price_jump", "frozen", "price_jump", "frozen; cross_venue_outlier")
    told = ["--home", str(config.home), "--json"]
    chosen = ["--table", "ohlcv", "--venue", "bybit", "--with-reason"]
    assert main(["quarantine", "release", *chosen, "price_jump", *told]) == 0
    assert len(json.loads(capfd.readouterr().out)["rows"]) == 2
    assert main(["quarantine", "release", *chosen, "cross_venue_outlier", *told]) == 0
    assert len(json.loads(capfd.readouterr().out)["rows"]) == 1
    assert main(["quarantine", "list", *chosen, "frozen", *told]) == 0
    assert json.loads(capfd.readouterr().out)["total"] == 1
    assert main(["quarantine", "release", *chosen, "price_jump", *told]) == 3
    assert "no quarantined row is chosen" in capfd.readouterr().err

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
from oihedge.jobs import quarantine, validate
from oihedge.jobs.opening import open_lake
from oihedge.lake.store import Lake
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


def paid(config: Config, hour: int, rate: float) -> None:
    """Let the lake take one payment at its hour."""
    ts = T0 + hour * HOUR
    named = {"venue": "bybit", "symbol": "BTC/USDT:USDT", "asset": "BTC", "ts": ts, "rate": rate, "interval_h": 8.0}
    rows = pl.DataFrame([{**named, "available_at": ts}])
    open_lake(config).append("raw", "funding", rows, now=ts + HOUR)


class Killed(BaseException):
    pass


def release_killed(config: Config, key: str, as_of: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Release a row in a process that dies between its two writes."""
    write, done = Lake.append, []

    def append(lake: Lake, layer, name, rows, *, now):
        if done:
            raise Killed
        done.append(name)
        return write(lake, layer, name, rows, now=now)

    with monkeypatch.context() as dying:
        dying.setattr(Lake, "append", append)
        with pytest.raises(Killed):
            quarantine.release(config, key, as_of=as_of)


@pytest.mark.no_cover
def test_a_release_killed_between_its_writes_is_completed_and_hides_no_later_row(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    paid(config, 0, 0.0001)
    paid(config, 8, 0.2)
    validate.run(config, as_of=T0 + 9 * HOUR)
    (row,) = quarantine.listing(config, as_of=T0 + 10 * HOUR).rows
    release_killed(config, row["key"], T0 + 10 * HOUR, monkeypatch)
    paid(config, 16, 0.0002)
    lake, at = open_lake(config), T0 + 17 * HOUR
    (judged,) = validate.run(config, as_of=at).rows
    assert (judged["checked"], judged["good"]) == (1, 1)
    assert lake.read("validated", "funding").collect()["rate"].to_list() == [0.0001, 0.2, 0.0002]
    assert lake.read("validated", "funding", as_of=T0 + 10 * HOUR).collect()["rate"].to_list() == [0.0001, 0.2]
    versions = [lake.version("validated", "funding"), lake.version("derived", "quarantine")]
    assert validate.run(config, as_of=at).rows == ()
    again = quarantine.release(config, row["key"], as_of=at)
    assert (again.released, again.available_at) == (False, T0 + 10 * HOUR)
    assert [lake.version("validated", "funding"), lake.version("derived", "quarantine")] == versions


def test_the_same_command_completes_a_release_that_was_killed(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    (key,) = hold(config, "price_jump")
    release_killed(config, key, NOW, monkeypatch)
    assert open_lake(config).read("validated", "ohlcv").collect().is_empty()
    again = quarantine.release(config, key, as_of=NOW + HOUR)
    assert (again.released, again.available_at) == (True, NOW)
    assert open_lake(config).read("validated", "ohlcv").collect()["available_at"].to_list() == [NOW]
    assert not quarantine.release(config, key, as_of=NOW + 2 * HOUR).released

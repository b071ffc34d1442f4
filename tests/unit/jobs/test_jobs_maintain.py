"""The lake's upkeep as a job and a command: what it protects, tells and survives."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from oihedge.cli import main
from oihedge.config import Config, load
from oihedge.core.clock import FixedClock, iso
from oihedge.core.tables import FUNDING, UTC_TIME
from oihedge.jobs import maintain
from oihedge.jobs.opening import open_lake
from oihedge.lake.store import Lake

NOW = datetime(2025, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return load(home=tmp_path)


@pytest.fixture
def lake(config: Config) -> Lake:
    """A lake whose funding has five versions."""
    opened = open_lake(config)
    for day in range(5):
        opened.append("validated", "funding", payment(NOW - 10 * DAY + day * DAY), now=NOW)
    return opened


def payment(ts: datetime) -> pl.DataFrame:
    row = {"venue": "bybit", "symbol": "BTC", "asset": "BTC", "ts": ts, "rate": 0.1, "interval_h": 8.0}
    return pl.DataFrame([{**row, "available_at": ts}], schema={**FUNDING.columns, "available_at": UTC_TIME})


def decide(lake: Lake, name: str, at: datetime, **versions: int) -> None:
    """Keep a decision's inputs, as the hedge job does."""
    inputs = {"as_of": iso(at), "versions": versions, "config": {"lake": {"root": "data/lake"}}}
    row = {"decision_id": name, "as_of": at, "inputs": json.dumps(inputs), "available_at": at}
    lake.append("derived", "decision_inputs", pl.DataFrame([row]), now=at)


def test_the_versions_of_decisions_within_keep_days_are_referred_to_and_older_ones_are_not(lake, config):
    decide(lake, "old", NOW - 91 * DAY, funding=1, ohlcv=7)
    decide(lake, "first", NOW - 89 * DAY, funding=2, features=5)
    decide(lake, "second", NOW, funding=4, open_interest=3)
    found = maintain.referred(lake, config, since=NOW - 90 * DAY)
    assert found == {
        ("validated", "ohlcv"): set(), ("validated", "open_interest"): {3}, ("validated", "funding"): {2, 4},
        ("derived", "features"): {5},
    }  # fmt: skip


def test_a_decisions_version_stays_readable_however_old_its_files_are(lake, config):
    decide(lake, "kept", NOW, funding=1)
    maintain.run(config, as_of=NOW)
    years_later = FixedClock(datetime.now(UTC) + 1000 * DAY)
    report = maintain.run(config, as_of=NOW, clock=years_later)
    assert report.failures == ()
    assert lake.read("validated", "funding", version=1).collect().height == 2


def test_every_table_is_told_with_files_sizes_and_seconds_and_progress(lake, config):
    decide(lake, "one", NOW, funding=1)
    told: list[str] = []
    report = maintain.run(config, as_of=NOW, progress=lambda done, total, what: told.append(f"{done}/{total} {what}"))
    rows = {row["table"]: row for row in report.tables}
    assert list(rows) == ["validated/funding", "decision_inputs"]
    assert (rows["validated/funding"]["files_before"], rows["validated/funding"]["files_after"]) == (5, 1)
    assert rows["validated/funding"]["mb_after"] > rows["validated/funding"]["mb_before"] > 0, "old versions are kept"
    assert told == ["1/2 validated/funding", "2/2 decision_inputs"]


def test_a_dry_run_changes_no_version(lake, config):
    assert maintain.run(config, as_of=NOW, dry_run=True).dry_run
    assert lake.version("validated", "funding") == 4


def test_a_table_that_fails_does_not_keep_the_others_from_their_upkeep(lake, config):
    lake.append("raw", "funding", payment(NOW), now=NOW)
    data = next((config.home / "data/lake/raw/funding").glob("*.parquet"))
    lake.append("raw", "funding", payment(NOW + DAY), now=NOW)
    data.unlink()
    report = maintain.run(config, as_of=NOW)
    assert [row["table"] for row in report.tables] == ["validated/funding"]
    assert len(report.failures) == 1
    assert "raw/funding could not be tidied up" in report.failures[0]


def test_the_command_prints_one_document_and_ends_with_1_when_a_table_fails(lake, config, capfd):
    assert main(["maintain", "--home", str(config.home), "--dry-run", "--json"]) == 0
    shown = json.loads(capfd.readouterr().out)
    assert (shown["dry_run"], shown["keep_days"], len(shown["tables"])) == (True, 90, 1)
    for file in (config.home / "data/lake/validated/funding").glob("*.parquet"):
        file.unlink()
    assert main(["maintain", "--home", str(config.home)]) == 1
    said = capfd.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("oihedge: upkeep failed for 1 of the tables: lake table ")

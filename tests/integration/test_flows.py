"""The flows against a real Prefect server, on a small embedded market."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey, LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import StateType
from prefect.flow_engine import run_flow
from prefect.states import Running, Scheduled

from flows import artifacts, corridor
from flows.backfill import backfill, refill
from flows.ingest import ingest
from flows.validate import validate
from oihedge.config import load
from oihedge.core.clock import HOUR
from oihedge.core.errors import BusyError, ConfigError, DataError
from oihedge.jobs import refill as holes
from oihedge.jobs.lease import lease
from oihedge.jobs.opening import open_lake

pytestmark = pytest.mark.usefixtures("prefect_server")

AS_OF = datetime(2025, 7, 1, 0, 5, tzinfo=UTC)
SMALL = ("run.history_days=3",)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, prefect_server: None) -> Path:
    """A home whose lake the ingest flow has filled."""
    folder = tmp_path_factory.mktemp("home")
    ingest(SMALL, None, str(folder), AS_OF)
    return folder


@pytest.fixture
def client() -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as opened:
        yield opened


def counts(home: Path) -> dict[str, int]:
    lake = open_lake(load(SMALL, home=home))
    names = ("ohlcv", "open_interest", "funding")
    return {name: lake.rows("raw", name).collect().height for name in names}


def spoil(home: Path) -> None:
    """Put a bar with a negative price into raw/, as the newest of its venue."""
    lake = open_lake(load(SMALL, home=home))
    bar = lake.read("raw", "ohlcv").sort("ts").tail(1).drop("ingested_at").collect()
    later = [pl.col(name) + HOUR for name in ("ts", "available_at")]
    lake.append("raw", "ohlcv", bar.with_columns(*later, low=pl.lit(-1.0)), now=AS_OF)


def newest_artifact(client: SyncPrefectClient, key: str) -> Any:
    found = client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])))
    assert found, f"no artifact {key}"
    return max(found, key=lambda artifact: artifact.created)


def test_ingest_twice_adds_nothing_the_second_time(home: Path) -> None:
    before = counts(home)
    assert all(before.values())
    again = ingest(SMALL, None, str(home), AS_OF)
    assert counts(home) == before
    assert [row["added"] for row in again["rows"]] == [0] * len(again["rows"])


def test_ingest_leaves_its_rows_by_venue_under_the_markets_label(home: Path, client: SyncPrefectClient) -> None:
    shown = newest_artifact(client, "rows-by-venue").data.replace("\\", "")
    assert "simulated market" in shown
    assert "| hyperliquid | open_interest |" in shown
    assert "only an archive can give" in shown


def test_the_instant_is_the_scheduled_time_not_the_wall_clock(client: SyncPrefectClient, tmp_path: Path) -> None:
    planned = datetime(2025, 3, 4, 5, 6, tzinfo=UTC)
    run = client.create_flow_run(validate, parameters={"home": str(tmp_path)}, state=Scheduled(scheduled_time=planned))
    report = run_flow(validate, flow_run=client.read_flow_run(run.id), parameters={"home": str(tmp_path)})
    assert report["as_of"] == planned
    assert type(report["as_of"]) is datetime, "Prefect's own kind of instant must not reach the jobs"


def test_bad_data_fails_the_run_with_its_one_line_and_no_traceback(home: Path, client: SyncPrefectClient) -> None:
    spoil(home)
    state = validate(SMALL, None, str(home), AS_OF, return_state=True)
    assert state.is_failed()
    with pytest.raises(DataError):
        state.result()
    assert "too few of the new rows are good" in (state.message or "")
    corridor.drain()
    run_id = state.state_details.flow_run_id
    assert run_id is not None
    logs = client.read_logs(log_filter=LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run_id])))
    assert any("too few" in log.message for log in logs)
    assert not any("Traceback" in log.message for log in logs)
    assert "ohlcv" in newest_artifact(client, "quality").data


def test_a_misspelt_setting_fails_the_run_before_it_writes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="max_ration"):
        ingest(("hedge.limits.max_ration=1",), None, str(tmp_path), AS_OF)
    assert list(tmp_path.iterdir()) == []


def test_overlapping_work_is_refused_and_names_its_holder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corridor, "WAIT_S", 0.0)
    with (
        lease(load(SMALL, home=home), "validate", doing="another validate"),
        pytest.raises(BusyError, match="another validate"),
    ):
        validate(SMALL, None, str(home), AS_OF)


def test_runs_that_died_holding_the_lease_are_marked_crashed(home: Path, client: SyncPrefectClient) -> None:
    config = load(SMALL, home=home)
    dead = client.create_flow_run(validate, tags=[corridor.lease_tag(config, "validate")], state=Running())
    alive = client.create_flow_run(validate, tags=["lease:validate:of-another-home"], state=Running())
    waiting = client.create_flow_run(validate, state=Running())
    validate(SMALL, None, str(home), AS_OF)
    types = [client.read_flow_run(run.id).state_type for run in (dead, alive, waiting)]
    assert types == [StateType.CRASHED, StateType.RUNNING, StateType.RUNNING]


def test_a_finished_run_carries_no_lease_tag(home: Path, client: SyncPrefectClient) -> None:
    state = validate(SMALL, None, str(home), AS_OF, return_state=True)
    run_id = state.state_details.flow_run_id
    assert run_id is not None
    assert not [tag for tag in client.read_flow_run(run_id).tags if tag.startswith("lease:")]


@pytest.mark.long
def test_backfill_tells_each_venues_progress_and_asks_for_nothing_the_second_time(
    home: Path, client: SyncPrefectClient
) -> None:
    told: list[tuple[str, int, int]] = []
    days = (date(2025, 6, 20), date(2025, 6, 22))
    with corridor.telling(lambda done, total, what, lane="": told.append((lane, done, total))):
        first = backfill(*days, SMALL, None, str(home), AS_OF)
    assert ("bybit perp", 2, 2) in told
    assert ("hyperliquid perp", 2, 2) in told
    assert sum(row["added"] for row in first["rows"])
    assert newest_artifact(client, "backfill").data == 100
    assert "bybit" in newest_artifact(client, "backfill-plan").data
    gaps = [gap for gap in first["gaps"] if gap["venue"] == "hyperliquid" and gap["table"] == "open_interest"]
    assert gaps
    assert all("archive" in gap["why"] for gap in gaps)
    before = counts(home)
    again = backfill(*days, SMALL, None, str(home), AS_OF)
    assert again["calls"] == 0
    assert again["finished_before"] > 0
    assert counts(home) == before


@pytest.mark.long
def test_refill_asks_for_the_holes_in_what_is_there(home: Path) -> None:
    backfill(date(2025, 6, 20), date(2025, 6, 22), SMALL, None, str(home), AS_OF)
    report = refill(None, None, SMALL, None, str(home), AS_OF, venues=("bybit",), tables=("ohlcv",), layer="raw")
    assert report["asked"] > 0, "between the days of the backfill and those of the ingest"
    assert sum(row["added"] for row in report["rows"]) >= report["asked"]
    left = holes.plan(load(SMALL, home=home), as_of=AS_OF, venues=("bybit",), tables=("ohlcv",), layer="raw")
    assert left.findings == ()


@pytest.mark.parametrize(("start", "end"), [("2025-06-22", "2025-06-20"), ("2025-06-22", "2026-06-20")])
def test_backfill_refuses_an_empty_or_future_range(start: str, end: str, home: Path) -> None:
    with pytest.raises(ConfigError, match="backfill"):
        backfill(date.fromisoformat(start), date.fromisoformat(end), SMALL, None, str(home), AS_OF)


def test_a_markdown_cell_keeps_pipes_and_line_breaks_inside() -> None:
    table = artifacts.markdown_table([{"reason": "a|b\nc<d", "x": 0.123456789}], ("reason", "x"))
    assert table.splitlines()[-1] == "| a\\|b c&lt;d | 0.123457 |"

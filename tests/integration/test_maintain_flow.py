"""The lake's upkeep as a flow."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

from flows.maintain import maintain
from flows.serving import deployments
from oihedge.config import load
from oihedge.core.tables import FUNDING, UTC_TIME
from oihedge.jobs.opening import open_lake

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("prefect_server")]
NOW = datetime(2025, 7, 1, 0, 5, tzinfo=UTC)


def test_upkeep_leaves_a_table_of_what_it_did(tmp_path: Path) -> None:
    lake = open_lake(load(home=tmp_path))
    for day in (1, 2, 3):
        ts = datetime(2025, 6, day, tzinfo=UTC)
        row = {"venue": "bybit", "symbol": "BTC", "asset": "BTC", "ts": ts, "rate": 0.1, "interval_h": 8.0}
        made = pl.DataFrame([{**row, "available_at": ts}], schema={**FUNDING.columns, "available_at": UTC_TIME})
        lake.append("raw", "funding", made, now=NOW)
    assert maintain((), None, str(tmp_path), NOW)["failures"] == ()
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["lake-upkeep"])))
    assert '"files_before": 3' in found[-1].data
    assert '"files_after": 1' in found[-1].data
    assert "versions of 90 days kept" in (found[-1].description or "")


def test_upkeep_is_served_on_the_cron_of_its_setting(tmp_path: Path) -> None:
    config = load(["schedule.maintenance='1 2 3 4 *'"], home=tmp_path)
    offered = deployments(config, overrides=(), experiment=None, market_url=None)
    (upkeep,) = [deployment for deployment in offered if deployment.flow_name == "maintain"]
    assert [schedule.schedule.cron for schedule in upkeep.schedules] == ["1 2 3 4 *"]

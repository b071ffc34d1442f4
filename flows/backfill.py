"""Fill a past range, oldest day first."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from typing import Any
from uuid import UUID

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.tasks import exponential_backoff

from flows import artifacts, corridor
from flows.naming import run_name
from flows.validate import validate
from oihedge.config import Config
from oihedge.core.settings import Instant
from oihedge.jobs import backfill as job
from oihedge.jobs.opening import market_address


@task(
    name="fill one day",
    task_run_name="fill {start:%Y-%m-%d}",
    retries=3,
    retry_delay_seconds=exponential_backoff(5),
    retry_jitter_factor=0.5,
    retry_condition_fn=corridor.outside_world,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def fill(config: Config, start: datetime, end: datetime, as_of: datetime, market_url: str | None) -> dict[str, Any]:
    """Fetch [start, end) of every venue into raw/."""
    return job.run_chunk(config, start=start, end=end, as_of=as_of, market_url=market_url).as_dict()


@flow(name="backfill", flow_run_name=run_name, persist_result=False)
def backfill(
    start: date,
    end: date,
    overrides: tuple[str, ...] = (),
    experiment: str | None = None,
    home: str | None = None,
    as_of: Instant | None = None,
    market_url: str | None = None,
) -> dict[str, Any]:
    """Fetch the days from `start` to before `end`, oldest first, then judge them; the same range twice changes nothing.

    Args:
        start: first day, UTC.
        end: the day after the last one.
        overrides: Hydra overrides, e.g. `market=ccxt`.
        experiment: a name in conf/experiment/ or a path to a .yaml file.
        home: folder that relative paths start from.
        as_of: the instant at which this is known; default: the time for which this run was scheduled.
        market_url: where the embedded market answers; default: one that this run starts, standing at as_of.
    """
    with corridor.enter("ingest", overrides=overrides, experiment=experiment, home=home, as_of=as_of) as visit:
        days = job.chunks(_midnight(start), _midnight(end), visit.as_of)
        bar = create_progress_artifact(0.0, key="backfill", description=f"{start} .. {end} ({visit.config.run.label})")
        assert isinstance(bar, UUID)  # Prefect answers with a coroutine only inside an event loop
        reports = []
        with market_address(visit.config, visit.as_of, market_url if as_of is None else None) as address:
            for done, (since, until) in enumerate(days, 1):
                reports.append(fill(visit.config, since, until, visit.as_of, address))
                told = f"{done} of {len(days)} days: {since:%F}"
                update_progress_artifact(bar, 100 * done / len(days), description=told)
                corridor.progress(done, len(days), f"{since:%F}")
        total = combine(reports)
        for gap in total["gaps"]:
            get_run_logger().warning("only an archive can give %s", gap)
        artifacts.show_rows(visit.config, total, key="backfill-rows")
    validate(overrides, experiment, home, visit.as_of)
    return total


def combine(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Add up the days' reports: rows by venue and table, gaps joined from first to last day, failures once each."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    gaps: dict[tuple[str, ...], dict[str, Any]] = {}
    failures: dict[str, None] = {}
    for report in reports:
        for row in report["rows"]:
            line = rows.setdefault((row["venue"], row["table"]), {**row, "fetched": 0, "added": 0})
            line["fetched"], line["added"] = line["fetched"] + row["fetched"], line["added"] + row["added"]
        for gap in report["gaps"]:
            known = gaps.setdefault((gap["venue"], gap["table"], gap["symbol"], gap["why"]), dict(gap))
            known["start"], known["end"] = min(known["start"], gap["start"]), max(known["end"], gap["end"])
        failures |= dict.fromkeys(report["failures"])
    return {"rows": list(rows.values()), "gaps": list(gaps.values()), "failures": list(failures)}


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)

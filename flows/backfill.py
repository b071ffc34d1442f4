"""Fill the past: a span of days, or the holes there are."""

from __future__ import annotations

from collections.abc import Mapping
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
from oihedge.jobs import refill as refilling

PLAN_COLUMNS = ("venue", "kind", "table", "days", "finished", "calls", "rows", "seconds")


class Told:
    """A Progress that keeps Prefect's bar at the share of all venues' days that are done, and logs every chunk."""

    def __init__(self, bar: UUID) -> None:
        self._bar = bar
        self._lanes: dict[str, tuple[int, int]] = {}

    def __call__(self, done: int, total: int, what: str, lane: str = "") -> None:
        """Tell that `done` of `total` days of the venue `lane` are finished."""
        self._lanes[lane] = (done, total)
        corridor.progress(done, total, what, lane)
        if what:
            get_run_logger().info("%s %s", lane, what)
            share = (
                100 * sum(done for done, _ in self._lanes.values()) / sum(total for _, total in self._lanes.values())
            )
            update_progress_artifact(self._bar, share, description=f"{done} of {total} days of {lane}: {what}")


@task(
    name="fill",
    task_run_name="fill {start:%Y-%m-%d} to {end:%Y-%m-%d}",
    retries=3,
    retry_delay_seconds=exponential_backoff(5),
    retry_jitter_factor=0.5,
    retry_condition_fn=corridor.outside_world,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def fill(
    config: Config,
    start: datetime,
    end: datetime,
    as_of: datetime,
    market_url: str | None,
    chosen: Mapping[str, tuple[str, ...]],
    bar: UUID,
) -> dict[str, Any]:
    """Fetch what is not finished of [start, end) into raw/; a retry goes on where the last try stopped."""
    told = Told(bar)
    return job.run(config, start=start, end=end, as_of=as_of, market_url=market_url, progress=told, **chosen).as_dict()


@flow(name="backfill", flow_run_name=run_name, persist_result=False)
def backfill(
    start: date,
    end: date,
    overrides: tuple[str, ...] = (),
    experiment: str | None = None,
    home: str | None = None,
    as_of: Instant | None = None,
    market_url: str | None = None,
    venues: tuple[str, ...] = (),
    tables: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Fetch the days from `start` to before `end`, oldest first, then judge them; finished days are not asked again.

    Args:
        start: first day, UTC.
        end: the day after the last one.
        overrides: Hydra overrides, e.g. `market=ccxt`.
        experiment: a name in conf/experiment/ or a path to a .yaml file.
        home: folder that relative paths start from.
        as_of: the instant at which this is known; default: the time for which this run was scheduled.
        market_url: where the embedded market answers; default: one that this run starts, standing at as_of.
        venues: only these venues; default: all that are tracked.
        tables: only these tables; default: all that are tracked.
    """
    with corridor.enter("ingest", overrides=overrides, experiment=experiment, home=home, as_of=as_of) as visit:
        since, until, chosen = _midnight(start), _midnight(end), {"venues": venues, "tables": tables}
        planned = job.plan(visit.config, start=since, end=until, as_of=visit.as_of, **chosen).as_dict()
        artifacts.show_table(visit.config, "backfill-plan", f"Plan of {start} .. {end}", planned["tasks"])
        if skipped := sum(line["finished"] for line in planned["tasks"]):
            get_run_logger().info("%d days of venues' tables were finished before and are skipped", skipped)
        bar = _bar(visit.config, f"{start} .. {end}")
        address = market_url if as_of is None else None
        report = fill(visit.config, since, until, visit.as_of, address, chosen, bar)
        _conclude(visit.config, report, bar)
    validate(overrides, experiment, home, visit.as_of)
    return report


@task(name="refill", cache_policy=NO_CACHE, persist_result=False)
def fill_holes(
    config: Config,
    span: tuple[datetime | None, datetime | None],
    as_of: datetime,
    layer: str,
    market_url: str | None,
    chosen: Mapping[str, tuple[str, ...]],
    bar: UUID,
) -> dict[str, Any]:
    """Ask the venues for the holes within their reach."""
    told = Told(bar)
    return refilling.run(
        config, start=span[0], end=span[1], as_of=as_of, layer=layer, market_url=market_url, progress=told, **chosen
    ).as_dict()


@flow(name="refill", flow_run_name=run_name, persist_result=False)
def refill(
    start: date | None = None,
    end: date | None = None,
    overrides: tuple[str, ...] = (),
    experiment: str | None = None,
    home: str | None = None,
    as_of: Instant | None = None,
    market_url: str | None = None,
    venues: tuple[str, ...] = (),
    tables: tuple[str, ...] = (),
    layer: str = "validated",
) -> dict[str, Any]:
    """Find the holes in the series that the lake has, ask the venues for those within reach, then judge what came.

    Args:
        start: first day, UTC; default: each series' own first row.
        end: the day after the last one; default: each series' own last row.
        overrides: Hydra overrides, e.g. `market=ccxt`.
        experiment: a name in conf/experiment/ or a path to a .yaml file.
        home: folder that relative paths start from.
        as_of: the instant at which this is known; default: the time for which this run was scheduled.
        market_url: where the embedded market answers; default: one that this run starts, standing at as_of.
        venues: only these venues; default: all that are tracked.
        tables: only these tables; default: all that are tracked.
        layer: where holes are looked for, validated or raw.
    """
    with corridor.enter("ingest", overrides=overrides, experiment=experiment, home=home, as_of=as_of) as visit:
        span = (_midnight(start) if start else None, _midnight(end) if end else None)
        bar = _bar(visit.config, "holes")
        address, chosen = market_url if as_of is None else None, {"venues": venues, "tables": tables}
        report = fill_holes(visit.config, span, visit.as_of, layer, address, chosen, bar)
        _conclude(visit.config, report, bar)
    validate(overrides, experiment, home, visit.as_of)
    return report


def _bar(config: Config, what: str) -> UUID:
    bar = create_progress_artifact(0.0, key="backfill", description=f"{what} ({config.run.label})")
    assert isinstance(bar, UUID)  # Prefect answers with a coroutine only inside an event loop
    return bar


def _conclude(config: Config, report: Mapping[str, Any], bar: UUID) -> None:
    """Leave what came, what only an archive can give and what failed."""
    for gap in report["gaps"]:
        get_run_logger().warning("not to be had: %s", gap)
    for failure in report["failures"]:
        get_run_logger().warning("%s; the same backfill again asks only for what is left", failure)
    if not report["failures"]:
        update_progress_artifact(bar, 100.0)
    artifacts.show_rows(config, report, key="backfill-rows")


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)

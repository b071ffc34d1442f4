"""Venues to lake raw/; the first time, the years that only archives have."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.tasks import exponential_backoff

from flows import artifacts, corridor
from flows.naming import run_name
from oihedge.config import Config
from oihedge.core.errors import OihedgeError
from oihedge.core.settings import Instant
from oihedge.jobs import bootstrap as first_start
from oihedge.jobs import ingest as job
from oihedge.jobs import inputs as other_inputs


@task(name="write and import archives", cache_policy=NO_CACHE, persist_result=False)
def bootstrap(config: Config, as_of: datetime) -> dict[str, Any] | None:
    """Bring in the past that no venue serves; None where there is nothing to do."""
    report = first_start.run(config, as_of=as_of, progress=corridor.progress)
    return report.as_dict() if report else None


@task(
    name="fetch venues",
    retries=2,
    retry_delay_seconds=exponential_backoff(5),
    retry_jitter_factor=0.5,
    retry_condition_fn=corridor.outside_world,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def fetch(config: Config, as_of: datetime, market_url: str | None) -> dict[str, Any]:
    """Fetch every venue from where the lake stops."""
    return job.run(config, as_of=as_of, market_url=market_url, progress=corridor.progress).as_dict()


@task(
    name="fetch other inputs",
    retries=1,
    retry_delay_seconds=10,
    retry_condition_fn=corridor.outside_world,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def fetch_inputs(config: Config, as_of: datetime, market_url: str | None) -> dict[str, Any]:
    """Fetch on-chain figures, sentiment and events; a source that fails is a line in the report."""
    return other_inputs.run(config, as_of=as_of, market_url=market_url, progress=corridor.progress).as_dict()


@flow(name="ingest", flow_run_name=run_name, persist_result=False)
def ingest(
    overrides: tuple[str, ...] = (),
    experiment: str | None = None,
    home: str | None = None,
    as_of: Instant | None = None,
    market_url: str | None = None,
) -> dict[str, Any]:
    """Read every tracked venue into raw/.

    Args:
        overrides: Hydra overrides, e.g. `market=ccxt`.
        experiment: a name in conf/experiment/ or a path to a .yaml file.
        home: folder that relative paths start from.
        as_of: the instant to work at; default: the time for which this run was scheduled.
        market_url: where the embedded market answers; default: one that this run starts, standing at as_of.
    """
    with corridor.enter("ingest", overrides=overrides, experiment=experiment, home=home, as_of=as_of) as visit:
        config = visit.config
        if first_start.needed(config, visit.as_of):
            past = bootstrap(config, visit.as_of)
            if past is not None:
                artifacts.show_rows(config, past, key="archive-rows")
        report = fetch(config, visit.as_of, market_url if as_of is None else None)
        failures = [*report["failures"], *_others(config, visit.as_of, market_url if as_of is None else None)]
        for failure in failures:
            get_run_logger().warning("%s", failure)
        artifacts.show_rows(config, report)
        return report


def _others(config: Config, as_of: datetime, market_url: str | None) -> list[str]:
    """Read the other inputs where the settings want them, and return what failed; no venue's rows depend on them."""
    if not config.market.inputs.enabled:
        return []
    try:
        return list(fetch_inputs(config, as_of, market_url)["failures"])
    except OihedgeError as error:
        return [str(error)]

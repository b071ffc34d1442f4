"""From the newest features to target positions."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows import artifacts, corridor
from flows.naming import run_name
from oihedge.config import Config
from oihedge.core.settings import Instant
from oihedge.jobs import hedge as job


@task(name="decide", cache_policy=NO_CACHE, persist_result=False)
def decide(config: Config, as_of: datetime) -> dict[str, Any]:
    """Decide and write targets/latest.json."""
    return job.run(config, as_of=as_of).as_dict()


@flow(name="hedge", flow_run_name=run_name, persist_result=False)
def hedge(
    overrides: tuple[str, ...] = (),
    experiment: str | None = None,
    home: str | None = None,
    as_of: Instant | None = None,
) -> dict[str, Any]:
    """Decide the hedge and write the target positions; the same inputs give the same bytes.

    Args:
        overrides: Hydra overrides, e.g. `hedge.kill_switch=true`.
        experiment: a name in conf/experiment/ or a path to a .yaml file.
        home: folder that relative paths start from.
        as_of: the instant to work at; default: the time for which this run was scheduled.
    """
    with corridor.enter("hedge", overrides=overrides, experiment=experiment, home=home, as_of=as_of) as visit:
        report = decide(visit.config, visit.as_of)
        artifacts.show_decision(visit.config, report["decision"])
        return report

"""The gates decide who is champion."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows import artifacts, corridor
from flows.naming import run_name
from oihedge.config import Config
from oihedge.core.settings import Instant
from oihedge.jobs import promote as job


@task(name="judge challenger", cache_policy=NO_CACHE, persist_result=False)
def judge(config: Config, as_of: datetime) -> dict[str, Any]:
    """Promote or refuse the challenger, and write it to the ledger."""
    return job.run(config, as_of=as_of).as_dict()


@flow(name="promote", flow_run_name=run_name, persist_result=False)
def promote(
    overrides: tuple[str, ...] = (),
    experiment: str | None = None,
    home: str | None = None,
    as_of: Instant | None = None,
) -> dict[str, Any]:
    """Give the challenger the alias `champion` if every gate holds; a refusal is a result, not a failure.

    Args:
        overrides: Hydra overrides.
        experiment: a name in conf/experiment/ or a path to a .yaml file.
        home: folder that relative paths start from.
        as_of: the instant to work at; default: the time for which this run was scheduled.
    """
    with corridor.enter("promote", overrides=overrides, experiment=experiment, home=home, as_of=as_of) as visit:
        report = judge(visit.config, visit.as_of)
        verdict = "promoted" if report["promoted"] else "not promoted"
        artifacts.show_gates(
            visit.config,
            report["gates"],
            f"version {report['version']} **{verdict}**: {artifacts.cell(report['reason'])}",
        )
        return report

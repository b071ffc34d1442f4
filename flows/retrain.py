"""Walk-forward, fit, register: a challenger."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows import artifacts, corridor
from flows.naming import run_name
from flows.promote import promote
from flows.report import write_report
from oihedge.config import Config
from oihedge.core.settings import Instant
from oihedge.jobs import retrain as job


@task(name="fit and evaluate", cache_policy=NO_CACHE, persist_result=False)
def fit(config: Config, as_of: datetime) -> dict[str, Any]:
    """Train on the rolling window, evaluate, register."""
    return job.run(config, as_of=as_of, progress=corridor.progress).as_dict()


@flow(name="retrain", flow_run_name=run_name, persist_result=False)
def retrain(
    overrides: tuple[str, ...] = (),
    experiment: str | None = None,
    home: str | None = None,
    as_of: Instant | None = None,
    promote_after: bool = False,
) -> dict[str, Any]:
    """Train on the rolling window and register a challenger; the same inputs reuse their finished run.

    Args:
        overrides: Hydra overrides, e.g. `forecast=persistence`.
        experiment: a name in conf/experiment/ or a path to a .yaml file.
        home: folder that relative paths start from.
        as_of: the instant to work at; default: the time for which this run was scheduled.
        promote_after: whether the gates then decide about the alias, and the report is written.
    """
    with corridor.enter("retrain", overrides=overrides, experiment=experiment, home=home, as_of=as_of) as visit:
        report = fit(visit.config, visit.as_of)
        artifacts.show_strategies(visit.config, report)
        artifacts.show_gates(visit.config, report["gates"], f"version {report['version']}, run {report['run_id']}")
        if promote_after:
            promote(overrides, experiment, home, visit.as_of)
            artifacts.show_report(visit.config, write_report(visit.config, visit.as_of))
        return report

"""Lake raw/ to validated/ or quarantine."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows import artifacts, corridor
from flows.naming import run_name
from oihedge.config import Config
from oihedge.core.errors import DataError
from oihedge.core.settings import Instant
from oihedge.jobs import validate as job


@task(name="judge new rows", cache_policy=NO_CACHE, persist_result=False)
def judge(config: Config, as_of: datetime) -> dict[str, Any]:
    """Judge what has no verdict yet."""
    return job.run(config, as_of=as_of).as_dict()


@flow(name="validate", flow_run_name=run_name, persist_result=False)
def validate(
    overrides: tuple[str, ...] = (),
    experiment: str | None = None,
    home: str | None = None,
    as_of: Instant | None = None,
) -> dict[str, Any]:
    """Send good raw rows on and keep bad ones, with their reason, in quarantine.

    Args:
        overrides: Hydra overrides, e.g. `quality.max_oi_jump=5`.
        experiment: a name in conf/experiment/ or a path to a .yaml file.
        home: folder that relative paths start from.
        as_of: the instant to work at; default: the time for which this run was scheduled.
    """
    with corridor.enter("validate", overrides=overrides, experiment=experiment, home=home, as_of=as_of) as visit:
        report = judge(visit.config, visit.as_of)
        artifacts.show_table(visit.config, "quality", f"Quality: {report['share_good']:.2%} good", report["rows"])
        artifacts.show_table(visit.config, "expectations", "Expectations", report["checks"])
        artifacts.show_quorum(visit.config, report["venues"])
        if report["feeds"]:
            artifacts.show_note(visit.config, "feeds", "Gaps and stale series", artifacts.told(report["feeds"]))
        if not report["sufficient"]:
            raise DataError(
                "too few of the new rows are good",
                expected=f"a share of at least {visit.config.quality.min_good_share:.0%}",
                got=f"{report['share_good']:.2%}",
                do="see the quarantine table for the reasons; the good rows went on",
            )
        return report

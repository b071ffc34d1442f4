"""The lake's upkeep."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows import artifacts, corridor
from flows.naming import run_name
from oihedge.config import Config
from oihedge.core.errors import OihedgeError
from oihedge.core.settings import Instant
from oihedge.jobs import maintain as job


@task(name="tidy up the lake", cache_policy=NO_CACHE, persist_result=False)
def tidy(config: Config, as_of: datetime, dry_run: bool) -> dict[str, Any]:
    """Merge small files and remove what no kept version needs."""
    return job.run(config, as_of=as_of, dry_run=dry_run, progress=corridor.progress).as_dict()


@flow(name="maintain", flow_run_name=run_name, persist_result=False)
def maintain(
    overrides: tuple[str, ...] = (),
    experiment: str | None = None,
    home: str | None = None,
    as_of: Instant | None = None,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Merge the lake's small files and remove what only versions older than lake.keep_days need.

    Args:
        overrides: Hydra overrides, e.g. `lake.keep_days=30`.
        experiment: a name in conf/experiment/ or a path to a .yaml file.
        home: folder that relative paths start from.
        as_of: the instant to work at; default: the time for which this run was scheduled.
        dry_run: only tell what would be removed.
    """
    with corridor.enter("maintain", overrides=overrides, experiment=experiment, home=home, as_of=as_of) as visit:
        report = tidy(visit.config, visit.as_of, dry_run)
        title = f"Lake upkeep{' (dry run)' if dry_run else ''}: versions of {report['keep_days']} days kept"
        artifacts.show_table(visit.config, "lake-upkeep", title, report["tables"])
        if report["failures"]:
            raise OihedgeError(f"upkeep failed for {len(report['failures'])} of the tables: {report['failures'][0]}")
        return report

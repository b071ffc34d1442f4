"""The task that writes the HTML report."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from oihedge.config import Config
from oihedge.jobs import report as job


@task(name="write report", cache_policy=NO_CACHE, persist_result=False)
def write_report(config: Config, as_of: datetime) -> Path:
    """Write the report as one HTML file and return its path."""
    return job.run(config, as_of=as_of).path

"""The verb about the lake itself: maintain."""

from __future__ import annotations

from typing import Annotated

import typer

from oihedge.cli import tables
from oihedge.cli.app import app
from oihedge.cli.session import AsJson, AsOf, Experiment, Home, Overrides, opened
from oihedge.core.errors import OihedgeError

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only tell what would be removed.")]


@app.command(epilog="Example: oihedge maintain --dry-run lake.keep_days=30")
def maintain(
    overrides: Overrides = None,
    dry_run: DryRun = False,
    experiment: Experiment = None,
    home: Home = None,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Tidy up the lake. Merges small files and removes what only versions older than lake.keep_days need."""
    with opened(overrides, experiment, home, as_of, as_json) as session:
        from oihedge.jobs import maintain as job
        from oihedge.jobs.lease import lease

        with lease(session.config, "maintain", doing="oihedge maintain"):
            session.progress.begin("tables")
            report = job.run(session.config, as_of=session.as_of, dry_run=dry_run, progress=session.progress)
        session.show(report.as_dict(), tables.facts)
        if report.failures:
            raise OihedgeError(f"upkeep failed for {len(report.failures)} of the tables: {report.failures[0]}")

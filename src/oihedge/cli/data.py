"""Verbs that fill the lake: ingest, validate."""

from __future__ import annotations

from typing import Annotated

import typer

from oihedge.cli import tables
from oihedge.cli.app import app
from oihedge.cli.inputs import inputs_if_enabled, with_inputs
from oihedge.cli.session import AsJson, AsOf, Experiment, Home, Overrides, opened
from oihedge.core.errors import DataError

Docs = Annotated[bool, typer.Option("--docs", help="Also write pages about every expectation to data/quality_docs.")]


@app.command(epilog="Example: oihedge ingest market=ccxt --json")
def ingest(
    overrides: Overrides = None,
    experiment: Experiment = None,
    home: Home = None,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Fill the lake from every tracked venue. Begins where the lake stops."""
    with opened(overrides, experiment, home, as_of, as_json) as session:
        from oihedge.jobs import bootstrap
        from oihedge.jobs import ingest as job
        from oihedge.jobs.lease import lease

        with lease(session.config, "ingest", doing="oihedge ingest"):
            if bootstrap.needed(session.config, session.as_of):
                session.progress.begin("archives")
                bootstrap.run(session.config, as_of=session.as_of, progress=session.progress)
            session.progress.begin("venues")
            report = job.run(session.config, as_of=session.as_of, progress=session.progress)
            others = inputs_if_enabled(session)
        session.show({**report.as_dict(), **others}, with_inputs(tables.came_in))


@app.command(epilog="Example: oihedge validate quality.max_oi_jump=5")
def validate(
    overrides: Overrides = None,
    docs: Docs = False,
    experiment: Experiment = None,
    home: Home = None,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Judge new rows. Good ones go on, bad ones are kept with their reason."""
    with opened(overrides, experiment, home, as_of, as_json) as session:
        from oihedge.jobs import validate as job
        from oihedge.jobs.lease import lease

        with lease(session.config, "validate", doing="oihedge validate"):
            report = job.run(session.config, as_of=session.as_of, docs=docs)
        session.show(report.as_dict(), tables.judged)
        if not report.sufficient:
            raise DataError(
                "too few of the new rows are good",
                expected=f"a share of at least {session.config.quality.min_good_share:.0%}",
                got=f"{report.share_good:.2%}",
                do="see the quarantine table for the reasons; the good rows went on",
            )

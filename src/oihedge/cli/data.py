"""Verbs that fill the lake: ingest, import, validate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from oihedge.cli import tables
from oihedge.cli.app import app
from oihedge.cli.session import AsJson, AsOf, Experiment, Home, Overrides, opened
from oihedge.core.clock import parse_instant
from oihedge.core.errors import ConfigError, DataError

Specs = Annotated[
    list[Path] | None, typer.Option("--spec", metavar="FILE.yaml", help="What the files are; may be repeated.")
]
Folder = Annotated[
    Path | None, typer.Option("--folder", help="What file names in a spec start from; default: its own folder.")
]
Archive = Annotated[
    Path | None, typer.Option("--archive", metavar="FOLDER", help="Binance Vision files instead of a spec.")
]
Since = Annotated[str | None, typer.Option("--start", metavar="DATE", help="With --archive: first day.")]
Until = Annotated[str | None, typer.Option("--end", metavar="DATE", help="With --archive: the day after the last.")]


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
        session.show(report.as_dict(), tables.came_in)


@app.command(
    "import", epilog="Example: oihedge import --experiment real_perps --spec conf/import/prices.yaml --folder data"
)
def import_(
    overrides: Overrides = None,
    spec: Specs = None,
    folder: Folder = None,
    archive: Archive = None,
    start: Since = None,
    end: Until = None,
    experiment: Experiment = None,
    home: Home = None,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Load your own files into the lake. CSV, parquet or feather that a spec describes, or Binance Vision archives."""
    if bool(spec) == bool(archive):
        raise ConfigError(
            "import needs one kind of source", expected="--spec FILE.yaml or --archive FOLDER --start D --end D"
        )
    with opened(overrides, experiment, home, as_of, as_json) as session:
        from oihedge.jobs import importing as job
        from oihedge.jobs.lease import lease

        with lease(session.config, "ingest", doing="oihedge import"):
            if archive is None:
                report = job.run(session.config, specs=spec or (), folder=folder, as_of=session.as_of)
            else:
                since, until = parse_instant(start or "", "--start"), parse_instant(end or "", "--end")
                report = job.archives(
                    session.config,
                    folder=archive,
                    as_of=session.as_of,
                    start=since,
                    end=until,
                    progress=session.progress,
                )
        session.show(report.as_dict(), tables.imported)
        if report.share_good < session.config.quality.min_good_share:
            raise DataError(
                f"only {report.share_good:.2%} of the rows are good",
                expected=f"at least {session.config.quality.min_good_share:.2%}",
                do="the others are in the quarantine table, each with its reason",
            )


@app.command(epilog="Example: oihedge validate quality.max_oi_jump=5")
def validate(
    overrides: Overrides = None,
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
            report = job.run(session.config, as_of=session.as_of)
        session.show(report.as_dict(), tables.judged)
        if not report.sufficient:
            raise DataError(
                "too few of the new rows are good",
                expected=f"a share of at least {session.config.quality.min_good_share:.0%}",
                got=f"{report.share_good:.2%}",
                do="see the quarantine table for the reasons; the good rows went on",
            )

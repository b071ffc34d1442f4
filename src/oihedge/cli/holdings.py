"""The verbs under `data`: what the lake holds."""

from __future__ import annotations

from typing import Annotated

import typer

from oihedge.cli import tables
from oihedge.cli.app import app
from oihedge.cli.session import AsJson, Experiment, Home, Overrides, opened

Timerange = Annotated[bool, typer.Option("--show-timerange", help="Every series, its span, gaps and rows missing.")]
data = typer.Typer(help="Tell what the lake holds. See `data list --help`.", rich_markup_mode=None)
app.add_typer(data, name="data", epilog="Example: oihedge data list --show-timerange")


@data.command("list", epilog="Example: oihedge data list --show-timerange")
def list_(
    timerange: Timerange = False,
    overrides: Overrides = None,
    experiment: Experiment = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """List what the lake holds. Rows by layer, table, venue and symbol; with --show-timerange series, spans, gaps."""
    with opened(overrides, experiment, home, None, as_json) as session:
        from oihedge.jobs import holdings as job

        report = job.run(session.config, timerange=timerange, progress=session.progress)
        session.show(report.as_dict(), tables.held)

"""The verb that reads other inputs than venues."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oihedge.cli import tables
from oihedge.cli.app import app
from oihedge.cli.session import AsJson, AsOf, Experiment, Home, Overrides, Session, opened
from oihedge.core.clock import parse_instant
from oihedge.core.errors import OihedgeError

if TYPE_CHECKING:
    from rich.console import Console

Since = Annotated[str | None, typer.Option("--start", metavar="DATE", help="First day; default: where the lake stops.")]


@app.command(epilog="Example: oihedge inputs market=ccxt")
def inputs(
    overrides: Overrides = None,
    start: Since = None,
    experiment: Experiment = None,
    home: Home = None,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Read on-chain figures, sentiment and event dates. Keys come from the environment, e.g. OIHEDGE_GLASSNODE_KEY."""
    with opened(overrides, experiment, home, as_of, as_json) as session:
        from oihedge.jobs import inputs as job
        from oihedge.jobs.lease import lease

        since = parse_instant(start, "--start") if start else None
        with lease(session.config, "inputs", doing="oihedge inputs"):
            session.progress.begin("other inputs")
            report = job.run(session.config, as_of=session.as_of, start=since, progress=session.progress)
        session.show(report.as_dict(), _drawn)


def inputs_if_enabled(session: Session) -> dict[str, Any]:
    """Read the other inputs where the settings want that with every ingest; {"inputs": report}, else nothing."""
    if not session.config.market.inputs.enabled:
        return {}
    from oihedge.jobs import inputs as job

    session.progress.begin("other inputs")
    try:
        return {"inputs": job.run(session.config, as_of=session.as_of, progress=session.progress).as_dict()}
    except OihedgeError as error:  # the venues' rows are in the lake by now, and need no other input
        return {"inputs": {"rows": (), "failures": (str(error),), "off": ()}}


def with_inputs(draw: Callable[[Console, tables.Report], None]) -> Callable[[Console, tables.Report], None]:
    """Return `draw` followed by the report on the other inputs, where there is one."""

    def both(console: Console, report: tables.Report) -> None:
        draw(console, report)
        if "inputs" in report:
            _drawn(console, report["inputs"])

    return both


def _drawn(console: Console, report: tables.Report) -> None:
    tables.table(console, "rows by source", report["rows"])
    for failure in report["failures"]:
        tables.say(console, f"failed: {failure}")
    for line in report["off"]:
        tables.say(console, line)

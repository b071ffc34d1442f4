"""The verb that fills the past: a plan first, then the work, by days or by holes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oihedge.cli import tables
from oihedge.cli.app import app
from oihedge.cli.loop import flows_ready
from oihedge.cli.session import AsJson, AsOf, Experiment, Home, Overrides, Session, opened
from oihedge.core.clock import parse_instant
from oihedge.core.errors import ConfigError, VenueError

if TYPE_CHECKING:
    from rich.console import Console

Start = Annotated[str | None, typer.Option("--start", metavar="DATE", help="First day, UTC.")]
End = Annotated[str | None, typer.Option("--end", metavar="DATE", help="The day after the last, UTC.")]
Plan = Annotated[bool, typer.Option("--plan", help="Say what would be asked and how long it takes; do nothing.")]
Gaps = Annotated[bool, typer.Option("--gaps", help="Only the holes in what the lake has; the span is optional.")]
Layer = Annotated[str, typer.Option("--layer", metavar="LAYER", help="With --gaps: look in validated or raw.")]
Only = Annotated[list[str] | None, typer.Option("--venue", metavar="ID", help="Only this one; may be repeated.")]
Tables = Annotated[list[str] | None, typer.Option("--table", metavar="NAME", help="Only this one; may be repeated.")]
TASKS = ("venue", "kind", "table", "days", "finished", "calls", "rows", "time")


@app.command(epilog="Example: oihedge backfill --start 2025-01-01 --end 2025-03-01 --plan")
def backfill(
    start: Start = None,
    end: End = None,
    plan: Plan = False,
    gaps: Gaps = False,
    venue: Only = None,
    table: Tables = None,
    layer: Layer = "validated",
    overrides: Overrides = None,
    experiment: Experiment = None,
    home: Home = None,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Fill a past range, oldest day first. Plans, goes on where it stopped, says what only an archive can give."""
    if not gaps and (start is None or end is None):
        raise ConfigError("backfill needs a range", expected="--start DATE --end DATE, or --gaps")
    first, last = (day_of(text, name) if text else None for text, name in ((start, "--start"), (end, "--end")))
    chosen = {"venues": tuple(venue or ()), "tables": tuple(table or ())}
    with opened(overrides, experiment, home, as_of, as_json) as session:
        if gaps:
            _holes(session, first, last, layer, chosen, plan)
        else:
            assert first is not None
            assert last is not None
            _days(session, first, last, chosen, plan)


def day_of(text: str, name: str) -> datetime:
    """Parse a day.

    Raises:
        ConfigError: if `text` is no date, or an instant within a day.
    """
    instant = parse_instant(text, name)
    if instant.time() != datetime.min.time():
        raise ConfigError(f"{name} lies within a day", expected="a day, e.g. 2025-01-01", got=text)
    return instant


def planned(console: Console, report: Mapping[str, Any]) -> None:
    """Print a plan: what each venue's tables cost, what is done, and what only archives have."""
    tasks = [{**task, "time": str(timedelta(seconds=round(task["seconds"])))} for task in report["tasks"]]
    tables.table(console, f"plan, {report['start']:%F} .. {report['end']:%F}", tasks, TASKS)
    took = timedelta(seconds=round(report["seconds"]))
    tables.say(
        console,
        f"{report['chunks']} chunks, about {report['calls']:,} calls; at the venues' limits {took}, all side by side",
    )
    if skipped := sum(task["finished"] for task in tasks):
        tables.say(console, f"{skipped:,} days of venues' tables were finished before and are skipped")
    if report["only_archives"]:
        spans = [{**span, "start": f"{span['start']:%F %H:%M}", "end": f"{span['end']:%F %H:%M}"}
                 for span in report["only_archives"]]  # fmt: skip
        tables.table(console, "only an archive can give", spans)


def holes_planned(console: Console, report: Mapping[str, Any]) -> None:
    """Print the holes and what can be done about each."""
    rows = [{**hole, "start": f"{hole['start']:%F %H:%M}", "end": f"{hole['end']:%F %H:%M}"}
            for hole in report["holes"]]  # fmt: skip
    tables.table(console, "holes", rows)
    took = timedelta(seconds=round(report["seconds"]))
    tables.say(
        console,
        f"missing rows: {report['to_ask']:,} within reach ({report['calls']:,} calls; at the venues' limits {took}), "
        f"{report['only_archives']:,} that only archives have, {report['held']:,} in quarantine or not judged yet",
    )


def refilled(console: Console, report: Mapping[str, Any]) -> None:
    """Print what came in, and how much of what was asked for did not."""
    tables.came_in(console, report)
    tables.say(console, f"{report['missing']:,} of {report['asked']:,} rows asked for are still missing")


def _days(session: Session, start: datetime, end: datetime, chosen: Mapping[str, Any], plan_only: bool) -> None:
    from oihedge.jobs import backfill as job

    report = job.plan(session.config, start=start, end=end, as_of=session.as_of, **chosen).as_dict()
    if plan_only:
        session.show(report, planned)
        return
    _tell(report, planned)
    with flows_ready(session):
        from flows.backfill import backfill as flow

        session.progress.begin("venues")
        home = str(session.config.home)
        result = flow(
            start.date(), end.date(), session.overrides, session.experiment, home, session.given_as_of, **chosen
        )
    _conclude(session, result)


def _holes(
    session: Session,
    start: datetime | None,
    end: datetime | None,
    layer: str,
    chosen: Mapping[str, Any],
    plan_only: bool,
) -> None:
    from oihedge.jobs import refill as job

    found = job.plan(session.config, as_of=session.as_of, start=start, end=end, layer=layer, **chosen)
    if plan_only:
        session.show(found.as_dict(), holes_planned)
        return
    _tell(found.as_dict(), holes_planned)
    with flows_ready(session):
        from flows.backfill import refill as flow

        session.progress.begin("holes")
        since, until = (instant.date() if instant else None for instant in (start, end))
        home = str(session.config.home)
        result = flow(
            since, until, session.overrides, session.experiment, home, session.given_as_of, **chosen, layer=layer
        )
    _conclude(session, result, refilled)


def _tell(report: Mapping[str, Any], draw: Any) -> None:
    """Show a plan where progress is shown: standard output is for the result."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    draw(console if console.is_terminal else Console(stderr=True, highlight=False, width=160), report)


def _conclude(session: Session, result: Mapping[str, Any], draw: Any = tables.came_in) -> None:
    session.show(result, draw)
    if result["failures"]:
        raise VenueError(
            f"the backfill is not complete: {len(result['failures'])} failures",
            do="the same command again asks only for what is left",
        )

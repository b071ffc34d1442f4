"""Verbs over what was kept out: quarantine list, quarantine release."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oihedge.cli import tables
from oihedge.cli.app import app
from oihedge.cli.session import AsJson, AsOf, Experiment, Home, Overrides, opened

if TYPE_CHECKING:
    from rich.console import Console

OfTable = Annotated[str | None, typer.Option("--table", help="Only rows of this table.")]
OfVenue = Annotated[str | None, typer.Option("--venue", help="Only rows of this venue or source.")]
OfReason = Annotated[str | None, typer.Option("--reason", help="Only rows with this among their reasons.")]
Released = Annotated[bool, typer.Option("--released", help="The rows that were let go instead.")]
Limit = Annotated[int, typer.Option("--limit", min=1, help="How many rows are listed; all are counted.")]
Key = Annotated[str, typer.Argument(metavar="KEY", help="The key that `quarantine list` shows.")]
Why = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the record.")]
kept_out = typer.Typer(
    help="Rows that were kept out of the validated tables.",
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
    epilog="Example: oihedge quarantine list --table open_interest --venue okx",
)
app.add_typer(kept_out, name="quarantine")


@kept_out.command("list", epilog="Example: oihedge quarantine list --table ohlcv --reason price_jump --json")
def list_(
    overrides: Overrides = None,
    table: OfTable = None,
    venue: OfVenue = None,
    reason: OfReason = None,
    released: Released = False,
    limit: Limit = 50,
    experiment: Experiment = None,
    home: Home = None,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Show what was kept out and why, newest first."""
    with opened(overrides, experiment, home, as_of, as_json) as session:
        from oihedge.jobs import quarantine as job

        report = job.listing(
            session.config,
            as_of=session.as_of,
            table=table,
            venue=venue,
            reason=reason,
            released=released,
            limit=limit,
        )
        session.show(report.as_dict(), _listed)


@kept_out.command("release", epilog="Example: oihedge quarantine release 3f9a0c12be77 --reason 'a real crash'")
def release(
    key: Key,
    overrides: Overrides = None,
    reason: Why = "",
    experiment: Experiment = None,
    home: Home = None,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Let a row go to the validated tables, known from now on and not before."""
    with opened(overrides, experiment, home, as_of, as_json) as session:
        from oihedge.jobs import quarantine as job
        from oihedge.jobs.lease import lease

        with lease(session.config, "validate", doing="oihedge quarantine release"):
            report = job.release(session.config, key, as_of=session.as_of, reason=reason)
        session.show(report.as_dict(), _let_go)


def _listed(console: Console, report: Mapping[str, Any]) -> None:
    tables.table(console, f"quarantine: {report['total']} rows", [_brief(row) for row in report["counts"]])
    rows = [_brief(row) for row in report["rows"]]
    if rows:
        tables.table(console, f"the newest {len(rows)}", rows, [name for name in rows[0] if name != "payload"])


def _let_go(console: Console, report: Mapping[str, Any]) -> None:
    when = f"{report['available_at']:%F %H:%M}Z"
    did = "is released, known from" if report["released"] else "had been released before, known from"
    console.print(f"{report['table']} {report['source_key']} ({report['reason']}) {did} {when} on", markup=False)


def _brief(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: f"{value:%F %H:%M}" if isinstance(value, datetime) else value for name, value in row.items()}

"""Verbs over what was kept out: quarantine list, quarantine release."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oihedge.cli import tables
from oihedge.cli.app import app
from oihedge.cli.session import AsJson, AsOf, Experiment, Home, Overrides, opened
from oihedge.core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from rich.console import Console

OfTable = Annotated[str | None, typer.Option("--table", help="Only rows of this table.")]
OfVenue = Annotated[str | None, typer.Option("--venue", help="Only rows of this venue or source.")]
OfReason = Annotated[
    str | None, typer.Option("--reason", "--with-reason", help="Only rows with this among their reasons.")
]
HavingReason = Annotated[str | None, typer.Option("--with-reason", help="Only rows with this among their reasons.")]
Released = Annotated[bool, typer.Option("--released", help="The rows that were let go instead.")]
Limit = Annotated[int, typer.Option("--limit", min=1, help="How many rows are listed; all are counted.")]
Keys = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY|SETTING=VALUE]...", help="Keys that `quarantine list` shows; Hydra overrides."),
]
_OVERRIDE = re.compile(r"[+~]|[\w./@]+=")
Why = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the record.")]
kept_out = typer.Typer(
    help="Rows that were kept out of the validated tables.",
    rich_markup_mode=None,
    add_completion=False,
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
    keys: Keys = None,
    table: OfTable = None,
    venue: OfVenue = None,
    with_reason: HavingReason = None,
    reason: Why = "",
    experiment: Experiment = None,
    home: Home = None,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Let rows go to the validated tables, known from now on and not before. Names them by KEY, or by what they are.

    Only a row that was judged implausible can go; one that cannot be so (a low above the open) stays.
    """
    overrides = [word for word in keys or () if _OVERRIDE.match(word)]
    named = [word for word in keys or () if not _OVERRIDE.match(word)]
    filtered = bool(table or venue or with_reason)
    if filtered == bool(named):
        raise ConfigError(
            "release needs to know which rows",
            expected="one or more KEYs, or any of --table, --venue, --with-reason",
            got="both" if filtered else "none",
        )
    with opened(overrides, experiment, home, as_of, as_json) as session:
        from oihedge.jobs import quarantine as job
        from oihedge.jobs.lease import lease

        with lease(session.config, "validate", doing="oihedge quarantine release"):
            if len(named) == 1:
                session.show(
                    job.release(session.config, named[0], as_of=session.as_of, reason=reason).as_dict(), _let_go
                )
                return
            report = job.release_several(
                session.config,
                named,
                as_of=session.as_of,
                table=table,
                venue=venue,
                having=with_reason,
                reason=reason,
            )
        session.show(report.as_dict(), _all_let_go)
        if report.refused:
            raise DataError(f"{len(report.refused)} of {len(report.refused) + len(report.rows)} rows were not released")


def _listed(console: Console, report: Mapping[str, Any]) -> None:
    tables.table(console, f"quarantine: {report['total']} rows", [_brief(row) for row in report["counts"]])
    rows = [_brief(row) for row in report["rows"]]
    if rows:
        tables.table(console, f"the newest {len(rows)}", rows, [name for name in rows[0] if name != "payload"])


def _let_go(console: Console, report: Mapping[str, Any]) -> None:
    when = f"{report['available_at']:%F %H:%M}Z"
    did = "is released, known from" if report["released"] else "had been released before, known from"
    tables.say(console, f"{report['table']} {report['source_key']} ({report['reason']}) {did} {when} on")


def _all_let_go(console: Console, report: Mapping[str, Any]) -> None:
    for row in report["rows"]:
        _let_go(console, row)
    for line in report["refused"]:
        tables.say(console, f"not released: {line}")


def _brief(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: f"{value:%F %H:%M}" if isinstance(value, datetime) else value for name, value in row.items()}

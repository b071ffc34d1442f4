"""Verbs that try models out and register none: search for better settings, compare the kinds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oihedge.cli import tables
from oihedge.cli.app import app
from oihedge.cli.session import AsJson, AsOf, Experiment, Home, Overrides, opened

if TYPE_CHECKING:
    from rich.console import Console

SHOWN = 10
Trials = Annotated[
    int | None, typer.Option("--trials", min=1, help="In all, those of earlier runs included. Default: search.trials.")
]
TimeoutS = Annotated[
    float | None, typer.Option("--timeout-s", min=1, help="Begin no trial after so many seconds.")
]  # fmt: skip
Models = Annotated[list[str] | None, typer.Option("--model", help="A kind; may be repeated. Default: all.")]


@app.command(epilog="Example: oihedge search --trials 20 --as-of 2025-07-01T00:05:00Z")
def search(
    overrides: Overrides = None,
    trials: Trials = None,
    timeout_s: TimeoutS = None,
    experiment: Experiment = None,
    home: Home = None,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Look for better hyper-parameters on hours before any test window. Killed, it goes on; it registers nothing."""
    with opened(overrides, experiment, home, as_of, as_json) as session:
        from oihedge.jobs import search as job
        from oihedge.jobs.lease import lease

        with lease(session.config, "search", doing="oihedge search"):
            session.progress.begin("search")
            report = job.run(
                session.config, as_of=session.as_of, trials=trials, timeout_s=timeout_s, progress=session.progress
            )
        session.show(report.as_dict(), searched)


def searched(console: Console, report: Mapping[str, Any]) -> None:
    """Print the best trials and what to retrain with."""
    tables.table(console, f"{report['label']}: trials, best first", report["trials"][:SHOWN])
    ended = f"{len(report['trials'])} of {report['wanted']} trials, {report['before']} of them from earlier runs"
    tables.say(console, f"{ended}; no row after {report['judged_until']:%F %H:%M}Z was read")
    tables.say(console, " ".join(report["overrides"]) or "no trial was completed")


@app.command(epilog="Example: oihedge compare evaluation.folds=5 --model tft --model persistence")
def compare(
    overrides: Overrides = None,
    model: Models = None,
    experiment: Experiment = None,
    home: Home = None,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Fit every kind of forecaster on the same folds and print what each scored on unseen hours."""
    with opened(overrides, experiment, home, as_of, as_json) as session:
        from oihedge.jobs import compare as job

        session.progress.begin("compare")
        report = job.run(session.config, as_of=session.as_of, kinds=model or (), progress=session.progress)
        session.show(report.as_dict(), compared)


def compared(console: Console, report: Mapping[str, Any]) -> None:
    """Print the scores of all folds together, then fold by fold."""
    label = f"{report['label']}, price: {report['price_label']}"
    tables.table(console, f"forecasts of {report['forecasts']} unseen hours x assets ({label})", report["models"])
    tables.table(console, f"fold by fold ({label})", report["folds"])
    for warning in report["warnings"]:
        tables.say(console, f"warning: {warning}")

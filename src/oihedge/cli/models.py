"""Verbs about models and decisions: retrain, evaluate, promote, rollback, hedge, replay, report, status."""

from __future__ import annotations

from typing import Annotated

import typer

from oihedge.cli import tables
from oihedge.cli.app import app
from oihedge.cli.session import AsJson, AsOf, Experiment, Home, Overrides, opened
from oihedge.core.clock import SystemClock
from oihedge.core.errors import GateHeld, OihedgeError

Reason = Annotated[str, typer.Option("--reason", help="Why; it goes into the ledger.")]
DecisionId = Annotated[str, typer.Argument(metavar="DECISION_ID", help="As in targets/latest.json.")]


@app.command(epilog="Example: oihedge retrain forecast=persistence")
def retrain(
    overrides: Overrides = None,
    experiment: Experiment = None,
    home: Home = None,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Train, walk forward and register a challenger. Its gates are judged on unseen windows."""
    with opened(overrides, experiment, home, as_of, as_json) as session:
        from oihedge.jobs import retrain as job
        from oihedge.jobs.lease import lease

        with lease(session.config, "retrain", doing="oihedge retrain"):
            session.progress.begin("retrain")
            report = job.run(session.config, as_of=session.as_of, progress=session.progress)
        session.show(report.as_dict(), tables.retrained)


@app.command(epilog="Example: oihedge evaluate --experiment conf/experiment/demo.yaml --json")
def evaluate(
    overrides: Overrides = None,
    experiment: Experiment = None,
    home: Home = None,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Walk forward and back-test the hedge. Prints the strategies as they are, registers nothing."""
    with opened(overrides, experiment, home, as_of, as_json) as session:
        from oihedge.jobs import evaluate as job

        session.progress.begin("evaluate")
        report = job.run(session.config, as_of=session.as_of, progress=session.progress)
        session.show(report.as_dict(), tables.evaluated)


@app.command(epilog="Example: oihedge promote --json")
def promote(
    overrides: Overrides = None,
    experiment: Experiment = None,
    home: Home = None,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Make the challenger champion if every gate holds. Exit code 4 if one does not."""
    with opened(overrides, experiment, home, as_of, as_json) as session:
        from oihedge.jobs import promote as job
        from oihedge.jobs.lease import lease

        with lease(session.config, "promote", doing="oihedge promote"):
            report = job.run(session.config, as_of=session.as_of)
        session.show(report.as_dict(), tables.promoted)
        if not report.promoted:
            raise GateHeld(f"version {report.version} is not promoted: {report.reason}")


@app.command(epilog='Example: oihedge rollback --reason "coverage fell"')
def rollback(
    overrides: Overrides = None,
    reason: Reason = "asked for on the command line",
    experiment: Experiment = None,
    home: Home = None,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Put the previous champion back, at once."""
    with opened(overrides, experiment, home, as_of, as_json) as session:
        from oihedge.jobs import rollback as job
        from oihedge.jobs.lease import lease

        # A person asks now, whatever instant the run stands at: the same words tomorrow are another rollback.
        at = session.given_as_of or SystemClock().now()
        with lease(session.config, "promote", doing="oihedge rollback"):
            report = job.run(session.config, as_of=at, reason=reason)
        session.show(report.as_dict(), tables.facts)


@app.command(epilog="Example: oihedge hedge --as-of 2025-07-01T00:05:00Z --json")
def hedge(
    overrides: Overrides = None,
    experiment: Experiment = None,
    home: Home = None,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Decide the hedge and write the target positions."""
    with opened(overrides, experiment, home, as_of, as_json) as session:
        from oihedge.jobs import hedge as job
        from oihedge.jobs.lease import lease

        with lease(session.config, "hedge", doing="oihedge hedge"):
            report = job.run(session.config, as_of=session.as_of)
        session.show(report.as_dict(), tables.decided)


@app.command(epilog="Example: oihedge replay 3f9c1d2e4b5a6978")
def replay(
    decision_id: DecisionId,
    overrides: Overrides = None,
    experiment: Experiment = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Decide again from stored inputs and compare. Every byte must be the same."""
    with opened(overrides, experiment, home, None, as_json) as session:
        from oihedge.jobs import replay as job

        report = job.run(session.config, decision_id)
        session.show(report.as_dict(), tables.facts)
        if not report.same:
            raise OihedgeError(f"decision {decision_id} came out differently", do="see which inputs differ above")


@app.command(epilog="Example: oihedge report --experiment demo")
def report(
    overrides: Overrides = None,
    experiment: Experiment = None,
    home: Home = None,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Write the HTML report."""
    with opened(overrides, experiment, home, as_of, as_json) as session:
        from oihedge.jobs import report as job

        done = job.run(session.config, as_of=session.as_of)
        session.show(done.as_dict(), tables.facts)


@app.command(epilog="Example: oihedge status --json")
def status(
    overrides: Overrides = None,
    experiment: Experiment = None,
    home: Home = None,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Tell what is there and what is in the way."""
    with opened(overrides, experiment, home, as_of, as_json) as session:
        from oihedge.jobs import status as job

        session.show(job.run(session.config, as_of=session.as_of).as_dict(), tables.facts)

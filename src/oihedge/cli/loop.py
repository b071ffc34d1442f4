"""Verbs that run flows against this home's Prefect server, so that their runs are there to look at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from oihedge.cli import tables
from oihedge.cli.app import app
from oihedge.cli.session import AsJson, AsOf, Experiment, Home, Overrides, Session, opened
from oihedge.core.clock import SystemClock
from oihedge.servers.prefect import prefect_running


@app.command(epilog="Example: oihedge demo")
def demo(
    overrides: Overrides = None,
    experiment: Experiment = "demo",
    home: Home = None,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Run the whole loop on the embedded market. Data, model, gates, decision, report."""
    with opened(overrides, experiment, home, as_of, as_json) as session:
        _cycle(session)
        if not as_json:
            session.progress.begin("`oihedge up` shows the runs, figures and models in a browser")


@app.command(epilog="Example: oihedge cycle market=ccxt")
def cycle(
    overrides: Overrides = None,
    experiment: Experiment = None,
    home: Home = None,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Run every step once, from ingest to report. A gate that refuses is no failure."""
    with opened(overrides, experiment, home, as_of, as_json) as session:
        _cycle(session)


@app.command(epilog="Example: oihedge serve market=ccxt")
def serve(overrides: Overrides = None, experiment: Experiment = None, home: Home = None) -> None:
    """Run the flows on their schedules until stopped. One `serve` per home."""
    from oihedge.jobs.lease import lease

    with (
        opened(overrides, experiment, home, None, False) as session,
        lease(session.config, "serve", doing="oihedge serve"),
        embedded_market(session) as market_url,
        prefect_running(session.config.home, kept=True) as url,
    ):
        from flows.serving import serve_flows

        session.progress.begin(f"Prefect: {url}")
        serve_flows(session.config, overrides=session.overrides, experiment=session.experiment, market_url=market_url)


def _cycle(session: Session) -> None:
    with flows_ready(session):
        from flows.cycle import cycle as flow

        result = flow(session.overrides, session.experiment, str(session.config.home), session.given_as_of)
    session.show(result, tables.cycled)


@contextmanager
def flows_ready(session: Session) -> Iterator[None]:
    """Have this home's Prefect server up and the flows' progress told, for the length of the block."""
    session.progress.begin("Prefect server")
    with prefect_running(session.config.home, quiet=True):
        from flows import corridor

        with corridor.telling(session.progress):
            try:
                yield
            finally:
                corridor.drain()


@contextmanager
def embedded_market(session: Session) -> Iterator[str | None]:
    """Serve the embedded market beside the flows, by the clock that their schedules follow; None for real venues."""
    if not session.config.simulated:
        yield None
        return
    from oihedge.jobs.opening import serving
    from oihedge.servers.server import free_port

    # The port of last time: runs that were scheduled before a restart carry its address.
    note = session.config.path(session.config.run.data) / "market.port"
    last = int(note.read_text()) if note.is_file() and note.read_text().isdigit() else 0
    port = free_port(last)
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(str(port))
    with serving(session.config, SystemClock(), port) as url:
        session.progress.begin(f"embedded market: {url}")
        yield url

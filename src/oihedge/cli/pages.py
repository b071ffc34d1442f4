"""The verb that shows: Prefect's and MLflow's pages over the stores of this home."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from threading import Event
from types import FrameType

from oihedge.cli import tables
from oihedge.cli.app import app
from oihedge.cli.session import AsJson, Experiment, Home, Overrides, opened
from oihedge.servers.mlflow import mlflow_server
from oihedge.servers.prefect import prefect_server


@app.command(epilog="Example: oihedge up")
def up(overrides: Overrides = None, experiment: Experiment = None, home: Home = None, as_json: AsJson = False) -> None:
    """Show Prefect's and MLflow's pages until Ctrl-C."""
    from oihedge.jobs.opening import open_registry

    with opened(overrides, experiment, home, None, as_json) as session:
        config = session.config
        open_registry(config)
        session.progress.begin("starting Prefect and MLflow")
        servers = (
            prefect_server(config.home),
            mlflow_server(config.home, tracking_uri=config.registry.tracking_uri, artifacts=config.registry.artifacts),
        )
        stopped = stop_asked()
        with ExitStack() as stack:
            urls = {server.name: stack.enter_context(server.kept_running()) for server in servers}
            session.show(urls, tables.facts)
            if not as_json:
                session.progress.begin("Ctrl-C stops both")
            stopped.wait()


def stop_asked() -> Event:
    """Return an event that SIGINT and SIGTERM set."""
    asked = Event()

    def ask(_signal: int, _frame: FrameType | None) -> None:
        asked.set()

    signal.signal(signal.SIGINT, ask)
    signal.signal(signal.SIGTERM, ask)
    return asked

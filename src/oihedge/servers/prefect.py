"""Prefect's own server for one home folder: its database, port and settings, none of the user's other Prefect."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from oihedge.core.errors import OihedgeError
from oihedge.servers.server import HOST, Server

PRIVATE = "PREFECT_"


def prefect_server(home: Path) -> Server:
    """Describe the Prefect server of `home`."""
    return Server(
        name="prefect",
        home=home,
        command=lambda port: [
            *(sys.executable, "-m", "uvicorn", "--factory", "flows.pages:serve"),
            *("--host", HOST, "--port", str(port), "--log-level", "warning"),
        ],
        health="/api/health",
        environment=lambda port: settings(home, f"http://{HOST}:{port}"),
    )


def settings(home: Path, url: str) -> Mapping[str, str]:
    """Return the environment in which Prefect works for `home` against the server at `url`, telling nobody."""
    return {
        "PREFECT_HOME": str(home / ".prefect"),
        "PREFECT_PROFILES_PATH": str(home / ".prefect" / "profiles.toml"),
        "PREFECT_API_URL": f"{url}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # Its default shows every origin its answers; flows.pages refuses their requests besides.
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": url,
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
        "PREFECT_CLI_PROMPT": "false",
        "DO_NOT_TRACK": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        **{name: _with_loopback(os.environ.get(name)) for name in ("NO_PROXY", "no_proxy")},
    }


def _with_loopback(exempt: str | None) -> str:
    return ",".join(filter(None, (exempt, HOST, "localhost")))


@contextmanager
def prefect_running(home: Path, *, quiet: bool = False, kept: bool = False) -> Iterator[str]:
    """Yield the address of this home's Prefect server, with this process's Prefect pointed at it.

    Prefect reads its settings when it is first imported, so this must come before any import of a flow.

    Args:
        home: whose server; started if none lives, and then stopped at the end.
        quiet: whether Prefect's log lines stay out of the terminal (the server has them all the same).
        kept: whether the server is started anew if it dies meanwhile.

    Raises:
        OihedgeError: if Prefect was imported before, or the server does not start.
    """
    if "prefect" in sys.modules:
        raise OihedgeError(
            "Prefect was imported before its server was chosen", do="import flows inside prefect_running"
        )
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith(PRIVATE) and not name.startswith("PREFECT_LOGGING")]:
        del os.environ[name]
    try:
        server = prefect_server(home)
        with server.kept_running() if kept else server.running() as url:
            os.environ.update(settings(home, url))
            if quiet:
                os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "CRITICAL"
            yield url
    finally:
        os.environ.clear()
        os.environ.update(before)

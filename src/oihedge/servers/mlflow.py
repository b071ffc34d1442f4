"""MLflow's pages over the store of one home folder."""

from __future__ import annotations

import sys
from pathlib import Path

from oihedge.servers.server import HOST, Server


def mlflow_server(home: Path, *, tracking_uri: str, artifacts: Path) -> Server:
    """Describe the MLflow server of `home` over the store at `tracking_uri` (relative paths start from home)."""
    return Server(
        name="mlflow",
        home=home,
        command=lambda port: [
            *(sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"),
            *("--backend-store-uri", tracking_uri, "--default-artifact-root", str(artifacts), "--no-serve-artifacts"),
        ],
        health="/health",
        environment=lambda _port: {
            "DO_NOT_TRACK": "true",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        },
    )

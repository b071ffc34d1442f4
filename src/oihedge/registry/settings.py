"""Settings of registry/, filled from conf/registry/."""

from __future__ import annotations

from pathlib import Path

from oihedge.core.settings import Settings


class Registry(Settings):
    """MLflow names."""

    tracking_uri: str
    artifacts: Path
    experiment: str
    model_name: str

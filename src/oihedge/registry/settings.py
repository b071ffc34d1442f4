"""Settings of registry/, filled from conf/registry/."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from oihedge.core.settings import Settings


class Registry(Settings):
    """MLflow names."""

    tracking_uri: Annotated[str, Field(pattern=r"^(sqlite:///|postgresql(\+\w+)?://|https?://)")]
    """A relative sqlite path starts from the home folder. A password belongs into the environment, not here."""
    artifacts: Path
    experiment: str
    model_name: str

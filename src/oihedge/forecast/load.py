"""Load a saved forecaster without running anything that came with it."""

from __future__ import annotations

from pathlib import Path

from oihedge.core.errors import ModelError
from oihedge.core.protocols import FittedModel
from oihedge.forecast.artifact import read_artifact


def load(folder: Path) -> FittedModel:
    """Return the model saved in `folder`: JSON and safetensors, every file checked against its digest.

    Raises:
        ModelError: naming the file that is missing or damaged, or the part that does not fit.
    """
    kind, description, tensors = read_artifact(folder)
    if kind == "persistence":
        from oihedge.forecast.persistence import PersistenceModel

        return PersistenceModel.from_parts(description, tensors)
    if kind == "tft":
        from oihedge.forecast.tft import TftModel

        return TftModel.from_parts(description, tensors)
    raise ModelError(f"{folder} holds a model of kind {kind!r}", expected="tft or persistence")

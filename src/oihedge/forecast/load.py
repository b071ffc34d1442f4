"""Load a saved forecaster without running anything that came with it."""

from __future__ import annotations

from pathlib import Path

from oihedge.core.errors import ModelError
from oihedge.core.protocols import FittedModel
from oihedge.forecast.artifact import read_artifact
from oihedge.forecast.closed_form import ClosedForm
from oihedge.forecast.described import Learned, impossible
from oihedge.forecast.kinds import CLOSED_FORM, LEARNED, network_class


def load(folder: Path) -> FittedModel:
    """Return the model saved in `folder`: JSON and safetensors, every file checked against its digest.

    Raises:
        ModelError: naming the file that is missing or damaged, or the part that does not fit.
    """
    try:
        return _loaded(folder)
    except RecursionError:
        raise ModelError(f"{folder} is damaged: its JSON is nested too deep", do="register the model again") from None


def _loaded(folder: Path) -> FittedModel:
    kind, description, tensors = read_artifact(folder)
    if kind in CLOSED_FORM:
        return ClosedForm.from_parts(kind, description)
    if kind in LEARNED:
        from oihedge.forecast.learned import WEIGHTS, LearnedModel

        needed = network_class(kind).bytes_of(Learned.of(kind, description).network)
        held = len(tensors.get(WEIGHTS, b""))
        if needed > held:  # told before any room is made for it
            raise impossible(kind, "network", f"it needs {needed:,} bytes of weights, {WEIGHTS} has {held:,}")
        return LearnedModel.from_parts(kind, description, tensors)
    raise ModelError(f"{folder} holds a model of kind {kind!r}", expected=", ".join((*LEARNED, *CLOSED_FORM)))

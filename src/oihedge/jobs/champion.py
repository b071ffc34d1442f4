"""The champion as the jobs ask it: whole, and trained for the event that the settings name."""

from __future__ import annotations

from oihedge.config import Config
from oihedge.core.errors import ModelError
from oihedge.core.protocols import FittedModel
from oihedge.core.types import ModelRef
from oihedge.forecast.load import load
from oihedge.registry.client import Registry


def champion_model(config: Config, registry: Registry, version: ModelRef) -> FittedModel:
    """Load a version whose p_unwind is of the event that `forecast.drop` and `forecast.horizon_h` name.

    Raises:
        ModelError: if it is damaged, or was trained for another event.
    """
    model = load(registry.model_folder(version))
    # The drop is the run's parameter, not the model's: what is counted in closed form does not keep it.
    trained = (float(registry.parameter(version.run_id, "forecast.drop")), model.shape[1])
    wanted = (config.forecast.drop, config.forecast.horizon_h)
    if trained != wanted:
        raise ModelError(
            "the model was trained for another event",
            expected=f"{_event(*wanted)}, as forecast.drop and forecast.horizon_h say",
            got=_event(*trained),
            do="retrain, or set them back",
        )
    return model


def _event(drop: float, horizon_h: int) -> str:
    return f"open interest down by {drop:g} within {horizon_h} h"

"""The models that `forecast.model` can name: each is the module of that name, imported when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from oihedge.forecast.blocks import Blocks
    from oihedge.forecast.closed_form import ClosedForm
    from oihedge.forecast.network import Network
    from oihedge.forecast.panel import Roles
    from oihedge.forecast.settings import Forecast

LEARNED = ("tft", "lstm", "cnn_lstm", "linear")
"""Their module's NETWORK is the class that is trained."""
CLOSED_FORM = ("climatology", "persistence")
"""Their module's `fit` counts, and needs no torch."""


class FitClosedForm(Protocol):
    """How a closed-form model is fitted."""

    def __call__(self, blocks: Blocks, roles: Roles, settings: Forecast) -> ClosedForm:
        """Fit on the training rows of `blocks`."""
        ...


def network_class(kind: str) -> type[Network]:
    """Return the network behind a learned kind."""
    found: type[Network] = _module(kind).NETWORK
    return found


def closed_form_fit(kind: str) -> FitClosedForm:
    """Return how a closed-form kind is fitted."""
    found: FitClosedForm = _module(kind).fit
    return found


def known_kind(kind: str) -> str:
    """Return `kind` if there is such a model.

    Raises:
        ValueError: naming those that there are.
    """
    if kind not in (*LEARNED, *CLOSED_FORM):
        raise ValueError(f"expected {', '.join(LEARNED)}, {' or '.join(CLOSED_FORM)}")
    return kind


def _module(kind: str) -> Any:
    return import_module(f"oihedge.forecast.{known_kind(kind)}")

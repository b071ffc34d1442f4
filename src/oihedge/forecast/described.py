"""What a saved model's description must be before a model is made of it: each number one that a fit could give."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Self, get_args

from pydantic import AfterValidator, Field, ValidationError

from oihedge.core.errors import ModelError
from oihedge.core.forecasts import PATH_TARGETS
from oihedge.core.settings import Hours, Positive, Settings, Share
from oihedge.forecast.settings import MOST_HEADS, MOST_WIDE, Drop, Levels, Paths, Seed, Target, Targets, Threads

_Name = Annotated[str, Field(min_length=1)]
_Exponent = Annotated[float, Field(ge=-1, le=1)]
_NotNegative = Annotated[float, Field(ge=0)]


_MOST = {
    "hidden": MOST_WIDE, "hidden_size": MOST_WIDE, "hidden_continuous_size": MOST_WIDE,
    "attention_head_size": MOST_HEADS, "lstm_layers": 1, "targets": len(get_args(Target)),
}  # fmt: skip
"""Of the sizes that a network is described by, those that a setting bounds or a fit leaves as they are."""


def _of_a_fit(network: dict[str, Any]) -> dict[str, Any]:
    """Refuse a network that would take long to make or much room: that of its weights is compared afterwards."""
    arguments = network.get("arguments")
    for name, size in {**network, **(arguments if isinstance(arguments, dict) else {})}.items():
        if name in _MOST and not (isinstance(size, int) and 1 <= size <= _MOST[name]):
            raise ValueError(f"{name} must be from 1 to {_MOST[name]}")
    return network


class Described(Settings):
    """Base of both descriptions: what it is read from is plain JSON; NaN, unknown keys and other types are refused."""

    known: tuple[_Name, ...]
    shape: tuple[Hours, Hours]

    @classmethod
    def of(cls, kind: str, description: Mapping[str, Any]) -> Self:
        """Return the description of a model of that kind, checked.

        Raises:
            ModelError: naming the first part that is missing or impossible.
        """
        try:
            return cls.model_validate_json(json.dumps(description))
        except ValidationError as error:
            first = error.errors()[0]
            part = ".".join(map(str, first["loc"]))
            raise impossible(kind, part, first["msg"].removeprefix("Value error, ")) from None


class _Scaled(Settings):
    center: tuple[float, ...]
    spread: tuple[Positive, ...]
    target_center: tuple[float, ...] | None = None
    target_spread: tuple[Positive, ...]


class _Scalers(Settings):
    columns: tuple[_Name, ...]
    targets: Targets = PATH_TARGETS
    assets: dict[str, _Scaled]


class _Scenarios(Settings):
    paths: Paths
    seed: Seed
    levels: Levels
    freedom: Annotated[float, Field(ge=1)] | None = None
    """Without, as in what was written before there were any, the copula is Gaussian."""


class _Score(Settings):
    intercept: float
    weights: tuple[float, ...]


class _Calibration(Settings):
    intercept: float
    slopes: tuple[_NotNegative, _NotNegative]
    centers: tuple[float, float]
    base_rate: Share
    told: bool


class _Reaction(Settings):
    exponents: tuple[_Exponent, _Exponent]
    usual: tuple[Positive, Positive]


class Learned(Described):
    """What `LearnedModel.save` describes."""

    network: Annotated[dict[str, Any], AfterValidator(_of_a_fit)]
    scalers: _Scalers
    scenarios: _Scenarios
    score: _Score
    calibration: _Calibration
    drop: Drop
    threads: Threads
    learnt_until: Annotated[int, Field(ge=0)] | None = None
    spread: tuple[Positive, ...] | None = None
    recalibration: tuple[tuple[Positive, ...], ...] | None = None
    reaction: _Reaction | None = None
    """What was written before there were factors has none of these."""


class Counted(Described):
    """What `ClosedForm.save` describes, but for its two tables, `quantiles` and `rates`."""

    assets: tuple[_Name, ...]
    columns: tuple[_Name, ...]
    targets: Targets = PATH_TARGETS
    carried: tuple[str, ...] = ()
    levels: Levels
    base_rate: Share
    quantiles: list[Any]
    rates: list[Any]


def impossible(kind: str, part: str, why: str) -> ModelError:
    """Return the error that says of which part of a stored model no fit could have come, and why."""
    return ModelError(f"the stored {kind} does not hold together at {part}: {why}", do="register the model again")


def require(kind: str, possible: Mapping[str, bool]) -> None:
    """Refuse a stored model at the first part that does not fit the others.

    Raises:
        ModelError: naming it.
    """
    for part, holds in possible.items():
        if not holds:
            raise impossible(kind, part, "it does not fit the model's other parts")

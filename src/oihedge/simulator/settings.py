"""Settings of simulator/, filled from conf/simulator/."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from oihedge.core.settings import Count, Instant, Positive, Settings, Share


class AssetModel(Settings):
    """Price process of one asset; rates per hour unless named otherwise."""

    start_price: Positive
    annual_volatility: Positive
    volatility_reversion: Positive
    volatility_of_volatility: Positive
    jump_rate_per_year: Annotated[float, Field(ge=0)]
    jump_scale: Annotated[float, Field(ge=0)]
    market_beta: float
    start_oi_base: Positive


class VenueModel(Settings):
    """Leverage cycle of one venue."""

    oi_share: Share
    build_up: Annotated[float, Field(ge=0)]
    unwind_sensitivity: Annotated[float, Field(ge=0)]
    price_impact: Annotated[float, Field(ge=0)]
    funding_interval_h: Count
    funding_sensitivity: Annotated[float, Field(ge=0)]


class Simulator(Settings):
    """The embedded market; docs/market-model.md explains each parameter."""

    seed: int
    origin: Instant
    assets: dict[str, AssetModel]
    venues: dict[str, VenueModel]
    mark_noise: Annotated[float, Field(ge=0)]

"""Settings of hedge/, filled from conf/hedge/."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from oihedge.core.settings import Count, Positive, Settings, Share


class Thresholds(Settings):
    """A signal's entry levels by tier depth, and the level below which it has normalised."""

    enter: Positive
    deep: Positive
    extreme: Positive
    exit: float

    @model_validator(mode="after")
    def _order(self) -> Self:
        if not self.exit <= self.enter <= self.deep <= self.extreme:
            raise ValueError("thresholds must satisfy exit <= enter <= deep <= extreme")
        return self


class Signals(Settings):
    """Entry levels of each signal; design: section 3."""

    oi_divergence: Thresholds
    oi_divergence_percentile: Share
    """0 switches the percentile mode off; else the level is this rolling quantile where it is below `enter`."""
    venue_divergence: Positive
    oi_price_gap_z: Positive
    funding_z: Positive
    squeeze_confirms: bool
    p_unwind: Thresholds
    altcoin_factor: Positive
    majors: tuple[str, ...]


class Limits(Settings):
    """Bounds that nothing crosses."""

    min_ratio: Share
    max_ratio: Annotated[float, Field(ge=0, le=2)]
    max_change: Positive
    no_trade_band: Share
    max_order_notional: Positive
    max_venue_share: Annotated[float, Field(gt=0, le=1)]
    max_leverage: Positive

    @model_validator(mode="after")
    def _order(self) -> Self:
        if self.min_ratio > self.max_ratio:
            raise ValueError(f"min_ratio {self.min_ratio} is above max_ratio {self.max_ratio}")
        return self


class Portfolio(Settings):
    """The spot holdings to hedge: quantities in coins, cash in USD."""

    name: str
    holdings: dict[str, Positive]
    cash: Annotated[float, Field(ge=0)]
    positions_file: Path
    markets_file: Path


class Hedge(Settings):
    """Tiers, sizing, limits and the portfolio."""

    portfolio: Portfolio
    baseline: Share
    partial_share: Share
    tier_step: Share
    """Share of the room between baseline and maximum that tier 2 adds to tier 1."""
    volatility_target: Positive
    """Annual; the entry is scaled by realised volatility over it, within [0.5, 1.5]."""
    altcoin_size: Positive
    portfolio_share: Share
    min_portfolio_usd: Annotated[float, Field(ge=0)]
    signals: Signals
    limits: Limits
    max_data_age: timedelta
    valid_for: timedelta
    quorum: Count
    kill_switch: bool

    @model_validator(mode="after")
    def _baseline_within(self) -> Self:
        if not self.limits.min_ratio <= self.baseline <= self.limits.max_ratio:
            raise ValueError(f"baseline {self.baseline} is outside [{self.limits.min_ratio}, {self.limits.max_ratio}]")
        return self

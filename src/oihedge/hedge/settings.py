"""Settings of hedge/, filled from conf/hedge/."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

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


class Ranks(Settings):
    """The same levels as ranks of a value among its own past."""

    enter: Share
    deep: Share
    extreme: Share
    exit: Share

    @model_validator(mode="after")
    def _order(self) -> Self:
        if not self.exit <= self.enter <= self.deep <= self.extreme:
            raise ValueError("ranks must satisfy exit <= enter <= deep <= extreme")
        return self


class Signals(Settings):
    """Entry levels of each signal; an altcoin's are `altcoin_factor` times as far out."""

    oi_divergence_mode: Literal["absolute", "percentile", "either"]
    oi_divergence: Thresholds
    oi_divergence_rank: Ranks
    """Percentile mode: the share of the feature rank window that lies below the present value."""
    min_build_up: Positive
    """Percentile mode: a divergence below this does not enter, however rare."""
    venue_divergence: Positive
    oi_price_gap_z: Positive
    funding_z: Positive
    funding_z_exit: float
    squeeze_confirms: bool
    """Whether crowded shorts (funding_z at or below -funding_z while open interest is built up) confirm too."""
    p_unwind_lift: Thresholds
    """p_unwind over the share of hours in which the event came in the model's own training window."""
    altcoin_factor: Annotated[float, Field(ge=1)]
    majors: tuple[str, ...]

    @model_validator(mode="after")
    def _order(self) -> Self:
        if self.funding_z_exit > self.funding_z:
            raise ValueError(f"funding_z_exit {self.funding_z_exit} is above funding_z {self.funding_z}")
        if self.p_unwind_lift.enter < 1:
            raise ValueError(f"p_unwind_lift.enter {self.p_unwind_lift.enter} would confirm what is usual")
        return self


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


class Holding(Settings):
    """Coins held of one asset."""

    asset: str
    qty: Positive


class Portfolio(Settings):
    """The spot holdings to hedge: quantities in coins, cash in USD.

    A list and not a mapping, so that an experiment's own holdings replace the default ones instead of joining them.
    """

    name: str
    holdings: tuple[Holding, ...]
    cash: Annotated[float, Field(ge=0)]
    positions_file: Path
    markets_file: Path

    @property
    def quantities(self) -> dict[str, float]:
        """Return coins by asset."""
        return {holding.asset: holding.qty for holding in self.holdings}


class Hedge(Settings):
    """Tiers, sizing, limits and the portfolio."""

    portfolio: Portfolio
    baseline: Share
    partial_share: Share
    """Share of the room between baseline and maximum that tier 1 enters with."""
    tier_step: Share
    """Share of that room that tier 2 adds to tier 1."""
    full_confirmations: Annotated[int, Field(ge=3)]
    """Confirmations that tier 3 needs."""
    volatility_target: Positive
    """Annual; tiers 1 and 2 are scaled by realised volatility over it."""
    volatility_scale: tuple[Positive, Positive]
    """Bounds of that scale."""
    altcoin_size: Share
    """An altcoin's entry, and its cap, as a share of the room between baseline and maximum."""
    portfolio_share: Share
    """Hedge only this share of every holding; ratios are of that share."""
    min_portfolio_usd: Annotated[float, Field(ge=0)]
    max_open_exposure: Share
    """What tier 3 aims to leave open at most, as a share of the hedged share; more is a reason, no limit."""
    signals: Signals
    limits: Limits
    max_data_age: Annotated[timedelta, Field(gt=timedelta(0))]
    valid_for: Annotated[timedelta, Field(gt=timedelta(0))]
    quorum: Count
    """Venues whose open interest a decision needs, or as many as are tracked where those are fewer."""
    kill_switch: bool
    """Halt: nothing is to be traded."""
    reduce_only: bool
    """Only shrink towards the baseline."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.limits.min_ratio <= self.baseline <= self.limits.max_ratio:
            raise ValueError(f"baseline {self.baseline} is outside [{self.limits.min_ratio}, {self.limits.max_ratio}]")
        if self.volatility_scale[0] > self.volatility_scale[1]:
            raise ValueError(f"volatility_scale falls from {self.volatility_scale[0]} to {self.volatility_scale[1]}")
        return self

"""Settings of simulator/, filled from conf/simulator/; docs/market-model.md gives the equations they stand in."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from oihedge.core.settings import Count, Instant, Positive, Settings, Share

NotNegative = Annotated[float, Field(ge=0)]
Decimals = Annotated[int, Field(ge=0, le=8)]


class Instrument(Settings):
    """How a venue writes one market: decimals of prices and sizes (ticks and lots are powers of ten)."""

    price_decimals: Decimals
    size_decimals: Decimals
    min_notional: Positive
    contract_size: Positive = 1.0
    """Coins a contract stands for, where the venue counts contracts; size_decimals are of coins all the same."""


class AssetModel(Settings):
    """Price process and size of one asset."""

    start_price: Positive
    annual_volatility: Positive
    """Of the diffusive part; jumps and cascades come on top."""
    market_share: Share
    """Share of the diffusive variance that the common market factor explains."""
    annual_drift: float
    jump_rate_per_year: NotNegative
    jump_scale: NotNegative
    """Standard deviation of the asset's own jumps, in log price."""
    start_oi_base: Positive
    """Open interest over all venues at the origin, in coins; also the level it is tied to in the very long run."""
    cascade_rate_per_year: NotNegative
    """Cascades a year at neutral leverage and crowding and a flat price."""
    cascade_size: Positive
    """Mean share of open interest liquidated in a cascade's first hour."""
    price_impact: NotNegative
    """Log price move per unit share of open interest liquidated."""
    crowd_pressure: float
    """Drift of the log price per hour and unit of crowding: the buying that builds leverage up."""
    daily_volume_usd: Positive


class VolatilityModel(Settings):
    """Stochastic volatility: two log components, a day and week season, and a kick from cascades."""

    fast_half_life_h: Positive
    fast_sd: NotNegative
    slow_half_life_h: Positive
    slow_sd: NotNegative
    cascade_kick: NotNegative
    day_season: Share
    weekend: Positive
    market_jump_rate_per_year: NotNegative
    market_jump_scale: NotNegative


class LeverageModel(Settings):
    """How positions crowd and open interest builds up."""

    trend_half_life_h: Positive
    crowd_half_life_h: Positive
    crowd_mean: float
    crowd_sd: NotNegative
    crowd_trend: NotNegative
    crowd_common: Share
    """Share of crowding's variance that all assets have in common."""
    crowd_reset: NotNegative
    """How fast a cascade clears the crowd, per unit share liquidated."""
    build_up: NotNegative
    """Growth of log open interest per hour and unit of crowding above neutral."""
    short_share: Share
    """How much of that build-up crowded shorts bring, against crowded longs."""
    neutral_crowd: NotNegative
    reversion_half_life_h: Positive
    slow_mean_half_life_h: Positive
    anchor_half_life_h: Positive
    common_noise: NotNegative
    return_beta: float
    """Growth of log open interest per standardised return."""
    forced_closing: NotNegative
    """Loss of log open interest per standardised return beyond two hourly standard deviations."""


class CascadeModel(Settings):
    """Hazard, growth and contagion of liquidation cascades."""

    leverage_scale: Positive
    leverage_gain: NotNegative
    crowd_gain: NotNegative
    move_gain: NotNegative
    size_spread: NotNegative
    decay: Share
    amplification: NotNegative
    impact_spread: NotNegative
    contagion: Share
    venue_gain: NotNegative
    """How much harder a cascade hits the venue whose leverage stands above the others'."""
    premium_flight: NotNegative
    """Premium lost per unit share of long open interest liquidated in the hour."""


class PerpVenue(Settings):
    """One perpetual-futures venue."""

    oi_share: Share
    oi_noise: NotNegative
    crowd_sd: NotNegative
    crowd_half_life_h: Positive
    premium_base: float
    premium_gain: NotNegative
    premium_noise: NotNegative
    premium_half_life_h: Positive
    price_noise: NotNegative
    volume_share: Share
    funding_interval_h: Count
    instruments: dict[str, Instrument]


class PerpFollower(Settings):
    """One perpetual-futures venue that follows the others and acts on nothing."""

    oi_share: Positive
    """Its open interest over that of all `perps` together."""
    oi_sd: NotNegative
    """Deviation of the log of that share."""
    oi_half_life_h: Positive
    crowd_sd: NotNegative
    crowd_half_life_h: Positive
    premium_base: float
    premium_gain: float
    premium_noise: NotNegative
    premium_half_life_h: Positive
    price_noise: NotNegative
    volume_share: Share
    liquidation_gain: NotNegative
    """Share of open interest closed by force per unit of adverse log price move, cascades apart."""
    funding_interval_h: Count
    instruments: dict[str, Instrument]


class SpotVenue(Settings):
    """One spot venue."""

    price_noise: NotNegative
    volume_share: Share
    instruments: dict[str, Instrument]


class Simulator(Settings):
    """The embedded market; docs/market-model.md explains each parameter."""

    seed: Annotated[int, Field(ge=0, lt=2**63)]
    origin: Instant
    assets: dict[str, AssetModel]
    volatility: VolatilityModel
    leverage: LeverageModel
    cascade: CascadeModel
    interest_rate: float
    """Funding's interest part per 8 h."""
    funding_clamp: NotNegative
    perps: dict[str, PerpVenue]
    spots: dict[str, SpotVenue]
    followers: dict[str, PerpFollower] = Field(default_factory=dict)
    """Perp venues that follow `perps` with noise of their own and act on nothing: adding one changes no row."""
    spot_followers: dict[str, SpotVenue] = Field(default_factory=dict)
    """Spot venues that show the fair price with their own noise and act on nothing: adding one changes no row."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.assets or not self.perps or not self.spots:
            raise ValueError("the embedded market needs at least one asset, one perp venue and one spot venue")
        if (self.origin.hour, self.origin.minute, self.origin.second, self.origin.microsecond) != (0, 0, 0, 0):
            raise ValueError("origin must be midnight UTC")
        if both := sorted(set(self.perps) & set(self.followers)):
            raise ValueError(f"venue {both[0]} stands in both perps and followers")
        perps: list[tuple[str, PerpVenue | PerpFollower]] = [*self.perps.items(), *self.followers.items()]
        instruments = [(name, perp.instruments) for name, perp in perps]
        spots = (*self.spots.items(), *self.spot_followers.items())
        instruments += [(name, spot.instruments) for name, spot in spots]
        for name, known in instruments:
            missing = sorted(set(self.assets) - set(known))
            if missing:
                raise ValueError(f"venue {name} has no instrument for asset {missing[0]!r}")
        for name, perp in perps:
            if 24 % perp.funding_interval_h:
                raise ValueError(f"venue {name}: funding_interval_h {perp.funding_interval_h} does not divide a day")
        return self

"""The settings of the market in the form that its equations use: decays per hour, shares that add up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oihedge.simulator.settings import AssetModel, LeverageModel, PerpVenue, Simulator, VolatilityModel

Floats = NDArray[np.float64]
HOURS_PER_YEAR = 8760.0


def keep(half_life_h: float) -> float:
    """Return the share that is left after one hour of decay with that half-life."""
    return float(0.5 ** (1.0 / half_life_h))


@dataclass(frozen=True, slots=True)
class Series:
    """One price series: `perp` is the index among the perp venues whose premium it carries, None for spot and index."""

    venue: str
    kind: str
    perp: int | None
    price_noise: float
    volume_share: float


@dataclass(frozen=True, slots=True)
class Asset:
    """One asset, ready to multiply."""

    name: str
    sigma: float
    """Diffusive standard deviation of an hour."""
    market_root: float
    own_root: float
    drift: float
    jump_rate: float
    jump_scale: float
    cascade_rate: float
    cascade_size: float
    price_impact: float
    crowd_pressure: float
    daily_volume_usd: float
    start_log_price: float
    anchor: tuple[float, ...]
    """Log open interest per perp venue at the origin."""
    weight: float
    """Share of the dollar open interest of all assets."""
    jump_beta: float


@dataclass(frozen=True, slots=True)
class Perp:
    """One perp venue, ready to multiply."""

    name: str
    share: float
    oi_noise: float
    crowd_keep: float
    crowd_step: float
    premium_base: float
    premium_gain: float
    premium_keep: float
    premium_step: float


@dataclass(frozen=True, slots=True)
class Rates:
    """What volatility and leverage keep or move per hour."""

    fast_keep: float
    fast_step: float
    slow_keep: float
    slow_step: float
    calm: float
    """Mean log volatility that makes the mean square of its exponential one."""
    trend_keep: float
    trend_step: float
    crowd_keep: float
    crowd_step: float
    reversion: float
    slow_mean: float
    anchor: float

    @classmethod
    def of(cls, v: VolatilityModel, m: LeverageModel) -> Rates:
        """Turn half-lives into hourly rates."""
        fast, slow, trend, crowd = map(
            keep, (v.fast_half_life_h, v.slow_half_life_h, m.trend_half_life_h, m.crowd_half_life_h)
        )
        return cls(
            fast, v.fast_sd * _step(fast), slow, v.slow_sd * _step(slow), v.fast_sd**2 + v.slow_sd**2,
            trend, _step(trend), crowd, m.crowd_sd * _step(crowd),
            1.0 - keep(m.reversion_half_life_h), 1.0 - keep(m.slow_mean_half_life_h), 1.0 - keep(m.anchor_half_life_h),
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Parameters:
    """Everything the equations need; one object per market, compared by identity."""

    settings: Simulator
    assets: tuple[Asset, ...]
    perps: tuple[Perp, ...]
    series: tuple[Series, ...]
    rates: Rates

    @classmethod
    def of(cls, settings: Simulator) -> Parameters:
        """Arrange `settings`."""
        perps = _perps(settings.perps)
        rates = Rates.of(settings.volatility, settings.leverage)
        return cls(settings, _assets(settings.assets, perps), perps, _series(settings), rates)


def _step(kept: float) -> float:
    """Size of the hourly shock that gives a process with that decay unit variance."""
    return float((1.0 - kept**2) ** 0.5)


def _assets(models: dict[str, AssetModel], perps: tuple[Perp, ...]) -> tuple[Asset, ...]:
    dollars = {name: m.start_oi_base * m.start_price for name, m in models.items()}
    total = sum(dollars.values())
    sigma = {name: m.annual_volatility / HOURS_PER_YEAR**0.5 for name, m in models.items()}
    beta = {name: sigma[name] * m.market_share**0.5 for name, m in models.items()}
    market_beta = sum(dollars[name] / total * beta[name] for name in models) or 1.0
    return tuple(
        Asset(
            name, sigma[name], m.market_share**0.5, (1.0 - m.market_share) ** 0.5, m.annual_drift / HOURS_PER_YEAR,
            m.jump_rate_per_year / HOURS_PER_YEAR, m.jump_scale, m.cascade_rate_per_year / HOURS_PER_YEAR,
            m.cascade_size, m.price_impact, m.crowd_pressure, m.daily_volume_usd, float(np.log(m.start_price)),
            tuple(float(np.log(m.start_oi_base * perp.share)) for perp in perps), dollars[name] / total,
            beta[name] / market_beta,
        )
        for name, m in models.items()
    )  # fmt: skip


def _perps(venues: dict[str, PerpVenue]) -> tuple[Perp, ...]:
    total = sum(venue.oi_share for venue in venues.values())
    return tuple(
        Perp(
            name, v.oi_share / total, v.oi_noise,
            keep(v.crowd_half_life_h), v.crowd_sd * _step(keep(v.crowd_half_life_h)),
            v.premium_base, v.premium_gain, keep(v.premium_half_life_h),
            v.premium_noise * _step(keep(v.premium_half_life_h)),
        )
        for name, v in venues.items()
    )  # fmt: skip


def _series(settings: Simulator) -> tuple[Series, ...]:
    perps = [
        Series(name, "perp", index, venue.price_noise, venue.volume_share)
        for index, (name, venue) in enumerate(settings.perps.items())
    ]
    spots = [
        Series(name, "spot", None, venue.price_noise, venue.volume_share) for name, venue in settings.spots.items()
    ]
    marks = [Series(name, "mark", index, 0.0, 0.0) for index, name in enumerate(settings.perps)]
    return (*perps, *spots, *marks, Series("*", "index", None, 0.0, 0.0))

"""The hourly state of the simulated market and its equations (docs/market-model.md).

The state moves hour by hour from a fixed origin, because leverage and cascades depend on the path. A day of 24 steps is
the unit in which noise is drawn and results are kept. The step works on single floats: with three assets and three
venues that is several times quicker than arrays of three.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import cos, exp, pi, sqrt

import numpy as np

from oihedge.simulator.noise import HOURS, DayNoise, draw
from oihedge.simulator.parameters import Asset, Floats, Parameters

RUNNING = 1e-4
"""Share liquidated per hour below which a cascade is over."""
MAX_RELEASE = 0.12
"""No hour liquidates more than this share of open interest."""


@dataclass(slots=True)
class AssetState:
    """Where one asset stands at one hour."""

    log_price: float
    fast: float
    slow: float
    """Log volatility of the asset's own part, fast and slow."""
    trend: float
    crowd: float
    release: float
    """Share of open interest liquidated in the last hour."""
    side: float
    """+1 while longs are liquidated, -1 for shorts."""
    log_oi: list[float]
    """By venue, as all lists here."""
    slow_oi: list[float]
    """Slow mean of log_oi."""


@dataclass(slots=True)
class State:
    """Where the market stands at one hour."""

    fast: float
    slow: float
    """Log volatility of the common factor."""
    assets: list[AssetState]
    venue_crowd: Floats
    """(A, V) a venue's crowding apart from the asset's."""
    premium_noise: Floats
    """(A, V) a venue's premium apart from what crowding makes of it."""
    price_noise: Floats
    """(A, S) log deviations of the price series."""

    @classmethod
    def at_origin(cls, p: Parameters) -> State:
        """Return the state at the origin: neutral leverage, mean crowding, prices on their index."""
        crowd, shape = p.settings.leverage.crowd_mean, (len(p.assets), len(p.perps))
        assets = [
            AssetState(a.start_log_price, 0.0, 0.0, 0.0, crowd, 0.0, 1.0, list(a.anchor), list(a.anchor))
            for a in p.assets
        ]
        return cls(0.0, 0.0, assets, np.zeros(shape), np.zeros(shape), np.zeros((len(p.assets), len(p.series))))


@dataclass(frozen=True)
class DayPath:
    """One day of the hourly state: 25 points (both midnights) and the 24 steps between."""

    log_price: Floats
    """(25, A) fair log price."""
    volatility: Floats
    """(24, A) diffusive standard deviation of the log price over the hour."""
    release: Floats
    """(24, A) share of open interest liquidated in the hour."""
    flow: Floats
    """(25, A) the same at the hours that it ends at, positive where longs were liquidated."""
    crowd: Floats
    """(25, A, V) crowding, positive for longs."""
    log_oi: Floats
    """(25, A, V)"""
    premium: Floats
    """(25, A, V) log perp price over fair price."""
    price_noise: Floats
    """(25, A, S) log deviation of each price series."""


def walk(p: Parameters, start: State, day: int, weekday: int) -> tuple[DayPath, State]:
    """Move the market through one day.

    Args:
        p: the parameters.
        start: the state at the day's first midnight; it is left as it is.
        day: days since the origin.
        weekday: 0 for Monday.

    Returns:
        The day's path and the state at its last midnight.
    """
    noise = draw(p, day)
    state = replace(start, assets=[replace(asset) for asset in start.assets])
    own_crowd = decaying(start.venue_crowd, np.array([perp.crowd_keep for perp in p.perps]), noise.venue_crowd)
    own_premium = decaying(start.premium_noise, np.array([perp.premium_keep for perp in p.perps]), noise.premium)
    venue_crowd = own_crowd.tolist()
    points, volatility = [_point(state)], []
    for hour in range(HOURS):
        volatility.append(step(p, state, noise, venue_crowd[hour], hour, season(p, hour, weekday)))
        points.append(_point(state))
    state.venue_crowd, state.premium_noise, state.price_noise = own_crowd[-1], own_premium[-1], noise.price[-1]
    log_price, crowd, flow, log_oi = (np.array(column) for column in zip(*points, strict=True))
    crowd = crowd[..., None] + own_crowd
    base, gain = np.array([[perp.premium_base, perp.premium_gain] for perp in p.perps]).T
    premium = base + gain * crowd + own_premium - p.settings.cascade.premium_flight * flow[..., None]
    deviations = np.concatenate([start.price_noise[None], noise.price])
    path = DayPath(log_price, np.array(volatility), np.abs(flow[1:]), flow, crowd, log_oi, premium, deviations)
    return path, state


def decaying(start: Floats, kept: Floats, shocks: Floats) -> Floats:
    """Return the 25 hourly values (25, A, V) of a process that keeps a share of itself each hour."""
    values = [start]
    for shock in shocks:
        values.append(kept * values[-1] + shock)
    return np.stack(values)


def _point(state: State) -> tuple[list[float], list[float], list[float], list[list[float]]]:
    """Log price, crowding, signed liquidation flow and log open interest at one hour, by asset."""
    assets = state.assets
    flow = [asset.side * asset.release for asset in assets]
    return [a.log_price for a in assets], [a.crowd for a in assets], flow, [a.log_oi for a in assets]


def season(p: Parameters, hour: int, weekday: int) -> float:
    """Return the factor on volatility and volume: most active around 15 UTC, quieter at weekends."""
    m = p.settings.volatility
    return (1.0 + m.day_season * cos(2.0 * pi * (hour - 15) / 24.0)) * (m.weekend if weekday >= 5 else 1.0)


def step(
    p: Parameters, s: State, noise: DayNoise, venue_crowd: list[list[float]], hour: int, seasonal: float
) -> list[float]:
    """Move `s` on by one hour, in place, and return the hour's diffusive standard deviation by asset."""
    market = _market_volatility(p, s, noise.market_volatility[hour])
    free, deviation, pushed, total = [], [], [], 0.0
    for i, (asset, state) in enumerate(zip(p.assets, s.assets, strict=True)):
        scale = seasonal * asset.sigma
        own = _own_volatility(p, state, noise.own_volatility[hour][i])
        common, alone = scale * asset.market_root * market, scale * asset.own_root * own
        move = common * noise.market_return[hour] + alone * noise.own_return[hour][i] + noise.jump[hour][i]
        _cascade(p, asset, state, move, noise.cascade_size[hour][i], noise.cascade_chance[hour][i])
        push = -state.side * noise.impact[hour][i] * state.release
        free.append(asset.drift + asset.crowd_pressure * state.crowd + move + push)
        deviation.append(sqrt(common * common + alone * alone))
        pushed.append(push)
        total += asset.weight * push / asset.sigma
    for i, (asset, state) in enumerate(zip(p.assets, s.assets, strict=True)):
        spilled = p.settings.cascade.contagion * (total * asset.sigma - asset.weight * pushed[i])
        returned = free[i] + spilled
        state.log_price += returned
        _open_interest(p, asset, state, returned / asset.sigma, noise.log_oi[hour][i], venue_crowd[i])
        _crowd(p, state, returned / asset.sigma, noise.crowd[hour][i])
    return deviation


def _between(value: float, low: float, high: float) -> float:
    return low if value < low else high if value > high else value


def _market_volatility(p: Parameters, s: State, shock: list[float]) -> float:
    """The common factor's volatility factor: two Ornstein-Uhlenbeck logs, the fast one kicked by cascades."""
    released = sum(asset.weight * state.release for asset, state in zip(p.assets, s.assets, strict=True))
    s.fast = p.rates.fast_keep * s.fast + shock[0] + p.settings.volatility.cascade_kick * released
    s.slow = p.rates.slow_keep * s.slow + shock[1]
    return exp(s.fast + s.slow - p.rates.calm)


def _own_volatility(p: Parameters, state: AssetState, shock: list[float]) -> float:
    state.fast = p.rates.fast_keep * state.fast + shock[0] + p.settings.volatility.cascade_kick * state.release
    state.slow = p.rates.slow_keep * state.slow + shock[1]
    return exp(state.fast + state.slow - p.rates.calm)


def _cascade(p: Parameters, asset: Asset, s: AssetState, move: float, size: float, chance: float) -> None:
    """Liquidations of this hour: the hazard rises with leverage, crowding and the move against the crowd."""
    m = p.settings.cascade
    if s.release == 0.0:
        s.side = 1.0 if s.crowd >= 0.0 else -1.0
    against = -s.side * move / asset.sigma
    leverage = _weighted(p, [now - slow for now, slow in zip(s.log_oi, s.slow_oi, strict=True)])
    exponent = (
        m.leverage_gain * _between(leverage / m.leverage_scale, -2.0, 3.0)
        + m.crowd_gain * _between(abs(s.crowd) - p.settings.leverage.neutral_crowd, -1.0, 2.5)
        + m.move_gain * _between(against, 0.0, 4.0)
    )
    starts = chance < 1.0 - exp(-asset.cascade_rate * exp(exponent))
    grown = m.decay * s.release * (1.0 + m.amplification * _between(against - 0.5, 0.0, 2.0))
    release = grown + size if starts else grown
    s.release = 0.0 if release < RUNNING else min(release, MAX_RELEASE)


def _crowd(p: Parameters, s: AssetState, z: float, noise: float) -> None:
    """Crowding follows the trend, a decaying sum of returns, with noise of its own, and is cleared by cascades."""
    m, r = p.settings.leverage, p.rates
    s.trend = r.trend_keep * s.trend + r.trend_step * _between(z, -4.0, 4.0)
    target = m.crowd_mean + m.crowd_trend * s.trend
    s.crowd = target + r.crowd_keep * (s.crowd - target) + noise
    if s.release:
        s.crowd *= exp(-m.crowd_reset * s.release)


def _open_interest(
    p: Parameters, asset: Asset, s: AssetState, z: float, noise: list[float], venue_crowd: list[float]
) -> None:
    """Log open interest and its slow mean: build-up with crowding, closing toward the mean, forced closing."""
    m, r, release = p.settings.leverage, p.rates, s.release
    forced = m.forced_closing * (_between(-z - 2.0, 0.0, 6.0) + 0.3 * _between(z - 2.0, 0.0, 6.0))
    shared = m.return_beta * _between(z, -2.0, 2.0) - forced - m.build_up * m.neutral_crowd
    above = [now - slow for now, slow in zip(s.log_oi, s.slow_oi, strict=True)]
    mean = _weighted(p, above)
    log_oi, slow_oi = [], []
    for k, own in enumerate(above):
        crowd = s.crowd + venue_crowd[k]
        appetite = crowd if crowd > 0.0 else -m.short_share * crowd
        change = m.build_up * appetite - r.reversion * own + shared + noise[k]
        if release:
            change -= release * exp(p.settings.cascade.venue_gain * _between(own - mean, -0.2, 0.2))
        slow = s.slow_oi[k]
        log_oi.append(s.log_oi[k] + change)
        slow_oi.append(slow + r.slow_mean * own + r.anchor * (asset.anchor[k] - slow))
    s.log_oi, s.slow_oi = log_oi, slow_oi


def _weighted(p: Parameters, values: list[float]) -> float:
    """Mean over venues by their usual share of open interest."""
    total = 0.0
    for perp, value in zip(p.perps, values, strict=True):
        total += perp.share * value
    return total

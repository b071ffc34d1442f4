"""Noise by counter: any day's draws can be made without those of the days before.

The generator is Philox, keyed by (seed, stream) with the day and the purpose in the counter. A stream is named by what
it drives ("market" or an asset), so that a further asset leaves the draws of the others.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

from oihedge.simulator.parameters import HOURS_PER_YEAR, Floats, Parameters

HOURS = 24
Purpose = Literal["hours", "grid"]
_PURPOSE: dict[Purpose, int] = {"hours": 0, "grid": 1}


@cache
def _stream_key(stream: str) -> int:
    return int.from_bytes(hashlib.sha256(stream.encode()).digest()[:8], "little")


def generator(seed: int, stream: str, day: int, purpose: Purpose) -> np.random.Generator:
    """Return the generator of one stream on one day.

    Args:
        seed: the market's seed.
        stream: what the noise drives.
        day: whole days since the market's origin, from 0.
        purpose: `hours` for the hourly state, `grid` for the 5-minute points between.
    """
    counter = np.array([0, 0, _PURPOSE[purpose], day], dtype=np.uint64)
    key = np.array([seed, _stream_key(stream)], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(counter=counter, key=key))


@dataclass(frozen=True)
class DayNoise:
    """The draws of one day's 24 steps, scaled to what they drive; lists, for the step works on single numbers."""

    market_return: list[float]
    """[hour] standard normal."""
    market_volatility: list[list[float]]
    """[hour][2] steps of the fast and slow log volatility."""
    jump: list[list[float]]
    """[hour][asset] log price jumps, the market's and the asset's own."""
    own_return: list[list[float]]
    own_volatility: list[list[list[float]]]
    """[hour][asset][2]"""
    crowd: list[list[float]]
    """[hour][asset] steps of crowding."""
    cascade_chance: list[list[float]]
    """[hour][asset] uniform: a cascade starts where it is below the hour's probability."""
    cascade_size: list[list[float]]
    """[hour][asset] share of open interest liquidated in the first hour, should a cascade start."""
    impact: list[list[float]]
    """[hour][asset] log price impact per share of open interest liquidated."""
    log_oi: list[list[list[float]]]
    """[hour][asset][venue]"""
    venue_crowd: Floats
    """(24, A, V) steps of a venue's own crowding."""
    premium: Floats
    """(24, A, V) steps of a venue's own premium."""
    price: Floats
    """(24, A, S) log deviations of the price series at the END of each step."""


def draw(p: Parameters, day: int) -> DayNoise:
    """Draw the noise of `day`'s steps."""
    m = p.settings
    market = generator(m.seed, "market", day, "hours")
    common, chance = market.standard_normal((HOURS, 5)), market.random(HOURS)
    shock = np.where(chance < m.volatility.market_jump_rate_per_year / HOURS_PER_YEAR, common[:, 4], 0.0)
    own, chances, venue, price = _own(p, day)
    volatility_step = np.array([p.rates.fast_step, p.rates.slow_step])
    share, spread, rough = m.leverage.crowd_common, m.cascade.size_spread, m.cascade.impact_spread
    crowd = np.sqrt(share) * common[:, 3:4] + np.sqrt(1.0 - share) * own[:, :, 3]
    own_jump = np.where(chances[:, :, 0] < _row(p, "jump_rate"), _row(p, "jump_scale") * own[:, :, 4], 0.0)
    size = _row(p, "cascade_size") * np.exp(spread * own[:, :, 5] - 0.5 * spread**2)
    oi_noise = np.array([perp.oi_noise for perp in p.perps])
    return DayNoise(
        market_return=common[:, 0].tolist(),
        market_volatility=(volatility_step * common[:, 1:3]).tolist(),
        jump=(m.volatility.market_jump_scale * shock[:, None] * _row(p, "jump_beta") + own_jump).tolist(),
        own_return=own[:, :, 0].tolist(),
        own_volatility=(volatility_step * own[:, :, 1:3]).tolist(),
        crowd=(p.rates.crowd_step * crowd).tolist(),
        cascade_chance=chances[:, :, 1].tolist(),
        cascade_size=size.tolist(),
        impact=(_row(p, "price_impact") * np.exp(rough * own[:, :, 6] - 0.5 * rough**2)).tolist(),
        log_oi=(m.leverage.common_noise * own[:, :, 7, None] + oi_noise * venue[..., 0]).tolist(),
        venue_crowd=np.array([perp.crowd_step for perp in p.perps]) * venue[..., 1],
        premium=np.array([perp.premium_step for perp in p.perps]) * venue[..., 2],
        price=price,
    )


def _row(p: Parameters, name: str) -> Floats:
    return np.array([getattr(asset, name) for asset in p.assets], dtype=np.float64)


def _own(p: Parameters, day: int) -> tuple[Floats, Floats, Floats, Floats]:
    """Normals (24, A, 8) and uniforms (24, A, 2) of the assets, normals (24, A, V, 3) of venues, price deviations."""
    a, v, seed = len(p.assets), len(p.perps), p.settings.seed
    own, chances = np.empty((HOURS, a, 8)), np.empty((HOURS, a, 2))
    venue, price = np.empty((HOURS, a, v, 3)), np.zeros((HOURS, a, len(p.series)))
    deviation = np.array([series.price_noise for series in p.series])
    for i, asset in enumerate(p.assets):
        stream = generator(seed, asset.name, day, "hours")
        own[:, i], chances[:, i] = stream.standard_normal((HOURS, 8)), stream.random((HOURS, 2))
        venue[:, i] = stream.standard_normal((HOURS, v, 3))
        price[:, i] = deviation * stream.standard_normal((HOURS, len(p.series)))
    return own, chances, venue, price

"""Implied volatility of the simulated market, and Black-76 prices and greeks of options on it.

The level follows what the market's own volatility has been: 30 days ahead only the slow part of it is left, so the
variance expected is the asset's usual one plus a share of the recent deviation, with a premium that sellers ask.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from scipy.special import ndtr

from oihedge.simulator.market import DAY, STEP, EmbeddedMarket
from oihedge.simulator.noise import HOURS, generator
from oihedge.simulator.parameters import Floats, keep

HOUR = STEP["1h"]
MONTH_H = 720.0
DAYS_PER_YEAR = 365.0
BASIS = 0.04
"""Forward over fair price, per year."""
_LOOK_BACK = 168
_HALF_LIFE_H = 48.0
_PREMIUM = 1.1
_NOISE, _SMOOTHED = 0.015, 12
"""Log noise of the level, averaged over that many hours."""
_SKEW, _SMILE = -0.12, 0.10


def index(market: EmbeddedMarket, asset: str, start: datetime, end: datetime) -> tuple[list[datetime], Floats]:
    """Return the volatility index (30 days ahead, annual share) at every whole hour in [start, end].

    A value uses the hours that are over by then, and noise of its own stream; it never depends on the window.
    """
    first = max(0, -((market.origin - start) // HOUR))
    count = max(0, (end - market.origin) // HOUR - first + 1)
    stamps = [market.origin + (first + n) * HOUR for n in range(count)]
    return stamps, _level(market, asset, first, count, MONTH_H) if count else np.empty(0)


def level(market: EmbeddedMarket, asset: str, now: datetime, hours_ahead: float) -> float:
    """Return the volatility (annual share) that options at the money over that many hours are priced with at `now`."""
    return float(_level(market, asset, (now - market.origin) // HOUR, 1, hours_ahead)[0])


def _level(market: EmbeddedMarket, asset: str, first: int, count: int, hours_ahead: float) -> Floats:
    usual = market.settings.assets[asset].annual_volatility ** 2
    low = max(0, first - _LOOK_BACK)
    known = market.volatility(asset, market.origin + low * HOUR, market.origin + (first + count - 1) * HOUR) ** 2
    squares = np.concatenate([np.full(_LOOK_BACK - (first - low), usual), known])
    recent, total, kept = np.zeros(count), 0.0, keep(_HALF_LIFE_H)
    for back in range(1, _LOOK_BACK + 1):
        weight = kept**back
        recent = recent + weight * squares[_LOOK_BACK - back : _LOOK_BACK - back + count]
        total += weight
    half_life = market.settings.volatility.slow_half_life_h
    horizon = max(hours_ahead, 1.0) * np.log(2.0) / half_life
    lasting = (1.0 - np.exp(-horizon)) / horizon
    variance = usual + lasting * (recent / total - usual)
    noise = np.exp(_NOISE * _smoothed(market, asset, first, count))
    return np.asarray(np.sqrt(variance) * _PREMIUM * noise)


def _smoothed(market: EmbeddedMarket, asset: str, first: int, count: int) -> Floats:
    low = max(0, first - _SMOOTHED)
    seed = market.settings.seed
    days = range(low // HOURS, (first + count) // HOURS + 1)
    drawn = [generator(seed, f"{asset} implied", day, "hours").standard_normal(HOURS) for day in days]
    noise = np.concatenate([np.zeros(_SMOOTHED - (first - low)), np.concatenate(drawn)[low % HOURS :]])
    total = np.zeros(count)
    for n in range(_SMOOTHED):
        total = total + noise[n : n + count]
    return np.asarray(total / np.sqrt(_SMOOTHED))


def candles(
    market: EmbeddedMarket, asset: str, start: datetime, end: datetime, now: datetime
) -> tuple[list[datetime], Floats]:
    """Return the hourly candles of the index that open in [start, end], (4, n): open, high, low, close.

    The one that runs at `now` is flat: the index moves on the hour.
    """
    stamps, points = index(market, asset, start, min(end, now) + HOUR)
    if len(stamps) < 2:
        return [], np.empty((4, 0))
    if stamps[-1] > now:
        points[-1] = points[-2]
    opened, closed = points[:-1], points[1:]
    first = (stamps[0] - market.origin) // HOUR
    reach = np.abs(_wicks(market, asset, first, len(opened))) * 0.004
    if stamps[-1] > now:
        reach[:, -1] = 0.0
    high = np.maximum(opened, closed) * (1.0 + reach[0])
    low = np.minimum(opened, closed) * (1.0 - reach[1])
    return stamps[:-1], np.stack([opened, high, low, closed])


def _wicks(market: EmbeddedMarket, asset: str, first: int, count: int) -> Floats:
    days = range(first // HOURS, (first + count) // HOURS + 1)
    seed = market.settings.seed
    drawn = [generator(seed, f"{asset} implied wicks", day, "hours").standard_normal((HOURS, 2)) for day in days]
    return np.concatenate(drawn)[first % HOURS :][:count].T


@dataclass(frozen=True)
class Quote:
    """What options are worth at one moment; arrays by option."""

    forward: float
    iv: Floats
    """Annual share."""
    price: Floats
    """In coins."""
    delta: Floats
    gamma: Floats
    vega: Floats
    """USD per point of volatility."""
    theta: Floats
    """USD per day."""
    rho: Floats


def smile(at_the_money: float, forward: float, strikes: Floats, years: float) -> Floats:
    """Return the volatility by strike: downside dearer, wings dearer, flatter the longer."""
    moved = np.clip(np.log(strikes / forward) / max(np.sqrt(years), 0.05), -2.0, 2.0)
    return np.asarray(np.maximum(at_the_money * (1.0 + _SKEW * moved + _SMILE * moved**2), 0.05))


def black_76(forward: float, strikes: Floats, calls: Floats, iv: Floats, years: float) -> Quote:
    """Return prices and greeks of options that settle in coins (Black 1976, no discounting).

    Args:
        forward: price of the underlying for the options' expiry, USD.
        strikes: by option, USD.
        calls: by option, 1.0 for a call and -1.0 for a put.
        iv: by option, annual share.
        years: time to expiry.
    """
    root = iv * np.sqrt(years)
    d1 = np.log(forward / strikes) / root + 0.5 * root
    d2 = d1 - root
    density = np.exp(-0.5 * d1**2) / np.sqrt(2.0 * np.pi)
    dollars = calls * (forward * ndtr(calls * d1) - strikes * ndtr(calls * d2))
    return Quote(
        forward, iv, np.maximum(dollars, 0.0) / forward, calls * ndtr(calls * d1), density / (forward * root),
        forward * density * np.sqrt(years) / 100.0, -forward * density * iv / (2.0 * np.sqrt(years)) / DAYS_PER_YEAR,
        calls * strikes * years * ndtr(calls * d2) / 100.0,
    )  # fmt: skip


def years_between(now: datetime, expiry: datetime) -> float:
    """Return the time to expiry in years, at least a minute of it."""
    return max((expiry - now) / DAY, 1.0 / 1440.0) / DAYS_PER_YEAR


def previous_midnight(moment: datetime, weekday: int) -> datetime:
    """Return the last midnight at or before `moment` that begins such a weekday (0 is Monday)."""
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return day - timedelta(days=(day.weekday() - weekday) % 7)

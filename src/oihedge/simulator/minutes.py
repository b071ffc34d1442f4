"""Minute bars: five inside each 5-minute bar of the native grid, and exactly that bar when put together again.

The minutes between are bridged from the asset's own minute noise, which all its markets share, so that venues move
together within the 5 minutes too; what a bar of the grid says (open, high, low, close, volume) is kept to the last tick
and lot. Noise comes by counter like the grid's, so that the grid's own rows know nothing of it.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from oihedge.simulator.noise import HOURS, generator
from oihedge.simulator.parameters import Floats

MINUTES = 5
"""Minutes per step of the native grid."""
_DAYS_KEPT = 96
"""Days of one market that stay in memory (58 kB each)."""


@dataclass(frozen=True)
class MinuteNoise:
    """One asset's draws of one day for its minutes; P is the 288 steps of the native grid."""

    steps: Floats
    """(P, 5) standard normals that drive the price."""
    extremes: Floats
    """(P, 5, 2) uniforms for highs and lows."""
    activity: Floats
    """(P, 5) standard normals that spread the volume."""


def draw(seed: int, asset: str, day: int, points: int) -> MinuteNoise:
    """Draw `asset`'s minute noise of `day` for that many grid steps."""
    stream = generator(seed, f"{asset} minutes", day, "grid")
    return MinuteNoise(
        stream.standard_normal((points, MINUTES)),
        stream.random((points, MINUTES, 2)),
        stream.standard_normal((points, MINUTES)),
    )


def minutes(bars: Floats, volatility: Floats, noise: MinuteNoise, price_scale: float, size_scale: float) -> Floats:
    """Return one day's minute bars of one market.

    Args:
        bars: (5, P) the day's open, high, low, close and volume on the native grid.
        volatility: (24,) standard deviation of the log price by hour.
        noise: the asset's draws of that day.
        price_scale: ticks per unit of price, a power of ten.
        size_scale: lots per coin, a power of ten.

    Returns:
        (5, 5 P) bars; each five have the open, high, low and close of their grid bar, and its volume in sum.
    """
    first, top, bottom, last = (np.rint(row * price_scale)[:, None] for row in bars[:4])
    sigma = np.repeat(volatility, bars.shape[1] // HOURS)[:, None] / np.sqrt(bars.shape[1] // HOURS * MINUTES)
    inside = np.rint(np.exp(_bridge(bars[0], bars[3], sigma * noise.steps)) * price_scale)
    path = np.concatenate([first, np.clip(inside, bottom, top), last], axis=1)
    opened, closed = path[:, :-1], path[:, 1:]
    above, below = _reach(np.log(opened / price_scale), np.log(closed / price_scale), sigma, noise.extremes)
    high = _touching(np.rint(above * price_scale), np.maximum(opened, closed), top)
    low = -_touching(-np.rint(below * price_scale), -np.minimum(opened, closed), -bottom)
    prices = [row.reshape(-1) / price_scale for row in (opened, high, low, closed)]
    weights = (0.4 + 0.75 * np.abs(np.log(closed / opened)) / sigma) * np.exp(0.4 * noise.activity)
    return np.stack([*prices, _split(np.rint(bars[4] * size_scale), weights).reshape(-1) / size_scale])


def _bridge(start: Floats, end: Floats, steps: Floats) -> Floats:
    """Log price at the 4 instants inside each grid bar, (P, 4)."""
    walk = np.cumsum(steps, axis=1)
    fraction = np.arange(1, MINUTES) / MINUTES
    begin, whole = np.log(start)[:, None], np.log(end / start)[:, None]
    return np.asarray(begin + fraction * whole + walk[:, :-1] - fraction * walk[:, -1:])


def _reach(start: Floats, end: Floats, sigma: Floats, uniforms: Floats) -> tuple[Floats, Floats]:
    """Highest and lowest price of each minute: extremes of a Brownian bridge."""
    spread, reach = (end - start) ** 2, -2.0 * sigma**2
    up = np.sqrt(spread + reach * np.log1p(-uniforms[..., 0]))
    down = np.sqrt(spread + reach * np.log1p(-uniforms[..., 1]))
    return np.exp(0.5 * (start + end + up)), np.exp(0.5 * (start + end - down))


def _touching(reached: Floats, least: Floats, top: Floats) -> Floats:
    """Highs in ticks within [least, top], of which the minute that reached furthest has the grid bar's own."""
    kept = np.clip(np.maximum(reached, least), None, top)
    kept[np.arange(len(kept)), np.argmax(np.maximum(reached, least), axis=1)] = top[:, 0]
    return np.asarray(kept)


def _split(lots: Floats, weights: Floats) -> Floats:
    """Whole lots by weight, (P, 5), that add up to `lots`."""
    share = np.cumsum(weights, axis=1) / weights.sum(axis=1, keepdims=True)
    upto = np.floor(lots[:, None] * share)
    upto[:, -1] = lots
    return np.diff(upto, axis=1, prepend=0.0)


class Minutes:
    """Makes minute bars by day and market, and keeps the newest; not safe for several threads by itself."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._kept: OrderedDict[tuple[tuple[str, str, str], int], Floats] = OrderedDict()

    def bars(
        self, market: tuple[str, str, str], day: int, native: Floats, volatility: Floats, scales: tuple[float, float]
    ) -> Floats:
        """Return (5, 1440) minute bars of `market` (asset, venue, kind) on `day`, from its (5, 288) native ones."""
        key = (market, day)
        if key not in self._kept:
            noise = draw(self._seed, market[0], day, native.shape[1])
            self._kept[key] = minutes(native, volatility, noise, *scales)
            while len(self._kept) > _DAYS_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

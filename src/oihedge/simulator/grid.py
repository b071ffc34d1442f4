"""The native grid: 5-minute points of one day, bridged between the hourly states.

Everything the market shows derives from these points: 5-minute and hourly bars of every price series, and open
interest every 5 minutes. The points on the hour ARE the hourly state, so an hourly bar's open and close, and the open
interest on the hour, agree on both scales. A day is computed as one block of fixed shape: no value depends on how much
was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from oihedge.simulator.dynamics import DayPath, season
from oihedge.simulator.noise import HOURS, generator
from oihedge.simulator.parameters import Floats, Parameters

STEPS = 12
"""5-minute steps per hour."""
POINTS = HOURS * STEPS
OI_BRIDGE = 0.35
"""A 5-minute open-interest step's noise, against the hourly noise of its venue over the square root of 12."""


@dataclass(frozen=True)
class DayGrid:
    """One day on the native grid, rounded as the venues write it; `(A, S, ...)` by asset and price series."""

    open: Floats
    """(A, S, 288), as high, low, close and volume (base units)."""
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    oi_base: Floats
    """(A, V, 289) coins at each point, both midnights."""
    oi_usd: Floats
    """(A, V, 289) at the mark price of that point."""
    crowd: Floats
    """(A, V, 289)"""

    def hours(self) -> Floats:
        """Return the hourly bars, (5, A, S, 24): open, high, low, close, volume."""
        return hourly(np.stack([self.open, self.high, self.low, self.close, self.volume]))

    def market(self, i: int, k: int) -> Floats:
        """Return one market's bars, (5, 288)."""
        return np.stack([row[i, k] for row in (self.open, self.high, self.low, self.close, self.volume)])


def hourly(bars: Floats) -> Floats:
    """Return the hourly bars (5, ..., 24) of a day's 5-minute bars (5, ..., 288)."""
    opened, high, low, closed, volume = bars.reshape(*bars.shape[:-1], HOURS, STEPS)
    total = volume[..., 0]
    for k in range(1, STEPS):
        total = total + volume[..., k]
    total = _rounded(total, np.float64(1e6))
    return np.stack([opened[..., 0], high.max(axis=-1), low.min(axis=-1), closed[..., -1], total])


def grid(p: Parameters, path: DayPath, day: int, weekday: int) -> DayGrid:
    """Return `day` on the native grid.

    Args:
        p: the parameters.
        path: the day's hourly state.
        day: days since the origin.
        weekday: 0 for Monday.
    """
    normals, uniforms, oi_noise, price_noise = _draw(p, day)
    sigma = path.volatility.T[..., None] / np.sqrt(STEPS)
    fair = bridge(path.log_price.T, sigma * normals[..., :STEPS])
    logs = _series_logs(p, path, fair, price_noise)
    scale = scales(p, "price_decimals")[..., None]
    points = _rounded(np.exp(logs), scale)
    high, low = _extremes(fair, np.repeat(sigma[..., 0], STEPS, axis=-1), uniforms)
    top = np.maximum(logs[..., :-1], logs[..., 1:]) + high[:, None]
    bottom = np.minimum(logs[..., :-1], logs[..., 1:]) - low[:, None]
    noise = np.array([perp.oi_noise for perp in p.perps])[:, None, None] * (OI_BRIDGE / np.sqrt(STEPS))
    oi_base = np.exp(bridge(path.log_oi.transpose(1, 2, 0), noise * oi_noise))
    oi_base = _rounded(oi_base, scales(p, "size_decimals")[:, : len(p.perps), None])
    marks = points[:, [series.kind == "mark" for series in p.series]]
    return DayGrid(
        open=points[..., :-1], high=_rounded(np.exp(top), scale), low=_rounded(np.exp(bottom), scale),
        close=points[..., 1:], volume=_volume(p, path, fair, normals[..., STEPS:], points, weekday), oi_base=oi_base,
        oi_usd=_rounded(oi_base * marks, np.float64(1e4)), crowd=line(path.crowd.transpose(1, 2, 0)),
    )  # fmt: skip


def _draw(p: Parameters, day: int) -> tuple[Floats, Floats, Floats, Floats]:
    """Normals (A, 24, 24) for price and volume, uniforms (A, 288, 2), normals (A, V, 24, 12) and (A, S, 24, 12)."""
    a, seed = len(p.assets), p.settings.seed
    normals, uniforms = np.empty((a, HOURS, 2 * STEPS)), np.empty((a, POINTS, 2))
    oi, price = np.empty((a, len(p.perps), HOURS, STEPS)), np.zeros((a, len(p.series), HOURS, STEPS))
    traded = [k for k, series in enumerate(p.series) if series.price_noise]
    deviation = np.array([p.series[k].price_noise for k in traded])[:, None, None]
    for i, asset in enumerate(p.assets):
        stream = generator(seed, asset.name, day, "grid")
        normals[i], uniforms[i] = stream.standard_normal((HOURS, 2 * STEPS)), stream.random((POINTS, 2))
        oi[i] = stream.standard_normal((len(p.perps), HOURS, STEPS))
        price[i, traded] = deviation * stream.standard_normal((len(traded), HOURS, STEPS))
    return normals, uniforms, oi, price


def line(hourly: Floats) -> Floats:
    """Interpolate (..., 25) hourly values to (..., 289) points; the hours keep their exact value."""
    fraction = np.arange(STEPS) / STEPS
    start, move = hourly[..., :-1, None], (hourly[..., 1:] - hourly[..., :-1])[..., None]
    inside = start + move * fraction
    return np.concatenate([inside.reshape(*hourly.shape[:-1], POINTS), hourly[..., -1:]], axis=-1)


def bridge(hourly: Floats, steps: Floats) -> Floats:
    """Bridge (..., 25) hourly values with noise steps (..., 24, 12) to (..., 289) points, exact on the hours."""
    walk = np.cumsum(steps, axis=-1)
    fraction = np.arange(STEPS) / STEPS
    before = np.concatenate([np.zeros_like(walk[..., :1]), walk[..., :-1]], axis=-1)
    tied = before - fraction * walk[..., -1:]
    points = line(hourly)
    points[..., :-1] += tied.reshape(*hourly.shape[:-1], POINTS)
    return points


def _series_logs(p: Parameters, path: DayPath, fair: Floats, noise: Floats) -> Floats:
    """Log price of every series at the points, (A, S, 289): fair price, the venue's premium, its own small noise."""
    logs = np.repeat(fair[:, None], len(p.series), axis=1)
    premium = line(path.premium.transpose(1, 2, 0))
    for k, series in enumerate(p.series):
        if series.perp is not None:
            logs[:, k] += premium[:, series.perp]
    at_hours = path.price_noise.transpose(1, 2, 0)
    own = np.concatenate([at_hours[..., :-1, None], noise[..., 1:]], axis=-1).reshape(*noise.shape[:2], POINTS)
    return np.asarray(logs + np.concatenate([own, at_hours[..., -1:]], axis=-1))


def _extremes(fair: Floats, sigma: Floats, uniforms: Floats) -> tuple[Floats, Floats]:
    """How far the fair log price goes above and below both ends of each 5 minutes: extremes of a Brownian bridge."""
    start, end = fair[..., :-1], fair[..., 1:]
    spread = (end - start) ** 2
    reach = -2.0 * sigma**2
    high = 0.5 * (start + end + np.sqrt(spread + reach * np.log1p(-uniforms[..., 0])))
    low = 0.5 * (start + end - np.sqrt(spread + reach * np.log1p(-uniforms[..., 1])))
    return high - np.maximum(start, end), np.minimum(start, end) - low


def _volume(p: Parameters, path: DayPath, fair: Floats, noise: Floats, points: Floats, weekday: int) -> Floats:
    """Base volume of each 5 minutes, (A, S, 288): more in active hours, on large moves and in cascades."""
    seasons = np.array([season(p, hour, weekday) for hour in range(HOURS)])
    move = np.abs(fair[:, 1:] - fair[:, :-1]).reshape(len(p.assets), HOURS, STEPS)
    usual = np.array([asset.sigma for asset in p.assets])[:, None, None] / np.sqrt(STEPS)
    busy = seasons[:, None] * (0.4 + 0.75 * np.minimum(move / usual, 12.0)) * np.exp(0.4 * noise - 0.08)
    busy = busy * (1.0 + 20.0 * path.release.T[..., None])
    dollars = np.array([asset.daily_volume_usd for asset in p.assets])[:, None, None] / POINTS * busy
    share = np.array([series.volume_share for series in p.series])[:, None]
    volume = dollars.reshape(len(p.assets), 1, POINTS) * share / points[..., :-1]
    return _rounded(volume, scales(p, "size_decimals")[..., None])


@lru_cache(maxsize=8)
def scales(p: Parameters, name: Literal["price_decimals", "size_decimals"]) -> Floats:
    """Powers of ten that round each asset's series, (A, S); the index is written as finely as any venue."""
    out = np.empty((len(p.assets), len(p.series)))
    for i, asset in enumerate(p.assets):
        perps = {venue: perp.instruments[asset.name] for venue, perp in p.settings.perps.items()}
        spots = {venue: spot.instruments[asset.name] for venue, spot in p.settings.spots.items()}
        finest = max(getattr(instrument, name) for instrument in (*perps.values(), *spots.values()))
        for k, series in enumerate(p.series):
            instrument = (spots if series.kind == "spot" else perps).get(series.venue)
            out[i, k] = 10.0 ** (getattr(instrument, name) if instrument else finest)
    return out


def _rounded(values: Floats, scale: Floats | np.float64) -> Floats:
    return np.asarray(np.rint(values * scale) / scale)

"""Order books of the simulated venues: what rests around the newest price, thinner when the market is rough."""

from __future__ import annotations

from datetime import timedelta
from functools import lru_cache

import numpy as np

from oihedge.simulator.market import STEP, Kind
from oihedge.simulator.noise import generator
from oihedge.simulator.parameters import Floats
from oihedge.simulator.view import View

Book = tuple[list[tuple[float, float]], list[tuple[float, float]]]
"""Bids and asks, best first, each (price, size in coins)."""
LEVELS = 1000
"""A side has no more levels than this."""
_SHARE_PER_BP = 0.00025
"""What rests in one basis point on one side, as a share of the venue's usual volume of a day."""
_SPREAD_BP = 0.2
_NEAR, _FAR = 0.02, 0.00005
"""A level's distance in basis points is `_NEAR n + _FAR n^2`: 400 levels reach 16, 1000 reach 70."""


def book(view: View, asset: str, venue: str, kind: Kind, levels: int) -> Book:
    """Return the book of one market as it stood when the newest minute began.

    The first levels are the same however many are asked for.

    Args:
        view: the market at its present.
        asset: base.
        venue: ccxt id.
        kind: `spot` or `perp`.
        levels: how many a side has, at most 1000.

    Returns:
        Bids and asks, best first: prices on the venue's ticks, sizes in coins on its lots.

    Raises:
        ConfigError: for a market there is none of.
    """
    how = view.market.instrument(asset, venue, kind)
    ticks, lots = 10.0**how.price_decimals, 10.0**how.size_decimals
    price = float(view.bars(asset, venue, kind, view.now - STEP["5m"], view.now, "1m")["open"][-1])
    step = (view.now - view.market.origin) // STEP["1m"]
    draws = _draws(view.market.settings.seed, f"{asset} {kind} {venue} depth", step)
    rough = _roughness(view, asset)
    width = max(1, round(price * _SPREAD_BP * rough / 1e4 * ticks))
    best = round(price * ticks) - width // 2
    density = _SHARE_PER_BP * _daily_volume(view, asset, venue, kind) / rough * float(np.exp(0.2 * draws[2, 0]))
    count = max(0, min(levels, LEVELS))
    bids = _side(price, ticks, lots, density, draws[0], best, -1)
    asks = _side(price, ticks, lots, density, draws[1], best + width, 1)
    return bids[:count], asks[:count]


@lru_cache(maxsize=64)
def _draws(seed: int, stream: str, step: int) -> Floats:
    return generator(seed, stream, step, "grid").standard_normal((3, LEVELS))


def _roughness(view: View, asset: str) -> float:
    """The last whole hour's volatility over the asset's own, between 0.5 and 5."""
    hour = view.now.replace(minute=0, second=0, microsecond=0)
    known = view.market.volatility(asset, hour - timedelta(hours=1), hour)
    usual = view.market.settings.assets[asset].annual_volatility
    return float(np.clip(known[-1] / usual, 0.5, 5.0)) if len(known) else 1.0


def _daily_volume(view: View, asset: str, venue: str, kind: Kind) -> float:
    venues = view.market.spots if kind == "spot" else view.market.perps
    return view.market.settings.assets[asset].daily_volume_usd * venues[venue].volume_share


def _side(
    price: float, ticks: float, lots: float, density: float, draws: Floats, best: int, way: int
) -> list[tuple[float, float]]:
    """One side from its best tick outwards; where ticks are coarse the levels lie on neighbouring ticks."""
    n = np.arange(LEVELS, dtype=np.float64)
    tick_bp = 1e4 / (price * ticks)
    away = np.rint((_NEAR * n + _FAR * n**2) / tick_bp)
    away = np.maximum.accumulate(away - n) + n
    covered = np.diff(away, prepend=-1.0) * tick_bp
    dollars = density * covered * np.exp(0.5 * draws - 0.125)
    at = (best + way * away) / ticks
    kept = at > 0.0
    sizes = np.maximum(1.0, np.rint(dollars[kept] / at[kept] * lots)) / lots
    return list(zip(at[kept].tolist(), sizes.tolist(), strict=True))

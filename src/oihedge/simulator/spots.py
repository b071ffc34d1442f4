"""Spot venues that follow the fair price: they show it with a noise of their own and never act on the market."""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal, Protocol

import numpy as np

from oihedge.simulator.grid import hourly
from oihedge.simulator.noise import generator
from oihedge.simulator.parameters import Floats
from oihedge.simulator.settings import Simulator, SpotVenue

_DAYS_KEPT = 48
"""5-minute days of one market that stay in memory (12 kB each); hourly bars all stay."""


class Native(Protocol):
    """Gives the (5, 288) native bars of a market that is followed."""

    def __call__(self, asset: str, venue: str, kind: Literal["spot", "index"], day: int) -> Floats:
        """Return the bars of one day."""
        ...


class SpotFollowers:
    """The following spot venues' days, made when asked for; not safe for several threads by itself."""

    def __init__(self, settings: Simulator) -> None:
        self._settings = settings
        self._lead, lead = next(iter(settings.spots.items()))
        self._lead_share = lead.volume_share
        self._hours: dict[tuple[str, str, int], Floats] = {}
        self._kept: OrderedDict[tuple[str, str, int], Floats] = OrderedDict()

    def have(self, asset: str, venue: str, kind: str) -> bool:
        """Return whether that market is one of theirs."""
        followers = self._settings.spot_followers
        return kind == "spot" and venue in followers and asset in self._settings.assets

    def bars(self, asset: str, venue: str, day: int, timeframe: str, native: Native) -> Floats:
        """Return one day's bars, (5, 24) for `1h` and (5, 288) for `5m`."""
        key = (asset, venue, day)
        if timeframe == "1h" and key in self._hours:
            return self._hours[key]
        if key not in self._kept:
            index, lead = native(asset, "*", "index", day), native(asset, self._lead, "spot", day)
            how = self._settings.spot_followers[venue]
            made = follow(self._settings.seed, asset, venue, day, how, index, lead, self._lead_share)
            self._kept[key], self._hours[key] = made, hourly(made)
            while len(self._kept) > _DAYS_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._hours[key] if timeframe == "1h" else self._kept[key]


def follow(
    seed: int, asset: str, venue: str, day: int, how: SpotVenue, index: Floats, lead: Floats, lead_share: float
) -> Floats:
    """Return one day's bars of a following spot venue on the native grid.

    Args:
        seed: the market's seed.
        asset: base.
        venue: ccxt id; with the asset it names the noise stream.
        day: days since the origin.
        how: the venue's settings.
        index: (5, P) bars of the fair price.
        lead: (5, P) bars of the spot venue whose volume is scaled.
        lead_share: that venue's share of the volume.

    Returns:
        (5, P) open, high, low, close, volume, rounded as the venue writes them.
    """
    points = index.shape[1]
    stream = generator(seed, f"{asset} spot {venue}", day, "grid")
    own, busy = stream.standard_normal(points), stream.standard_normal(points)
    following = generator(seed, f"{asset} spot {venue}", day + 1, "grid").standard_normal(1)
    factor = np.exp(how.price_noise * np.concatenate([own, following]))
    decimals = how.instruments[asset]
    scale, lots = 10.0**decimals.price_decimals, 10.0**decimals.size_decimals
    fair = np.append(index[0], index[3, -1])
    path = np.rint(fair * factor * scale) / scale
    opened, closed = path[:-1], path[1:]
    up = index[1] / np.maximum(index[0], index[3])
    down = index[2] / np.minimum(index[0], index[3])
    high = np.rint(np.maximum(opened, closed) * up * scale) / scale
    low = np.rint(np.minimum(opened, closed) * down * scale) / scale
    volume = lead[4] * (how.volume_share / lead_share) * np.exp(0.3 * busy - 0.045)
    return np.stack([opened, high, low, closed, np.rint(volume * lots) / lots])

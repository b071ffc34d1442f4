"""Perp venues that follow the market: derived from its present state and noise of their own, and acting on nothing.

A follower's crowding is the leaders' (every venue in `perps`) with a deviation of its own; its premium comes from that
by the leaders' equation; its open interest is a share of theirs, and the share wanders. Each venue and asset has noise
streams of its own, counted by day, so that a further follower changes no other row.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal, Protocol

import numpy as np

from oihedge.simulator.dynamics import DayPath, decaying
from oihedge.simulator.grid import OI_BRIDGE, POINTS, STEPS, bridge, hourly, line
from oihedge.simulator.noise import HOURS, generator
from oihedge.simulator.parameters import Floats, Parameters, keep
from oihedge.simulator.settings import PerpFollower

_DAYS_KEPT = 16
"""5-minute days of one venue that stay in memory (0.1 MB each); hourly bars and open interest all stay."""
_KINDS = ("mark", "perp")


class Native(Protocol):
    """Gives the (5, 288) native bars of a market that is followed."""

    def __call__(self, asset: str, venue: str, kind: Literal["perp", "index"], day: int) -> Floats:
        """Return the bars of one day."""
        ...


class Paths(Protocol):
    """Gives a day's hourly state."""

    def __call__(self, day: int) -> DayPath:
        """Return the path of one day."""
        ...


class PerpFollowers:
    """The following perp venues' days, made when asked for; not safe for several threads by itself."""

    def __init__(self, parameters: Parameters, native: Native, paths: Paths) -> None:
        self._p, self._native, self._paths = parameters, native, paths
        self._assets = [asset.name for asset in parameters.assets]
        self._own: dict[tuple[str, str], list[Floats]] = {}
        self._hours: dict[tuple[str, str, str, int], Floats] = {}
        self._oi: dict[tuple[str, str, int], tuple[Floats, Floats]] = {}
        self._kept: OrderedDict[tuple[str, int], dict[tuple[str, str], Floats]] = OrderedDict()

    def have(self, asset: str, venue: str, kind: str) -> bool:
        """Return whether that market is one of theirs."""
        return kind in ("perp", "mark") and venue in self._p.settings.followers and asset in self._assets

    def bars(self, asset: str, venue: str, kind: str, day: int, timeframe: str) -> Floats:
        """Return one day's bars, (5, 24) for `1h` and (5, 288) for `5m`, rounded as the venue writes them."""
        if timeframe == "5m":
            return self._day(venue, day)[asset, kind]
        if (asset, venue, kind, day) not in self._hours:
            self._day(venue, day)
        return self._hours[asset, venue, kind, day]

    def open_interest(self, asset: str, venue: str, day: int) -> tuple[Floats, Floats]:
        """Return coins and USD at the mark price at the 289 points of the day."""
        if (asset, venue, day) not in self._oi:
            self._day(venue, day)
        return self._oi[asset, venue, day]

    def crowd(self, asset: str, venue: str, day: int) -> Floats:
        """Return the crowding at the day's 25 hours, positive where longs crowd."""
        shares = np.array([perp.share for perp in self._p.perps])
        shared: Floats = self._paths(day).crowd[:, self._assets.index(asset)] @ shares
        return shared + self._deviations(asset, venue, day)[:, 1]

    def premium(self, asset: str, venue: str, day: int) -> Floats:
        """Return the log of perp over fair price at the day's 25 hours."""
        how, flow = self._how(venue), self._paths(day).flow[:, self._assets.index(asset)]
        premium = how.premium_base + how.premium_gain * self.crowd(asset, venue, day)
        own = self._deviations(asset, venue, day)[:, 2]
        return np.asarray(premium + own - self._p.settings.cascade.premium_flight * flow)

    def liquidations(self, asset: str, venue: str, day: int) -> Floats:
        """Return what was closed by force in each 5 minutes of the day, (2, 288) USD: longs, shorts.

        A cascade's share of open interest, and a little on any adverse move.
        """
        how, flow = self._how(venue), self._paths(day).flow[1:, self._assets.index(asset)]
        index = self._native(asset, "*", "index", day)
        move = np.log(index[3] / index[0])
        cascade = np.repeat(np.stack([np.maximum(flow, 0.0), np.maximum(-flow, 0.0)]) / STEPS, STEPS, axis=-1)
        calm = how.liquidation_gain * np.stack([np.maximum(-move, 0.0), np.maximum(move, 0.0)])
        noise = self._stream(asset, venue, "liquidations", day, "grid").standard_normal((2, POINTS))
        usd = self.open_interest(asset, venue, day)[1][:-1]
        return np.asarray(np.rint(usd * (cascade + calm) * np.exp(0.6 * noise - 0.18) * 100.0) / 100.0)

    def _how(self, venue: str) -> PerpFollower:
        return self._p.settings.followers[venue]

    def _stream(
        self, asset: str, venue: str, what: str, day: int, purpose: Literal["hours", "grid"]
    ) -> np.random.Generator:
        return generator(self._p.settings.seed, f"{asset} perp {venue} {what}", day, purpose)

    def _deviations(self, asset: str, venue: str, day: int) -> Floats:
        """A venue's own share of open interest (log), crowding and premium, (25, 3), continued from the day before."""
        days = self._own.setdefault((asset, venue), [])
        how = self._how(venue)
        kept = np.array([keep(x) for x in (how.oi_half_life_h, how.crowd_half_life_h, how.premium_half_life_h)])
        steps = np.array([how.oi_sd, how.crowd_sd, how.premium_noise]) * np.sqrt(1.0 - kept**2)
        while len(days) <= day:
            shocks = self._stream(asset, venue, "state", len(days), "hours").standard_normal((HOURS, 3))
            days.append(decaying(days[-1][-1] if days else np.zeros(3), kept, steps * shocks))
        return days[day]

    def _day(self, venue: str, day: int) -> dict[tuple[str, str], Floats]:
        """A day's native bars by asset and kind; all assets at once, for the leaders' day is at hand."""
        key = (venue, day)
        if key not in self._kept:
            made = {(asset, kind): self._bars(asset, venue, kind, day) for asset in self._assets for kind in _KINDS}
            for (asset, kind), bars in made.items():
                self._hours.setdefault((asset, venue, kind, day), hourly(bars))
                if kind == "mark" and (asset, venue, day) not in self._oi:
                    self._oi[asset, venue, day] = self._open_interest(asset, venue, day, bars)
            self._kept[key] = made
            while len(self._kept) > _DAYS_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    def _open_interest(self, asset: str, venue: str, day: int, mark: Floats) -> tuple[Floats, Floats]:
        how, path = self._how(venue), self._paths(day)
        leaders = np.log(np.exp(path.log_oi[:, self._assets.index(asset)]).sum(axis=-1))
        step = how.oi_sd * (1.0 - keep(how.oi_half_life_h) ** 2) ** 0.5 * OI_BRIDGE / np.sqrt(STEPS)
        noise = self._stream(asset, venue, "oi", day, "grid").standard_normal((HOURS, STEPS))
        log_oi = bridge(np.log(how.oi_share) + leaders + self._deviations(asset, venue, day)[:, 0], step * noise)
        lots = 10.0 ** how.instruments[asset].size_decimals
        coins = np.rint(np.exp(log_oi) * lots) / lots
        return coins, np.rint(coins * np.append(mark[0], mark[3, -1]) * 1e4) / 1e4

    def _bars(self, asset: str, venue: str, kind: str, day: int) -> Floats:
        """Fair price times premium, and for the perp times a small noise that the mark is spared."""
        how, index = self._how(venue), self._native(asset, "*", "index", day)
        traded, logs = kind == "perp", line(self.premium(asset, venue, day))
        stream = self._stream(asset, venue, "price", day, "grid")
        own, busy = stream.standard_normal(POINTS), stream.standard_normal(POINTS)
        if traded:
            following = self._stream(asset, venue, "price", day + 1, "grid").standard_normal(1)
            logs = logs + how.price_noise * np.append(own, following)
        decimals = how.instruments[asset]
        scale, lots = 10.0**decimals.price_decimals, 10.0**decimals.size_decimals
        path = np.rint(np.append(index[0], index[3, -1]) * np.exp(logs) * scale) / scale
        opened, closed = path[:-1], path[1:]
        up, down = index[1] / np.maximum(index[0], index[3]), index[2] / np.minimum(index[0], index[3])
        high = np.rint(np.maximum(opened, closed) * up * scale) / scale
        low = np.rint(np.minimum(opened, closed) * down * scale) / scale
        if not traded:
            return np.stack([opened, high, low, closed, np.zeros(POINTS)])
        lead, share = next((name, venue.volume_share) for name, venue in self._p.settings.perps.items())
        volume = self._native(asset, lead, "perp", day)[4] * (how.volume_share / share) * np.exp(0.3 * busy - 0.045)
        return np.stack([opened, high, low, closed, np.rint(volume * lots) / lots])

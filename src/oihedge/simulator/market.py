"""The embedded market: bars, open interest and funding of a SIMULATION, the same rows however they are asked for."""

from __future__ import annotations

from collections import OrderedDict
from datetime import UTC, datetime, timedelta
from threading import RLock
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oihedge.core.clock import require_utc
from oihedge.core.errors import ConfigError
from oihedge.core.tables import UTC_TIME
from oihedge.simulator.dynamics import DayPath, State, walk
from oihedge.simulator.followers import PerpFollowers
from oihedge.simulator.funding import mean_premium, per_interval
from oihedge.simulator.grid import POINTS, DayGrid, grid, line, scales
from oihedge.simulator.minutes import MINUTES, Minutes
from oihedge.simulator.noise import HOURS
from oihedge.simulator.parameters import HOURS_PER_YEAR, Floats, Parameters
from oihedge.simulator.settings import Instrument, PerpFollower, PerpVenue, Simulator, SpotVenue
from oihedge.simulator.spots import SpotFollowers

Kind = Literal["spot", "perp", "mark", "index"]
Step = Literal["1h", "5m", "1m"]
DAY = timedelta(days=1)
STEP: dict[str, timedelta] = {"1h": timedelta(hours=1), "5m": timedelta(minutes=5), "1m": timedelta(minutes=1)}
OI_STEPS = ("1h", "5m")
"""Open interest has no finer grid than the native one."""
_PER_DAY = {"1h": HOURS, "5m": POINTS, "1m": POINTS * MINUTES}
_GRIDS_KEPT = 8
"""Days of the 5-minute grid that stay in memory (0.2 MB each); hourly bars and 5-minute open interest all stay."""


class EmbeddedMarket:
    """A simulated market with leverage cycles (docs/market-model.md); nothing in it was ever traded.

    The state is computed from the settings' origin, day by day, kept, and extended when a later day is asked for: a row
    never depends on the window asked for, nor on how far the market has been extended. Safe for several threads.
    Nothing stops a caller from reading past its present: whoever owns a clock must cap what it asks for.
    """

    def __init__(self, settings: Simulator) -> None:
        self.settings = settings
        self._parameters = Parameters.of(settings)
        self._origin = settings.origin
        self._state = State.at_origin(self._parameters)
        self._paths: list[DayPath] = []
        self._hours: dict[int, Floats] = {}
        self._oi: dict[int, tuple[Floats, Floats]] = {}
        self._grids: OrderedDict[int, DayGrid] = OrderedDict()
        self._minutes = Minutes(settings.seed)
        self._followers = PerpFollowers(self._parameters, self._native, self._path)
        self._spot_followers = SpotFollowers(settings)
        self._lock = RLock()

    @property
    def origin(self) -> datetime:
        """The first instant of the market, a midnight UTC."""
        return self._origin

    @property
    def assets(self) -> tuple[str, ...]:
        """The assets, by base."""
        return tuple(self.settings.assets)

    @property
    def perps(self) -> dict[str, PerpVenue | PerpFollower]:
        """Every perp venue, those that follow included."""
        return {**self.settings.perps, **self.settings.followers}

    @property
    def spots(self) -> dict[str, SpotVenue]:
        """Every spot venue, those that follow included."""
        return self.settings.spots | self.settings.spot_followers

    def instrument(self, asset: str, venue: str, kind: Kind) -> Instrument:
        """Return how `venue` writes `asset`.

        Raises:
            ConfigError: for a market there is none of.
        """
        self._check(asset, venue, kind)
        return (self.spots if kind == "spot" else self.perps)[venue].instruments[asset]

    def bars(
        self, asset: str, venue: str, kind: Kind, start: datetime, end: datetime, timeframe: Step = "1h"
    ) -> pl.DataFrame:
        """Return the bars that open in [start, end).

        Args:
            asset: base, e.g. `BTC`.
            venue: ccxt id; any for the index, which belongs to none.
            kind: `perp` or `mark` on a perp venue, `spot` on a spot venue, `index` (the fair price).
            start: first open time; before the origin there is nothing.
            end: where opens stop.
            timeframe: `1h`, `5m` or `1m`.

        Returns:
            ts (open time, UTC), open, high, low, close (quote), volume (base units; 0 for mark and index).

        Raises:
            ConfigError: for a market or timeframe there is none of, or a naive instant.
        """
        self._check(asset, venue, kind)
        first, stop = self._window(start, end, timeframe)
        size, columns = _PER_DAY[timeframe], ("open", "high", "low", "close", "volume")
        with self._lock:
            span = _days(first, stop, size)
            days = [self._day_bars(asset, venue, kind, day, timeframe) for day in span]
        values = np.concatenate(days, axis=-1) if days else np.empty((5, 0))
        values = values[:, first - first // size * size :][:, : stop - first]
        data = {"ts": self._stamps(first, stop, timeframe)} | {
            name: pl.Series(values[n]) for n, name in enumerate(columns)
        }
        return pl.DataFrame(data)

    def open_interest(self, asset: str, venue: str, start: datetime, end: datetime, step: Step = "1h") -> pl.DataFrame:
        """Return the open interest at every instant of the grid in [start, end], both ends included.

        Returns:
            ts (snapshot instant), oi_base (coins), oi_usd (at the venue's mark price of that instant).

        Raises:
            ConfigError: for a market or step there is none of, or a naive instant.
        """
        self._check(asset, venue, "perp")
        if step not in OI_STEPS:
            raise ConfigError(f"unknown step {step!r} of open interest", expected="1h or 5m")
        first, stop = self._window(start, end + timedelta(microseconds=1), step)
        size, stride = _PER_DAY[step], POINTS // _PER_DAY[step]
        with self._lock:
            blocks = [self._day_oi(asset, venue, day) for day in _days(first, stop, size)]
        skip, count = first - first // size * size, stop - first
        columns = [
            np.concatenate([block[n][:POINTS:stride] for block in blocks])[skip : skip + count]
            if blocks else np.empty(0)
            for n in (0, 1)
        ]  # fmt: skip
        return pl.DataFrame({"ts": self._stamps(first, stop, step), "oi_base": columns[0], "oi_usd": columns[1]})

    def funding(self, asset: str, venue: str, start: datetime, end: datetime) -> pl.DataFrame:
        """Return the funding payments in [start, end], both ends included.

        The rate is that of the venue's rule: the premium's mean over the interval, plus the interest rate's distance to
        it within a clamp, per 8 h; a shorter interval pays its share.

        Returns:
            ts (payment instant), rate (per own interval), interval_h.

        Raises:
            ConfigError: for a market there is none of, or a naive instant.
        """
        self._check(asset, venue, "perp")
        interval = self.perps[venue].funding_interval_h
        first, stop = self._window(start, end + timedelta(microseconds=1), "1h")
        hours = np.arange(max(interval, -(-first // interval) * interval), stop, interval)
        low = int(hours[0]) - interval if len(hours) else stop
        mean = mean_premium(self._premium(asset, venue, low, stop if len(hours) else low), hours - low, interval)
        return pl.DataFrame(
            {
                "ts": _utc(self._origin_us + hours * 3_600_000_000),
                "rate": per_interval(self.settings, mean, interval),
                "interval_h": np.full(len(hours), float(interval)),
            }
        )

    def funding_so_far(self, asset: str, venue: str, now: datetime) -> float:
        """Return the rate that the interval running at `now` would pay by the hours of it that are over."""
        self._check(asset, venue, "perp")
        interval, over = self.perps[venue].funding_interval_h, (require_utc(now, "now") - self._origin) // STEP["1h"]
        hours = over % interval or 1
        premium = self._premium(asset, venue, max(0, over + 1 - hours), over + 1)
        return float(per_interval(self.settings, premium.mean(keepdims=True), interval)[0])

    def liquidations(self, asset: str, venue: str, start: datetime, end: datetime) -> pl.DataFrame:
        """Return what a following venue closed by force in each 5 minutes that begin in [start, end).

        Returns:
            ts (where the 5 minutes begin), long_usd, short_usd.

        Raises:
            ConfigError: for a market that does not follow, or a naive instant.
        """
        if not self._followers.have(asset, venue, "perp"):
            raise ConfigError(f"the embedded market has no liquidations of {asset} on {venue}")
        first, stop = self._window(start, end, "5m")
        with self._lock:
            span = _days(first, stop, POINTS)
            days = [self._followers.liquidations(asset, venue, day) for day in span]
        values = np.concatenate(days, axis=-1)[:, first - first // POINTS * POINTS :] if days else np.empty((2, 0))
        longs, shorts = values[:, : stop - first]
        return pl.DataFrame({"ts": self._stamps(first, stop, "5m"), "long_usd": longs, "short_usd": shorts})

    def extend(self, to: datetime) -> None:
        """Compute the hourly state up to the day of `to`, so that later reads before it answer at once."""
        day = (require_utc(to, "to") - self._origin) // DAY
        with self._lock:
            if day >= 0:
                self._path(day)

    def crowding(self, asset: str, venue: str, day: datetime) -> Floats:
        """Return the crowding at the 289 points of the day that starts at `day`, positive where longs crowd."""
        self._check(asset, venue, "perp")
        n = (require_utc(day, "day") - self._origin) // DAY
        with self._lock:
            if self._followers.have(asset, venue, "perp"):
                return line(self._followers.crowd(asset, venue, n))
            i, v = self._perp_index(asset, venue)
            crowd: Floats = self._grid(n).crowd[i, v]
        return crowd

    def volatility(self, asset: str, start: datetime, end: datetime) -> Floats:
        """Return the diffusive volatility, per year, of every hour that opens in [start, end)."""
        first, stop = self._window(start, end, "1h")
        i, days = self.assets.index(asset), _days(first, stop, HOURS)
        with self._lock:
            values = [self._path(day).volatility[:, i] for day in days]
        hourly = np.concatenate(values)[first % HOURS :][: stop - first] if values else np.empty(0)
        return np.asarray(hourly * HOURS_PER_YEAR**0.5)

    @property
    def _origin_us(self) -> int:
        return int(self._origin.timestamp()) * 1_000_000

    def _check(self, asset: str, venue: str, kind: str) -> None:
        if not any(they.have(asset, venue, kind) for they in (self._followers, self._spot_followers)):
            self._series_index(asset, venue, kind)

    def _series_index(self, asset: str, venue: str, kind: str) -> tuple[int, int]:
        for k, series in enumerate(self._parameters.series):
            if series.kind == kind and series.venue in (venue, "*") and asset in self.settings.assets:
                return self.assets.index(asset), k
        have = ", ".join(
            sorted({f"{s.kind} on {s.venue}" for s in self._parameters.series if s.kind in ("spot", "perp")})
        )
        raise ConfigError(
            f"the embedded market has no {kind} market for {asset} on {venue}",
            expected=f"one of {', '.join(self.assets)} and {have}",
        )

    def _perp_index(self, asset: str, venue: str) -> tuple[int, int]:
        i, _ = self._series_index(asset, venue, "perp")
        return i, list(self.settings.perps).index(venue)

    def _window(self, start: datetime, end: datetime, step: str) -> tuple[int, int]:
        """Grid indices [first, stop) since the origin of the instants in [start, end): none from a late start."""
        if step not in STEP:
            raise ConfigError(f"unknown step {step!r}", expected=", ".join(STEP))
        ends = [require_utc(start, "start") - self._origin, require_utc(end, "end") - self._origin]
        first, stop = (max(0, -(-distance // STEP[step])) for distance in ends)
        return min(first, stop), stop

    def _stamps(self, first: int, stop: int, step: str) -> pl.Series:
        stride = STEP[step] // timedelta(microseconds=1)
        return _utc(self._origin_us + np.arange(first, stop, dtype=np.int64) * stride)

    def _path(self, day: int) -> DayPath:
        while len(self._paths) <= day:
            n = len(self._paths)
            path, self._state = walk(self._parameters, self._state, n, self._weekday(n))
            self._paths.append(path)
        return self._paths[day]

    def _weekday(self, day: int) -> int:
        return (self._origin.astimezone(UTC).weekday() + day) % 7

    def _premium(self, asset: str, venue: str, first: int, stop: int) -> Floats:
        with self._lock:
            days = _days(first, stop, HOURS)
            values = [self._day_premium(asset, venue, day)[:HOURS] for day in days]
        return np.concatenate(values)[first - first // HOURS * HOURS :][: stop - first] if values else np.empty(0)

    def _day_premium(self, asset: str, venue: str, day: int) -> Floats:
        if self._followers.have(asset, venue, "perp"):
            return self._followers.premium(asset, venue, day)
        i, v = self._perp_index(asset, venue)
        return self._path(day).premium[:, i, v]

    def _grid(self, day: int) -> DayGrid:
        if day not in self._grids:
            made = grid(self._parameters, self._path(day), day, self._weekday(day))
            self._grids[day] = made
            self._hours.setdefault(day, made.hours())
            self._oi.setdefault(day, (made.oi_base, made.oi_usd))
            while len(self._grids) > _GRIDS_KEPT:
                self._grids.popitem(last=False)
        self._grids.move_to_end(day)
        return self._grids[day]

    def _day_bars(self, asset: str, venue: str, kind: Kind, day: int, timeframe: str) -> Floats:
        """One market's bars of one day, (5, n)."""
        if timeframe == "1m":
            return self._minutes.bars(
                (asset, "*" if kind == "index" else venue, kind), day,
                self._day_bars(asset, venue, kind, day, "5m"),
                self._path(day).volatility[:, self.assets.index(asset)], self._scales(asset, venue, kind),
            )  # fmt: skip
        if self._followers.have(asset, venue, kind):
            return self._followers.bars(asset, venue, kind, day, timeframe)
        if self._spot_followers.have(asset, venue, kind):
            return self._spot_followers.bars(asset, venue, day, timeframe, self._native)
        i, k = self._series_index(asset, venue, kind)
        if timeframe == "1h":
            if day not in self._hours:
                self._grid(day)
            return self._hours[day][:, i, k]
        return self._grid(day).market(i, k)

    def _native(self, asset: str, venue: str, kind: Kind, day: int) -> Floats:
        return self._day_bars(asset, venue, kind, day, "5m")

    def _scales(self, asset: str, venue: str, kind: Kind) -> tuple[float, float]:
        """Ticks per unit of price and lots per coin."""
        if kind == "index":
            i, k = self._series_index(asset, venue, kind)
            prices, sizes = (scales(self._parameters, name) for name in ("price_decimals", "size_decimals"))
            return float(prices[i, k]), float(sizes[i, k])
        how = self.instrument(asset, venue, kind)
        return 10.0**how.price_decimals, 10.0**how.size_decimals

    def _day_oi(self, asset: str, venue: str, day: int) -> tuple[Floats, Floats]:
        if self._followers.have(asset, venue, "perp"):
            return self._followers.open_interest(asset, venue, day)
        if day not in self._oi:
            self._grid(day)
        i, v = self._perp_index(asset, venue)
        return self._oi[day][0][i, v], self._oi[day][1][i, v]


def _days(first: int, stop: int, size: int) -> range:
    """Days that hold the grid's [first, stop), none of an empty window wherever it lies."""
    return range(first // size, -(-stop // size)) if stop > first else range(0)


def _utc(microseconds: NDArray[np.int64]) -> pl.Series:
    return pl.Series(microseconds).cast(UTC_TIME)

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
from oihedge.simulator.grid import POINTS, DayGrid, grid
from oihedge.simulator.noise import HOURS
from oihedge.simulator.parameters import Floats, Parameters
from oihedge.simulator.settings import Instrument, Simulator

Kind = Literal["spot", "perp", "mark", "index"]
Step = Literal["1h", "5m"]
DAY = timedelta(days=1)
STEP: dict[str, timedelta] = {"1h": timedelta(hours=1), "5m": timedelta(minutes=5)}
_PER_DAY = {"1h": HOURS, "5m": POINTS}
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
        self._lock = RLock()

    @property
    def origin(self) -> datetime:
        """The first instant of the market, a midnight UTC."""
        return self._origin

    @property
    def assets(self) -> tuple[str, ...]:
        """The assets, by base."""
        return tuple(self.settings.assets)

    def instrument(self, asset: str, venue: str, kind: Kind) -> Instrument:
        """Return how `venue` writes `asset`.

        Raises:
            ConfigError: for a market there is none of.
        """
        self._series_index(asset, venue, kind)
        return (self.settings.spots if kind == "spot" else self.settings.perps)[venue].instruments[asset]

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
            timeframe: `1h` or `5m`.

        Returns:
            ts (open time, UTC), open, high, low, close (quote), volume (base units; 0 for mark and index).

        Raises:
            ConfigError: for a market or timeframe there is none of, or a naive instant.
        """
        i, k = self._series_index(asset, venue, kind)
        first, stop = self._window(start, end, timeframe)
        size, columns = _PER_DAY[timeframe], ("open", "high", "low", "close", "volume")
        with self._lock:
            days = [self._bar_block(day, timeframe)[:, i, k] for day in range(first // size, -(-stop // size))]
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
        i, v = self._perp_index(asset, venue)
        first, stop = self._window(start, end + timedelta(microseconds=1), step)
        size, stride = _PER_DAY[step], POINTS // _PER_DAY[step]
        with self._lock:
            blocks = [self._oi_block(day) for day in range(first // size, -(-stop // size))]
        skip, count = first - first // size * size, stop - first
        columns = [
            np.concatenate([block[n][i, v, :POINTS:stride] for block in blocks])[skip : skip + count]
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
        i, v = self._perp_index(asset, venue)
        interval = self.settings.perps[venue].funding_interval_h
        first, stop = self._window(start, end + timedelta(microseconds=1), "1h")
        hours = np.arange(max(interval, -(-first // interval) * interval), stop, interval)
        low = int(hours[0]) - interval if len(hours) else 0
        premium = self._premium(i, v, low, stop)
        total = np.zeros(len(hours))
        for back in range(interval):
            total = total + premium[hours - low - back]
        mean, m = total / interval, self.settings
        per_8h = mean + np.clip(m.interest_rate - mean, -m.funding_clamp, m.funding_clamp)
        rate = np.rint(per_8h * interval / 8.0 * 1e8) / 1e8
        return pl.DataFrame(
            {
                "ts": _utc(self._origin_us + hours * 3_600_000_000),
                "rate": rate,
                "interval_h": np.full(len(hours), float(interval)),
            }
        )

    def extend(self, to: datetime) -> None:
        """Compute the hourly state up to the day of `to`, so that later reads before it answer at once."""
        day = (require_utc(to, "to") - self._origin) // DAY
        with self._lock:
            if day >= 0:
                self._path(day)

    def crowding(self, asset: str, venue: str, day: datetime) -> Floats:
        """Return the crowding at the 289 points of the day that starts at `day`, positive where longs crowd."""
        i, v = self._perp_index(asset, venue)
        with self._lock:
            crowd: Floats = self._grid((require_utc(day, "day") - self._origin) // DAY).crowd[i, v]
        return crowd

    @property
    def _origin_us(self) -> int:
        return int(self._origin.timestamp()) * 1_000_000

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
        """Grid indices [first, stop) since the origin of the instants in [start, end)."""
        if step not in STEP:
            raise ConfigError(f"unknown step {step!r}", expected="1h or 5m")
        ends = [require_utc(start, "start") - self._origin, require_utc(end, "end") - self._origin]
        first, stop = (max(0, -(-distance // STEP[step])) for distance in ends)
        return first, max(first, stop)

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

    def _premium(self, i: int, v: int, first: int, stop: int) -> Floats:
        with self._lock:
            days = range(first // HOURS, -(-stop // HOURS))
            values = [self._path(day).premium[:HOURS, i, v] for day in days]
        return np.concatenate(values)[first - first // HOURS * HOURS :] if values else np.empty(0)

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

    def _bar_block(self, day: int, timeframe: str) -> Floats:
        if timeframe == "1h":
            if day not in self._hours:
                self._grid(day)
            return self._hours[day]
        made = self._grid(day)
        return np.stack([made.open, made.high, made.low, made.close, made.volume])

    def _oi_block(self, day: int) -> tuple[Floats, Floats]:
        if day not in self._oi:
            self._grid(day)
        return self._oi[day]


def _utc(microseconds: NDArray[np.int64]) -> pl.Series:
    return pl.Series(microseconds).cast(UTC_TIME)

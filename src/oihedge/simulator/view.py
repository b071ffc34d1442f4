"""The market as a venue can show it at its clock's present: nothing of the future, the running bar only so far."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl

from oihedge.core.clock import Clock
from oihedge.simulator.market import STEP, EmbeddedMarket, Kind, Step

MILLISECOND = timedelta(milliseconds=1)
FAR = 253_402_300_799_000
"""9999-12-31 in ms: later stamps in a request mean the present anyway."""


def instant(ms: int) -> datetime:
    """Return the instant of a stamp in ms since 1970."""
    return datetime(1970, 1, 1, tzinfo=UTC) + max(0, min(ms, FAR)) * MILLISECOND


def millis(moment: datetime) -> int:
    """Return an instant as whole ms since 1970."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // MILLISECOND


@dataclass(frozen=True)
class View:
    """What can be known of `market` at `now`; every read is capped there."""

    market: EmbeddedMarket
    now: datetime

    @classmethod
    def at(cls, market: EmbeddedMarket, clock: Clock) -> View:
        """Return the view at the clock's present, one instant for a whole request."""
        return cls(market, clock.now())

    def bars(self, asset: str, venue: str, kind: Kind, start: datetime, end: datetime, timeframe: Step) -> pl.DataFrame:
        """Return bars that open in [start, end] and not after now, with a column `ms`; the last may still run."""
        stop = min(end, self.now) + timedelta(microseconds=1)
        bars = self.market.bars(asset, venue, kind, start, stop, timeframe)
        running = bars.filter(pl.col("ts") + STEP[timeframe] > self.now)
        if running.height:
            opened: datetime = running["ts"][0]
            so_far = self._so_far(asset, venue, kind, opened, float(running["open"][0]))
            bars = pl.concat([bars.head(bars.height - running.height), so_far])
        return bars.with_columns(pl.col("ts").dt.epoch("ms").alias("ms"))

    def _so_far(self, asset: str, venue: str, kind: Kind, opened: datetime, price: float) -> pl.DataFrame:
        """The running bar, from the 5 minutes of it that are over; flat at its open before the first is."""
        parts = self.market.bars(asset, venue, kind, opened, self.now, "5m")
        parts = parts.filter(pl.col("ts") + STEP["5m"] <= self.now)
        if not parts.height:
            flat = {name: [price] for name in ("open", "high", "low", "close")} | {"volume": [0.0]}
            return pl.DataFrame({"ts": [opened]} | flat, schema=parts.schema)
        return parts.select(
            pl.col("ts").first(), pl.col("open").first(), pl.col("high").max(), pl.col("low").min(),
            pl.col("close").last(), pl.col("volume").sum().round(6),
        )  # fmt: skip

    def open_interest(self, asset: str, venue: str, start: datetime, end: datetime, step: Step) -> pl.DataFrame:
        """Return snapshots in [start, end] and not after now, with a column `ms`."""
        rows = self.market.open_interest(asset, venue, start, min(end, self.now), step)
        return rows.with_columns(pl.col("ts").dt.epoch("ms").alias("ms"))

    def funding(self, asset: str, venue: str, start: datetime, end: datetime) -> pl.DataFrame:
        """Return payments in [start, end] and not after now, with a column `ms`."""
        rows = self.market.funding(asset, venue, start, min(end, self.now))
        return rows.with_columns(pl.col("ts").dt.epoch("ms").alias("ms"))

    def price(self, asset: str, venue: str, kind: Kind) -> float:
        """Return the newest price on the 5-minute grid."""
        bars = self.bars(asset, venue, kind, self.now - timedelta(minutes=10), self.now, "5m")
        return float(bars["open"][-1])

    def open_interest_now(self, asset: str, venue: str) -> float:
        """Return the newest snapshot on the 5-minute grid, in coins."""
        rows = self.open_interest(asset, venue, self.now - timedelta(minutes=10), self.now, "5m")
        return float(rows["oi_base"][-1])

    def last_funding(self, asset: str, venue: str) -> tuple[float, int]:
        """Return the rate last paid, and the next payment's time in ms; 0 before the first."""
        interval = timedelta(hours=self.market.perps[venue].funding_interval_h)
        paid = self.funding(asset, venue, self.now - interval, self.now)
        rate = float(paid["rate"][-1]) if paid.height else 0.0
        over = (self.now - self.market.origin) % interval
        return rate, millis(self.now - over + interval)

    def next_funding(self, asset: str, venue: str) -> tuple[float, int]:
        """Return what the running interval would pay by now, and when it pays in ms."""
        _, pays_at = self.last_funding(asset, venue)
        return self.market.funding_so_far(asset, venue, self.now), pays_at

    def day(self, asset: str, venue: str, kind: Kind) -> pl.DataFrame:
        """Return the 5-minute bars of the last 24 hours, as in `bars`."""
        return self.bars(asset, venue, kind, self.now - timedelta(hours=24), self.now, "5m")

    def liquidations(self, asset: str, venue: str, start: datetime, end: datetime) -> pl.DataFrame:
        """Return what was closed by force in each 5 minutes that begin in [start, end) and are over, with `ms`."""
        stop = min(end, self.now - STEP["5m"] + timedelta(microseconds=1))
        rows = self.market.liquidations(asset, venue, start, stop)
        return rows.with_columns(pl.col("ts").dt.epoch("ms").alias("ms"))

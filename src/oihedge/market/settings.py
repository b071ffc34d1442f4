"""Settings of market/, filled from conf/market/."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from oihedge.core.settings import Count, Positive, Settings
from oihedge.market.inputs.settings import Inputs, Vision

TableName = Literal[
    "ohlcv", "open_interest", "funding", "funding_now", "depth", "long_short", "liquidations", "implied_vol",
    "option_chain",
]  # fmt: skip
Timeframe = Literal["1m", "5m", "15m", "1h"]


class Limit(Settings):
    """A cap that ccxt does not know: `calls` of raw methods whose names begin with `methods` in any `per_s` seconds."""

    venue: str
    methods: str
    calls: Count
    per_s: Positive


class Venue(Settings):
    """One tracked venue: `symbols` maps asset to ccxt symbol, for options to the venue's currency."""

    id: str
    kind: Literal["spot", "perp", "option"]
    symbols: dict[str, str]
    delay_s: Annotated[float, Field(ge=0)]
    """Seconds after a bar's close (or a snapshot) at which this venue serves it."""
    taker_fee: Annotated[float, Field(ge=0, lt=0.05)]


class Market(Settings):
    """What is read from the world, and how patiently."""

    source: Literal["embedded", "ccxt", "import"]
    """embedded: the simulated market through its loopback server; ccxt: the venues; import: only what was imported."""
    venues: tuple[Venue, ...]
    timeframes: Annotated[tuple[Timeframe, ...], Field(min_length=1)] = ("1h",)
    """Lengths of the bars that are read; open interest and ratios come hourly."""
    tables: tuple[TableName, ...] = ("ohlcv", "open_interest", "funding")
    """What is read, of each venue what it has (docs/capabilities.md)."""
    price_kinds: Annotated[tuple[Literal["trade", "mark", "index"], ...], Field(min_length=1)] = ("trade",)
    """Which bars of a perp: of its trades, its mark price, its index."""
    interest_now: bool = False
    """Read the present open interest also of venues that have a history of it; it then stands off the hour."""
    greeks: Annotated[int, Field(ge=0)] = 40
    """For so many options per asset, those nearest to the money, one more request each brings the greeks."""
    limits: tuple[Limit, ...] = ()
    chunk_rows: Count = 150_000
    """A backfill fetches and writes about so many rows of a venue at one go: the longest of a week, a month, a quarter
    and some years that stays below it."""
    lookback_h: Count
    """How far back an ingest re-reads before the newest row it has."""
    timeout_s: Positive
    attempts: Count
    backoff_s: Positive
    max_backoff_s: Positive
    max_pause_s: Positive
    """A venue that asks for a longer pause than this (Retry-After) is given up for this run."""
    concurrency: Count
    """Requests in flight per venue; the pace within that is ccxt's own throttle."""
    inputs: Inputs = Inputs()
    vision: Vision = Vision()

    @property
    def timeframe(self) -> Timeframe:
        """Return the shortest bar that is read."""
        return min(self.timeframes, key=("1m", "5m", "15m", "1h").index)

"""Settings of market/, filled from conf/market/."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from oihedge.core.settings import Count, Positive, Settings


class Venue(Settings):
    """One tracked venue: `symbols` maps asset to ccxt symbol."""

    id: str
    kind: Literal["spot", "perp"]
    symbols: dict[str, str]
    delay_s: Annotated[float, Field(ge=0)]
    """Seconds after a bar's close (or a snapshot) at which this venue serves it."""
    taker_fee: Annotated[float, Field(ge=0, lt=0.05)]


class Market(Settings):
    """What is read from the world, and how patiently."""

    source: Literal["embedded", "ccxt", "import"]
    """embedded: the simulated market through its loopback server; ccxt: the venues; import: only what was imported."""
    venues: tuple[Venue, ...]
    timeframe: Literal["1h"]
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

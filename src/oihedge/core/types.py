"""Small frozen values that several rooms exchange."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True)
class Instrument:
    """One market that is tracked: `kind` is spot or perp, `symbol` is ccxt's, `asset` the base."""

    venue: str
    symbol: str
    asset: str
    kind: str


@dataclass(frozen=True)
class MarketSpec:
    """What an order on an instrument must respect; sizes in base units, prices in quote."""

    venue: str
    symbol: str
    asset: str
    lot: float
    min_notional: float
    tick: float


@dataclass(frozen=True)
class Position:
    """A signed derivative position in base units (a short is negative)."""

    venue: str
    symbol: str
    qty: float


@dataclass(frozen=True)
class TierState:
    """Where the tier machine of one asset stands after the feature row at `ts`; `ratio` is the last ratio decided."""

    ts: datetime
    tier: int = 0
    ratio: float = 0.0
    entered_at: datetime | None = None


@dataclass(frozen=True)
class Gate:
    """One promotion gate: what was measured (None: nothing could be), what it had to be, and whether it held."""

    name: str
    value: float | None
    threshold: float
    rule: str
    passed: bool
    detail: str = ""


@dataclass(frozen=True)
class ModelRef:
    """A registered model version; the model-free rule is `ModelRef.none()`."""

    name: str
    version: str
    run_id: str
    trained_as_of: datetime | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def none(cls, name: str) -> ModelRef:
        """Return the placeholder for `no champion`."""
        return cls(name, "", "")

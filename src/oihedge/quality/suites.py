"""What each raw table must satisfy: one list of rules a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from oihedge.core.errors import DataError
from oihedge.core.tables import (
    DEPTH,
    EVENTS,
    FUNDING,
    FUNDING_NOW,
    IMPLIED_VOL,
    LIQUIDATIONS,
    LONG_SHORT,
    MEASURES,
    OHLCV,
    ONCHAIN,
    OPEN_INTEREST,
    OPTION_CHAIN,
    SENTIMENT,
    Table,
)
from oihedge.core.tables import table as table_named
from oihedge.quality.rules import (
    AHEAD,
    APART,
    ASIDE,
    COPY,
    FROZEN,
    HELD_BACK,
    LARGEST,
    MOVE,
    OFFSET,
    PRICE_MOVE,
    RETURN_Z,
    RIVALS,
    Between,
    NotBelow,
    NotZero,
    OneOf,
    Present,
    Rule,
)
from oihedge.quality.settings import Quality

Rules = tuple[Rule, ...]
JUDGEMENTS = frozenset(
    {
        "price_jump", "oi_jump", "oi_price_jump", "oi_zero", "oi_usd_zero", "cross_venue_outlier", "venue_set_aside",
        "frozen", "from_the_future", "rate_extreme", "volatility_extreme",
    }
)  # fmt: skip
"""Rules that call a row implausible, where a person may know better. Every other one says that it cannot be so."""


def rules(table: str, settings: Quality) -> Rules:
    """Return the rules of a raw table.

    Raises:
        DataError: if the table has none.
    """
    if table not in _OWN:
        raise DataError(f"no quality rules for table {table!r}", expected=", ".join(_OWN))
    return (*_every_table(table_named(table), settings), *_OWN[table](settings))


def _every_table(spec: Table, settings: Quality) -> Rules:
    required = [name for name in (*spec.columns, "available_at") if name not in spec.nullable]
    future = Between("from_the_future", AHEAD, low=-LARGEST, high=settings.max_clock_skew_s * 1e6)
    return (
        *(Present(f"{name}_missing", name) for name in required),
        # An event is announced before it happens.
        *(() if spec is EVENTS else (Between("available_too_early", HELD_BACK), future)),
        Between("duplicate", COPY, high=0),
        Between("conflicting_key", RIVALS, high=1),
        *((Between("off_grid", OFFSET, high=0),) if "timeframe" in spec.columns else ()),
    )


def _across_venues(settings: Quality) -> Rules:
    z = settings.told_return_z
    return (
        Between("cross_venue_outlier", APART, high=1.0),
        Between("venue_set_aside", ASIDE, high=float(settings.quorum.hours - 1)),
        Between("frozen", FROZEN, high=float(settings.frozen_h - 1)),
        # A crash is an outlier too, and the very thing to be hedged: told, and kept out only if other venues deny it.
        Between("return_outlier", RETURN_Z, low=-z, high=z, told=True),
    )


def _candle() -> Rules:
    return (
        *(Between(f"{name}_not_positive", name, above=True) for name in ("open", "high", "low", "close")),
        NotBelow("high_below_low", "high", "low"),
        NotBelow("open_above_high", "high", "open"),
        NotBelow("close_above_high", "high", "close"),
        NotBelow("open_below_low", "open", "low"),
        NotBelow("close_below_low", "close", "low"),
    )


def _ohlcv(settings: Quality) -> Rules:
    return (
        *_candle(),
        Between("volume_negative", "volume"),
        OneOf("kind_unknown", "kind", ("spot", "perp", "mark", "index", "premium")),
        Between("price_jump", MOVE, high=1 / (1 - settings.max_hourly_move)),
        *_across_venues(settings),
    )


def _open_interest(settings: Quality) -> Rules:
    return (
        Between("oi_negative", "oi_base"),
        Between("oi_usd_negative", "oi_usd"),
        # Nothing is left only of a coin that is delisted, which a person knows; elsewhere 0 is a feed that fails.
        NotZero("oi_zero", "oi_base"),
        NotZero("oi_usd_zero", "oi_usd"),
        Between("oi_jump", MOVE, high=settings.max_oi_jump),
        Between("oi_price_jump", PRICE_MOVE, high=1 / (1 - settings.max_hourly_move)),
        *_across_venues(settings),
    )


def _funding(settings: Quality) -> Rules:
    most = settings.max_funding_rate
    return (
        Between("rate_extreme", "rate", low=-most, high=most),
        Between("interval_unknown", "interval_h", high=24.0, above=True),
    )


def _funding_now(settings: Quality) -> Rules:
    return (
        *_funding(settings),
        Between("mark_price_not_positive", "mark_price", above=True),
        Between("index_price_not_positive", "index_price", above=True),
        NotBelow("paid_before_quoted", "pays_at", "ts"),
    )


def _depth(_settings: Quality) -> Rules:
    return (
        OneOf("kind_unknown", "kind", ("spot", "perp")),
        Between("bid_not_positive", "bid", above=True),
        Between("ask_not_positive", "ask", above=True),
        NotBelow("book_crossed", "ask", "bid"),
        *(Between(f"{name}_negative", name) for name in ("bid_usd_10", "ask_usd_10", "bid_usd_50", "ask_usd_50")),
        NotBelow("bid_depth_shrinks", "bid_usd_50", "bid_usd_10"),
        NotBelow("ask_depth_shrinks", "ask_usd_50", "ask_usd_10"),
    )


def _long_short(_settings: Quality) -> Rules:
    return (OneOf("measure_unknown", "measure", MEASURES), Between("ratio_negative", "ratio"))


def _liquidations(_settings: Quality) -> Rules:
    return (Between("long_usd_negative", "long_usd"), Between("short_usd_negative", "short_usd"))


def _implied_vol(settings: Quality) -> Rules:
    # A venue's percent taken for a share is a hundred times too much.
    return (*_candle(), Between("volatility_extreme", "high", high=settings.max_implied_vol))


def _option_chain(settings: Quality) -> Rules:
    return (
        OneOf("option_type_unknown", "option_type", ("call", "put")),
        Between("strike_not_positive", "strike", above=True),
        NotBelow("already_expired", "expiry", "ts"),
        Between("volatility_extreme", "mark_iv", high=settings.max_implied_vol),
        Between("delta_out_of_range", "delta", low=-1.0, high=1.0),
        *(Between(f"{name}_negative", name) for name in ("mark_price", "gamma", "vega", "oi_base")),
        Between("theta_not_finite", "theta", low=-LARGEST),
        Between("underlying_not_positive", "underlying_price", above=True),
    )


def _figures(_settings: Quality) -> Rules:
    return (Between("value_not_finite", "value", low=-LARGEST),)


def _events(_settings: Quality) -> Rules:
    return (Between("importance_unknown", "importance", low=0, high=3),)


_OWN: Mapping[str, Callable[[Quality], Rules]] = MappingProxyType(
    {
        OHLCV.name: _ohlcv, OPEN_INTEREST.name: _open_interest, FUNDING.name: _funding, FUNDING_NOW.name: _funding_now,
        DEPTH.name: _depth, LONG_SHORT.name: _long_short, LIQUIDATIONS.name: _liquidations,
        IMPLIED_VOL.name: _implied_vol, OPTION_CHAIN.name: _option_chain, ONCHAIN.name: _figures,
        SENTIMENT.name: _figures, EVENTS.name: _events,
    }
)  # fmt: skip

"""From ratios to absolute target positions per market, as decimal strings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from oihedge.core.errors import DataError
from oihedge.core.types import MarketSpec, Position
from oihedge.hedge.limits import bounded
from oihedge.hedge.settings import Hedge
from oihedge.hedge.sizing import is_altcoin
from oihedge.hedge.split import ZERO, Key, Slot, VenueFacts, orders, shares, spread, weights

_RATIO_DECIMALS = 12
"""Float sums such as 0.3 + 0.55 = 0.8500000000000001 would else cost a lot."""
Mode = Literal["decided", "toward_baseline", "keep"]


@dataclass(frozen=True)
class Targets:
    """Absolute targets and what they aim at.

    Attributes:
        rows: one per market, ordered by asset, venue, symbol: venue, symbol, target_qty, current_qty, delta_qty,
            reference_price (None: not known), reduce_only, tag.
        aimed: hedge ratio of the hedged quantity that the rows aim at, by asset (None where nothing is to be hedged).
        current: the ratio that the positions make now, likewise.
        hedged: coins that are hedged, by asset: portfolio_share of the holding.
        reasons: why the rows are not what the ratios asked for, as `code:ASSET`.
    """

    rows: tuple[dict[str, Any], ...]
    aimed: dict[str, float | None]
    current: dict[str, float | None]
    hedged: dict[str, Decimal]
    reasons: tuple[str, ...]


def check_positions(positions: Sequence[Position], markets: Sequence[MarketSpec]) -> None:
    """Make sure that every market has its position, and every position its market.

    Raises:
        DataError: naming the market without a position (flat is an explicit 0), or the position without a market.
    """
    have, may = {(p.venue, p.symbol) for p in positions}, {(m.venue, m.symbol) for m in markets}
    if may - have:
        venue, symbol = min(may - have)
        raise DataError(f"positions lack {venue} {symbol}", expected="one entry per market; flat is an explicit 0")
    if have - may:
        venue, symbol = min(have - may)
        raise DataError(
            f"a position names {venue} {symbol}", expected="a market of the markets file", do="add it there"
        )


def portfolio_usd(prices: Mapping[str, float], settings: Hedge) -> float | None:
    """Return the spot holdings' notional; None while a price is missing."""
    values = [qty * prices.get(asset, math.nan) for asset, qty in settings.portfolio.quantities.items()]
    return sum(values) if all(math.isfinite(value) and value > 0 for value in values) else None


def build_targets(
    ratios: Mapping[str, float],
    prices: Mapping[str, float],
    positions: Sequence[Position],
    markets: Sequence[MarketSpec],
    settings: Hedge,
    *,
    tiers: Mapping[str, int] | None = None,
    facts: Sequence[VenueFacts] = (),
    mode: Mode = "decided",
) -> Targets:
    """Build the target of every market.

    Args:
        ratios: decided hedge ratio of the hedged quantity, by asset.
        prices: reference price by asset, quote per coin.
        positions: what is there; one per market.
        markets: lots, least notionals, ticks.
        settings: holdings and limits.
        tiers: by asset; tier 3 reports what stays open above `max_open_exposure`.
        facts: what speaks for and against venues.
        mode: `decided` aims at the ratios; `toward_baseline` shrinks only, and not below the baseline; `keep` leaves
            every position as it is.

    Returns:
        Targets whose shorts respect, after rounding, the share a venue may take of an asset's hedge, the notional of an
        order, and the gross notional over portfolio value (spot and cash). A position over its cap shrinks as fast as
        the order limit lets it. An asset that is not held is closed. Without a price or a ratio an asset keeps what
        is there.

    Raises:
        DataError: if positions and markets do not match.
    """
    check_positions(positions, markets)
    book = _Book(ratios, prices, {(p.venue, p.symbol): _decimal(p.qty) for p in positions}, markets, settings)
    built = [_of_asset(asset, book, tiers or {}, facts, mode) for asset in book.assets]
    return Targets(
        rows=tuple(row for rows, _, _ in built for row in rows),
        aimed={asset: _share(wanted, book.hedged[asset]) for asset, (_, wanted, _) in book.held(built)},
        current={
            asset: _share(book.short(asset), book.hedged[asset]) for asset in sorted(settings.portfolio.quantities)
        },
        hedged={asset: book.hedged[asset] for asset in sorted(settings.portfolio.quantities)},
        reasons=tuple(reason for _, _, reasons in built for reason in reasons),
    )


Built = tuple[list[dict[str, Any]], Decimal, list[str]]


class _Book:
    """Everything that building targets looks up."""

    def __init__(
        self, ratios: Mapping[str, float], prices: Mapping[str, float], positions: Mapping[Key, Decimal],
        markets: Sequence[MarketSpec], settings: Hedge,
    ) -> None:  # fmt: skip
        self.ratios, self.positions, self.settings = ratios, positions, settings
        self.markets = sorted(markets, key=lambda market: (market.asset, market.venue, market.symbol))
        self.assets = sorted({market.asset for market in markets} | set(settings.portfolio.quantities))
        share = _decimal(settings.portfolio_share)
        held = settings.portfolio.quantities
        self.hedged = {asset: _decimal(held.get(asset, 0.0)) * share for asset in self.assets}
        known = {asset: prices.get(asset, math.nan) for asset in self.assets}
        self.prices = {a: _decimal(price) for a, price in known.items() if math.isfinite(price) and price > 0}
        self.small = (total := portfolio_usd(prices, settings)) is not None and total < settings.min_portfolio_usd
        self.aims = {asset: self._aim(asset) for asset in self.assets}
        self.lever = self._leverage_factor()

    def of(self, asset: str) -> list[MarketSpec]:
        return [market for market in self.markets if market.asset == asset]

    def held(self, built: Sequence[Built]) -> list[tuple[str, Built]]:
        return [pair for pair in zip(self.assets, built, strict=True) if pair[0] in self.settings.portfolio.quantities]

    def short(self, asset: str) -> Decimal:
        return -sum((self.positions[market.venue, market.symbol] for market in self.of(asset)), ZERO)

    def can_move(self, asset: str) -> bool:
        """Whether there is a price, and a decision unless nothing is held."""
        decided = self.small or math.isfinite(self.ratios.get(asset, math.nan)) or not self.hedged[asset]
        return asset in self.prices and decided

    def must_shrink(self, asset: str) -> bool:
        """Whether a limit on the whole asset or portfolio is at work, so that no market may stay above its goal."""
        most = _decimal(self.settings.limits.max_ratio) * self.hedged[asset]
        return self.lever < 1 or self.short(asset) > most

    def _aim(self, asset: str) -> tuple[float, list[str]]:
        """Go from what is there a bounded step to the decided ratio, or to the baseline for a small portfolio."""
        ratio = self.settings.baseline if self.small else self.ratios.get(asset, math.nan)
        now = _share(self.short(asset), self.hedged[asset])
        if now is None or not math.isfinite(ratio):
            return (0.0 if now is None else now), []
        return bounded(ratio, now, self.settings, altcoin=is_altcoin(asset, self.settings), band=False)

    def _leverage_factor(self) -> Decimal:
        """What all shorts are scaled by so that their notional stays within max_leverage x (spot + cash)."""
        gross, value = ZERO, _decimal(self.settings.portfolio.cash)
        for asset, price in self.prices.items():
            gross += _decimal(self.aims[asset][0]) * self.hedged[asset] * price
            value += _decimal(self.settings.portfolio.quantities.get(asset, 0.0)) * price
        most = _decimal(self.settings.limits.max_leverage) * value
        return most / gross if gross > most else Decimal(1)


def _of_asset(asset: str, book: _Book, tiers: Mapping[str, int], facts: Sequence[VenueFacts], mode: Mode) -> Built:
    markets, now = book.of(asset), book.short(asset)
    if mode == "keep" or not markets or not book.can_move(asset):
        return [_row(market, book, ZERO) for market in markets], now, [] if markets else [f"no_market:{asset}"]
    wanted, reasons = _wanted(asset, book, mode)
    slots = _slots(asset, book, wanted, mode)
    weighed = weights(asset, [market.venue for market in markets], facts)
    ideal = shares({slot.key: weighed[slot.key[0]] for slot in slots}, book.settings.limits.max_venue_share)
    max_order = _decimal(book.settings.limits.max_order_notional)
    goals = spread(wanted, slots, ideal)
    changes, cut = orders(wanted, slots, goals, max_order, firm=book.must_shrink(asset))
    reasons += [f"limit_order_notional:{asset}"] if cut else []
    placed = now + sum(changes.values(), ZERO)
    reasons += _unmet(asset, book, wanted, placed, slots, tiers.get(asset, 0))
    return [_row(market, book, -changes[market.venue, market.symbol]) for market in markets], wanted, reasons


def _wanted(asset: str, book: _Book, mode: Mode) -> tuple[Decimal, list[str]]:
    aim, bounds = book.aims[asset]
    wanted = _decimal(round(aim, _RATIO_DECIMALS)) * book.hedged[asset]
    reasons = [f"{code}:{asset}" for code in bounds]
    if book.lever < 1 and book.hedged[asset]:
        wanted, reasons = wanted * book.lever, [*reasons, f"limit_leverage:{asset}"]
    if mode == "toward_baseline":
        now, floor = book.short(asset), _decimal(book.settings.baseline) * book.hedged[asset]
        wanted = max(min(wanted, now), floor) if now > floor else now
    return wanted, reasons


def _slots(asset: str, book: _Book, wanted: Decimal, mode: Mode) -> list[Slot]:
    slots, share = [], _decimal(book.settings.limits.max_venue_share)
    for market in book.of(asset):
        key, short = (market.venue, market.symbol), -book.positions[market.venue, market.symbol]
        cap = wanted * share
        if mode == "toward_baseline":
            cap = min(cap, max(short, ZERO))
        lot, least = _decimal(market.lot), _decimal(market.min_notional)
        slots.append(Slot(key, short, cap, lot, least, book.prices[asset]))
    return slots


def _unmet(asset: str, book: _Book, wanted: Decimal, placed: Decimal, slots: Sequence[Slot], tier: int) -> list[str]:
    """What the limits leave open, and what tier 3 leaves open of the full hedge."""
    hedged = book.hedged[asset]
    smallest = max(max(slot.lot for slot in slots), max(slot.min_notional for slot in slots) / book.prices[asset])
    short_of_wanted = wanted - placed > smallest
    open_share = 1 - placed / hedged if hedged else ZERO
    short_of_full = tier >= 3 and open_share > _decimal(book.settings.max_open_exposure)
    return [f"open_exposure:{asset}"] if short_of_wanted or short_of_full else []


def _row(market: MarketSpec, book: _Book, delta: Decimal) -> dict[str, Any]:
    current = book.positions[market.venue, market.symbol]
    target, price = current + delta, book.prices.get(market.asset)
    shrinks = abs(target) < abs(current) and target * current >= 0
    return {
        "venue": market.venue, "symbol": market.symbol,
        "target_qty": decimal_text(target, market.lot), "current_qty": decimal_text(current, market.lot),
        "delta_qty": decimal_text(delta, market.lot),
        "reference_price": None if price is None else f"{price:.{places(market.tick)}f}",
        "reduce_only": shrinks, "tag": "hedge",
    }  # fmt: skip


def _decimal(value: float) -> Decimal:
    return Decimal(str(value))


def _share(part: Decimal, whole: Decimal) -> float | None:
    return float(part / whole) if whole else None


def places(step: float) -> int:
    """Return the decimals that multiples of `step` have."""
    exponent = _decimal(step).normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def decimal_text(value: Decimal, step: float) -> str:
    """Write `value` with the decimals of `step`, with more only where it has more; zero has no sign."""
    exponent = value.normalize().as_tuple().exponent
    decimals = max(places(step), -exponent if isinstance(exponent, int) else 0)
    return f"{abs(value) if value == 0 else value:.{decimals}f}"

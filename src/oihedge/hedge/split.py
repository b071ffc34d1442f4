"""How one asset's short is spread over venues: caps that nothing crosses, and no more moving about than needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal

ZERO = Decimal(0)
Key = tuple[str, str]
_LEADER_WEIGHT = 0.5
_CARRY_SCALE = 0.001
"""A day's funding, less the fee, of 10 basis points above the venues' mean doubles what a venue is given (bounded)."""


@dataclass(frozen=True)
class VenueFacts:
    """What speaks for or against a venue for one asset.

    Attributes:
        funding_h: expected funding per hour (> 0 is received by the short); None: not known.
        taker_fee: fraction of notional.
        weight: how much the venue can take, relative to others (depth, volume or 1).
        leads: whether leverage concentrates there.
    """

    asset: str
    venue: str
    funding_h: float | None = None
    taker_fee: float = 0.0
    weight: float = 1.0
    leads: bool = False


@dataclass(frozen=True)
class Slot:
    """One market's room: `short` is what is short there now (negative: long), `cap` the most it may be, in coins."""

    key: Key
    short: Decimal
    cap: Decimal
    lot: Decimal
    min_notional: Decimal
    price: Decimal


def weights(asset: str, venues: Sequence[str], facts: Sequence[VenueFacts]) -> dict[str, float]:
    """Weigh venues by depth, by funding received over a day less the fee, and away from where leverage concentrates."""
    of_venue = {fact.venue: fact for fact in facts if fact.asset == asset}
    known = [of_venue.get(venue, VenueFacts(asset, venue)) for venue in venues]
    carry = [24 * (fact.funding_h or 0.0) - fact.taker_fee for fact in known]
    usual = sum(carry) / len(carry) if carry else 0.0
    return {
        fact.venue: max(fact.weight, 0.0)
        * min(max(1 + (gain - usual) / _CARRY_SCALE, 0.5), 2.0)
        * (_LEADER_WEIGHT if fact.leads else 1.0)
        for fact, gain in zip(known, carry, strict=True)
    }


def shares(weighed: Mapping[Key, float], most: float) -> dict[Key, float]:
    """Turn weights into shares of at most `most` each; what that cuts off is handed to the others while they can."""
    free, result, left = (
        {key: weight for key, weight in weighed.items() if weight > 0},
        dict.fromkeys(weighed, 0.0),
        1.0,
    )
    while free and left > 1e-12:
        total = sum(free.values())
        full = [key for key, weight in free.items() if left * weight / total >= most]
        for key in full or list(free):
            result[key] = most if full else left * free[key] / total
        if not full:
            break
        left -= most * len(full)
        free = {key: weight for key, weight in free.items() if key not in full}
    return result


def spread(wanted: Decimal, slots: Sequence[Slot], ideal: Mapping[Key, float]) -> dict[Key, Decimal]:
    """Place `wanted` coins of short over the slots, before lots.

    What is there stays where it is, within the caps; only the difference is placed, first where the ideal split is
    farthest off. So a changed split alone moves nothing, and few orders do the work.
    """
    goals = {slot.key: min(max(slot.short, ZERO), slot.cap) for slot in slots}
    rest = wanted - sum(goals.values(), ZERO)
    sign = 1 if rest >= 0 else -1
    aims = {slot.key: min(wanted * Decimal(str(round(ideal.get(slot.key, 0.0), 9))), slot.cap) for slot in slots}
    order = sorted(slots, key=lambda slot: (-sign * (aims[slot.key] - goals[slot.key]), slot.key))
    for within in (aims, {slot.key: slot.cap if sign > 0 else ZERO for slot in slots}):
        for slot in order:
            room = max(sign * (within[slot.key] - goals[slot.key]), ZERO)
            step = sign * min(room, abs(rest))
            goals[slot.key] += step
            rest -= step
    return goals


def orders(
    wanted: Decimal, slots: Sequence[Slot], goals: Mapping[Key, Decimal], max_notional: Decimal, *, firm: bool = False
) -> tuple[dict[Key, Decimal], bool]:
    """Turn goals into changes of short that venues take: whole lots, big enough, not too big.

    Rounding goes towards the smaller short, so no cap is crossed; what it leaves over goes to the finest lot with room.

    Args:
        wanted: coins to be short in all.
        slots: the markets.
        goals: coins per market, as `spread` placed them.
        max_notional: of one order.
        firm: whether no market may stay above its goal for want of a big enough order.

    Returns:
        Change of short by market, and whether the order limit cut one.
    """
    changes, cut = {}, False
    for slot in slots:
        change = _lots(goals[slot.key] - slot.short, slot)
        allowed = (max_notional / slot.price / slot.lot).to_integral_value(ROUND_FLOOR) * slot.lot
        if abs(change) > allowed:
            change, cut = allowed.copy_sign(change), True
        changes[slot.key] = _big_enough(change, slot, goals[slot.key] if firm else slot.cap)
    _top_up(wanted, slots, changes, max_notional)
    return changes, cut


def _lots(change: Decimal, slot: Slot) -> Decimal:
    whole = (change / slot.lot).to_integral_value(ROUND_FLOOR) * slot.lot
    overshoots = slot.short >= 0 and slot.short + whole < 0
    return -slot.short if overshoots else whole


def _big_enough(change: Decimal, slot: Slot, most: Decimal) -> Decimal:
    """Leave a change too small to order; a market above `most` shrinks by the least that can be ordered."""
    if change == 0 or abs(change) * slot.price >= slot.min_notional:
        return change
    if slot.short <= most:
        return ZERO
    least = -(-slot.min_notional / slot.price / slot.lot).to_integral_value(ROUND_FLOOR) * slot.lot
    return -min(least, slot.short)


def _top_up(wanted: Decimal, slots: Sequence[Slot], changes: dict[Key, Decimal], max_notional: Decimal) -> None:
    for slot in sorted(slots, key=lambda slot: (slot.lot, slot.key)):
        rest = wanted - sum((other.short + changes[other.key] for other in slots), ZERO)
        room = min(rest, slot.cap - slot.short - changes[slot.key])
        extra = (room / slot.lot).to_integral_value(ROUND_FLOOR) * slot.lot
        change = changes[slot.key] + extra
        big = change == 0 or abs(change) * slot.price >= slot.min_notional
        if extra > 0 and big and abs(change) * slot.price <= max_notional:
            changes[slot.key] = change

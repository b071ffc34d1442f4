"""The tier machine: up as soon as the signals say so, down one step at a time once all is calm."""

from __future__ import annotations

CALM, PARTIAL, ADDED, FULL = range(4)


def next_tier(tier: int, *, depth: int, confirmations: int, calm: bool, full_confirmations: int = 3) -> int:
    """Return the tier after one more hour.

    Args:
        tier: the tier so far, 0..3.
        depth: how far the deeper of divergence and p_unwind is in: 0 none, 1 entered, 2 deep, 3 extreme.
        confirmations: how many signals confirm.
        calm: whether divergence, funding and p_unwind have all normalised.
        full_confirmations: what tier 3 needs.

    Returns:
        1 on entry; 2 if deeper or with a second confirmation; 3 if extreme with at least `full_confirmations`. Never
        below `tier` while not calm; when calm one step down, to 0 at last.
    """
    called = _called(depth, confirmations, full_confirmations)
    if called >= tier:
        return called
    return max(tier - 1, called) if calm else tier


def _called(depth: int, confirmations: int, full_confirmations: int) -> int:
    if depth <= 0:
        return CALM
    if depth >= 3 and confirmations >= full_confirmations:
        return FULL
    return ADDED if depth >= 2 or confirmations >= 2 else PARTIAL

"""What is known ahead, as categories: the hour of the day, the weekday, and how near each macro event is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from oihedge.forecast.panel import Ints, Panel

HOURS, DAYS = 24, 7
THURSDAY = 3
"""The weekday of 1 January 1970, Monday being 0."""
EVENT_EDGES_H = (6.0, 24.0)
"""An event's category: further away than the last of these, or within which of them, before it or after it."""


@dataclass(frozen=True)
class Categories:
    """`codes` (rows, categories) of a panel's rows; code c of a category with `sizes` n is in 0 .. n - 1."""

    codes: Ints
    sizes: tuple[int, ...]


def no_categories(panel: Panel) -> Categories:
    """Return none for each row of `panel`."""
    return Categories(np.zeros((len(panel.hour), 0), dtype=np.int64), ())


def known_categories(panel: Panel, known: Sequence[str]) -> Categories:
    """Return hour of the day, weekday, and one more for each event that `known` counts the hours to and from.

    A row without the hours of an event counts as far from it; it lies outside every window that may be asked for.
    """
    columns = [panel.hour % HOURS, (panel.hour // HOURS + THURSDAY) % DAYS]
    columns += [_nearness(panel, event) for event in _events(known)]
    events = len(columns) - 2
    return Categories(np.column_stack(columns), (HOURS, DAYS, *(2 * len(EVENT_EDGES_H) + 1,) * events))


def _events(known: Sequence[str]) -> list[str]:
    """Name the events: `hours_to_` alone is a clock, such as that of the funding."""
    to = (name.removeprefix("hours_to_") for name in known if name.startswith("hours_to_"))
    return [name for name in to if f"hours_since_{name}" in known]


def _nearness(panel: Panel, event: str) -> Ints:
    """Return 0 far from an event, else which of the edges it is within, those after it following those before it."""
    to, since = panel.select((f"hours_to_{event}", f"hours_since_{event}")).T
    code = np.zeros(len(to), dtype=np.int64)
    for first, hours in ((1, to), (1 + len(EVENT_EDGES_H), since)):
        for place in reversed(range(len(EVENT_EDGES_H))):
            code[hours <= EVENT_EDGES_H[place]] = first + place
    return code

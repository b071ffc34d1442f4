"""The event behind p_unwind: open interest in coins first passes a fixed drop within the horizon."""

from __future__ import annotations

import numpy as np

from oihedge.forecast.panel import Floats, Ints, Mask, Panel


def barrier(drop: float) -> float:
    """Return the log change at which open interest has fallen by the share `drop`."""
    return float(np.log1p(-drop))


def unwind_labels(panel: Panel, horizon_h: int, drop: float) -> tuple[Mask, Mask]:
    """Label each row t: has OI, cumulated from its hourly log changes, fallen by `drop` at some hour in (t, t+H]?

    Returns:
        (label, complete), both (rows,): `label` is only meaningful where all H hours after t are there.
    """
    changes = panel.select(("log_oi",))[:, 0]
    complete = panel.run_after(np.isfinite(changes)) >= horizon_h
    label = np.zeros(len(changes), dtype=np.bool_)
    rows = np.flatnonzero(complete)
    if len(rows):
        label[rows] = lowest(_ahead(changes, rows, horizon_h)) <= barrier(drop)
    return label, complete


def lowest(changes: Floats) -> Floats:
    """Return the lowest cumulated log change over the last axis, (..., H) to (...)."""
    return np.asarray(np.cumsum(changes, axis=-1).min(axis=-1))


def _ahead(values: Floats, rows: Ints, horizon_h: int) -> Floats:
    return np.asarray(values[rows[:, None] + np.arange(1, horizon_h + 1)])

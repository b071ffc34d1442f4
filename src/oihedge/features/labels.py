"""The label of p_unwind: does open interest fall through a level within the horizon?"""

from __future__ import annotations

import math

import numpy as np
import polars as pl
from numpy.typing import NDArray


def unwind_label(features: pl.DataFrame, horizon_h: int, drop: float) -> pl.DataFrame:
    """Label each row with the first passage of open interest, in coins, through 1 - drop.

    The path is chained from `log_oi`, so each hour's basket is fixed and a venue that enters or leaves does not count
    as a change.

    Args:
        features: asset, ts and log_oi, hourly without holes per asset.
        horizon_h: hours ahead that count: (ts, ts + horizon_h].
        drop: the fall that counts, as a share: 0.10 labels paths that touch 90 %.

    Returns:
        asset, ts, unwind (bool); null where a log_oi inside the horizon is missing. These rows look ahead: they are
        targets, never inputs.
    """
    parts = []
    for (asset,), rows in (
        features.select("asset", "ts", "log_oi").sort("asset", "ts").group_by("asset", maintain_order=True)
    ):
        lowest = _lowest(rows["log_oi"].cast(pl.Float64).to_numpy().astype(np.float64), horizon_h)
        complete = pl.Series("complete", ~np.isnan(lowest))
        fell = pl.Series("fell", lowest <= math.log1p(-drop) if drop < 1 else np.isneginf(lowest))
        unwind = pl.when(complete).then(fell).alias("unwind")
        parts.append(rows.select(pl.lit(asset).cast(pl.String).alias("asset"), "ts", unwind))
    if not parts:
        return features.select("asset", "ts", pl.lit(None, pl.Boolean).alias("unwind"))
    return pl.concat(parts)


def _lowest(steps: NDArray[np.float64], horizon_h: int) -> NDArray[np.float64]:
    """Return the lowest point of the chained path over the next `horizon_h` steps; NaN where one is missing."""
    rows = len(steps)
    path, lowest = np.zeros(rows), np.full(rows, np.inf)
    for ahead in range(1, horizon_h + 1):
        step = np.full(rows, np.nan)
        step[: max(rows - ahead, 0)] = steps[ahead:]
        path += step
        lowest = np.minimum(lowest, path)
    return lowest

"""The forecast frame that every model returns, and the instants it may be asked for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import polars as pl

from oihedge.core.clock import iso
from oihedge.core.errors import DataError, ModelError
from oihedge.core.forecasts import LEAST, quantile_column
from oihedge.core.tables import UTC_TIME
from oihedge.forecast.panel import Floats, Ints, Panel, hour_of

_HOUR_US = 3_600_000_000


def quantile_columns(targets: Sequence[str], levels: Sequence[float]) -> list[str]:
    """Return the columns of a forecast's quantiles: log_return_q02 ..., then log_oi_q02 ..."""
    return [quantile_column(target, level) for target in targets for level in levels]


def wanted_rows(panel: Panel, known: Sequence[str], shape: tuple[int, int], at: Sequence[datetime] | None) -> Ints:
    """Return the panel rows to forecast at, by asset and time.

    Args:
        panel: the feature rows.
        known: columns that must be there for each of the hours ahead.
        shape: encoder and horizon hours.
        at: the instants asked for; every usable row when None. An (instant, asset) without enough unbroken history is
            left out of the forecast.

    Raises:
        DataError: if nothing asked for can be forecast, or rows with the known columns of the hours ahead are missing.
    """
    encoder, horizon = shape
    history = panel.run_until(panel.complete(panel.columns)) >= encoder
    ahead = panel.run_after(panel.complete(known)) >= horizon if known else np.ones(len(history), dtype=np.bool_)
    if at is None:
        rows = np.flatnonzero(history & ahead)
        if not len(rows):
            raise DataError("no instant can be forecast", expected=_needs(shape), got=_why(panel, None))
        return rows
    asked = np.isin(panel.hour, [hour_of(instant) for instant in at]) & history
    short = np.flatnonzero(asked & ~ahead)
    if len(short):
        row = int(short[0])
        raise DataError(
            f"feature rows ahead of {_when(panel, row)} are missing for {panel.assets[panel.asset[row]]}",
            expected=f"{horizon} more hourly rows with {', '.join(known)}",
            got=f"{int(panel.run_after(panel.complete(known))[row])}",
            do="append the rows of the hours ahead with their known columns filled",
        )
    if not asked.any():
        got = _why(panel, hour_of(at[-1]) if len(at) else None)
        raise DataError("none of the instants asked for can be forecast", expected=_needs(shape), got=got)
    return np.flatnonzero(asked)


def forecast_frame(
    panel: Panel, rows: Ints, quantiles: Floats, targets: Sequence[str], levels: Sequence[float], p_unwind: Floats,
    base_rate: float,
) -> pl.DataFrame:  # fmt: skip
    """Lay forecasts out as one row per asset, instant and step.

    Args:
        panel: where `rows` point.
        rows: (forecasts,).
        quantiles: (forecasts, targets, steps, levels), rising along the last axis, in the targets' units; where they
            lie below what a target can be, the least it can be is told.
        targets: their names.
        levels: probabilities of the quantiles.
        p_unwind: (forecasts,).
        base_rate: share of unwinds among the training instants of all assets.
    """
    count, _, steps, _ = quantiles.shape
    floor = np.array([LEAST.get(target, -np.inf) for target in targets])
    values = np.maximum(quantiles, floor[:, None, None]).transpose(0, 2, 1, 3).reshape(count * steps, -1)
    names = np.array(panel.assets, dtype=object)[panel.asset[rows]]
    return pl.DataFrame(
        {
            "asset": pl.Series(np.repeat(names, steps), dtype=pl.String),
            "ts": pl.Series(np.repeat(panel.hour[rows] * _HOUR_US, steps)).cast(UTC_TIME),
            "step": np.tile(np.arange(1, steps + 1, dtype=np.int64), count),
            "p_unwind": np.repeat(p_unwind, steps),
            "p_unwind_base": np.full(count * steps, base_rate),
            **{name: values[:, i] for i, name in enumerate(quantile_columns(targets, levels))},
        }
    )


def at_horizon(forecasts: pl.DataFrame, horizon_h: int) -> pl.DataFrame:
    """Return the rows of a forecast at its last step, which carry the p_unwind of `horizon_h`.

    Raises:
        ModelError: if the model was trained for another horizon, whose p_unwind is of another event.
    """
    trained = forecasts.select(pl.col("step").max()).item()
    if trained != horizon_h:
        raise ModelError(
            "the model was trained for another horizon",
            expected=f"{horizon_h} h ahead, as forecast.horizon_h says",
            got=f"{trained} h",
            do="retrain, or set forecast.horizon_h back",
        )
    return forecasts.filter(pl.col("step") == horizon_h)


def _needs(shape: tuple[int, int]) -> str:
    return f"{shape[0]} unbroken hourly rows up to it and {shape[1]} rows ahead with the known columns"


def _when(panel: Panel, row: int) -> str:
    return iso(datetime.fromtimestamp(int(panel.hour[row]) * 3600, tz=UTC))


def _why(panel: Panel, hour: int | None) -> str:
    """Name the first thing that is missing at `hour` (at the newest row when None)."""
    if not len(panel.hour):
        return "no feature row"
    rows = np.flatnonzero(panel.hour == (panel.hour.max() if hour is None else hour))
    if not len(rows):
        return f"rows from {_when(panel, int(panel.hour.argmin()))} to {_when(panel, int(panel.hour.argmax()))}"
    row = int(rows[0])
    empty = [name for name, value in zip(panel.columns, panel.values[row], strict=True) if not np.isfinite(value)]
    asset = panel.assets[panel.asset[row]]
    if empty:
        return f"no value of {empty[0]} for {asset} at {_when(panel, row)}"
    return (
        f"{int(panel.run_until(panel.complete(panel.columns))[row])} unbroken rows of {asset} up to {_when(panel, row)}"
    )

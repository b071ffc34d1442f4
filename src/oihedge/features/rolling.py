"""Rolling statistics whose value at a row depends on that row's window alone, bit for bit.

Running sums (Polars' and pandas' rolling means) carry rounding on from wherever the input starts. Here every window is
summed from its newest value to its oldest, one lag at a time over whole columns, so the order of additions is the same
wherever the data begin.

For the same reason no feature divides a column by a literal: Polars multiplies by the reciprocal, except in chunks of
one row, where it divides. Where chunks end depends on the input.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray

Array = NDArray[np.float64]
MIN_SHARE = 0.5
"""Statistics that live with gaps need this share of their window; the others need all of it."""


def total(column: pl.Expr, window: int) -> pl.Expr:
    """Sum `column` over the last `window` rows; null unless all of them are there."""
    return _over(column, lambda values: _total(values, window))


def mean(column: pl.Expr, window: int) -> pl.Expr:
    """Average what is there of the last `window` rows; null below half of them."""
    return _over(column, lambda values: _mean(values, window))


def highest(column: pl.Expr, window: int) -> pl.Expr:
    """Return the largest of the last `window` rows; null below half of them."""
    return _over(column, lambda values: _highest(values, window))


def z_score(column: pl.Expr, window: int) -> pl.Expr:
    """Return the distance to the mean of the last `window` rows in their standard deviations.

    A window that does not vary gives 0 (funding rests at its floor for weeks); null below half a window.
    """
    return _over(column, lambda values: _z_score(values, window))


def rank(column: pl.Expr, window: int) -> pl.Expr:
    """Return the share (0 .. 1) of the `window` rows before that lie below this one; null below half of them."""
    return _over(column, lambda values: _rank(values, window))


def _over(column: pl.Expr, statistic: Callable[[Array], Array]) -> pl.Expr:
    def apply(series: pl.Series) -> pl.Series:
        values = series.cast(pl.Float64).to_numpy().astype(np.float64)
        return pl.Series(series.name, statistic(values), dtype=pl.Float64).fill_nan(None)

    return column.map_batches(apply, return_dtype=pl.Float64)


def _lags(values: Array, first: int, last: int) -> range:
    return range(first, min(last, len(values) - 1) + 1)


def _total(values: Array, window: int) -> Array:
    result = np.zeros(len(values))
    for lag in _lags(values, 0, window - 1):
        result[lag:] += values[: len(values) - lag]
    result[: window - 1] = np.nan
    return result


def _present(values: Array, window: int) -> tuple[NDArray[np.bool_], Array]:
    """Return which values are there, and how many of them each window holds (NaN below the share needed)."""
    there = ~np.isnan(values)
    count = np.zeros(len(values))
    for lag in _lags(values, 0, window - 1):
        count[lag:] += there[: len(values) - lag]
    count[count < max(1.0, MIN_SHARE * window)] = np.nan
    return there, count


def _mean(values: Array, window: int) -> Array:
    there, count = _present(values, window)
    filled, result = np.where(there, values, 0.0), np.zeros(len(values))
    for lag in _lags(values, 0, window - 1):
        result[lag:] += filled[: len(values) - lag]
    return result / count


def _highest(values: Array, window: int) -> Array:
    _, count = _present(values, window)
    result = values.copy()
    for lag in _lags(values, 1, window - 1):
        np.fmax(result[lag:], values[: len(values) - lag], out=result[lag:])
    result[np.isnan(count)] = np.nan
    return result


def _z_score(values: Array, window: int) -> Array:
    there, count = _present(values, window)
    centre = _mean(values, window)
    squares = np.zeros(len(values))
    for lag in _lags(values, 0, window - 1):
        apart = values[: len(values) - lag] - centre[lag:]
        squares[lag:] += np.where(there[: len(values) - lag], apart * apart, 0.0)
    spread = np.sqrt(squares / count)
    varies = spread > 1e-9 * np.abs(centre) + 1e-300
    score = (values - centre) / np.where(varies, spread, 1.0)
    return np.where(varies | np.isnan(score), score, 0.0)


def _rank(values: Array, window: int) -> Array:
    below, count = np.zeros(len(values)), np.zeros(len(values))
    for lag in _lags(values, 1, window):
        earlier = values[: len(values) - lag]
        below[lag:] += earlier < values[lag:]
        count[lag:] += ~np.isnan(earlier)
    enough = (count >= max(1.0, MIN_SHARE * window)) & ~np.isnan(values)
    return np.where(enough, below / np.where(enough, count, 1.0), np.nan)

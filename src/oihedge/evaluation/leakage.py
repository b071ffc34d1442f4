"""Look-ahead probes: change the future, and nothing decided or forecast before it may change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

import numpy as np
import polars as pl

from oihedge.core.errors import DataError

Predict = Callable[[pl.DataFrame, Sequence[datetime]], pl.DataFrame]
DecideOn = Callable[[pl.DataFrame], pl.DataFrame]

TOLERANCE = 1e-6


def leakage_probe(
    features: pl.DataFrame,
    at: Sequence[datetime],
    *,
    predict: Predict | None = None,
    decide: DecideOn | None = None,
    known: Sequence[str] = (),
    seed: int = 0,
) -> int:
    """Count the probes in which rows after an instant changed what was forecast or decided up to it.

    At each instant the future is once perturbed (every float column but `known`) and once cut off; a probe fails
    where a value at or before the instant moves by more than 1e-6, appears or vanishes.

    Args:
        features: asset, ts and feature columns.
        at: instants to probe, with rows on both sides.
        predict: a model's predict(features, instants).
        decide: feature rows to a policy's rows (asset, ts, ratio, ...), its forecasts fixed inside.
        known: columns that are rightly known ahead: the calendar and the funding clock.
        seed: of the perturbation.

    Raises:
        DataError: if an instant has no row after it or nothing is answered there: the probe would prove nothing.
    """
    rng, failed = np.random.default_rng(seed), 0
    for instant in at:
        past = features.filter(pl.col("ts") <= instant)
        if past.is_empty() or past.height == features.height:
            raise DataError("a leakage probe needs rows on both sides", got=instant.isoformat())
        altered = pl.concat([past, _perturbed(features.filter(pl.col("ts") > instant), known, rng)])
        for work in _works(predict, decide, instant):
            truth = work(features)
            if truth.is_empty():
                raise DataError("a leakage probe needs an answer to compare with", got=f"none at {instant.isoformat()}")
            failed += sum(not _same(truth, work(other)) for other in (altered, past))
    return failed


def _works(predict: Predict | None, decide: DecideOn | None, instant: datetime) -> list[DecideOn]:
    works: list[DecideOn] = []
    if predict is not None:
        works.append(lambda rows: predict(rows, [instant]))
    if decide is not None:
        works.append(lambda rows: decide(rows).filter(pl.col("ts") <= instant))
    return works


def _perturbed(rows: pl.DataFrame, known: Sequence[str], rng: np.random.Generator) -> pl.DataFrame:
    floats = [name for name, dtype in rows.schema.items() if dtype.is_float() and name not in known]
    return rows.with_columns(
        # Prices and levels stay positive, so that what is probed is the use of the future, not its validation.
        (pl.col(name) * pl.Series(name, rng.uniform(0.5, 2.0, rows.height))).alias(name)
        for name in floats
    )


def _same(one: pl.DataFrame, other: pl.DataFrame) -> bool:
    keys = [name for name in ("asset", "ts", "step") if name in one.columns]
    numbers = [name for name, dtype in one.schema.items() if dtype.is_numeric() and name not in keys]
    if set(one.columns) != set(other.columns) or one.height != other.height:
        return False
    left, right = one.sort(keys), other.sort(keys)
    if not left.select(keys).equals(right.select(keys)):
        return False
    a, b = (frame.select(pl.col(numbers).cast(pl.Float64)).to_numpy() for frame in (left, right))
    return bool(np.allclose(a, b, rtol=0, atol=TOLERANCE, equal_nan=True))

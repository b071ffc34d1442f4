"""Feature rows as one dense hourly matrix: what every model of this room reads.

Rows of one asset follow each other hour by hour without a hole; a missing hour or value is NaN there and never filled,
so that a window is usable exactly when all its cells are numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from oihedge.core.clock import iso
from oihedge.core.errors import DataError, SchemaError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_HOUR_US = 3_600_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Roles(Protocol):
    """Which feature columns a model reads: `known` ahead of time (calendar, funding clock) and `unknown`."""

    @property
    def known(self) -> tuple[str, ...]:
        """Columns whose values are known for the hours ahead."""
        ...

    @property
    def unknown(self) -> tuple[str, ...]:
        """Columns known only up to the instant of the forecast."""
        ...


def input_columns(roles: Roles, targets: Sequence[str]) -> tuple[str, ...]:
    """Return the model's inputs in order: known, unknown, and the targets' own history where `unknown` lacks it."""
    return tuple(dict.fromkeys([*roles.known, *roles.unknown, *targets]))


@dataclass(frozen=True)
class Panel:
    """Hourly values, assets stacked one after the other.

    `values` (rows, columns) with NaN for missing; `asset` (rows,) index into `assets`; `hour` (rows,) hours since 1970.
    """

    assets: tuple[str, ...]
    columns: tuple[str, ...]
    values: Floats
    asset: Ints
    hour: Ints

    def select(self, names: Sequence[str]) -> Floats:
        """Return the columns `names` as (rows, names)."""
        return self.values[:, [self.columns.index(name) for name in names]]

    def complete(self, names: Sequence[str]) -> Mask:
        """Tell per row whether every column in `names` is a number."""
        return np.asarray(np.isfinite(self.select(names)).all(axis=1))

    def run_until(self, good: Mask) -> Ints:
        """Count, per row, the unbroken good rows of its asset that end with it."""
        rows = np.arange(len(good))
        first = np.append(True, self.asset[1:] != self.asset[:-1]) if len(good) else np.zeros(0, bool)
        broken = np.where(~good, rows, np.where(first, rows - 1, -1))
        return np.asarray(rows - np.maximum.accumulate(broken), dtype=np.int64)

    def run_after(self, good: Mask) -> Ints:
        """Count, per row, the unbroken good rows of its asset that follow it."""
        flipped = Panel(self.assets, self.columns, self.values[:0], self.asset[::-1], self.hour[::-1])
        here = flipped.run_until(good[::-1])[::-1]
        same = np.append(self.asset[1:] == self.asset[:-1], False)
        return np.where(same, np.append(here[1:], 0), 0)


def hour_of(instant: datetime) -> int:
    """Return the whole hours from 1970 to `instant`.

    Raises:
        DataError: if `instant` is not on the hour.
    """
    since = instant.astimezone(UTC) - _EPOCH
    if since % timedelta(hours=1):
        raise DataError(f"no feature row can stand at {iso(instant)}", expected="an instant on the hour")
    return since // timedelta(hours=1)


def build_panel(features: pl.DataFrame, columns: Sequence[str], assets: Sequence[str] | None = None) -> Panel:
    """Lay feature rows out as a `Panel`.

    Args:
        features: rows (asset, ts, columns...); null, NaN and infinity all become NaN.
        columns: the columns to keep, numeric.
        assets: the assets a model knows, in its order; all in `features`, sorted, when None.

    Raises:
        SchemaError: if a column is missing or not numeric, or `ts` carries no zone.
        DataError: if a row is of an unknown asset, stands off the hour, or is there twice.
    """
    keyed = _keyed(features, columns)
    runs = keyed["asset"].rle().struct.unnest()
    found, ends = runs["value"].to_list(), runs["len"].cum_sum().to_list()
    known = tuple(sorted(found)) if assets is None else tuple(assets)
    strange = [name for name in found if name not in known]
    if strange:
        raise DataError(
            f"asset {strange[0]!r} was not in the training rows",
            expected=f"one of {', '.join(known)}",
            do="retrain with it or leave its rows out",
        )
    hours, values = keyed["hour_"].to_numpy(), keyed.select(columns).to_numpy()
    of = {name: slice(start, end) for name, start, end in zip(found, [0, *ends], ends, strict=False)}
    parts = [_lay_out(hours[own], values[own]) for own in (of.get(name, slice(0)) for name in known)]
    return Panel(
        assets=known,
        columns=tuple(columns),
        values=np.concatenate([values for values, _ in parts]) if parts else np.zeros((0, len(columns))),
        asset=np.repeat(np.arange(len(known)), [len(hours) for _, hours in parts]).astype(np.int64),
        hour=np.concatenate([hours for _, hours in parts]) if parts else np.zeros(0, np.int64),
    )


def _keyed(features: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Return asset, ts, hour_ and the columns as numbers, in the order of asset and hour."""
    _check_columns(features.schema, columns)
    for name, other in (("asset", "ts"), ("ts", "asset")):
        if features[name].null_count():
            row = features.filter(pl.col(name).is_null()).row(0, named=True)
            raise DataError(f"a feature row has no {name}", got=f"one whose {other} is {row[other]}")
    since = pl.col("ts").dt.convert_time_zone("UTC").dt.epoch("us")
    numbers = (pl.col(name).cast(pl.Float64) for name in columns)
    hours = {"hour_": since // _HOUR_US, "off_": since % _HOUR_US != 0}
    keyed = features.select("asset", "ts", *numbers, **hours).sort("asset", "hour_")
    asset, hour = keyed["asset"], keyed["hour_"]
    again = (asset == asset.shift()) & (hour == hour.shift())
    for wrong, what in ((keyed["off_"], "is not on the hour"), (again, "is there more than once")):
        if wrong.any():
            row = keyed.row(wrong.arg_true()[0], named=True)
            raise DataError(f"feature row of {row['asset']} at {row['ts']} {what}")
    return keyed


def _check_columns(schema: pl.Schema, columns: Sequence[str]) -> None:
    missing = [name for name in ("asset", "ts", *columns) if name not in schema]
    if missing:
        raise SchemaError(
            f"feature rows lack column {missing[0]!r}",
            expected=", ".join(("asset", "ts", *columns)),
            got=", ".join(schema),
        )
    for name in columns:
        if not (schema[name].is_numeric() or schema[name] in (pl.Boolean, pl.Null)):
            raise SchemaError(f"feature column {name!r} is not numeric", got=str(schema[name]))
    kind = schema["ts"]
    if not (isinstance(kind, pl.Datetime) and kind.time_zone is not None):
        raise SchemaError("feature column 'ts' has no time zone", expected="UTC time stamps", got=str(kind))


def _lay_out(hours: Ints, values: Floats) -> tuple[Floats, Ints]:
    if not len(hours):
        return np.zeros((0, values.shape[1])), np.zeros(0, np.int64)
    grid = np.full((int(hours[-1] - hours[0]) + 1, values.shape[1]), np.nan)
    grid[hours - hours[0]] = np.where(np.isfinite(values), values, np.nan)
    return grid, np.arange(hours[0], hours[-1] + 1, dtype=np.int64)


def refuse_bad_numbers(features: pl.DataFrame, columns: Sequence[str]) -> None:
    """Refuse NaN, infinity and columns without a single value, per asset; leading rows may be anything.

    Leading means before the asset's first row whose columns are all numbers: windows still warming up.

    Raises:
        DataError: naming asset, column and the first bad instant.
    """
    read = features.select("asset", "ts", *columns).sort("asset", "ts")
    for (asset,), rows in read.group_by("asset", maintain_order=True):
        empty = [name for name in columns if rows[name].null_count() == rows.height]
        if empty:
            raise DataError(f"feature column {empty[0]!r} of {asset} has no value at all", do="check its inputs")
        finite = [pl.col(name).cast(pl.Float64).is_finite() for name in columns]
        warm = rows.select(pl.all_horizontal(part.fill_null(False) for part in finite).arg_max()).item()
        bad = rows[int(warm or 0) :].select("ts", *(~part.fill_null(True) for part in finite))
        for name in columns:
            if bad[name].any():
                at = bad.filter(pl.col(name))["ts"][0]
                raise DataError(
                    f"feature column {name!r} of {asset} is NaN or infinite at {at}", expected="a number or null"
                )

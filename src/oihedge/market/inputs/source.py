"""What a source is: how it is asked, how it wants its key, and how its daily values become rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

import polars as pl

from oihedge.core.clock import EARLIEST, LATEST
from oihedge.core.errors import OihedgeError, VenueError, one_line
from oihedge.core.tables import UTC_TIME, conform, table
from oihedge.market.inputs.settings import InputSource, SourceName
from oihedge.market.web import Web

DAY = timedelta(days=1)
_SHAPE = (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError)


class Point(NamedTuple):
    """A source's value of one day; None where it has none."""

    asset: str
    metric: str
    at: datetime
    value: float | None


@dataclass(frozen=True)
class Part:
    """What one question covers: our assets to the source's names, and metrics, for days in [start, end)."""

    assets: Mapping[str, str]
    metrics: tuple[str, ...]
    start: datetime
    end: datetime

    def __str__(self) -> str:
        """Return the asset and metric if there is one of them, else `all`."""
        names = [next(iter(many)) if len(many) == 1 else "all" for many in (self.assets, self.metrics)]
        return " ".join(names)


@dataclass(frozen=True)
class Source:
    """One source of daily values.

    `read` asks it for one part; `each` says whether a part is everything, one asset, or one asset and metric; `header`
    makes the header that carries the key, None where no key is needed.
    """

    name: SourceName
    table: Literal["onchain", "sentiment"]
    each: Literal["all", "asset", "series"]
    read: Callable[[Web, InputSource, Part], Iterable[Point]]
    header: Callable[[str], dict[str, str]] | None = None

    @property
    def needs_key(self) -> bool:
        """Whether it answers only to a key."""
        return self.header is not None

    def fetch(
        self, web: Web, settings: InputSource, start: datetime, end: datetime, now: datetime
    ) -> Iterator[pl.DataFrame | OihedgeError]:
        """Ask for the days in [start, end), part by part.

        Yields:
            Rows of the source's table that were known at `now` (source, asset, metric, ts, value, unit, available_at),
            or the error of a part that could not be read; a refused key (401, 402, 403) ends it.
        """
        for part in self._parts(settings, start, end):
            try:
                points = list(self.read(web, settings, part))
                yield self._rows(points, settings, part, now)
            except _SHAPE as error:
                field = f" (no field {one_line(error)})" if isinstance(error, KeyError) else ""
                yield VenueError(f"{self.name} {part}: the answer has another shape{field}")
            except OihedgeError as error:
                yield error
                if getattr(error, "status", 0) in (401, 402, 403):
                    return

    def _parts(self, settings: InputSource, start: datetime, end: datetime) -> Iterator[Part]:
        metrics = tuple(settings.metrics)
        if self.each == "all":
            yield Part(settings.assets, metrics, start, end)
            return
        for asset, name in settings.assets.items():
            for chosen in [metrics] if self.each == "asset" else [(metric,) for metric in metrics]:
                yield Part({asset: name}, chosen, start, end)

    def _rows(self, points: Iterable[Point], settings: InputSource, part: Part, now: datetime) -> pl.DataFrame:
        found = [point for point in points if point.value is not None]
        if strange := {p.asset for p in found} - set(part.assets) or {p.metric for p in found} - set(part.metrics):
            raise VenueError(f"{self.name} {part}: the answer holds {len(strange)} series that were not asked for")
        frame = pl.DataFrame(
            {
                "asset": [point.asset for point in found],
                "metric": [point.metric for point in found],
                "at": pl.Series([point.at for point in found], dtype=UTC_TIME),
                "value": pl.Series([point.value for point in found], dtype=pl.Float64),
            },
            schema_overrides={"asset": pl.String, "metric": pl.String},
        )
        published = pl.col("ts") + DAY + timedelta(hours=settings.delay_h)
        rows = frame.sort("at", maintain_order=True).with_columns(ts=pl.col("at").dt.truncate("1d"))
        rows = rows.unique(["asset", "metric", "ts"], keep="last", maintain_order=True).with_columns(
            source=pl.lit(self.name),
            unit=pl.col("metric").replace_strict(settings.metrics, return_dtype=pl.String),
            available_at=published,
        )
        known = rows.filter(pl.col("ts").is_between(part.start, part.end, closed="left"), published <= now)
        if settings.history == "from_now":
            known = known.with_columns(available_at=pl.lit(now, dtype=UTC_TIME))
        return conform(known, table(self.table), stamps=False)


def number(value: Any) -> float | None:
    """Return a number that came as such or as text; null and blank are None.

    Raises:
        ValueError: if it is neither, or not finite.
    """
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str) or (isinstance(value, str) and "_" in value):
        raise ValueError("no number")
    result = float(value)
    if not math.isfinite(result):
        raise ValueError("no finite number")
    return result


def instant(value: Any) -> datetime:
    """Return the instant of seconds since 1970 or of ISO text, which means UTC where it tells no zone.

    Raises:
        ValueError: if it is neither, or far from any market's days.
    """
    if isinstance(value, str) and not value.isdigit():
        text = value.replace("Z", "+00:00")
        head, dot, tail = text.partition(".")  # Coin Metrics sends nanoseconds
        digits = len(tail) - len(tail.lstrip("0123456789"))
        parsed = datetime.fromisoformat(head + (dot + tail[: min(digits, 6)] + tail[digits:] if dot else ""))
        moment = parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    elif isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("no instant")
    else:
        moment = datetime.fromtimestamp(int(value), UTC)
    if not EARLIEST <= moment < LATEST:
        raise ValueError("an instant of no market")
    return moment


def listed(value: Any) -> list[dict[str, Any]]:
    """Return `value` if it is a list of objects.

    Raises:
        TypeError: if it is not.
    """
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise TypeError("no list of objects")
    return value

"""Calendars of dated events, kept by the user as YAML: one file a series."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Any, Self
from zoneinfo import ZoneInfo

import polars as pl
import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from oihedge.core.errors import ConfigError, DataError
from oihedge.core.settings import Instant, Settings
from oihedge.core.tables import EVENTS, UTC_TIME, conform
from oihedge.market.plain_yaml import plain_yaml

WITHDRAWN = 0
"""The importance of an event that was in a calendar and is no more."""
ASSUMED = "assumed"
"""The column that says whether available_at is the start of the event's year, for want of a date told."""


Published = Annotated[Instant | date, Field(union_mode="left_to_right")]
"""When a date was published: an instant with its zone, or a day, at whose end it counts as known."""


class Dated(Settings):
    """One event whose date was published apart from its year's calendar."""

    on: date
    known: Published


class Calendar(Settings):
    """One series of events, each at the same hour of its day."""

    name: str = Field(min_length=1)
    source: str = Field(min_length=1)
    """Who publishes the dates."""
    importance: Annotated[int, Field(ge=1, le=3)]
    time: str
    """Hour of the day, HH:MM, in `zone`."""
    zone: str
    dates: dict[int, tuple[date, ...]] = Field(default_factory=dict)
    """Year: its dates; known from the start of their year, unless `known` says when they were published. One that is
    added once the series is in the lake is known from then on, see `as_seen`; models that read calendars ahead
    (features.events) have no lake to ask, so what was set within its year belongs under `moved`, with its day."""
    known: dict[int, Published] = Field(default_factory=dict)
    moved: tuple[Dated, ...] = ()
    """Dates that were set later."""

    @field_validator("time")
    @classmethod
    def _an_hour(cls, text: str) -> str:
        time.fromisoformat(text)
        return text

    @field_validator("zone")
    @classmethod
    def _a_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ValueError, OSError, LookupError):
            raise ValueError(f"zone {name!r} is not known, expected e.g. Europe/London") from None
        return name

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        every = [day for days in self.dates.values() for day in days] + [one.on for one in self.moved]
        if not every:
            raise ValueError("a calendar needs dates")
        for year, days in self.dates.items():
            if wrong := [day for day in days if day.year != year]:
                raise ValueError(f"dates.{year} holds {wrong[0]}")
        if len(set(every)) < len(every):
            raise ValueError("a date stands twice")
        if late := [one.on for one in self.moved if _day(one.known, ZoneInfo(self.zone)) > one.on]:
            raise ValueError(f"moved: {late[0]} was not known before it came")
        return self

    def rows(self) -> list[dict[str, Any]]:
        """Return one row an event: source, name, ts, importance, available_at, and whether that is ASSUMED."""
        hour, zone = time.fromisoformat(self.time), ZoneInfo(self.zone)
        dated = [(day, self.known.get(day.year)) for days in self.dates.values() for day in days]
        dated += [(one.on, one.known) for one in self.moved]
        told = {"source": self.source, "name": self.name, "importance": self.importance}
        return [
            {
                **told,
                "ts": datetime.combine(day, hour, zone).astimezone(UTC),
                "available_at": _since(known, zone) if known else datetime(day.year, 1, 1, tzinfo=UTC),
                ASSUMED: known is None,
            }
            for day, known in dated
        ]


def _day(known: date, zone: ZoneInfo) -> date:
    return known.astimezone(zone).date() if isinstance(known, datetime) else known


def _since(known: date, zone: ZoneInfo) -> datetime:
    """Return the instant told, or the end of the day told: at the place and in UTC, for nobody says which was meant."""
    if isinstance(known, datetime):
        return known.astimezone(UTC)
    end = known + timedelta(days=1)
    return max(datetime.combine(end, time(), place).astimezone(UTC) for place in (zone, UTC))


def read_events(folder: Path) -> pl.DataFrame:
    """Read every calendar in `folder`.

    Returns:
        Rows of `events` with available_at and ASSUMED, sorted by key; none if the folder holds no *.yaml.

    Raises:
        ConfigError: naming the file and the key that is wrong.
        DataError: if the folder is not there.
    """
    if not folder.is_dir():
        raise DataError(f"event calendars {folder} are not there", do="set market.inputs.events to their folder")
    rows = [row for path in sorted(folder.glob("*.yaml")) for row in _calendar(path).rows()]
    schema = {**EVENTS.columns, "available_at": UTC_TIME, ASSUMED: pl.Boolean()}
    frame = pl.DataFrame(rows, schema=schema).sort(EVENTS.key)
    if twice := frame.height - frame.n_unique(EVENTS.key):
        raise ConfigError(f"event calendars in {folder} name {twice} events twice", do="one file a series")
    return frame


def named_events(folder: Path, names: Sequence[str]) -> pl.DataFrame:
    """Read the calendars called `names` in `folder`; what others there hold, or lack, does not matter.

    Returns:
        As `read_events`.

    Raises:
        ConfigError: for a name that no calendar has, or one that cannot be read.
    """
    found: dict[str, Calendar] = {}
    broken: list[ConfigError] = []
    for path in sorted(folder.glob("*.yaml")):
        try:
            calendar = _calendar(path)
        except ConfigError as error:
            broken.append(error)
        else:
            found[calendar.name] = calendar
    for name in names:
        if name not in found:
            raise ConfigError(
                f"no event calendar in {folder} is named {name!r}",
                expected=", ".join(sorted(found)) or "a calendar",
                got="; ".join(str(error) for error in broken),
            )
    rows = [row for name in names for row in found[name].rows()]
    return pl.DataFrame(rows, schema={**EVENTS.columns, "available_at": UTC_TIME, ASSUMED: pl.Boolean()})


def as_seen(told: pl.DataFrame, held: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """Return the rows of `events` that `told` holds, an event that came to a series later known from when it was seen.

    The first time that a series is read its dates count as published before their year began. A date that is there
    only later was perhaps not: it counts from `now`, and at any later reading from when it was seen first. A date told
    (`known`, `moved`) is believed.

    Args:
        told: what the calendars say, from `read_events`.
        held: every row of `events` in the lake, all revisions.
        now: the instant of this reading.
    """
    series = held.select("source", "name").unique().with_columns(followed=True)
    first = held.group_by(EVENTS.key).agg(seen=pl.col("available_at").min())
    rows = told.join(series, on=["source", "name"], how="left", maintain_order="left")
    rows = rows.join(first, on=list(EVENTS.key), how="left", maintain_order="left")
    seen = pl.col("seen").fill_null(pl.lit(now, dtype=UTC_TIME))
    later = pl.col(ASSUMED) & pl.col("followed").fill_null(False)
    known = pl.when(later).then(pl.max_horizontal("available_at", seen)).otherwise("available_at")
    return conform(rows.with_columns(available_at=known), EVENTS, stamps=False)


def withdrawn(known: pl.DataFrame, told: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """Return the events of `known` that lie ahead and are in no calendar any more, as withdrawn from `now`.

    Args:
        known: rows of `events` as the lake has them.
        told: what the calendars say.
        now: events before it are left as they were: a file that was cut short takes nothing of the past away.
    """
    gone = known.join(told, on=list(EVENTS.key), how="anti")
    gone = gone.filter(pl.col("ts") > now, pl.col("importance") != WITHDRAWN)
    stamp = pl.lit(now, dtype=UTC_TIME)
    columns = [*EVENTS.columns, "available_at"]
    return gone.with_columns(importance=pl.lit(WITHDRAWN, dtype=pl.Int64), available_at=stamp).select(columns)


def _calendar(path: Path) -> Calendar:
    try:
        raw = plain_yaml(path.read_text(encoding="utf8"))
        return Calendar.model_validate_json(json.dumps(raw, default=str))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"event calendar {path.name}: {where}{': ' if where else ''}{said}") from None
    except (OSError, ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
        said = " ".join(str(error).split())[:200]
        raise ConfigError(f"event calendar {path.name} cannot be read: {said}") from None

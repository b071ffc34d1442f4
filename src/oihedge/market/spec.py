"""Import specs: what a user says about a file of his own, so that its rows become rows of the lake."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, PrivateAttr, ValidationError, field_validator, model_validator

from oihedge.core.errors import ConfigError, DataError
from oihedge.core.settings import Instant, Positive, Settings
from oihedge.market.plain_yaml import plain_yaml

VALUES: dict[str, tuple[str, ...]] = {
    "ohlcv": ("open", "high", "low", "close", "volume"),
    "open_interest": ("oi",),
    "funding": ("rate",),
}
"""What `columns` maps besides `ts`, by table; `volume` may be left out, `funding` may add `interval_h`."""


class FromColumn(Settings):
    """A venue, symbol or asset that a column tells, renamed by `names` where it is called otherwise."""

    column: str
    names: dict[str, str] = Field(default_factory=dict)


class PriceOf(Settings):
    """The bars whose open at a row's ts turns USD into coins or back; `{asset}` may stand in the symbol."""

    table: Literal["ohlcv"] = "ohlcv"
    venue: str
    symbol: str
    at: Literal["open", "mean"] = "open"
    """The open at ts; for values that are means over the hour before ts: the mean of the opens at ts - 1 h and ts."""


class ImportSpec(Settings):
    """One lake table from one file, or from one file per asset; conf/import/ has examples."""

    table: Literal["ohlcv", "open_interest", "funding"]
    file: str | None = None
    files: dict[str, str] = Field(default_factory=dict)
    """asset: file, for sources that keep one file per asset."""
    format: Literal["csv", "parquet", "feather"] | None = None
    """None: by the file's ending."""
    separator: Annotated[str, Field(min_length=1, max_length=1)] = ","
    header: bool | tuple[str, ...] = True
    """CSV only: whether there is a header line; where there is none, the columns' names in order."""
    columns: dict[str, str]
    """Our name: the file's column."""
    venue: str | FromColumn
    asset: str | FromColumn | None = None
    symbol: Annotated[str | FromColumn | dict[str, str] | None, Field(union_mode="left_to_right")] = None
    """ccxt's, `{asset}` may stand in it; one for all, per venue, or from a column."""
    kind: Literal["spot", "perp", "mark", "index"] = "perp"
    timeframe: Literal["1h", "1m"] = "1h"
    """Of bars; 1m goes with grid: 1m."""
    time_zone: str | None = None
    """Of stamps that carry none: UTC, Europe/Paris or +06:00."""
    stamp: Literal["open", "close", "instant"]
    """What a stamp is. Of open interest, `open` means: the value is of the hour that opens then (its close or mean), so
    the row's ts is an hour later, when the value could first be known."""
    grid: Literal["1h", "1m"] | None = "1h"
    """Stamps are floored to it; available_at keeps the unfloored instant."""
    max_off_grid_s: Annotated[float, Field(ge=0, lt=3600)] = 60.0
    delay_s: Annotated[float, Field(ge=0)] = 5.0
    """How long after a bar's close, a snapshot or a payment the source would have served it live."""
    where: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Column: the values to keep."""
    start: Instant | None = None
    end: Instant | None = None
    unit: Literal["coins", "contracts", "usd"] | None = None
    """Of open interest, which must say it: a wrong guess is a wrong size."""
    contract_size: Positive | dict[str, Positive] | None = None
    """Coins per contract; one for all or per asset."""
    price: PriceOf | None = None
    interval_h: Positive | dict[str, Positive] | Literal["stamps"] | None = None
    """Hours that a payment covers: one for all, per venue, or `stamps`: the time since the payment before."""

    _home: Path | None = PrivateAttr(default=None)

    @property
    def home(self) -> Path | None:
        """Return the folder of the file that the spec was loaded from."""
        return self._home

    @field_validator("time_zone")
    @classmethod
    def _zone_exists(cls, name: str | None) -> str | None:
        if name is not None:
            zone_of(name)
        return name

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for problem in (self._source_problem(), self._column_problem(), self._unit_problem()):
            if problem:
                raise ValueError(problem)
        return self

    def _source_problem(self) -> str | None:
        if (self.file is None) == (not self.files):
            return "name either file or files (one per asset)"
        if self.files and self.asset is not None:
            return "files already names the assets, leave asset out"
        if not self.files and self.asset is None and not isinstance(self.symbol, str | FromColumn):
            return "asset or symbol must be told, fixed or as {column: NAME}"
        if isinstance(self.symbol, str) and "{asset}" in self.symbol and self.asset is None and not self.files:
            return "symbol has {asset} in it, but no asset is told"
        if self.start is not None and self.end is not None and self.start >= self.end:
            return "start must be before end"
        return None

    def _column_problem(self) -> str | None:
        required = {"ts", *VALUES[self.table]} - {"volume"}
        allowed = required | {"volume"} if self.table == "ohlcv" else required
        allowed = allowed | {"interval_h"} if self.table == "funding" else allowed
        if missing := sorted(required - set(self.columns)):
            return f"columns must name {missing[0]!r} for table {self.table}"
        if strange := sorted(set(self.columns) - allowed):
            return f"columns has {strange[0]!r}, table {self.table} takes {', '.join(sorted(allowed))}"
        if self.table == "ohlcv" and self.grid not in (self.timeframe, None):
            return f"timeframe {self.timeframe} goes with grid: {self.timeframe}"
        if self.table == "ohlcv" and self.stamp == "instant":
            return "a bar's stamp is its open or its close"
        if self.table == "funding" and self.stamp != "instant":
            return "a payment's stamp is an instant"
        return None

    def _unit_problem(self) -> str | None:
        if self.table != "open_interest":
            if self.unit is not None or self.price is not None:
                return "unit and price belong to table open_interest"
        elif self.unit is None:
            return "open_interest must say its unit: coins, contracts or usd"
        elif self.unit == "usd" and self.price is None:
            return "unit usd needs price: {venue, symbol}, the bars to divide by"
        elif (self.unit == "contracts") != (self.contract_size is not None):
            return "unit contracts needs contract_size, and only it"
        if self.table == "funding" and (self.interval_h is None) == ("interval_h" not in self.columns):
            return "funding needs interval_h, or a column for it"
        return None


def zone_of(name: str) -> ZoneInfo | str:
    """Return the zone called `name`, or the offset itself when it is one like +06:00.

    Raises:
        ValueError: if there is no such zone.
    """
    if len(name) == 6 and name[0] in "+-" and name[3] == ":" and (name[1:3] + name[4:]).isdigit():
        return name
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"time_zone {name!r} is not known, expected UTC, Europe/Paris or +06:00") from None


def load_spec(path: Path) -> ImportSpec:
    """Load an import spec.

    Raises:
        ConfigError: naming the file and the key that is wrong, missing or unknown.
    """
    import yaml

    try:
        raw = plain_yaml(path.read_text(encoding="utf8"))
    except FileNotFoundError:
        raise ConfigError(f"import spec {path} is not there", do="conf/import has the shipped ones") from None
    except (OSError, UnicodeDecodeError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"import spec {path} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"import spec {path} is no mapping", expected="keys like table, file, columns")
    try:
        spec = ImportSpec.model_validate_json(json.dumps(raw, default=str))
    except ValidationError as error:
        raise ConfigError(f"import spec {path}: {_first(error, raw)}") from None
    spec._home = path.resolve().parent
    return spec


def _first(error: ValidationError, raw: dict[str, Any]) -> str:
    first = next((one for one in error.errors() if one["type"] == "extra_forbidden"), error.errors()[0])
    where = _place(first["loc"], raw, first["type"] == "missing")
    if first["type"] == "extra_forbidden":
        known = f"; expected one of {', '.join(ImportSpec.model_fields)}" if len(first["loc"]) == 1 else ""
        return f"unknown key {where!r}{known}"
    got = "" if isinstance(first["input"], dict) else f", got {first['input']!r}"
    return (f"{where}: " if where else "") + first["msg"].removeprefix("Value error, ") + got


def _place(loc: tuple[int | str, ...], raw: dict[str, Any], last_is_absent: bool) -> str:
    """Return the path of keys as the user wrote them; pydantic mixes the names of union members in."""
    parts: list[str] = []
    node: Any = raw
    for part in loc:
        if isinstance(node, dict) and part in node:
            parts.append(str(part))
            node = node[part]
    return ".".join([*parts, str(loc[-1])] if last_is_absent else parts)


def resolve_file(name: str, folder: Path | None, home: Path | None) -> Path:
    """Return where the file called `name` is: as it stands, below `folder`, or beside the spec.

    Raises:
        DataError: if it is at none of these places.
    """
    bases = [base for base in (folder, home) if base is not None]
    places = [Path(name)] if Path(name).is_absolute() else [base / name for base in bases or [Path()]]
    for place in places:
        if place.is_file():
            return place
    looked = " and ".join(str(place.parent) for place in places)
    raise DataError(f"data file {name} is not there", expected=f"it in {looked}", do="name the data's folder")

"""What is there and what may be ordered, from files: unreadable is never flat."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NoReturn

from oihedge.core.errors import DataError
from oihedge.core.types import MarketSpec, Position


def read_positions(path: Path) -> list[Position]:
    """Read `{"positions": [{"venue", "symbol", "qty"}, ...]}`; qty in signed base units, flat is an explicit 0.

    Raises:
        DataError: if the file is absent or broken, or a position is doubled, incomplete or no number.
    """
    return [_position(row, path) for row in _rows(path, "positions", ("venue", "symbol", "qty"))]


def read_markets(path: Path) -> list[MarketSpec]:
    """Read `{"markets": [{"venue", "symbol", "asset", "lot", "min_notional", "tick"}, ...]}`.

    Raises:
        DataError: if the file is absent or broken, or a market is doubled, incomplete or without positive lot and tick.
    """
    return [
        _market(row, path)
        for row in _rows(path, "markets", ("venue", "symbol", "asset", "lot", "min_notional", "tick"))
    ]


def _rows(path: Path, name: str, keys: tuple[str, ...]) -> list[dict[str, Any]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except FileNotFoundError:
        raise DataError(f"{name} file {path} is not there", do="write it; flat is an explicit 0") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{name} file {path} is not readable: {error}", expected="JSON") from None
    rows = content.get(name) if isinstance(content, dict) else None
    if not isinstance(rows, list):
        raise DataError(f"{name} file {path} has no list {name!r}", expected=f'{{"{name}": [...]}}')
    seen = set()
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or set(row) != set(keys):
            got = ", ".join(row) if isinstance(row, dict) else repr(row)
            raise DataError(f"{name} file {path}, entry {number + 1}", expected=", ".join(keys), got=got)
        if not all(isinstance(row[key], str) and row[key] for key in ("venue", "symbol")):
            raise DataError(f"{name} file {path}, entry {number + 1}: venue and symbol must be names")
        key = (row["venue"], row["symbol"])
        if key in seen:
            raise DataError(f"{name} file {path} lists {key[0]} {key[1]} twice", do="keep one")
        seen.add(key)
    return rows


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no quantity")


def _number(value: Any, what: str, path: Path) -> float:
    try:
        number = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{what} in {path} is no number", expected='a finite number such as "-0.25"', got=repr(value))
    return number


def _position(row: dict[str, Any], path: Path) -> Position:
    return Position(row["venue"], row["symbol"], _number(row["qty"], f"qty of {row['venue']} {row['symbol']}", path))


def _market(row: dict[str, Any], path: Path) -> MarketSpec:
    name = f"{row['venue']} {row['symbol']}"
    lot, least, tick = (_number(row[key], f"{key} of {name}", path) for key in ("lot", "min_notional", "tick"))
    if lot <= 0 or tick <= 0 or least < 0 or not isinstance(row["asset"], str):
        raise DataError(
            f"market {name} in {path}", expected="asset a name, lot and tick above 0, min_notional not below 0"
        )
    return MarketSpec(row["venue"], row["symbol"], row["asset"], lot, least, tick)

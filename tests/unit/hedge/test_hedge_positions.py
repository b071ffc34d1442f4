from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from oihedge.core.errors import DataError
from oihedge.core.types import MarketSpec, Position
from oihedge.hedge.positions import read_markets, read_positions
from oihedge.hedge.targets import check_positions

SHIPPED = Path(__file__).resolve().parents[3] / "conf" / "hedge"
ROW = {"venue": "bybit", "symbol": "BTC/USDT:USDT", "qty": "-0.25"}
MARKET = {"venue": "bybit", "symbol": "BTC/USDT:USDT", "asset": "BTC", "lot": 0.001, "min_notional": 5, "tick": 0.1}


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_positions_are_signed_coins(tmp_path: Path) -> None:
    path = write(tmp_path / "p.json", {"positions": [ROW, {**ROW, "venue": "okx", "qty": 0}]})
    assert read_positions(path) == [Position("bybit", ROW["symbol"], -0.25), Position("okx", ROW["symbol"], 0.0)]


def test_what_is_shipped_is_readable_and_flat_by_explicit_zeros() -> None:
    positions, markets = read_positions(SHIPPED / "positions.json"), read_markets(SHIPPED / "markets.json")
    check_positions(positions, markets)
    assert {position.qty for position in positions} == {0.0}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not readable"),
        ('{"positions": [', "is not readable"),
        ('{"positions": [{"venue": "bybit", "symbol": "B", "qty": NaN}]}', "NaN is no quantity"),
        ([], "has no list 'positions'"),
        ({"position": []}, "has no list 'positions'"),
        ({"positions": [ROW, ROW]}, "lists bybit BTC/USDT:USDT twice"),
        ({"positions": [{"venue": "bybit", "symbol": "B"}]}, "entry 1; expected venue, symbol, qty"),
        ({"positions": [{**ROW, "side": "short"}]}, "entry 1"),
        ({"positions": [{**ROW, "qty": "nan"}]}, "qty of bybit BTC/USDT:USDT"),
        ({"positions": [{**ROW, "qty": "inf"}]}, "is no number"),
        ({"positions": [{**ROW, "qty": None}]}, "is no number"),
        ({"positions": [{**ROW, "qty": True}]}, "is no number"),
        ({"positions": [{**ROW, "venue": ""}]}, "must be names"),
        ({"positions": ["bybit"]}, "entry 1"),
    ],
)
def test_an_unreadable_positions_file_is_never_flat(content: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_positions(write(tmp_path / "positions.json", content))


def test_an_absent_positions_file_is_never_flat(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="flat is an explicit 0"):
        read_positions(tmp_path / "positions.json")


@pytest.mark.parametrize("change", [{"lot": 0}, {"tick": -1}, {"min_notional": -5}, {"asset": 3}, {"lot": "x"}])
def test_a_market_without_a_usable_lot_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="bybit BTC/USDT:USDT"):
        read_markets(write(tmp_path / "markets.json", {"markets": [{**MARKET, **change}]}))


def test_markets_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "markets.json", {"markets": [MARKET]})
    assert read_markets(path) == [MarketSpec("bybit", "BTC/USDT:USDT", "BTC", 0.001, 5.0, 0.1)]

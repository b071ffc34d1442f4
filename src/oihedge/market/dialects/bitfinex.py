"""Bitfinex v2: spot. Its candles have the close before the high and the low."""

from __future__ import annotations

from typing import Any

import numpy as np

from oihedge.market.dialects.answers import BAR, LEVEL, Answer, Dialect, Query, book, columns, listed, numbers, table


def _bars(q: Query) -> dict[str, Any]:
    window = {"start": q.since, "end": q.until - 1, "limit": q.cap, "sort": 1}
    return {"symbol": q.id, "timeframe": q.timeframe, **window}


def _read_bars(body: Any, q: Query) -> Answer:
    return table(body, 0, (1, 3, 4, 2, 5), width=6)


def _book(q: Query) -> dict[str, Any]:
    return {"symbol": q.id, "precision": "P0", "len": q.cap}


def _read_book(body: Any, q: Query) -> Answer:
    # price, count, amount: asks have a negative amount, an order count of 0 deletes a level
    rows = listed(body)
    levels = np.column_stack([numbers(column) for column in columns(rows, (0, 1, 2), 3)]) if rows else np.empty((0, 3))
    levels = levels[levels[:, 1] > 0]
    sides = [levels[levels[:, 2] > 0][:, (0, 2)], levels[levels[:, 2] < 0][:, (0, 2)] * (1.0, -1.0)]
    return book(None, sides[0].tolist(), sides[1].tolist())


SERIES = {
    ("spot", "ohlcv"): Dialect(_bars, _read_bars, BAR),
    ("spot", "depth"): Dialect(_book, _read_book, LEVEL),
}

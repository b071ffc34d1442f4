"""The venues that are asked by GET: each module has PATHS, by what answers them, and words its own refusals."""

from __future__ import annotations

from typing import Any

from oihedge.simulator import (
    binance,
    binance_statistics,
    bitfinex,
    bitget,
    bybit,
    coinbase,
    deribit,
    dydx,
    gate,
    okx,
)

VENUES: tuple[Any, ...] = (binance, binance_statistics, bybit, okx, bitget, gate, dydx, coinbase, bitfinex, deribit)

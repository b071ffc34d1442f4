"""The one conversion table: what a venue sends as open interest, turned into coins and USD of its own instant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import ccxt
import polars as pl

from oihedge.market.rows import priced
from oihedge.market.venues import Unit

TOLERANCE = 0.02
"""Share by which a venue's coins may differ from its contracts x contract size before its answer is refused."""


@dataclass(frozen=True)
class Conversion:
    """Columns that come in, what becomes of them, and what unit_source then says; `source` "" is said by `priced`."""

    columns: tuple[str, ...]
    oi_base: pl.Expr
    oi_usd: pl.Expr | None
    source: str


_SIZE = pl.col("contract_size")
CONVERSIONS: Mapping[Unit, Conversion] = MappingProxyType({
    Unit.COINS: Conversion(("coins",), pl.col("coins"), None, ""),
    Unit.COINS_USD: Conversion(("coins", "usd"), pl.col("coins"), pl.col("usd"), "coins and USD value as sent"),
    Unit.COINS_MARK: Conversion(
        ("coins", "mark"), pl.col("coins"), pl.col("coins") * pl.col("mark"),
        "coins as sent; USD = coins x mark price of the same answer",
    ),
    Unit.CONTRACTS_USD: Conversion(
        ("contracts", "usd"), pl.col("contracts") * _SIZE, pl.col("usd"),
        "coins = contracts x contract size; USD value as sent",
    ),
    Unit.CONTRACTS_COINS_USD: Conversion(
        ("contracts", "coins", "usd"), pl.col("coins"), pl.col("usd"),
        "coins and USD value as sent; coins agree with contracts x contract size",
    ),
})  # fmt: skip


def converted(frame: pl.DataFrame, unit: Unit, contract_size: float, bars: pl.DataFrame | None = None) -> pl.DataFrame:
    """Return open interest in coins and USD.

    Args:
        frame: ts and the columns that `unit` names.
        unit: what the venue sends.
        contract_size: coins per contract; 1 where a contract is a coin.
        bars: hourly bars (ts, open, close) of the same perp, which give coins without a value their price; needed for
            `Unit.COINS` only.

    Returns:
        (ts, oi_base, oi_usd, unit_source).

    Raises:
        ccxt.BadResponse: if coins and contracts of one answer contradict each other.
    """
    how = CONVERSIONS[unit]
    frame = frame.with_columns(contract_size=pl.lit(contract_size))
    if {"contracts", "coins"} <= set(how.columns):
        apart = (pl.col("contracts") * _SIZE - pl.col("coins")).abs() > TOLERANCE * pl.col("coins").abs()
        if wrong := frame.filter(apart).head(1).to_dicts():
            raise ccxt.BadResponse(
                f"{wrong[0]['contracts']} contracts of {contract_size:g} coins are not {wrong[0]['coins']} coins"
            )
    if how.oi_usd is None:
        empty = pl.DataFrame(schema={"ts": frame.schema["ts"], "open": pl.Float64, "close": pl.Float64})
        return priced(
            frame.select("ts", oi_base=how.oi_base), empty if bars is None else bars.select("ts", "open", "close")
        )
    return frame.select("ts", oi_base=how.oi_base, oi_usd=how.oi_usd, unit_source=pl.lit(how.source))

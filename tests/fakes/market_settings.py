"""Market settings for tests: two assets, quick patience."""

from __future__ import annotations

from typing import Any

from oihedge.market.settings import Market, Venue


def venue(name: str, kind: str = "perp", quote: str = "USDT", **more: Any) -> Venue:
    suffix = f":{quote}" if kind == "perp" else ""
    symbols = {asset: f"{asset}/{quote}{suffix}" for asset in ("BTC", "ETH")}
    return Venue.model_validate(
        {"id": name, "kind": kind, "symbols": symbols, "delay_s": 5.0, "taker_fee": 0.0005, **more}
    )


PERPS = (venue("binanceusdm"), venue("bybit"), venue("hyperliquid", quote="USDC"))
SPOTS = (venue("binance", "spot"), venue("bybit", "spot"))


def market(*venues: Venue, **more: Any) -> Market:
    patience = {"timeout_s": 3.0, "attempts": 4, "backoff_s": 0.01, "max_backoff_s": 0.05, "max_pause_s": 5.0}
    rest = {
        "source": "ccxt",
        "timeframes": ("1h",),
        "lookback_h": 3,
        "concurrency": 8,
        "chunk_rows": 4400,  # months of hourly rows, weeks of minutes
        "venues": venues or (*PERPS, *SPOTS),
    }
    return Market.model_validate({**rest, **patience, **more})

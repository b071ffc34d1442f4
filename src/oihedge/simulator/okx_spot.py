"""OKX's spot instruments: what /api/v5/public/instruments lists as SPOT; its other paths are shared with the swaps."""

from __future__ import annotations

from typing import Any

from oihedge.simulator.asked import increment
from oihedge.simulator.view import View, millis

VENUE, QUOTE = "okx", "USDT"


def instruments(view: View) -> list[dict[str, Any]]:
    """Return the rows of instType SPOT."""
    return [_instrument(view, asset) for asset in view.market.assets]


def asset_of(view: View, inst_id: str) -> str | None:
    """Return the asset of a spot id such as `BTC-USDT`, None for any other."""
    asset, _, quote = inst_id.partition("-")
    return asset if quote == QUOTE and asset in view.market.assets else None


def _instrument(view: View, asset: str) -> dict[str, Any]:
    how = view.market.instrument(asset, VENUE, "spot")
    return {
        "instType": "SPOT", "instId": f"{asset}-{QUOTE}", "instFamily": "", "uly": "", "baseCcy": asset,
        "quoteCcy": QUOTE, "settleCcy": "", "ctVal": "", "ctMult": "", "ctValCcy": "", "ctType": "", "optType": "",
        "stk": "", "expTime": "", "lever": "", "alias": "", "category": "1", "state": "live", "ruleType": "normal",
        "listTime": str(millis(view.market.origin)), "tickSz": increment(how.price_decimals),
        "lotSz": increment(how.size_decimals), "minSz": increment(how.size_decimals), "maxLmtSz": "9999999999",
        "maxMktSz": "1000000", "maxLmtAmt": "20000000", "maxMktAmt": "1000000",
    }  # fmt: skip

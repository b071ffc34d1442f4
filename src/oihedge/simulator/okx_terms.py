"""OKX's terms: ids, bounds and units of its requests and answers, and the words of its refusals."""

from __future__ import annotations

from typing import Any

from oihedge.simulator import okx_spot
from oihedge.simulator.asked import Asked, Malformed, Refused, decimal
from oihedge.simulator.market import Kind, Step
from oihedge.simulator.view import FAR, View

VENUE = "okx"
STEPS: dict[str, Step] = {"1m": "1m", "5m": "5m", "1H": "1h"}


def refuse(code: int, message: str, status: int = 400) -> Refused:
    """Make a refusal in OKX's form."""
    return Refused(status, {"code": str(code), "data": [], "msg": message})


def refusal(error: Malformed) -> Refused:
    """Word a bad parameter as OKX does."""
    if error.missing:
        return refuse(50014, f"Parameter {error.name} can not be empty")
    return refuse(51000, f"Parameter {error.name} error")


def wrap(data: list[Any]) -> Any:
    """Put an answer's rows into OKX's form."""
    return {"code": "0", "data": data, "msg": ""}


def market_of(view: View, asked: Asked) -> tuple[str, Kind]:
    """Return asset and kind of `instId`, a swap's or a spot pair's."""
    text = asked.text("instId")
    asset = text.removesuffix("-USDT-SWAP")
    if asset != text and asset in view.market.assets:
        return asset, "perp"
    spot = okx_spot.asset_of(view, text)
    if spot is None:
        raise refuse(51001, "Instrument ID or Spread ID doesn't exist.", 200)
    return spot, "spot"


def swap_of(view: View, asked: Asked) -> str:
    """Return the asset of `instId`, which must be a swap's."""
    asset, kind = market_of(view, asked)
    if kind != "perp":
        raise refuse(51015, "Instrument ID does not match instrument type.", 200)
    return asset


def index_of(view: View, asked: Asked) -> str:
    """Return the asset of `instId`, which must be an index's."""
    asset = asked.text("instId").removesuffix("-USDT")
    if not asked.text("instId").endswith("-USDT") or asset not in view.market.assets:
        raise refuse(51014, "Index doesn't exist.", 200)
    return asset


def step_of(asked: Asked, name: str, default: str) -> Step:
    """Return the bar or period asked for."""
    value = asked.values.get(name) or default
    if value not in STEPS:
        raise refuse(51000, f"Parameter {name} error")
    return STEPS[str(value)]


def contracts(view: View, asset: str, coins: float) -> str:
    """Write coins as contracts of the asset's swap."""
    how = view.market.instrument(asset, VENUE, "perp")
    return f"{round(coins / how.contract_size, 8):.8f}".rstrip("0").rstrip(".")


def bounds(asked: Asked, newer: str, older: str, present: int) -> tuple[int, int]:
    """Return the first and last ms wanted, of two exclusive bounds."""
    after, before = asked.whole(newer), asked.whole(older)
    return (0 if after is None else after + 1), min(present, FAR if before is None else before - 1)


def assets_of(view: View, asked: Asked) -> list[str]:
    """Return the asset of `instId`, all of them without one."""
    return [swap_of(view, asked)] if asked.values.get("instId") not in (None, "", "ANY") else list(view.market.assets)


def coins_of(view: View, asset: str, coins: float) -> str:
    """Write coins as the asset's swap does."""
    return decimal(coins, view.market.instrument(asset, VENUE, "perp").size_decimals)

"""The hedge backtest: spot holdings beside a short perpetual, net of fees, slippage and funding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oihedge.core.errors import DataError
from oihedge.evaluation.grid import AssetGrid, Floats, Ints, MarketGrid, lay_grid, require_columns
from oihedge.evaluation.metrics import hedge_metrics
from oihedge.evaluation.settings import Costs

RATIOS = ("asset", "decided_at", "ratio")


@dataclass(frozen=True)
class Backtest:
    """What one strategy did over one window.

    nav: one row per hour: ts (END of the hour), nav (money), ret (over the previous NAV) = spot_ret + hedge_ret +
    funding - cost, ratio (short over spot notional), turnover, cost and funding (fractions of the previous NAV) and
    spot_notional (money, at the hour's open). assets: asset, ts, ratio, spot_notional per asset and hour.
    """

    nav: pl.DataFrame
    assets: pl.DataFrame

    def metrics(self) -> dict[str, float]:
        """Return `hedge_metrics` of the ledger."""
        return hedge_metrics(self.nav)


def backtest(
    ratios: pl.DataFrame,
    prices: pl.DataFrame,
    funding: pl.DataFrame,
    holdings: Mapping[str, float],
    costs: Costs,
    *,
    start: datetime,
    end: datetime,
    latency_s: float,
    cash: float = 0.0,
) -> Backtest:
    """Run hedge ratios over the hours of [start, end].

    A ratio decided at `decided_at` (when its inputs were available) is filled at the open of the first bar whose ts
    >= decided_at + latency, never before; decisions from before `start` are in force at `start`, which is entered from
    flat, at full cost. The short is ratio x holdings in coins, traded only when the ratio changes; nothing is closed
    at `end`. Each trade pays (taker_fee + slippage) x its notional. A payment instant in (open, next open] pays
    rate x notional to the short that was held over that hour (rate > 0: received).

    Args:
        ratios: asset, decided_at, ratio (short over spot notional, null = keep what is there).
        prices: asset, ts (bar open), spot_open, perp_open.
        funding: asset, ts, rate of the hedge leg.
        holdings: coins per asset; an asset without any ratio stays unhedged.
        costs: fees and slippage.
        start: first open.
        end: last open.
        latency_s: seconds from decision to order.
        cash: money beside the coins.

    Raises:
        SchemaError: if a column is missing.
        DataError: for NaN ratios, no prices, or a NAV that falls to zero.
    """
    return run_on(lay_grid(prices, funding, holdings, start=start, end=end, cash=cash), ratios, costs, latency_s)


def run_on(grid: MarketGrid, ratios: pl.DataFrame, costs: Costs, latency_s: float) -> Backtest:
    """Run `ratios` over a grid laid before, so that many strategies share one."""
    require_columns(ratios, RATIOS, "hedge ratios")
    decided = ratios.filter(pl.col("ratio").is_not_null())
    if decided["ratio"].cast(pl.Float64).is_nan().any():
        raise DataError("a decided hedge ratio is NaN", expected="a number, or null to keep the position")
    legs, held = [], []
    for name, asset in grid.assets.items():
        own = decided.filter(pl.col("asset") == name).sort("decided_at", maintain_order=True)
        ratio = _applied(grid.instants, asset.tradable, own, latency_s)
        legs.append(_leg(asset, ratio, costs))
        held.append(
            pl.DataFrame({"ts": grid.ends, "ratio": ratio, "spot_notional": asset.quantity * asset.spot[:-1]})
            .with_columns(pl.lit(name).alias("asset"))
            .select("asset", "ts", "ratio", "spot_notional")
        )
    return Backtest(_ledger(grid, legs), pl.concat(held))


def _applied(instants: Ints, tradable: NDArray[np.bool_], own: pl.DataFrame, latency_s: float) -> Floats:
    """Return the ratio in force over each hour: the newest decision that could be filled at or before its open."""
    known = own["decided_at"].dt.epoch("us").to_numpy() + round(latency_s * 1e6)
    newest = np.searchsorted(known, instants[:-1], side="right") - 1
    wanted = np.concatenate(([0.0], own["ratio"].cast(pl.Float64).to_numpy()))[newest + 1]
    filled = np.maximum.accumulate(np.where(tradable, np.arange(tradable.size), -1))
    return np.asarray(np.concatenate(([0.0], wanted))[filled + 1], dtype=np.float64)


@dataclass(frozen=True)
class _Leg:
    """One asset's money per hour."""

    spot_notional: Floats
    short_notional: Floats
    spot_gain: Floats
    hedge_gain: Floats
    funding: Floats
    traded: Floats
    cost: Floats


def _leg(asset: AssetGrid, ratio: Floats, costs: Costs) -> _Leg:
    short = ratio * asset.quantity
    traded = np.abs(np.diff(short, prepend=0.0)) * asset.perp[:-1]
    spot_notional = asset.quantity * asset.spot[:-1]
    return _Leg(
        spot_notional=spot_notional,
        short_notional=ratio * spot_notional,
        spot_gain=asset.quantity * np.diff(asset.spot),
        hedge_gain=-short * np.diff(asset.perp),
        funding=short * asset.perp[1:] * asset.funding_rate,
        traded=traded,
        cost=traded * (costs.taker_fee + costs.slippage),
    )


def _ledger(grid: MarketGrid, legs: list[_Leg]) -> pl.DataFrame:
    def total(name: str) -> Floats:
        return np.asarray(sum(getattr(leg, name) for leg in legs), dtype=np.float64)

    notional, cost, funding = total("spot_notional"), total("cost"), total("funding")
    spot, hedge = total("spot_gain"), total("hedge_gain")
    nav = notional[0] + grid.cash + np.cumsum(spot + hedge + funding - cost)
    before = np.concatenate(([notional[0] + grid.cash], nav[:-1]))
    if not (nav > 0).all():
        raise DataError("the portfolio value fell to zero in the backtest", expected="a hedge ratio near or below 1")
    return pl.DataFrame(
        {
            "ts": grid.ends,
            "nav": nav,
            "ret": (nav - before) / before,
            "ratio": total("short_notional") / notional,
            "turnover": total("traded") / before,
            "cost": cost / before,
            "funding": funding / before,
            "spot_ret": spot / before,
            "hedge_ret": hedge / before,
            "spot_notional": notional,
        }
    )

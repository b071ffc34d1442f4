"""What each venue can give over REST: the one table from which requests, plans and docs/capabilities.md are made.

A venue's `Reach` lists its offers by series. Series of one table: `ohlcv` (trades), `mark` and `index` are kinds of
bars; `open_interest` and `open_interest_now`; `long_short` with `:measure` where a venue has one path per measure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Literal

from oihedge.core.clock import HOUR, TIMEFRAMES
from oihedge.core.errors import ConfigError
from oihedge.core.tables import VENUE_TABLES

RECENT_ROWS = 1440
"""Windows that begin within this many rows of the present are asked of `method`, earlier ones of `older`."""
STEPS: Mapping[str, timedelta] = MappingProxyType({name: TIMEFRAMES[name] for name in ("1m", "5m", "15m", "1h")})


class Unit(StrEnum):
    """What a venue sends as open interest; units.py turns each into coins and USD."""

    COINS = "coins"
    COINS_USD = "coins and USD"
    COINS_MARK = "coins and mark price"
    CONTRACTS_USD = "contracts and USD"
    CONTRACTS_COINS_USD = "contracts, coins and USD"


@dataclass(frozen=True)
class Offer:
    """How a venue gives one series.

    `when`: history (any window), pages (numbered from the newest), latest (the newest rows only) or now (the present).
    `cap` rows per request; `days` or `rows` bound how far back it goes. `method` is ccxt's raw method, `older` the one
    for windows before the latest 1440 rows, `also` a second one asked with the same parameters. `cost` counts a request
    against the venue's pace. `lags`: a row speaks of [ts, ts + step), or may, and is known a step after its ts.
    """

    method: str
    when: Literal["history", "pages", "latest", "now"] = "history"
    cap: int = 1
    days: int | None = None
    rows: int | None = None
    unit: Unit | None = None
    older: str = ""
    also: str = ""
    cost: float = 1.0
    lags: bool = False

    def oldest(self, step: timedelta) -> timedelta | None:
        """Return how far back it goes, a step less than the limit, which moves while we ask; None: all the way."""
        if self.rows is not None:
            return self.rows * step - step
        return None if self.days is None else timedelta(days=self.days) - HOUR


@dataclass(frozen=True)
class Reach:
    """All that one venue gives for one kind of market.

    `pace_ms` is ccxt's pause for a request of cost 1; `market_types` what ccxt must load; payments come every
    `funding_h` hours, always so if `funding_fixed`.
    """

    pace_ms: float
    offers: Mapping[str, Offer]
    market_types: tuple[str, ...] = ()
    funding_h: int = 8
    funding_fixed: bool = False
    note: str = field(default="", compare=False)

    def of(self, table: str) -> dict[str, Offer]:
        """Return the series of a table with their offers; none where the venue has no such table."""
        return {name: offer for name, offer in self.offers.items() if table_of(name) == table}

    @property
    def tables(self) -> tuple[str, ...]:
        """Return the tables this venue has, in the order of `core.tables`."""
        return tuple(spec.name for spec in VENUE_TABLES if self.of(spec.name))


def table_of(series: str) -> str:
    """Return the table in which the rows of a series stand."""
    if series in ("mark", "index"):
        return "ohlcv"
    return series.partition(":")[0].removesuffix("_now") if series != "funding_now" else series


_PERPS: dict[str, Reach] = {
    "binanceusdm": Reach(50, {
        "ohlcv": Offer("fapiPublicGetKlines", cap=1000, cost=5),
        "mark": Offer("fapiPublicGetMarkPriceKlines", cap=1000, cost=5),
        "index": Offer("fapiPublicGetIndexPriceKlines", cap=1000, cost=5),
        "open_interest": Offer("fapiDataGetOpenInterestHist", cap=500, days=30, unit=Unit.COINS_USD),
        "open_interest_now": Offer("fapiPublicGetOpenInterest", "now", unit=Unit.COINS_MARK,
                                   also="fapiPublicGetPremiumIndex"),
        "funding": Offer("fapiPublicGetFundingRate", cap=1000),
        "funding_now": Offer("fapiPublicGetPremiumIndex", "now"),
        "depth": Offer("fapiPublicGetDepth", "now", cap=1000, cost=20),
        "long_short:accounts": Offer("fapiDataGetGlobalLongShortAccountRatio", cap=500, days=30),
        "long_short:top_accounts": Offer("fapiDataGetTopLongShortAccountRatio", cap=500, days=30),
        "long_short:top_positions": Offer("fapiDataGetTopLongShortPositionRatio", cap=500, days=30),
        "long_short:taker_volume": Offer("fapiDataGetTakerlongshortRatio", cap=500, days=30, lags=True),
    }, ("linear",), note="futures/data answers 1000 requests in 5 minutes: market.limits"),
    "bybit": Reach(20, {
        "ohlcv": Offer("publicGetV5MarketKline", cap=1000, cost=5),
        "mark": Offer("publicGetV5MarketMarkPriceKline", cap=1000, cost=5),
        "index": Offer("publicGetV5MarketIndexPriceKline", cap=1000, cost=5),
        "open_interest": Offer("publicGetV5MarketOpenInterest", cap=200, cost=5, unit=Unit.COINS),
        "open_interest_now": Offer("publicGetV5MarketTickers", "now", cost=5, unit=Unit.COINS_MARK),
        "funding": Offer("publicGetV5MarketFundingHistory", cap=200, cost=5),
        "funding_now": Offer("publicGetV5MarketTickers", "now", cost=5),
        "depth": Offer("publicGetV5MarketOrderbook", "now", cap=500, cost=5),
        "long_short:accounts": Offer("publicGetV5MarketAccountRatio", cap=500, cost=5),
    }, ("linear",)),
    "okx": Reach(110, {
        "ohlcv": Offer("publicGetMarketCandles", cap=300, cost=0.5, older="publicGetMarketHistoryCandles"),
        "mark": Offer("publicGetMarketMarkPriceCandles", cap=100, older="publicGetMarketHistoryMarkPriceCandles"),
        "index": Offer("publicGetMarketIndexCandles", cap=100, older="publicGetMarketHistoryIndexCandles"),
        "open_interest": Offer("publicGetRubikStatContractsOpenInterestHistory", cap=100, rows=1440, cost=2,
                               unit=Unit.CONTRACTS_COINS_USD),
        "open_interest_now": Offer("publicGetPublicOpenInterest", "now", unit=Unit.COINS_MARK,
                                   also="publicGetPublicMarkPrice"),
        "funding": Offer("publicGetPublicFundingRateHistory", cap=100, days=90, cost=2),
        "funding_now": Offer("publicGetPublicFundingRate", "now", cost=2),
        "depth": Offer("publicGetMarketBooksFull", "now", cap=5000, cost=2),
        "long_short:accounts": Offer("publicGetRubikStatContractsLongShortAccountRatioContract", cap=100, rows=1440,
                                     cost=4),
        "long_short:top_accounts": Offer("publicGetRubikStatContractsLongShortAccountRatioContractTopTrader", cap=100,
                                         rows=1440, cost=4),
        "long_short:top_positions": Offer("publicGetRubikStatContractsLongShortPositionRatioContractTopTrader",
                                          cap=100, rows=1440, cost=4),
    }, ("swap",), note="rubik answers 10 requests in 2 s: market.limits"),
    "bitget": Reach(50, {
        "ohlcv": Offer("publicMixGetV2MixMarketHistoryCandles", cap=200),
        "mark": Offer("publicMixGetV2MixMarketHistoryMarkCandles", cap=200),
        "index": Offer("publicMixGetV2MixMarketHistoryIndexCandles", cap=200),
        "open_interest_now": Offer("publicMixGetV2MixMarketOpenInterest", "now", unit=Unit.COINS_MARK,
                                   also="publicMixGetV2MixMarketSymbolPrice"),
        "funding": Offer("publicMixGetV2MixMarketHistoryFundRate", "pages", cap=100),
        "funding_now": Offer("publicMixGetV2MixMarketCurrentFundRate", "now"),
        "depth": Offer("publicMixGetV2MixMarketMergeDepth", "now", cap=1000),
        "long_short:accounts": Offer("publicMixGetV2MixMarketAccountLongShort", "latest", cap=30, cost=20),
    }, ("swap",)),
    "gate": Reach(50, {
        "ohlcv": Offer("publicFuturesGetSettleCandlesticks", cap=1999, rows=10_000),
        "mark": Offer("publicFuturesGetSettleCandlesticks", cap=1999, rows=10_000),
        "index": Offer("publicFuturesGetSettleCandlesticks", cap=1999, rows=10_000),
        "open_interest": Offer("publicFuturesGetSettleContractStats", cap=100, unit=Unit.CONTRACTS_USD, lags=True),
        "funding": Offer("publicFuturesGetSettleFundingRate", cap=1000),
        "funding_now": Offer("publicFuturesGetSettleContractsContract", "now"),
        "depth": Offer("publicFuturesGetSettleOrderBook", "now", cap=300),
        "long_short": Offer("publicFuturesGetSettleContractStats", cap=100, lags=True),
        "liquidations": Offer("publicFuturesGetSettleContractStats", cap=100, lags=True),
    }, ("swap",), note="a row of contract_stats counts as known an hour after its time, maybe its bucket's open"),
    "hyperliquid": Reach(50, {
        "ohlcv": Offer("publicPostInfo", cap=5000, rows=5000, cost=4),
        "open_interest_now": Offer("publicPostInfo", "now", cost=10, unit=Unit.COINS_MARK),
        "funding": Offer("publicPostInfo", cap=500, cost=10),
        "funding_now": Offer("publicPostInfo", "now", cost=10),
        "depth": Offer("publicPostInfo", "now", cap=20, cost=2),
    }, ("swap",), funding_h=1, funding_fixed=True),
    "dydx": Reach(100, {
        "ohlcv": Offer("indexerGetCandlesPerpetualMarketsMarket", cap=1000),
        "open_interest": Offer("indexerGetCandlesPerpetualMarketsMarket", cap=1000, unit=Unit.COINS),
        "funding": Offer("indexerGetHistoricalFundingMarket", cap=1000),
        "funding_now": Offer("indexerGetPerpetualMarkets", "now"),
        "depth": Offer("indexerGetOrderbooksPerpetualMarketMarket", "now", cap=1000),
    }, funding_h=1, funding_fixed=True, note="open interest is a candle's startingOpenInterest, at the candle's open"),
}  # fmt: skip
_SPOTS: dict[str, Reach] = {
    "binance": Reach(50, {
        "ohlcv": Offer("publicGetKlines", cap=1000, cost=0.4),
        "depth": Offer("publicGetDepth", "now", cap=5000, cost=50),
    }, ("spot",)),
    "bybit": Reach(20, {
        "ohlcv": Offer("publicGetV5MarketKline", cap=1000, cost=5),
        "depth": Offer("publicGetV5MarketOrderbook", "now", cap=200, cost=5),
    }, ("spot",)),
    "okx": Reach(110, {
        "ohlcv": Offer("publicGetMarketCandles", cap=300, cost=0.5, older="publicGetMarketHistoryCandles"),
        "depth": Offer("publicGetMarketBooksFull", "now", cap=5000, cost=2),
    }, ("spot",)),
    "coinbase": Reach(34, {
        "ohlcv": Offer("v3PublicGetBrokerageMarketProductsProductIdCandles", cap=300, cost=3),
        "depth": Offer("v3PublicGetBrokerageMarketProductBook", "now", cap=1000, cost=3),
    }),
    "bitfinex": Reach(250, {
        "ohlcv": Offer("publicGetCandlesTradeTimeframeSymbolHist", cap=10_000, cost=2.7),
        "depth": Offer("publicGetBookSymbolPrecision", "now", cap=250),
    }, note="bars of hours without a trade do not exist"),
}  # fmt: skip
_OPTIONS: dict[str, Reach] = {
    "deribit": Reach(50, {
        "implied_vol": Offer("publicGetGetVolatilityIndexData", cap=1000),
        "option_chain": Offer("publicGetGetBookSummaryByCurrency", "now", also="publicGetTicker"),
    }, note="greeks come from one ticker per option, for the market.greeks options nearest to the money"),
}  # fmt: skip
REACH: Mapping[tuple[str, str], Reach] = MappingProxyType({
    **{(venue, "perp"): reach for venue, reach in _PERPS.items()},
    **{(venue, "spot"): reach for venue, reach in _SPOTS.items()},
    **{(venue, "option"): reach for venue, reach in _OPTIONS.items()},
})  # fmt: skip


def reach(venue: str, kind: str) -> Reach:
    """Return what `venue` gives for markets of `kind`.

    Raises:
        ConfigError: if this venue and kind are not supported.
    """
    if (venue, kind) not in REACH:
        known = ", ".join(f"{name} ({what})" for name, what in REACH)
        raise ConfigError(f"market.venues: no {kind} markets of venue {venue!r} are supported", expected=known)
    return REACH[venue, kind]


def offered(venue: str, kind: str, tables: Sequence[str]) -> tuple[str, ...]:
    """Return those of `tables` that the venue has for this kind, in their own order."""
    has = reach(venue, kind).tables
    return tuple(name for name in tables if name in has)

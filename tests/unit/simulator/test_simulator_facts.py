"""The stylised facts that docs/market-model.md names, each on a year of three seeds; thresholds are wide on purpose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from scipy.stats import kurtosis, rankdata

from oihedge.simulator.dynamics import State, walk
from oihedge.simulator.market import EmbeddedMarket
from oihedge.simulator.parameters import Floats, Parameters
from oihedge.simulator.settings import Simulator

SEEDS = (1, 7, 20240101)
ASSETS = ("BTC", "ETH", "NEAR")


@dataclass(frozen=True)
class Year:
    returns: Floats
    """(8759, A)"""
    basket: Floats
    """(8760, A) log open interest of the fixed basket of venues."""
    log_oi: Floats
    premium: Floats
    log_price: Floats


@pytest.fixture(scope="module")
def years(simulator: Simulator) -> dict[int, Year]:
    made = {}
    for seed in SEEDS:
        p = Parameters.of(simulator.model_copy(update={"seed": seed}))
        state, paths = State.at_origin(p), []
        for day in range(365):
            path, state = walk(p, state, day, day % 7)
            paths.append(path)
        price, oi, premium = (
            np.concatenate([getattr(path, name)[:24] for path in paths]) for name in ("log_price", "log_oi", "premium")
        )
        made[seed] = Year(np.diff(price, axis=0), oi @ np.array([v.share for v in p.perps]), oi, premium, price)
    return made


def typical(years: dict[int, Year], measure: Callable[[Year, int], float], asset: str) -> float:
    """Median of a measure over the seeds."""
    return float(np.median([measure(year, ASSETS.index(asset)) for year in years.values()]))


def lagged(values: Floats, lag: int) -> float:
    return float(np.corrcoef(values[:-lag], values[lag:])[0, 1])


def lowest_ahead(basket: Floats, hours: int = 24) -> Floats:
    """Share of open interest left at the lowest of the next hours, per hour that has them all."""
    return np.asarray(np.exp(sliding_window_view(basket[1:], hours).min(axis=1) - basket[:-hours]))


def divergence(basket: Floats) -> Floats:
    """ln(open interest / its 24 h mean) from the 24th hour on."""
    return np.asarray(basket[23:] - np.log(sliding_window_view(np.exp(basket), 24).mean(axis=1)))


def ranking(score: Floats, event: Floats) -> float:
    """Area under the ROC curve."""
    ranks, positive = rankdata(score), int(event.sum())
    negative = len(event) - positive
    return float((ranks[event].sum() - positive * (positive + 1) / 2) / (positive * negative))


@pytest.mark.parametrize(("asset", "low", "high"), [("BTC", 0.38, 0.58), ("ETH", 0.52, 0.80), ("NEAR", 0.80, 1.15)])
def test_volatility_is_that_of_the_asset(years: dict[int, Year], asset: str, low: float, high: float) -> None:
    assert low < typical(years, lambda y, i: y.returns[:, i].std() * 8760**0.5, asset) < high


@pytest.mark.parametrize("asset", ASSETS)
def test_returns_have_fat_tails(years: dict[int, Year], asset: str) -> None:
    assert typical(years, lambda y, i: kurtosis(y.returns[:, i]), asset) > 4.0


@pytest.mark.parametrize("asset", ASSETS)
def test_volatility_clusters_and_returns_do_not_repeat(years: dict[int, Year], asset: str) -> None:
    assert typical(years, lambda y, i: lagged(np.abs(y.returns[:, i]), 1), asset) > 0.15
    assert typical(years, lambda y, i: lagged(np.abs(y.returns[:, i]), 24), asset) > 0.05
    assert abs(typical(years, lambda y, i: lagged(y.returns[:, i], 1), asset)) < 0.08


def test_assets_move_together(years: dict[int, Year]) -> None:
    for year in years.values():
        together = np.corrcoef(year.returns.T)
        assert together[0, 1] > 0.7
        assert together[0, 2] > 0.5


@pytest.mark.parametrize("asset", ASSETS)
def test_open_interest_falls_in_crashes(years: dict[int, Year], asset: str) -> None:
    def in_worst_hours(year: Year, i: int) -> float:
        r = year.returns[:, i]
        return float(np.diff(year.basket[:, i])[r < np.quantile(r, 0.01)].mean())

    assert typical(years, in_worst_hours, asset) < -0.008


@pytest.mark.parametrize("asset", ASSETS)
def test_price_falls_while_open_interest_unwinds(years: dict[int, Year], asset: str) -> None:
    def ahead(year: Year, i: int) -> float:
        moved = year.log_price[24:, i] - year.log_price[:-24, i]
        return float(moved[lowest_ahead(year.basket[:, i]) <= 0.9].mean())

    assert typical(years, ahead, asset) < -0.01


@pytest.mark.parametrize("asset", ASSETS)
def test_open_interest_changes_have_fat_tails(years: dict[int, Year], asset: str) -> None:
    assert typical(years, lambda y, i: kurtosis(np.diff(y.basket[:, i])), asset) > 5.0
    assert 0.004 < typical(years, lambda y, i: np.diff(y.basket[:, i]).std(), asset) < 0.012


@pytest.mark.parametrize(("asset", "low", "high"), [("BTC", 0.01, 0.09), ("ETH", 0.01, 0.09), ("NEAR", 0.02, 0.12)])
def test_a_tenth_unwinds_within_a_day_in_a_few_percent_of_hours(
    years: dict[int, Year], asset: str, low: float, high: float
) -> None:
    assert low < typical(years, lambda y, i: (lowest_ahead(y.basket[:, i]) <= 0.9).mean(), asset) < high


def test_unwinds_are_more_frequent_in_near(years: dict[int, Year]) -> None:
    rates = [np.mean([(lowest_ahead(y.basket[:, i]) <= 0.9).mean() for y in years.values()]) for i in range(3)]
    assert rates[2] > max(rates[:2])


@pytest.mark.parametrize("asset", ASSETS)
def test_divergence_from_the_day_s_mean_rarely_passes_15_percent(years: dict[int, Year], asset: str) -> None:
    for year in years.values():
        found = divergence(year.basket[:, ASSETS.index(asset)])
        assert 0.06 < found.max() < 0.25
        assert (found > 0.15).mean() < 0.005


@pytest.mark.parametrize("asset", ASSETS)
def test_a_build_up_tells_something_of_what_follows_but_not_all(years: dict[int, Year], asset: str) -> None:
    def by_growth(year: Year, i: int) -> float:
        basket = year.basket[:, i]
        grown, event = basket[168:-24] - basket[:-192], lowest_ahead(basket)[168:] <= 0.9
        return ranking(grown, event)

    assert 0.6 < typical(years, by_growth, asset) < 0.9


@pytest.mark.parametrize("asset", ASSETS)
def test_a_build_up_is_no_signal_of_direction(years: dict[int, Year], asset: str) -> None:
    """The next day's mean return after the 5 % strongest build-ups stays well inside one standard deviation."""

    def mean_over_deviation(year: Year, i: int) -> float:
        ahead = year.log_price[24:, i] - year.log_price[:-24, i]
        built = divergence(year.basket[:, i])[: len(ahead) - 23]
        after = ahead[23:][built > np.quantile(built, 0.95)]
        return float(after.mean() / ahead.std())

    assert abs(typical(years, mean_over_deviation, asset)) < 0.6


def test_leverage_concentrates_on_single_venues_at_times(years: dict[int, Year]) -> None:
    for year in years.values():
        grown = year.log_oi[24:] - year.log_oi[:-24]
        assert np.quantile(grown.max(axis=2) - grown.min(axis=2), 0.99) > 0.05


def test_funding_is_mostly_positive_and_about_a_hundredth_percent(market: EmbeddedMarket) -> None:
    for asset in ASSETS:
        for venue in ("binanceusdm", "bybit", "hyperliquid"):
            paid = market.funding(asset, venue, market.origin, market.origin + timedelta(days=365))
            per_8h = (paid["rate"] * 8.0 / paid["interval_h"]).to_numpy()
            assert (per_8h > 0).mean() > 0.65
            assert 0.00002 < per_8h.mean() < 0.0003
            assert per_8h.min() < 0.0 < np.abs(per_8h).max() < 0.01


def test_funding_follows_the_premium(years: dict[int, Year], market: EmbeddedMarket) -> None:
    end = market.origin + timedelta(days=200)
    paid = market.funding("BTC", "hyperliquid", market.origin, end)["rate"].to_numpy()
    perp, spot = (
        market.bars("BTC", venue, kind, market.origin, end)["close"].log().to_numpy()  # type: ignore[arg-type]
        for venue, kind in (("hyperliquid", "perp"), ("binance", "spot"))
    )
    assert np.corrcoef(paid, (perp - spot)[: len(paid)])[0, 1] > 0.5


@pytest.mark.parametrize("asset", ASSETS)
def test_spot_and_perp_are_one_price_with_a_small_premium(market: EmbeddedMarket, asset: str) -> None:
    end = market.origin + timedelta(days=120)
    spot, perp, bybit = (
        market.bars(asset, venue, kind, market.origin, end)["close"].log().to_numpy()  # type: ignore[arg-type]
        for venue, kind in (("binance", "spot"), ("binanceusdm", "perp"), ("bybit", "perp"))
    )
    assert np.corrcoef(np.diff(spot), np.diff(perp))[0, 1] > 0.99
    assert np.corrcoef(np.diff(bybit), np.diff(perp))[0, 1] > 0.99
    assert np.abs(perp - spot).max() < 0.01
    assert abs(np.mean(perp - spot)) < 0.001

from __future__ import annotations

from itertools import pairwise
from math import log, sqrt

import polars as pl
import pytest

from oihedge.features.build import build, columns, history_h
from oihedge.features.realised import with_hedge_ratio, with_realised_downside
from oihedge.features.settings import Features

Tables = dict[str, pl.DataFrame]


def realised(spot: list[float | None], perp: list[float | None], hours: int) -> pl.DataFrame:
    prices = pl.LazyFrame({"spot_price": spot, "perp_price": perp}, schema_overrides={"perp_price": pl.Float64})
    rows = prices.with_columns(log_return=pl.col("spot_price").log() - pl.col("spot_price").log().shift(1))
    return with_hedge_ratio(with_realised_downside(rows, hours), hours).collect()


def test_downside_is_the_root_mean_square_of_losses_with_gains_as_zero() -> None:
    spot = [100.0, 99.0, 101.0, 98.0]
    rows = realised(spot, spot, 3)
    assert rows["realised_downside"].to_list()[:3] == [None] * 3
    assert rows["realised_downside"][3] == pytest.approx(sqrt((log(0.99) ** 2 + log(98 / 101) ** 2) / 3))


def test_hours_without_a_loss_have_a_downside_of_zero() -> None:
    assert realised([1.0, 2.0, 3.0, 3.0], [1.0] * 4, 3)["realised_downside"][3] == 0.0


def test_the_hedge_ratio_is_the_regression_of_spot_on_perp_through_the_origin() -> None:
    spot, perp = [100.0, 99.0, 101.0, 98.0], [100.0, 98.0, 101.5, 99.0]
    s, p = ([log(after / before) for before, after in pairwise(path)] for path in (spot, perp))
    expected = sum(a * b for a, b in zip(s, p, strict=True)) / sum(b * b for b in p)
    assert realised(spot, perp, 3)["hedge_ratio"].to_list() == [None, None, None, pytest.approx(expected)]


def test_a_perp_that_moves_twice_as_far_needs_half_the_notional() -> None:
    spot = [100.0, 99.0, 103.0, 98.0]
    assert realised(spot, [price**2 for price in spot], 3)["hedge_ratio"][3] == pytest.approx(0.5)


def test_a_perp_that_stood_still_has_no_hedge_ratio() -> None:
    assert realised([100.0, 99.0, 103.0, 98.0], [100.0] * 4, 3)["hedge_ratio"].null_count() == 4


@pytest.mark.parametrize(("leg", "name"), [(0, "realised_downside"), (0, "hedge_ratio"), (1, "hedge_ratio")])
def test_a_missing_hour_is_missing_for_the_whole_window(leg: int, name: str) -> None:
    paths: list[list[float | None]] = [[100.0, 99.0, 103.0, 98.0, 99.0, 101.0, 97.0, 96.0] for _ in range(2)]
    paths[leg][2] = None
    told = realised(paths[0], paths[1], 2)[name]
    assert told.is_null().to_list() == [True, True, True, True, True, False, False, False]


def test_the_table_takes_them_over_realised_h_hours(market: Tables, settings: Features) -> None:
    tables = {name: frame.lazy() for name, frame in market.items()}
    short = settings.model_copy(update={"realised_h": 5})
    rows = build(tables, short).collect().filter(asset="BTC")
    last = rows["log_return"].tail(5).clip(upper_bound=0.0)
    assert rows["realised_downside"][-1] == pytest.approx(sqrt((last**2).mean()))  # type: ignore[arg-type, operator]
    assert not rows["realised_downside"].equals(
        build(tables, settings).collect().filter(asset="BTC")["realised_downside"]
    )


def test_the_farthest_look_back_reaches_over_realised_h(settings: Features) -> None:
    far = settings.model_copy(update={"realised_h": 1000})
    assert history_h(far) == 1000 + 1 + settings.max_funding_age_h


def test_a_perp_that_is_its_own_spot_has_neither_basis_nor_hedge_ratio(settings: Features) -> None:
    proxy = settings.model_copy(update={"price_kind": "perp", "spot_venue": settings.perp_venue})
    assert {"basis", "hedge_ratio"}.isdisjoint(columns(proxy).all)
    assert {"realised_downside"} < set(columns(proxy).other)


def test_they_are_no_input_of_a_model_by_themselves(settings: Features) -> None:
    assert {"realised_downside", "hedge_ratio"} < set(columns(settings).other)

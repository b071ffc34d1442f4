"""Hour, weekday and events as categories: what they are, who reads them, and that they are known ahead."""

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import pytest

from oihedge.forecast.categories import known_categories, no_categories
from oihedge.forecast.fit import fit
from oihedge.forecast.kinds import LEARNED, network_class
from oihedge.forecast.load import load
from oihedge.forecast.panel import build_panel

READERS = [kind for kind in LEARNED if network_class(kind).reads_categories]
EVENT = ("hours_to_fomc_decision", "hours_since_fomc_decision")


@dataclass(frozen=True)
class WithEvent:
    known: tuple[str, ...] = ("hour_sin", "hour_cos", *EVENT)
    unknown: tuple[str, ...] = ("log_return", "log_oi", "volatility")


def with_event(features, hour=240, every=120):
    """An event every so many hours; 72 hours are as far as any is told to be."""
    at = (pl.col("ts") - features["ts"][0]).dt.total_hours()
    to, since = (hour - at) % every, (at - hour) % every
    return features.with_columns(
        pl.min_horizontal(to, 72).cast(pl.Float64).alias(EVENT[0]),
        pl.min_horizontal(since, 72).cast(pl.Float64).alias(EVENT[1]),
    )


def test_the_recurrent_networks_read_them():
    assert READERS == ["lstm", "cnn_lstm"]


def test_hour_and_weekday_are_the_calendars(features):
    panel = build_panel(features, WithEvent().unknown)
    found = known_categories(panel, ("hour_sin", "hours_to_funding"))
    calendar = features.sort("asset", "ts").select(pl.col("ts").dt.hour(), weekday=pl.col("ts").dt.weekday() - 1)
    np.testing.assert_array_equal(found.codes, calendar.to_numpy())
    assert found.sizes == (24, 7)  # a clock is no event
    assert no_categories(panel).codes.shape == (len(panel.hour), 0)


@pytest.mark.parametrize(
    ("to", "since", "code"),
    [(72, 72, 0), (24.1, 72, 0), (24, 72, 2), (6.5, 72, 2), (6, 72, 1), (1, 72, 1), (0, 0, 3), (72, 6, 3),
     (72, 7, 4), (72, 24, 4), (72, 25, 0), (3, 20, 4), (20, 2, 3), (None, 72, 0)],
)  # fmt: skip
def test_an_events_nearness(features, to, since, code):
    row = features.head(1).with_columns(
        pl.lit(to, dtype=pl.Float64).alias(EVENT[0]), pl.lit(since, dtype=pl.Float64).alias(EVENT[1])
    )
    found = known_categories(build_panel(row, EVENT), EVENT)
    assert found.sizes == (24, 7, 5)
    assert found.codes[0, 2] == code


@pytest.mark.parametrize("kind", READERS)
def test_a_forecast_depends_on_them_only_through_the_hours_ahead(kind, features, settings, window, tmp_path):
    rows = with_event(features)
    model = fit(rows, WithEvent(), settings(model=kind), **window)
    assert model.network.sizes.categories == (24, 7, 5)
    at = rows["ts"][650]
    told = model.predict(rows, [at])
    model.save(tmp_path)
    assert load(tmp_path).predict(rows, [at]).equals(told)
    for layer in model.network.categories:  # what no hour ahead shows says nothing, what one shows says something
        before = layer.weight.detach().clone()
        shown = known_categories(build_panel(rows, WithEvent().known), WithEvent().known).codes
        place = list(model.network.categories).index(layer)
        hours = np.arange(650 + 1, 650 + 1 + model.shape[1])
        seen = set(shown[hours, place].tolist())
        hidden = [code for code in range(len(before)) if code not in seen]
        layer.weight.data[hidden] += 1.0
        assert model.predict(rows, [at]).equals(told)
        layer.weight.data[sorted(seen)] += 1.0
        assert not model.predict(rows, [at]).equals(told)
        layer.weight.data.copy_(before)


@pytest.mark.parametrize("kind", READERS)
def test_what_was_stored_without_them_still_forecasts(kind, fitted, features):
    stored = fitted(kind).network.as_json()
    without = network_class(kind).from_json({key: value for key, value in stored.items() if key != "categories"})
    assert not list(without.categories)
    with_them = fitted(kind)
    at = [features["ts"][650]]
    older = replace(with_them, network=without)
    assert older.predict(features, at).height == with_them.predict(features, at).height

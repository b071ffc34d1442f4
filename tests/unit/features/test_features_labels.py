from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import log

import polars as pl
import pytest

from oihedge.features.labels import unwind_label

START = datetime(2025, 1, 1, tzinfo=UTC)


def path(levels: list[float | None], asset: str = "BTC") -> pl.DataFrame:
    changes = [
        None if i == 0 or level is None or levels[i - 1] is None else log(level / levels[i - 1])
        for i, level in enumerate(levels)
    ]
    stamps = [START + timedelta(hours=i) for i in range(len(levels))]
    return pl.DataFrame(
        {"asset": [asset] * len(levels), "ts": stamps, "log_oi": changes}, schema_overrides={"log_oi": pl.Float64}
    )


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ([100, 95, 89, 120, 130, 140], [True, False, False, None, None, None]),
        ([100, 95, 91, 100, 100, 100], [False, False, False, None, None, None]),
        ([100, 100, 100, 89.9, 100, 100], [True, True, True, None, None, None]),
        ([100, None, 50, 50, 50, 50], [None, None, False, None, None, None]),
        ([100, 90], [None, None]),
    ],
)
def test_a_path_that_touches_the_level_within_the_horizon_is_labelled(
    levels: list[float | None], expected: list[bool | None]
) -> None:
    assert unwind_label(path(levels), 3, 0.10)["unwind"].to_list() == expected


def test_assets_do_not_leak_into_each_other() -> None:
    both = pl.concat([path([100, 100, 100, 100], "BTC"), path([50, 40, 30, 20], "ETH")])
    labels = unwind_label(both.sample(fraction=1, shuffle=True, seed=1), 2, 0.10)
    assert labels["unwind"].to_list() == [False, False, None, None, True, True, None, None]
    assert labels["asset"].to_list() == ["BTC"] * 4 + ["ETH"] * 4


def test_no_rows_give_no_labels() -> None:
    empty = unwind_label(path([100]).clear(), 24, 0.1)
    assert empty.height == 0
    assert empty.columns == ["asset", "ts", "unwind"]


def test_the_label_does_not_look_beyond_its_horizon() -> None:
    levels = [100.0, 99, 98, 97, 96, 95, 94, 93]
    changed = [*levels[:5], 10.0, 10.0, 10.0]
    before, after = (unwind_label(path(each), 2, 0.10)["unwind"].to_list() for each in (levels, changed))
    assert before[:3] == after[:3] == [False, False, False]
    assert after[3] is True

"""What a walk-forward may learn from, and what an operator is told of fits."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from oihedge.config import load
from oihedge.evaluation.folds import Fold
from oihedge.jobs.evaluate import in_time, known_by, warnings_of

HOUR = timedelta(hours=1)
START = datetime(2025, 1, 1, tzinfo=UTC)


def test_a_fold_learns_from_what_was_known_when_its_model_would_have_gone_to_work():
    """A hole of January that was filled in March is no part of February's model."""
    fold = Fold(0, START, START + 20 * HOUR, START + 22 * HOUR, START + 30 * HOUR, START + 32 * HOUR, START + 40 * HOUR)
    late = {3: 40 * HOUR, 4: 28 * HOUR}
    rows = pl.DataFrame({"asset": "BTC", "ts": [START + n * HOUR for n in range(40)]}).with_columns(
        available_at=pl.Series([START + n * HOUR + late.get(n, timedelta(minutes=2)) for n in range(40)])
    )
    kept = known_by(rows, fold).filter(pl.col("ts") <= fold.calibration_end)["ts"].to_list()
    assert set(range(31)) - {(ts - START) // HOUR for ts in kept} == {3}
    config = load(experiment="demo")
    assert config.hedge.max_data_age < 20 * HOUR
    assert set(range(40)) - {(ts - START) // HOUR for ts in in_time(config, rows)["ts"]} == {3, 4}


def test_a_window_with_one_late_row_was_not_known_in_time_until_that_row_was():
    """Ten hours of history, one of which came 25 hours late: no forecast until it leaves the window or has come."""
    config = load(experiment="demo")
    frames = []
    for asset, arrived in (("BTC", 25), ("ETH", 6)):
        known = [START + n * HOUR + (arrived * HOUR if n == 20 else timedelta(minutes=2)) for n in range(40)]
        frames.append(
            pl.DataFrame({"asset": asset, "ts": [START + n * HOUR for n in range(40)]}).with_columns(
                available_at=pl.Series(known)
            )
        )
    rows = pl.concat(frames).sample(fraction=1, shuffle=True, seed=1)
    kept = in_time(config, rows, 10)
    for asset, too_late in (("BTC", range(20, 30)), ("ETH", range(20, 26))):
        hours = {(ts - START) // HOUR for ts in kept.filter(pl.col("asset") == asset)["ts"]}
        assert set(range(40)) - hours == set(too_late), asset


@pytest.mark.parametrize("stopped_by", ["epochs", "patience", None])
def test_a_fit_that_ended_by_itself_is_not_warned_of(stopped_by):
    assert warnings_of({"stopped_by": stopped_by, "spread": {"log_return": 1.0}}) == []
    assert warnings_of({}) == []  # counted, not trained


def test_a_fit_that_was_cut_by_the_clock_is_told():
    (line,) = warnings_of({"stopped_by": "time"})
    assert "forecast.max_train_s" in line

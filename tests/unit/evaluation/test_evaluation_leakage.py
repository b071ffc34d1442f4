from datetime import timedelta

import polars as pl
import pytest

from oihedge.core.errors import DataError
from oihedge.evaluation.leakage import leakage_probe

HOUR = timedelta(hours=1)


@pytest.fixture
def rows(scene):
    return scene.inputs.features.filter(pl.col("ts") < scene.folds[0].train_start + 100 * HOUR)


def at(rows, *hours):
    return [rows["ts"].min() + hour * HOUR for hour in hours]


def forecast_of(column, shift):
    """A forecaster that reads `column` at `shift` hours from the instant."""

    def predict(features, instants):
        value = pl.col(column).shift(-shift).over("asset").alias("p_unwind")
        return (
            features.sort("asset", "ts")
            .with_columns(value)
            .filter(pl.col("ts").is_in(instants))
            .select("asset", "ts", "p_unwind")
        )

    return predict


def test_work_on_the_past_alone_passes_every_probe(rows):
    def past_mean(frame):
        return frame.sort("asset", "ts").select(
            "asset", "ts", pl.col("log_oi").rolling_mean(5).over("asset").alias("ratio")
        )

    assert leakage_probe(rows, at(rows, 30, 60), predict=forecast_of("log_oi", 0), decide=past_mean) == 0


def test_a_look_one_hour_ahead_fails_every_probe(rows):
    assert leakage_probe(rows, at(rows, 30, 60), predict=forecast_of("log_oi", 1)) == 4


def test_a_probe_that_nothing_answers_is_no_pass(rows):
    silent = forecast_of("log_oi", 1)
    with pytest.raises(DataError, match="needs an answer to compare with; got none at"):
        leakage_probe(rows, at(rows, 30), predict=lambda frame, instants: silent(frame, instants).clear())


def test_a_scaler_over_the_whole_frame_fails(rows):
    def scaled(frame):
        return frame.select("asset", "ts", (pl.col("log_oi") / pl.col("log_oi").std()).alias("ratio"))

    assert leakage_probe(rows, at(rows, 50), decide=scaled) == 2


def test_what_is_rightly_known_ahead_may_be_read_but_must_not_be_needed(rows):
    # Perturbed: allowed, for it is named as known. Cut off: the value vanishes, which a live run would meet.
    assert leakage_probe(rows, at(rows, 50), predict=forecast_of("danger", 1), known=["danger"]) == 1


def test_a_probe_without_a_future_is_refused(rows):
    with pytest.raises(DataError, match="rows on both sides"):
        leakage_probe(rows, [rows["ts"].max()], predict=forecast_of("log_oi", 0))

"""All kinds of forecasters side by side on a small embedded market."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl
import pytest
from fakes.tiny_training import AS_OF, home_of, tiny_market
from polars.testing import assert_frame_equal

from oihedge.cli import main
from oihedge.config import load
from oihedge.core.clock import HOUR
from oihedge.core.errors import ConfigError, DataError, SchemaError
from oihedge.core.tables import UTC_TIME
from oihedge.evaluation.scores import align, score
from oihedge.features.labels import unwind_label
from oihedge.jobs import compare, evaluate, search
from oihedge.jobs.evaluate import WithCalendar, extend, lay_folds, train, window_of
from oihedge.jobs.featuring import features
from oihedge.jobs.opening import open_registry

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_market(tmp_path_factory.mktemp("tiny"))


def test_every_kind_is_scored_on_the_same_unseen_hours_and_nothing_is_registered(
    experiment: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    home = home_of(experiment, "all")
    assert main(["compare", "-e", str(experiment), "--home", str(home), "--json"]) == 0
    report = json.loads(capfd.readouterr().out)
    kinds = [line["model"] for line in report["models"]]
    assert kinds == ["tft", "lstm", "cnn_lstm", "linear", "climatology", "persistence"]
    assert len(report["folds"]) == 3 * len(kinds)
    named = {line["model"]: line for line in report["models"]}
    assert named["climatology"]["quantile_skill"] == 0
    assert len({line["quantile_loss"] for line in named.values()}) == len(kinds)
    assert all(line["coverage_error"] <= line["worst_coverage"] for line in named.values())
    assert open_registry(load(experiment=str(experiment), home=home)).challenger() is None


def test_a_fold_is_scored_as_its_model_alone_would_be(experiment: Path) -> None:
    config = load(experiment=str(experiment), home=home_of(experiment, "one"))
    report = compare.run(config, as_of=AS_OF, kinds=("persistence",))
    rows = features(config, as_of=AS_OF, start=AS_OF - timedelta(days=config.run.history_days)).past
    fold = lay_folds(config, rows)[1]
    model = WithCalendar(train(config, rows, window_of(fold), model="persistence"), config)
    seen = rows.filter(pl.col("ts") < fold.test_end)
    at = seen.filter(pl.col("ts") >= fold.test_start)["ts"].unique().sort().to_list()
    labels = unwind_label(rows, config.forecast.horizon_h, config.forecast.drop)
    base = dict.fromkeys(config.features.assets, 0.5)
    alone = score(align(model.predict(seen, at), rows, labels, base), config.forecast.quantiles)
    told = next(line for line in report.folds if line["model"] == "persistence" and line["fold"] == 2)
    assert told["quantile_loss"] == pytest.approx(alone["quantile_loss"])
    assert told["coverage_error"] == pytest.approx(alone["coverage_error"])


@pytest.mark.parametrize("kind", ["tft", "linear", "climatology"])
def test_a_forecast_reads_its_encoders_hours_and_says_what_it_would_of_all_history(experiment: Path, kind: str) -> None:
    config = load(experiment=str(experiment), home=home_of(experiment, f"read {kind}"))
    rows = features(config, as_of=AS_OF, start=AS_OF - timedelta(days=config.run.history_days)).past
    fold = lay_folds(config, rows)[1]
    model = train(config, rows, window_of(fold), model=kind)
    served, seen = WithCalendar(model, config), rows.filter(pl.col("ts") < fold.test_end)
    at = seen.filter(pl.col("ts") >= fold.test_start)["ts"].unique().sort().to_list()
    read = served.read(seen, at)
    assert read.height < seen.height
    assert read["ts"].min() == at[0] - (model.shape[0] - 1) * HOUR
    whole = model.predict(extend(seen, config), at)
    for asked in (at, at[::-1]):
        assert_frame_equal(served.predict(seen, asked), whole, rel_tol=1e-9, abs_tol=1e-12)
    later = at[-1] + timedelta(days=365)
    with pytest.raises(DataError, match=f"got rows from {seen['ts'].min():%Y-%m-%d}"):
        served.predict(seen, [later])
    naive = seen.with_columns(pl.col("ts").dt.replace_time_zone(None))
    with pytest.raises(SchemaError, match="no time zone"):
        model.predict(served.read(naive, at), at)
    assert at[0] in whole["ts"]
    assert at[0] not in served.predict(read.filter(pl.col("ts") > read["ts"].min()), at)["ts"]


def test_further_targets_are_compared_with_climatology_and_leave_its_paths_as_they_were(experiment: Path) -> None:
    home = home_of(experiment, "four")
    targets = ["log_return", "log_oi", "realised_downside", "hedge_ratio"]
    config = load([f"forecast.targets=[{','.join(targets)}]"], experiment=str(experiment), home=home)
    four = compare.run(config, as_of=AS_OF, kinds=("linear",))
    two = compare.run(load(experiment=str(experiment), home=home), as_of=AS_OF, kinds=("climatology",))
    linear, counted = four.models
    for target in targets[2:]:
        assert counted[f"{target}_skill"] == 0
        assert 0 != linear[f"{target}_skill"] < 1
        assert all(f"{target}_skill" in line for line in four.folds)
        assert f"{target}_skill" not in two.models[0]
    assert counted["quantile_loss"] == pytest.approx(two.models[0]["quantile_loss"], rel=0.05)


def test_a_kind_that_there_is_not_is_refused(experiment: Path) -> None:
    config = load(experiment=str(experiment), home=home_of(experiment, "none"))
    with pytest.raises(ConfigError, match="'prophet'"):
        compare.run(config, as_of=AS_OF, kinds=("prophet",))


def test_a_fit_cut_by_the_clock_is_told_with_its_fold_and_kind(experiment: Path) -> None:
    config = load(["forecast.max_train_s=0.001"], experiment=str(experiment), home=home_of(experiment, "late"))
    told = compare.run(config, as_of=AS_OF, kinds=("linear",)).warnings
    assert [line.partition(":")[0] for line in told] == [f"fold {n}, linear" for n in (1, 2, 3)]
    assert all("cut at forecast.max_train_s" in line for line in told)


@pytest.mark.parametrize("job", [compare, evaluate, search])
def test_what_came_only_after_a_fold_teaches_it_nothing(
    experiment: Path, job: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hole that was filled months later: nobody could have learnt from it then, and no walk-forward may now."""
    config = load(["forecast=linear"], experiment=str(experiment), home=home_of(experiment, f"late_{job.__name__}"))
    made = features(config, as_of=AS_OF, start=AS_OF - timedelta(days=config.run.history_days))
    first = lay_folds(config, made.past)[0]
    late = (pl.col("asset") == "BTC") & (pl.col("ts") < first.train_end)
    arrived = pl.when(late).then(pl.lit(first.test_start + HOUR, UTC_TIME)).otherwise("available_at")
    spoiled = replace(made, past=made.past.with_columns(available_at=arrived))
    monkeypatch.setattr(job, "features", lambda *_, **__: spoiled)
    why = "too little history to train on BTC"
    if job is search:  # tells of a trial that failed, and goes on
        assert why in str(search.run(config, as_of=AS_OF, trials=1).trials)
        return
    with pytest.raises(DataError, match=why):
        job.run(config, as_of=AS_OF)


def test_a_row_that_came_late_spoils_every_window_that_holds_it(
    experiment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weeks late, it is in the twelve windows of an asset that end in or after it: nobody could forecast from them."""
    config = load(["forecast=linear"], experiment=str(experiment), home=home_of(experiment, "spoiled"))
    made = features(config, as_of=AS_OF, start=AS_OF - timedelta(days=config.run.history_days))
    at = lay_folds(config, made.past)[0].test_start + 30 * HOUR
    late = (pl.col("asset") == "BTC") & (pl.col("ts") == at)
    arrived = pl.when(late).then(pl.lit(at + timedelta(days=9), UTC_TIME)).otherwise("available_at")
    spoiled = replace(made, past=made.past.with_columns(available_at=arrived))
    whole, drawn = compare.run(config, as_of=AS_OF, kinds=("linear",)), []
    coverage = compare.joint_coverage
    monkeypatch.setattr(compare, "joint_coverage", lambda *of: drawn.append(of[1]) or coverage(*of))
    for job in (compare, evaluate):
        monkeypatch.setattr(job, "features", lambda *_, **__: spoiled)
    assert whole.forecasts - compare.run(config, as_of=AS_OF, kinds=("linear",)).forecasts == 12
    unknown = [int(np.isnan(came).all(axis=(1, 2)).sum()) for came in drawn]
    assert unknown == [12 // compare.PATHS_EVERY_H, 0, 0]
    told = evaluate.assess(config, as_of=AS_OF).evaluated
    mine = {asset: told.forecasts.filter(pl.col("asset") == asset)["ts"].unique() for asset in ("BTC", "ETH")}
    assert set(mine["ETH"]) - set(mine["BTC"]) == {at + n * HOUR for n in range(12)}
    silent = told.decisions.filter(pl.col("asset") == "BTC", pl.col("ts").is_between(at + HOUR, at + 11 * HOUR))
    assert silent["hold"].to_list() == [True] * 11

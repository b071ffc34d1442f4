"""A search on a small embedded market: before any test window, nested in MLflow, and resumed after kill -9."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from fakes.tiny_training import AS_OF, home_of, tiny_market
from rich.console import Console

from oihedge.cli.trials import searched
from oihedge.config import Config, load
from oihedge.core.errors import ConfigError, DataError
from oihedge.jobs import search
from oihedge.jobs.evaluate import lay_folds
from oihedge.jobs.featuring import FeatureSet, features
from oihedge.jobs.opening import open_registry

OIHEDGE = (sys.executable, "-c", "import sys; from oihedge.cli import main; sys.exit(main())")
TRIALS = 4

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_market(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def undisturbed(experiment: Path) -> tuple[Config, search.SearchReport]:
    config = load(experiment=str(experiment), home=home_of(experiment, "undisturbed"))
    return config, search.run(config, as_of=AS_OF, trials=TRIALS)


def runs(config: Config, where: str = "") -> list[Any]:
    from mlflow import MlflowClient

    uri = f"sqlite:///{config.home / config.registry.tracking_uri.removeprefix('sqlite:///')}"
    client = MlflowClient(uri, uri)
    experiment = client.get_experiment_by_name(config.registry.experiment)
    return list(client.search_runs([experiment.experiment_id], where))


def nested(config: Config, parent: str) -> list[Any]:
    return runs(config, f"tags.`mlflow.parentRunId` = '{parent}'")


def kill_in_trial(number: int, experiment: Path, home: Path) -> None:
    """Start a search in a process of its own and kill it in the middle of trial `number`, counted from 1."""
    command = [*OIHEDGE, "search", "--trials", str(TRIALS), "-e", str(experiment), "--home", str(home)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if f"training trial {number}: epoch" in line:
                break
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


def test_a_search_leaves_one_run_with_a_nested_run_a_trial_and_registers_nothing(
    undisturbed: tuple[Config, search.SearchReport],
) -> None:
    config, report = undisturbed
    below = nested(config, report.run_id)
    assert len(runs(config)) == 1 + TRIALS
    assert len(below) == TRIALS == len(report.trials)
    for run in below:
        assert run.info.status == "FINISHED"
        assert {"hidden_size", "dropout", "learning_rate"} <= run.data.params.keys()
        assert {"val_loss", "train_loss", "best_val_loss"} <= run.data.metrics.keys()
    best = min(run.data.metrics["best_val_loss"] for run in below if run.data.tags["state"] == "complete")
    assert report.trials[0]["loss"] == pytest.approx(best)
    assert open_registry(config).challenger() is None
    assert open_registry(config).champion() is None


def test_what_it_prints_is_what_to_retrain_with(undisturbed: tuple[Config, search.SearchReport]) -> None:
    config, report = undisturbed
    better = load(report.overrides, home=config.home)
    values = {name: getattr(better.forecast, name) for name in config.search.names}
    assert values == {name: report.trials[0][name] for name in config.search.names}
    console = Console(record=True, width=160)
    searched(console, report.as_dict())
    printed = console.export_text()
    assert " ".join(report.overrides) in " ".join(printed.split())
    assert "simulated market: trials, best first" in printed


def test_a_search_killed_twice_ends_with_as_many_trials_and_the_best_of_an_undisturbed_one(
    experiment: Path, undisturbed: tuple[Config, search.SearchReport]
) -> None:
    config = load(experiment=str(experiment), home=home_of(experiment, "killed"))
    for number in (1, 3):
        kill_in_trial(number, experiment, config.home)
    resumed = search.run(config, as_of=AS_OF, trials=TRIALS)
    assert resumed.before == 2
    assert resumed.trials == undisturbed[1].trials
    assert resumed.overrides == undisturbed[1].overrides
    states = sorted(run.info.status for run in nested(config, resumed.run_id))
    assert states == ["FINISHED"] * TRIALS + ["KILLED"] * 2
    assert len(runs(config, "tags.search_key != ''")) == 1
    again = search.run(config, as_of=AS_OF, trials=TRIALS)
    assert (again.before, again.trials, again.run_id) == (TRIALS, resumed.trials, resumed.run_id)


def test_no_row_after_the_oldest_folds_calibration_is_read(
    experiment: Path, undisturbed: tuple[Config, search.SearchReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load(experiment=str(experiment), home=home_of(experiment, "blind"))
    past = features(config, as_of=AS_OF, start=AS_OF - timedelta(days=config.run.history_days))
    oldest = lay_folds(config, past.past)[0]
    assert undisturbed[1].judged_until == oldest.calibration_end < oldest.test_start
    later = pl.col("ts") > oldest.calibration_end
    noise = [pl.when(later).then(pl.col(name) * -3 + 1).otherwise(pl.col(name)) for name in ("log_return", "log_oi")]
    changed = FeatureSet(past.past.with_columns(noise), past.spec, past.newest, past.content)
    monkeypatch.setattr(search, "features", lambda *args, **named: changed)
    assert search.run(config, as_of=AS_OF, trials=1).trials == tuple(
        row for row in undisturbed[1].trials if row["trial"] == 0
    )


def test_a_trial_that_fails_says_why_and_the_search_goes_on(experiment: Path) -> None:
    # Windows of 300 h do not fit into the training window, those of 12 h do.
    config = load(
        ["search.choices.encoder_h=[12,300]"], experiment=str(experiment), home=home_of(experiment, "failing")
    )
    report = search.run(config, as_of=AS_OF, trials=6)
    failed = [row for row in report.trials if row["state"] == "failed"]
    assert {row["encoder_h"] for row in failed} == {300}
    assert all(row["reason"] for row in failed)
    marked = [run for run in nested(config, report.run_id) if run.info.status == "FAILED"]
    assert len(marked) == len(failed)
    assert all("DataError" in run.data.tags["failure"] for run in marked)
    assert report.trials[0]["encoder_h"] == 12


def test_time_ends_a_search_and_a_model_without_epochs_cannot_be_searched(experiment: Path) -> None:
    config = load(experiment=str(experiment), home=home_of(experiment, "late"))
    report = search.run(config, as_of=AS_OF, trials=500, timeout_s=1e-9)
    assert report.trials == ()
    assert report.overrides == ()
    plain = config.model_copy(update={"forecast": config.forecast.model_copy(update={"model": "persistence"})})
    with pytest.raises(ConfigError, match="no epochs to judge"):
        search.run(plain, as_of=AS_OF, trials=1)
    short = config.model_copy(update={"run": config.run.model_copy(update={"history_days": 20})})
    with pytest.raises(DataError, match="too little history"):
        search.run(short, as_of=AS_OF, trials=1)

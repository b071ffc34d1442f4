"""A retrain that cannot end well: its run says why, no version is left, and whoever was in service stays there."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from safetensors.torch import load_file, save

from oihedge.config import load
from oihedge.core.errors import DataError, ModelError, OihedgeError
from oihedge.core.types import ModelRef
from oihedge.forecast.artifact import read_artifact, write_artifact
from oihedge.jobs import bootstrap, evaluate, ingest, retrain, validate
from oihedge.jobs.featuring import FeatureSet
from oihedge.jobs.featuring import features as built
from oihedge.jobs.opening import open_registry
from oihedge.registry.client import Registry
from oihedge.registry.versions import ensure_model, model_ref

AS_OF = datetime(2025, 7, 1, 0, 5, tzinfo=UTC)
SMALL = [
    "run.history_days=35", "run.as_of='2025-07-01T00:05:00Z'", "features.rank_window_h=168", "forecast.train_days=10",
    "forecast.calibration_days=4", "forecast.min_train_rows=50", "forecast.encoder_h=6", "forecast.hidden_size=4",
    "forecast.hidden_continuous_size=2", "forecast.attention_heads=1", "forecast.max_epochs=1",
    "forecast.max_steps_per_epoch=2", "forecast.scenario_paths=16", "evaluation.test_days=3",
]  # fmt: skip
Spoil = Callable[[pl.DataFrame], pl.DataFrame]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with validated rows and a champion in service."""
    folder = tmp_path_factory.mktemp("home")
    config = load(SMALL, home=folder)
    bootstrap.run(config, as_of=AS_OF)
    ingest.run(config, as_of=AS_OF)
    validate.run(config, as_of=AS_OF)
    registry = open_registry(config)
    with registry.run("champion") as run:
        name = config.registry.model_name
        ensure_model(registry._client, name)
        version = registry._client.create_model_version(name, f"runs:/{run.run_id}/model", run_id=run.run_id)
    registry.promote(model_ref(version), reason="every gate held", at=AS_OF - timedelta(days=1))
    return folder


def blot(asset: str, column: str, value: float | None, *, every: int) -> Spoil:
    """Return what writes `value` into every `every`-th hour of `asset`, counted from twelve days before the end."""
    later = (pl.col("ts") - AS_OF.replace(minute=0)).dt.total_hours() + 24 * 12
    cell = (pl.col("asset") == asset) & (later % every == 0)
    return lambda rows: rows.with_columns(pl.when(cell).then(pl.lit(value)).otherwise(column).alias(column))


def hollow(asset: str, *, days: int, hours: int) -> Spoil:
    """Return what takes the rows of `asset` from `days` to `hours` before the end."""
    gone = pl.col("ts").is_between(AS_OF - timedelta(days=days), AS_OF - timedelta(hours=hours))
    return lambda rows: rows.filter((pl.col("asset") != asset) | ~gone)


def state(registry: Registry) -> tuple[Any, ...]:
    versions = registry._client.search_model_versions(f"name = '{registry._settings.model_name}'")
    return registry.champion(), registry.challenger(), registry.ledger(), [one.version for one in versions]


def newest_run(registry: Registry) -> Any:
    return registry._client.search_runs([registry._opened[1][registry._settings.experiment]], max_results=1)[0]


ONCE = 10_000
"""Hours between blots: one in the whole history."""
CASES = {
    "nan feature": (
        {}, blot("ETH", "basis", float("nan"), every=ONCE), DataError,
        "feature column 'basis' of ETH is NaN or infinite at 2025-06-19 00:00:00",
    ),
    "infinite feature": (
        {}, blot("BTC", "log_oi", float("inf"), every=ONCE), DataError,
        "feature column 'log_oi' of BTC is NaN or infinite at 2025-06-19 00:00:00",
    ),
    "constant target": (
        {}, blot("NEAR", "log_return", 0.0, every=1), DataError,
        "target log_return of NEAR is constant over the training rows",
    ),
    "short series": (
        {}, hollow("NEAR", days=25, hours=20), DataError, "too little history to train on NEAR",
    ),
    "no whole window": (
        {}, blot("NEAR", "basis", None, every=5), DataError, "NEAR has no whole window to learn from",
    ),
    "out of memory": (
        {"scenario_paths": 10**13}, lambda rows: rows, OihedgeError,
        "out of memory; got Unable to allocate",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("beyond", "spoil", "kind", "reason"), CASES.values(), ids=list(CASES))
def test_bad_input_fails_the_run_with_its_reason_and_touches_nothing_else(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    beyond: dict[str, int],
    spoil: Spoil,
    kind: type[Exception],
    reason: str,
) -> None:
    def spoiled(*given: Any, **named: Any) -> FeatureSet:
        made = built(*given, **named)
        return replace(made, past=spoil(made.past))

    config = load(SMALL, home=home)
    # `beyond` is more than settings allow: on a small machine less is too much already.
    config = config.model_copy(update={"forecast": config.forecast.model_copy(update=beyond)})
    registry = open_registry(config)
    before = state(registry)
    for job in (retrain, evaluate):
        monkeypatch.setattr(job, "features", spoiled)
    with pytest.raises(kind) as raised:
        retrain.run(config, as_of=AS_OF)
    run = newest_run(registry)
    assert run.info.status == "FAILED"
    assert run.data.tags["failure"].startswith(f"{kind.__name__}: {reason}")
    assert run.data.tags["failure"] == f"{type(raised.value).__name__}: {raised.value}"
    assert "\n" not in run.data.tags["failure"]
    assert state(registry) == before
    assert before[0] is not None


@pytest.mark.long
def test_a_feed_that_froze_is_told_of_every_fit_whose_calibration_it_spoils(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def frozen(*given: Any, **named: Any) -> FeatureSet:
        made = built(*given, **named)
        still = pl.when(pl.col("ts") > AS_OF - timedelta(days=11)).then(0.0).otherwise("log_oi")
        return replace(made, past=made.past.with_columns(log_oi=still))

    names = ["registry.experiment=frozen", "registry.model_name=frozen"]
    config = load([*SMALL, *names, "forecast=linear", "forecast.calibration_days=6"], home=home)
    for job in (retrain, evaluate):
        monkeypatch.setattr(job, "features", frozen)
    line = "spread of log_oi is 0.50, the edge of what is tried"
    told = [one for one in retrain.run(config, as_of=AS_OF).warnings if line in one]
    assert [one.partition("spread")[0] for one in told] == ["fold 3: ", ""]


@pytest.mark.long
def test_a_model_that_is_stored_otherwise_than_trained_fails_the_run(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights changed on their way to the store, under digests that agree: only predicting again tells."""
    register = Registry.register

    def tampering(self: Registry, run: Any, folder: Path, **named: Any) -> ModelRef:
        kind, description, files = read_artifact(folder)
        weights = load_file(folder / "network.safetensors")
        changed = {name: value + 0.01 if value.is_floating_point() else value for name, value in weights.items()}
        write_artifact(folder, kind, description, {**files, "network.safetensors": save(changed)})
        return register(self, run, folder, **named)

    config = load(SMALL, home=home)
    registry = open_registry(config)
    before = state(registry)
    monkeypatch.setattr(Registry, "register", tampering)
    with pytest.raises(ModelError, match="the loaded model of version 2 does not predict what its trainer did"):
        retrain.run(config, as_of=AS_OF)
    run = newest_run(registry)
    assert run.info.status == "FAILED"
    assert run.data.tags["failure"].startswith("ModelError: the loaded model of version 2 does not predict")
    assert state(registry) == before


@pytest.mark.long
def test_a_retrain_that_ends_well_leaves_all_that_tells_how_it_came_about(home: Path) -> None:
    config = load([*SMALL, "registry.experiment=well", "registry.model_name=well"], home=home)
    made = retrain.run(config, as_of=AS_OF)
    registry = open_registry(config)
    run, client = newest_run(registry), registry._client
    assert (run.info.status, run.info.run_id) == ("FINISHED", made.run_id)
    files = {file.path for file in client.list_artifacts(made.run_id)}
    names = "environment.txt evaluation.json fit.json gates.json interpretation.json"
    assert files == {"figures", *names.split()}
    drawn = {file.path for file in client.list_artifacts(made.run_id, "figures")}
    figures = "attention fan gates importance loss ratio reliability return_given_oi strategies"
    assert drawn == {f"figures/{name}.png" for name in figures.split()}
    assert run.data.params["forecast.encoder_h"] == "6"
    assert run.data.tags["code_version"].startswith("0.")
    for name in ("train_loss", "val_loss"):
        assert [one.step for one in client.get_metric_history(made.run_id, name)] == [0]
    (dataset,) = [one.dataset for one in run.inputs.dataset_inputs]
    source, profile = json.loads(dataset.source), json.loads(dataset.profile)
    assert isinstance(source["delta_table_version"], int)
    assert profile["first"] < profile["last"] == "2025-07-01T00:00:00Z"
    looked_at = registry.read_json(made.run_id, "interpretation.json")
    assert looked_at["first"] > "2025-06-27T00:00:00Z"
    assert len(looked_at["attention_by_hours_before"]) == 6
    told = [*run.data.params.values(), *(value for name, value in run.data.tags.items()), dataset.source]
    assert not [value for value in told if str(home) in value or str(Path.home()) in value]

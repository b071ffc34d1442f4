"""From a fit to MLflow and back: the version that is served forecasts what its trainer did, without any pickle."""

import contextlib
import json
import os
import pickle
import pickletools
import re
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from fakes.plain_rights import plain_rights

import oihedge
from oihedge.core.errors import ModelError
from oihedge.forecast.fit import fit
from oihedge.forecast.load import load
from oihedge.forecast.settings import Forecast
from oihedge.registry.client import Registry
from oihedge.registry.settings import Registry as Settings

HOUR = timedelta(hours=1)
START = datetime(2025, 1, 1, tzinfo=UTC)
CODE = Path(oihedge.__file__).parent / "served_model.py"


class Columns:
    known = ("hour_sin",)
    unknown = ("log_return", "log_oi")


def market(hours):
    rng = np.random.default_rng(0)
    frames = [
        pl.DataFrame(
            {
                "asset": [asset] * hours,
                "ts": [START + HOUR * k for k in range(hours)],
                "hour_sin": np.sin(np.arange(hours) * np.pi / 12),
                "log_return": rng.normal(0, 0.01, hours),
                "log_oi": rng.normal(0, 0.02, hours),
            }
        ).with_columns(pl.col("ts").cast(pl.Datetime("us", "UTC")))
        for asset in ("BTC", "ETH")
    ]
    return pl.concat(frames)


SMALL = Forecast(
    model="tft", encoder_h=6, horizon_h=3, drop=0.04, quantiles=(0.1, 0.5, 0.9), train_days=10, calibration_days=4,
    hidden_size=4, hidden_continuous_size=2, attention_heads=1, dropout=0.0, learning_rate=0.01, batch_size=16,
    max_epochs=1, max_steps_per_epoch=2, max_train_s=600.0, gradient_clip=1.0, patience=3, validation_share=0.1,
    validation_windows=16, calibration_stride_h=1, threads=1, seed=1, scenario_paths=16, min_train_rows=50,
    expiration_h=9,
)  # fmt: skip


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    uri, artifacts = "sqlite:///mlruns/mlflow.db", Path("mlruns/artifacts")
    registry = Registry(Settings(tracking_uri=uri, artifacts=artifacts, experiment="t", model_name="m"), home)
    rows = market(400)
    end = START + HOUR * 380
    window = {"train_start": START, "train_end": START + HOUR * 280, "calibration_end": end}
    model = fit(rows, Columns(), SMALL, **window)
    model.save(home / "saved")
    sample = rows.filter(pl.col("ts").is_between(end - 10 * HOUR, end + 3 * HOUR)).with_columns(
        pl.when(pl.col("ts") <= end).then(pl.col(name)).alias(name) for name in Columns.unknown
    )
    naive = sample.with_columns(pl.col("ts").dt.replace_time_zone(None)).to_pandas()
    with registry.run("served", tags={"as_of": "2025-01-16T20:00:00Z"}) as run:
        version = registry.register(run, home / "saved", code_path=CODE, example=naive)
        status_while_open = registry._client.get_run(run.run_id).info.status
    return registry, version, model, sample, naive, end, status_while_open


def test_reloaded_and_served_forecasts_equal_the_trainers(served):
    registry, version, model, sample, naive, end, _ = served
    truth = model.predict(sample, [end])
    assert load(registry.model_folder(version)).predict(sample, [end]).equals(truth)
    answer = registry.pyfunc_predict(version, naive)
    assert answer["ts"].unique().tolist() == [end.replace(tzinfo=None)]
    numbers = [name for name in truth.columns if name not in ("asset", "ts")]
    np.testing.assert_allclose(answer[numbers].to_numpy(), truth.select(numbers).to_numpy(), rtol=0, atol=1e-6)


def test_registering_neither_ends_the_run_nor_sets_an_alias(served):
    registry, version, *_, status = served
    assert status == "RUNNING"
    assert registry.champion() is None
    assert registry.challenger() is None
    assert (version.version, version.trained_as_of) == ("1", datetime(2025, 1, 16, 20, tzinfo=UTC))


def runs_as_a_pickle(content):
    """Tell whether a pickle's own interpreter reads `content` to its STOP; a text or tensor file is none."""
    try:
        return bool(list(pickletools.genops(content)))
    except ValueError:
        return False


def test_what_is_taken_for_a_pickle_is_one(tmp_path):
    for made in (pickle.dumps({"a": 1}, protocol) for protocol in range(6)):
        assert runs_as_a_pickle(made)
    torch.save({"a": torch.zeros(2)}, tmp_path / "torch.pt")
    assert zipfile.is_zipfile(tmp_path / "torch.pt")


def test_nothing_that_was_logged_is_a_pickle(served):
    registry, version, *_ = served
    root = registry._artifacts
    files = [path for path in root.rglob("*") if path.is_file()]
    assert registry.model_folder(version) / "network.safetensors" in files
    for path in files:
        assert path.suffix in {".json", ".safetensors", ".py", ".yaml", ".txt", ""}, path
        assert not runs_as_a_pickle(path.read_bytes()), path
        assert not zipfile.is_zipfile(path), path


def test_loading_and_serving_unpickle_nothing(served, monkeypatch):
    registry, version, model, sample, naive, end, _ = served

    def refuse(*args, **kwargs):
        raise AssertionError("something was unpickled")

    import _pickle

    import cloudpickle

    unpicklers = [(module, name) for module in (pickle, _pickle) for name in ("load", "loads", "Unpickler")]
    for module, name in [*unpicklers, (cloudpickle, "load"), (cloudpickle, "loads"), (torch, "load")]:
        monkeypatch.setattr(module, name, refuse)
    truth = model.predict(sample, [end])
    assert load(registry.model_folder(version)).predict(sample, [end]).equals(truth)
    answer = registry.pyfunc_predict(version, naive)
    assert answer["p_unwind"].tolist() == pytest.approx(truth["p_unwind"].to_list(), abs=1e-6)


def test_a_model_that_was_stored_as_a_pickle_is_not_loaded(served, tmp_path):
    from oihedge.registry.door import import_mlflow, silenced

    mlflow = import_mlflow()
    with silenced():

        class Echo(mlflow.pyfunc.PythonModel):
            def predict(self, model_input: list[str]) -> list[str]:
                return model_input

        mlflow.pyfunc.save_model(tmp_path / "pickled", python_model=Echo(), pip_requirements=[])
        with pytest.raises(mlflow.exceptions.MlflowException, match="pickle"):
            mlflow.pyfunc.load_model(str(tmp_path / "pickled"))


def test_the_version_has_signature_example_and_pinned_requirements(served):
    from mlflow.models import get_model_info

    registry, version, *_ = served
    root = registry.model_folder(version).parents[1]
    signature = get_model_info(str(root)).signature
    assert {"asset", "ts", "log_oi", "hour_sin"} <= set(signature.inputs.input_names())
    assert {"asset", "ts", "step", "p_unwind", "log_oi_q90"} <= set(signature.outputs.input_names())
    assert json.loads((root / "input_example.json").read_text())["columns"][:2] == ["asset", "ts"]
    assert all("==" in line for line in (root / "requirements.txt").read_text().split())


FILES = ["manifest.json", "model.json", "network.safetensors", "copula.safetensors"]


def test_the_files_that_are_damaged_below_are_all_that_there_are(served):
    registry, version, *_ = served
    assert sorted(path.name for path in registry.model_folder(version).iterdir()) == sorted(FILES)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["changed", "cut off", "emptied"])
def test_a_damaged_version_is_refused_by_file_name(served, name, damage):
    registry, version, *_ = served
    file = registry.model_folder(version) / name
    content = file.read_bytes()
    half = len(content) // 2
    changed = content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]
    try:
        file.write_bytes({"changed": changed, "cut off": content[:-4], "emptied": b""}[damage])
        with pytest.raises(ModelError, match=re.escape(name)):
            load(registry.model_folder(version))
    finally:
        file.write_bytes(content)


def test_a_description_that_was_emptied_cut_anywhere_or_replaced_is_a_model_error_or_leads_to_the_files(served):
    registry, version, *_ = served
    (file,) = {root / "MLmodel" for root in registry.model_folder(version).parents if (root / "MLmodel").is_file()}
    content = file.read_bytes()
    whole = content.index(b"python_version")  # from there on nothing is read that tells where the files are
    cuts = [content[:end] for end in range(0, whole, 5)]
    try:
        for damaged in [*cuts, b"\xff\xfe\x00", b"- a", b"3", b"1: 2", b"flavors: 3", b"[" * 9_999]:
            file.write_bytes(damaged)
            with contextlib.suppress(ModelError):
                assert registry.model_folder(version) == file.parent / "artifacts" / "saved"
        for damaged, kind in ((b"", "AttributeError"), (b"flavors: [", "ParserError"), (b"flavors: {}", "KeyError")):
            file.write_bytes(damaged)
            with pytest.raises(
                ModelError, match=f"MLmodel of version 1 cannot be read; got {kind}: .*; restore it, or"
            ):
                registry.model_folder(version)
    finally:
        file.write_bytes(content)


@pytest.mark.parametrize("name", [".", *FILES, "../../artifacts", "../../MLmodel", "../.."])
def test_files_that_may_not_be_read_are_a_model_error_that_names_them(served, name):
    registry, version, *_ = served
    closed = (registry.model_folder(version) / name).resolve()
    mode = closed.stat().st_mode
    try:
        closed.chmod(0)
        with plain_rights(), pytest.raises(ModelError, match="cannot be read; ") as raised:
            load(registry.model_folder(version))
        assert closed.name in str(raised.value)
    finally:
        closed.chmod(mode)
    assert load(registry.model_folder(version))


def test_a_description_that_leads_to_too_long_a_path_is_a_model_error(served):
    registry, version, *_ = served
    file = registry.model_folder(version).parents[1] / "MLmodel"
    content = file.read_text()
    assert "artifacts/saved" in content
    try:
        file.write_text(content.replace("artifacts/saved", "a" * 300))
        with pytest.raises(ModelError, match=r"files of version 1 cannot be read; got .*File name too long"):
            registry.model_folder(version)
    finally:
        file.write_text(content)


def test_a_manifest_of_any_length_is_a_model_error(served):
    registry, version, *_ = served
    file = registry.model_folder(version) / "manifest.json"
    content = file.read_bytes()
    try:
        os.truncate(file, 1 << 40)
        with pytest.raises(ModelError, match=r"manifest\.json of version 1 is not the one that was registered"):
            registry.model_folder(version)
    finally:
        file.write_bytes(content)


@pytest.mark.parametrize("name", FILES[1:])
def test_a_damaged_version_is_not_served_either(served, name):
    registry, version, _, _, naive, *_ = served
    file = registry.model_folder(version) / name
    content = file.read_bytes()
    try:
        file.write_bytes(content[:-4])
        with pytest.raises(ModelError, match=re.escape(name)):
            registry.pyfunc_predict(version, naive)
    finally:
        file.write_bytes(content)

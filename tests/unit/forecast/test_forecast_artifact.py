import hashlib
import json
import math

import numpy as np
import polars as pl
import pytest

from oihedge.core.errors import ModelError
from oihedge.forecast.fit import fit
from oihedge.forecast.load import load


@pytest.fixture
def saved(tft, tmp_path):
    tft.save(tmp_path / "model")
    return tmp_path / "model"


def test_a_loaded_model_forecasts_what_the_trainer_did(saved, tft, features):
    at = features["ts"][600:610].to_list()
    assert load(saved).predict(features, at).equals(tft.predict(features, at))


def test_saving_twice_writes_the_same_bytes(saved, tft, tmp_path):
    tft.save(tmp_path / "again")
    load(saved).save(tmp_path / "reloaded")
    for path in saved.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()
        assert path.read_bytes() == (tmp_path / "reloaded" / path.name).read_bytes(), path.name


def test_an_artifact_is_json_and_safetensors(saved):
    assert {path.name for path in saved.iterdir()} == {
        "manifest.json", "model.json", "network.safetensors", "copula.safetensors",
    }  # fmt: skip
    for path in saved.glob("*.safetensors"):
        assert path.read_bytes()[8:9] == b"{"


@pytest.mark.parametrize("name", ["model.json", "network.safetensors", "copula.safetensors"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_a_damaged_file_is_refused_by_name(saved, name, damage):
    path, content = saved / name, (saved / name).read_bytes()
    if damage == "remove":
        path.unlink()
    elif damage == "truncate":
        path.write_bytes(content[:-3])
    else:
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ModelError, match=name):
        load(saved)


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        ("no json", "manifest.json is damaged"),
        ("[]", "a JSON object"),
        (json.dumps({"format": "other/9", "sha256": {}}), "is no model manifest"),
        (json.dumps({"format": "oihedge.model/1", "sha256": {}}), "does not list model.json"),
        (json.dumps({"format": "oihedge.model/1", "sha256": {"model.json": "", "../x": ""}}), "model.json is damaged"),
    ],
)
def test_a_manifest_that_vouches_for_nothing_is_refused(saved, manifest, words):
    (saved / "manifest.json").write_text(manifest)
    with pytest.raises(ModelError, match=words):
        load(saved)


@pytest.mark.parametrize(
    ("keys", "value", "words"),
    [
        (("spread",), [1.0], "spread"),
        (("spread",), [1.0, -1.0], "spread"),
        (("spread",), [1.0, math.nan], "spread"),
        (("scenarios", "freedom"), -3.0, "degrees of freedom"),
        (("scenarios", "paths"), -1, "number of paths"),
        (("scenarios", "paths"), "x", "number of paths"),
        (("scenarios", "levels"), [0.1, 0.4, 0.9], "quantile levels"),
        (("calibration", "slopes"), [0.5], "calibration"),
        (("calibration", "intercept"), math.nan, "calibration"),
        (("calibration", "base_rate"), 7.0, "base rate"),
        (("score", "weights"), [0.0], "score"),
        (("scalers", "targets"), ["log_oi", "log_return"], "targets"),
    ],
)
def test_numbers_that_no_fit_gives_are_refused_when_a_model_is_loaded(saved, keys, value, words):
    description = json.loads((saved / "model.json").read_text())
    part = description
    for key in keys[:-1]:
        part = part[key]
    assert keys[-1] in part
    part[keys[-1]] = value
    (saved / "model.json").write_text(json.dumps(description))
    manifest = json.loads((saved / "manifest.json").read_text())
    manifest["sha256"]["model.json"] = hashlib.sha256((saved / "model.json").read_bytes()).hexdigest()
    (saved / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match=words):
        load(saved)


def test_a_missing_folder_and_an_unknown_kind_are_refused(saved, tmp_path):
    with pytest.raises(ModelError, match="cannot be read"):
        load(tmp_path / "nowhere")
    manifest = json.loads((saved / "manifest.json").read_text())
    (saved / "manifest.json").write_text(json.dumps({**manifest, "kind": "oracle"}))
    with pytest.raises(ModelError, match="kind 'oracle'"):
        load(saved)


def test_persistence_says_no_change_with_the_training_windows_quantiles(persistence, features, window):
    forecast = persistence.predict(features, [features["ts"][600]])
    assert forecast["log_return_q50"].to_list() == [0.0] * 8
    past = features.filter(pl.col("asset") == "BTC", pl.col("ts") <= window["train_end"])["log_return"].to_numpy()
    low, middle = np.quantile(past, [0.1, 0.5])
    assert forecast["log_return_q10"][0] == pytest.approx(low - middle)
    assert forecast.n_unique(["asset", "p_unwind"]) == 2


def test_persistence_reloads_and_forecasts_the_instants_that_the_tft_does(persistence, tft, features, tmp_path):
    persistence.save(tmp_path)
    forecast = load(tmp_path).predict(features)
    assert forecast.equals(persistence.predict(features))
    assert forecast.select("asset", "ts", "step").equals(tft.predict(features).select("asset", "ts", "step"))


def test_persistences_base_rate_is_that_of_the_training_window(features, roles, settings, window):
    later = features.with_columns(log_oi=pl.when(pl.col("ts") > window["train_end"]).then(-0.2).otherwise("log_oi"))
    one, other = (fit(f, roles, settings(model="persistence"), **window) for f in (features, later))
    at = [features["ts"][600]]
    assert one.predict(features, at).equals(other.predict(features, at))
    assert 0 < one.predict(features, at)["p_unwind"][0] < 1


def test_persistence_needs_no_torch():
    import subprocess
    import sys

    code = "import sys, oihedge.forecast.fit, oihedge.forecast.load; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

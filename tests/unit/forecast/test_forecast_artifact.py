import hashlib
import json
import math
import os

import numpy as np
import polars as pl
import pytest
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

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


@pytest.mark.parametrize("name", ["manifest.json", "model.json", "network.safetensors", "copula.safetensors"])
@pytest.mark.parametrize("instead", ["pipe", "folder", "terabyte"])
def test_what_is_no_file_of_a_model_is_refused_unread(saved, name, instead):
    path = saved / name
    if instead == "terabyte":
        with path.open("r+b") as file:
            file.truncate(10**12)  # sparse: it takes no room on the disc
    else:
        path.unlink()
        (os.mkfifo if instead == "pipe" else os.mkdir)(path)
    with pytest.raises(ModelError, match=f"{name} is no file of a saved model"):
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


def rewrite(folder, **changed):
    """Write files of a saved model anew, and a manifest that vouches for them."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for name, content in changed.items():
        path = next(path for path in folder.iterdir() if path.stem == name)
        path.write_bytes(content)
        manifest["sha256"][path.name] = hashlib.sha256(content).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def refuses(folder, keys, value, words):
    part = description = json.loads((folder / "model.json").read_text())
    for key in keys[:-1]:
        part = part[key]
    assert keys[-1] in part
    part[keys[-1]] = value
    rewrite(folder, model=json.dumps(description).encode())
    with pytest.raises(ModelError, match=words) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "value", "words"),
    [
        (("spread",), [1.0], "spread"),
        (("spread",), [1.0, -1.0], "spread"),
        (("spread",), [1.0, math.nan], "spread"),
        (("spread",), ["a", "b"], "spread"),
        (("reaction", "exponents"), [2.0, 0.0], "exponents"),
        (("reaction", "exponents"), [0.1], "exponents"),
        (("reaction", "usual"), [0.0, 1.0], "usual"),
        (("recalibration",), [[1.0, 1.0]], "recalibration"),
        (("recalibration",), [[1.0, -1.0, 1.0]] * 2, "recalibration"),
        (("threads",), 10**6, "threads"),
        (("drop",), None, "drop"),
        (("scenarios", "freedom"), -3.0, "freedom"),
        (("scenarios", "paths"), -1, "paths"),
        (("scenarios", "paths"), "x", "paths"),
        (("scenarios", "paths"), 10**9, "paths"),
        (("scenarios", "seed"), -1, "seed"),
        (("scenarios", "seed"), "x", "seed"),
        (("scenarios", "levels"), [0.1, 0.4, 0.9], r"levels: must rise strictly inside \(0, 1\) and contain 0\.5"),
        (("scenarios", "levels"), [0.1, None, 0.9], "levels"),
        (("scenarios", "levels"), [0.2, 0.5, 0.9], "network's columns, known columns or quantiles"),
        (("scenarios",), "abc", "scenarios"),
        (("calibration", "slopes"), [0.5], "calibration"),
        (("calibration", "intercept"), math.nan, "calibration"),
        (("calibration", "intercept"), "x", "calibration"),
        (("calibration", "base_rate"), 7.0, "base_rate"),
        (("score", "weights"), [0.0], "score"),
        (("score", "intercept"), math.inf, "score"),
        (("scalers", "targets"), ["log_oi", "log_return"], "targets"),
        (("scalers", "columns"), ["hour_sin"], "scalers"),
        (("scalers", "columns"), ["hour_cos", "hour_sin", "log_return", "log_oi", "volatility"], "network's columns"),
        (("scalers", "assets", "BTC", "center"), [math.nan] * 5, "center"),
        (("scalers", "assets", "BTC", "center"), [0.0], "lacks a part"),
        (("scalers", "assets", "BTC", "spread"), [0.0] * 5, "spread"),
        (("scalers", "assets", "BTC", "target_spread"), [1.0, 0.0], "target_spread"),
        (("known",), ["hour_sin"], "known"),
        (("known",), "hour_sin", "known"),
        (("shape",), [4, 4], "shape"),
        (("shape",), [8, 5], "correlation"),
        (("network", "arguments", "hidden_size"), 10**9, "network: hidden_size must be from 1 to 1024"),
        (("network", "arguments", "lstm_layers"), 10**9, "network: lstm_layers must be from 1 to 1"),
        (("network", "arguments", "attention_head_size"), 10**9, "network: attention_head_size"),
        (("network", "arguments", "hidden_size"), 1000, r"network: it needs [\d,]+ bytes of weights"),
        (("network", "arguments", "embedding_sizes"), {"asset": [10**9, 10**6]}, "network: it needs"),
        (("network", "arguments", "embedding_sizes"), {"asset": [10**18, 10**18]}, "cannot be rebuilt"),
    ],
)
def test_parts_that_no_fit_gives_are_refused_when_a_model_is_loaded(saved, keys, value, words):
    refuses(saved, keys, value, words)


@pytest.mark.parametrize(
    ("keys", "value", "words"),
    [
        (("rates",), [[7.0], [0.1]], "rates"),
        (("rates",), [[math.nan], [0.1]], "rates"),
        (("rates",), [[0.1, 0.2], [0.1, 0.2]], "rates"),
        (("base_rate",), math.nan, "base_rate"),
        (("base_rate",), -0.1, "base_rate"),
        (("levels",), [0.9, 0.5, 0.1], "levels"),
        (("levels",), [0.1, 0.25, 0.5, 0.75, 0.9], "quantiles or rates"),
        (("levels",), [0.1, None, 0.9], "levels"),
        (("quantiles",), [[[[0.1, 0.0, -0.1]] * 2]] * 2, "quantiles"),
        (("quantiles",), [[[[-0.1, math.nan, 0.1]] * 2]] * 2, "quantiles"),
        (("shape",), [8, 0], "shape"),
        (("shape",), [8.5, 4], "shape"),
        (("assets",), ["BTC", "BTC"], "assets"),
        (("known",), ["tide"], "known"),
        (("carried",), ["tide"], "carried"),
        (("targets",), ["log_oi", "log_return"], "targets"),
    ],
)
def test_parts_that_no_count_gives_are_refused_when_a_model_is_loaded(persistence, tmp_path, keys, value, words):
    persistence.save(tmp_path)
    refuses(tmp_path, keys, value, words)


@pytest.mark.parametrize("spoilt", ["a weight", "a correlation", "every correlation"])
def test_tensors_that_no_fit_gives_are_refused(saved, spoilt):
    name, words = ("network", "weights") if spoilt == "a weight" else ("copula", "correlation")
    tensors = load_tensors((saved / f"{name}.safetensors").read_bytes())
    last = tensors[max(tensors)].view(-1)
    if spoilt == "every correlation":
        last[:] = 1.0  # of its shape and symmetric, but of no distribution
        words = "lacks a part"
    else:
        last[0] = math.nan
    rewrite(saved, **{name: save_tensors(tensors)})
    with pytest.raises(ModelError, match=words):
        load(saved)


@pytest.mark.parametrize(
    ("keys", "value", "words"),
    [
        (("network", "hidden"), 10**9, "network: hidden must be from 1 to 1024"),
        (("network", "targets"), 10**12, "network: targets must be from 1 to 4"),
        (("network", "assets"), 10**15, "network: it needs"),
        (("network", "categories"), [10**15], "network: it needs"),
    ],
)
def test_an_lstm_larger_than_its_weights_is_refused_before_it_is_made(fitted, tmp_path, keys, value, words):
    fitted("lstm").save(tmp_path)
    refuses(tmp_path, keys, value, words)


def test_json_that_is_nested_without_end_is_refused(saved):
    rewrite(saved, model=b"[" * 200_000)
    with pytest.raises(ModelError, match="nested too deep"):
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

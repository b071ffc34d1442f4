import json
from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
import torch

from oihedge.core.errors import DataError, ModelError, SchemaError
from oihedge.core.forecasts import PATH_TARGETS
from oihedge.forecast.blocks import cut_blocks
from oihedge.forecast.fit import fit
from oihedge.forecast.frames import wanted_rows
from oihedge.forecast.kinds import network_class
from oihedge.forecast.load import load
from oihedge.forecast.panel import build_panel
from oihedge.forecast.reaction import Reaction
from oihedge.forecast.scaling import fit_scalers
from oihedge.forecast.segments import Rows
from oihedge.forecast.tft import SharedTft
from oihedge.forecast.windows import first_rows, window_dataset

HOUR = timedelta(hours=1)
SHAPE = (8, 4)


def numbers(frame):
    return frame.drop("asset", "ts").to_numpy()


def dataset_of(features, roles, settings, window, kind="tft"):
    blocks = cut_blocks(features, roles, settings(), **window)
    scalers = fit_scalers(blocks.panel, blocks.panel.columns, settings().targets, blocks.learning)
    inputs, targets = scalers.inputs(blocks.panel), scalers.scaled_targets(blocks.panel)
    rows = blocks.learning & blocks.complete
    categories = network_class(kind).categories_of(blocks.panel, roles.known)
    dataset = window_dataset(blocks.panel, roles.known, inputs, targets, rows, SHAPE, categories)
    return blocks, inputs, targets, dataset, categories.codes


def test_a_forecast_has_the_protocols_shape_and_rising_quantiles(tft, features):
    at = [features["ts"][600], features["ts"][601]]
    forecast = tft.predict(features, at)
    assert forecast.columns == [
        "asset", "ts", "step", "p_unwind", "p_unwind_base", "log_return_q10", "log_return_q50", "log_return_q90",
        "log_oi_q10", "log_oi_q50", "log_oi_q90",
    ]  # fmt: skip
    assert forecast.height == 2 * 2 * 4
    assert forecast.schema["ts"] == pl.Datetime("us", "UTC")
    assert forecast["step"].to_list()[:4] == [1, 2, 3, 4]
    assert forecast["p_unwind"].is_between(0, 1).all()
    assert forecast.group_by("asset", "ts").agg(pl.col("p_unwind").n_unique())["p_unwind"].to_list() == [1] * 4
    for target in ("log_return", "log_oi"):
        low, middle, high = (forecast[f"{target}_q{level}"] for level in (10, 50, 90))
        assert ((low <= middle) & (middle <= high)).all()


def test_the_facts_tell_how_the_fit_went(tft):
    assert tft.facts["epochs"] == 2
    assert tft.facts["stopped_by"] == "epochs"
    assert tft.facts["p_unwind"] == "calibrated"
    assert tft.facts["train_windows"] > 0
    json.dumps(tft.facts)


def test_one_by_one_equals_bulk(tft, features):
    bulk = tft.predict(features).filter(pl.col("ts") >= features["ts"][700])
    ones = pl.concat([tft.predict(features, [at]) for at in bulk["ts"].unique().sort()]).sort("asset", "ts", "step")
    assert ones.select("asset", "ts", "step").equals(bulk.select("asset", "ts", "step"))
    np.testing.assert_allclose(numbers(ones), numbers(bulk), rtol=0, atol=1e-6)


def test_rows_after_the_instant_change_nothing(tft, features):
    at = features["ts"][650]
    spoiled = features.with_columns(
        pl.when(pl.col("ts") > at).then(float("inf")).otherwise(pl.col(name)).alias(name)
        for name in ("log_return", "log_oi", "volatility")
    )
    empty = features.with_columns(
        pl.when(pl.col("ts") <= at).then(pl.col(name)).alias(name) for name in ("log_return", "log_oi", "volatility")
    ).filter(pl.col("ts") <= at + 4 * HOUR)
    truth = tft.predict(features, [at])
    np.testing.assert_allclose(numbers(tft.predict(spoiled, [at])), numbers(truth), rtol=0, atol=1e-6)
    np.testing.assert_allclose(numbers(tft.predict(empty, [at])), numbers(truth), rtol=0, atol=1e-6)


def test_rows_before_the_encoder_change_nothing(tft, features):
    at = features["ts"][650]
    recent = features.filter(pl.col("ts") > at - 8 * HOUR)
    np.testing.assert_allclose(
        numbers(tft.predict(recent, [at])), numbers(tft.predict(features, [at])), rtol=0, atol=1e-6
    )


def test_fit_reads_nothing_after_the_calibration_end(tft, features, roles, settings, window):
    later = features.with_columns(
        pl.when(pl.col("ts") > window["calibration_end"]).then(pl.col(name) * 7 + 1).otherwise(pl.col(name)).alias(name)
        for name in ("log_return", "log_oi", "volatility")
    )
    other = fit(later, roles, settings(), **window)
    for name, value in tft.network.state_dict().items():
        assert torch.equal(value, other.network.state_dict()[name]), name
    assert other.calibration == tft.calibration
    np.testing.assert_array_equal(other.scenarios.copula.correlation, tft.scenarios.copula.correlation)
    assert (other.scenarios.copula.freedom, other.spread) == (tft.scenarios.copula.freedom, tft.spread)


def test_another_seed_gives_other_weights(tft, features, roles, settings, window):
    other = fit(features, roles, settings(seed=4, max_epochs=1), **window)
    assert not torch.equal(tft.network.output_layer[0].weight, other.network.output_layer[0].weight)


def test_fitting_leaves_torchs_random_state_alone(features, roles, settings, window):
    torch.manual_seed(11)
    before = torch.get_rng_state()
    fit(features, roles, settings(max_epochs=1, max_steps_per_epoch=1), **window)
    assert torch.equal(before, torch.get_rng_state())


def test_no_window_spans_a_hole(features, roles, settings, window):
    holed = features.filter(pl.col("ts") != features["ts"][200])
    blocks, _, _, dataset, _ = dataset_of(holed, roles, settings, window)
    _, first = Rows.of_dataset(dataset)
    whole = dataset_of(features, roles, settings, window)[3]
    assert len(first) == len(whole) - 2 * (SHAPE[0] + SHAPE[1])
    assert not (blocks.learning & blocks.complete)[200]


@pytest.mark.parametrize("kind", ["tft", "lstm"])
def test_indexed_rows_equal_the_datasets_own_loader(kind, features, roles, settings, window):
    dataset = dataset_of(features, roles, settings, window, kind)[3]
    rows, first = Rows.of_dataset(dataset)
    theirs, (target, weight) = next(iter(dataset.to_dataloader(train=False, batch_size=32)))
    ours = rows.batch(first[:32], np.zeros((32, 1), np.int64))
    assert weight is None
    for kind, whole in (("cont", ours.segments.reals), ("cat", ours.segments.categoricals)):
        assert torch.equal(whole, torch.cat([theirs[f"encoder_{kind}"], theirs[f"decoder_{kind}"]], dim=1))
    for mine, other in zip(ours.targets, target, strict=True):
        assert torch.equal(mine, other)
    for mine, other in zip(ours.scales, theirs["target_scale"], strict=True):
        assert torch.equal(mine, other)


@pytest.mark.parametrize("kind", ["tft", "lstm"])
def test_the_rows_that_are_predicted_on_equal_the_datasets(kind, features, roles, settings, window):
    blocks, inputs, targets, dataset, codes = dataset_of(features, roles, settings, window, kind)
    trained, first = Rows.of_dataset(dataset)
    plain, each = Rows.of_panel(blocks.panel, inputs, SHAPE, targets, codes), np.zeros((5, 1), np.int64)
    x, y = trained.batch(first[:5], each), plain.batch(first_rows(np.arange(5) + SHAPE[0] - 1, SHAPE[0]), each)
    assert dataset.reals == list(blocks.panel.columns)
    torch.testing.assert_close(x.segments.reals, y.segments.reals)
    assert torch.equal(x.segments.categoricals, y.segments.categoricals)
    torch.testing.assert_close(x.targets, y.targets)


def test_a_network_is_rebuilt_from_json(features, roles, settings, window):
    network = SharedTft.untrained(dataset_of(features, roles, settings, window)[3], settings())
    again = SharedTft.from_json(json.loads(json.dumps(network.as_json())))
    shapes = {name: value.shape for name, value in network.state_dict().items()}
    assert shapes == {name: value.shape for name, value in again.state_dict().items()}
    with pytest.raises(ModelError, match="cannot be rebuilt"):
        SharedTft.from_json({"arguments": {}, "quantiles": [0.1, 0.5, 0.9]})


def test_one_asset_alone_trains(features, roles, settings, window, tmp_path):
    one = features.filter(pl.col("asset") == "BTC")
    model = fit(one, roles, settings(max_epochs=1), **window)
    model.save(tmp_path)
    assert load(tmp_path).predict(one, [one["ts"][600]]).equals(model.predict(one, [one["ts"][600]]))


def test_time_running_out_is_told(features, roles, settings, window):
    model = fit(features, roles, settings(max_train_s=0.001, max_epochs=50), **window)
    assert model.facts["stopped_by"] == "time"
    assert model.facts["steps"] < 150


def test_epochs_are_reported_with_both_losses(features, roles, settings, window, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = []
    fit(features, roles, settings(), report=lambda epoch, metrics: told.append((epoch, dict(metrics))), **window)
    assert [epoch for epoch, _ in told] == [0, 1]
    assert all(set(metrics) == {"train_loss", "val_loss"} for _, metrics in told)
    assert list(tmp_path.iterdir()) == []


def test_without_an_unwind_to_learn_from_the_base_rate_stands_in(features, roles, settings, window):
    model = fit(features, roles, settings(drop=0.5, max_epochs=1), **window)
    assert model.facts["p_unwind"].startswith("base rate")
    assert model.predict(features, [features["ts"][600]])["p_unwind"].unique().to_list() == [0.0]


@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        (lambda f: f.filter(pl.col("ts") >= f["ts"][430]), DataError, "too little history to train on BTC"),
        (lambda f: f.drop("hour_cos"), SchemaError, "lack column 'hour_cos'"),
        (lambda f: f.with_columns(log_oi=pl.lit(0.0)), DataError, "target log_oi of BTC is constant"),
        (
            lambda f: f.with_columns(volatility=pl.when(pl.col("ts") == f["ts"][99]).then(float("nan")).otherwise(1.0)),
            DataError,
            "'volatility' of BTC is NaN or infinite",
        ),
        (lambda f: f.with_columns(volatility=pl.lit(None, pl.Float64)), DataError, "has no value at all"),
        (lambda f: f.filter(pl.col("ts") <= f["ts"][485]), DataError, "calibration block holds no whole window"),
        (lambda f: f.clear(), DataError, "too little history"),
    ],
)
def test_data_that_cannot_be_learnt_from_is_named(features, roles, settings, window, spoil, error, words):
    with pytest.raises(error, match=words):
        fit(spoil(features), roles, settings(), **window)


def test_what_cannot_be_forecast_is_named(tft, features):
    at = features["ts"][600]
    with pytest.raises(DataError, match="asset 'SOL' was not in the training rows"):
        tft.predict(features.with_columns(asset=pl.lit("SOL")).unique("ts"), [at])
    with pytest.raises(SchemaError, match="lack column 'volatility'"):
        tft.predict(features.drop("volatility"), [at])
    with pytest.raises(DataError, match="rows ahead of 2025-01-26T00:00:00Z are missing for BTC"):
        tft.predict(features.filter(pl.col("ts") <= at), [at])
    with pytest.raises(DataError, match=r"none of the instants asked for can be forecast.*got 3 unbroken rows of BTC"):
        tft.predict(features, [features["ts"][2]])
    with pytest.raises(DataError, match="on the hour"):
        tft.predict(features, [at + timedelta(minutes=1)])


def test_an_asset_without_its_history_is_left_out(tft, features):
    at = features["ts"][600]
    holed = features.filter((pl.col("asset") != "ETH") | (pl.col("ts") != at - HOUR))
    assert tft.predict(holed, [at])["asset"].unique().to_list() == ["BTC"]


def test_forecasts_are_put_right_by_shape_reaction_and_spread(tft, features):
    """Each of the three, and what p_unwind is made of, reaches the forecast."""
    at = features["ts"][600:640].to_list()
    levels, paths = tft.scenarios.levels, len(PATH_TARGETS)
    panel = build_panel(features, tft.scalers.columns, tft.scalers.assets)
    rows = wanted_rows(panel, tft.known, tft.shape, at)
    plain = replace(tft, recalibration=np.ones_like(tft.recalibration), reaction=Reaction(), spread=(1.0,) * paths)
    said, middle = plain.quantiles(panel, rows), levels.index(0.5)

    def apart(model):
        told = model.quantiles(panel, rows)
        np.testing.assert_allclose(told[..., middle], said[..., middle], rtol=1e-9)
        return (told - told[..., [middle]])[..., -1] / (said - said[..., [middle]])[..., -1]

    shape = np.ones_like(tft.recalibration)
    shape[0, -1] = 1.5
    np.testing.assert_allclose(apart(replace(plain, recalibration=shape)).mean(axis=(0, 2)), [1.5, 1.0])
    np.testing.assert_allclose(apart(replace(plain, spread=(1.0, 0.7))).mean(axis=(0, 2)), [1.0, 0.7])
    reaction = Reaction((0.5, 0.0), (2.0, 1.0))
    wide = np.sqrt(plain.lately(panel, rows)[:, 0] / 2)
    np.testing.assert_allclose(apart(replace(plain, reaction=reaction))[:, 0, 0], np.clip(wide, 1 / 3, 3))
    wilder = replace(plain, reaction=Reaction((0.0, 0.5), (1.0, 1e-3))).predict(features, at)["p_unwind"]
    assert (wilder.to_numpy() != plain.predict(features, at)["p_unwind"].to_numpy()).any()


def test_what_is_learnt_on_the_training_window_is_learnt_at_all(tft):
    assert (tft.recalibration != 1).any()
    assert (tft.recalibration[:, tft.scenarios.levels.index(0.5)] == 1).all()
    assert min(tft.reaction.usual) > 0

"""A training stopped at any moment and started again ends as one that nobody disturbed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from oihedge.core.errors import ModelError, OihedgeError
from oihedge.forecast.blocks import cut_blocks
from oihedge.forecast.fit import fit
from oihedge.forecast.network import Network
from oihedge.forecast.scaling import fit_scalers
from oihedge.forecast.segments import Cover, Rows
from oihedge.forecast.tft import SharedTft
from oihedge.forecast.threads import torch_threads
from oihedge.forecast.training import Trained, train
from oihedge.forecast.windows import first_rows, training_batches, window_dataset


class Killed(Exception):
    """Stands for the process's end: nothing after it runs."""


class Runs:
    """Trainings of one configuration, each from the start as a process would make it."""

    def __init__(self, features: Any, roles: Any, window: Any, settings: Any, checkpoint: Path | None) -> None:
        self.settings, self.checkpoint, self.told = settings, checkpoint, []
        self._blocks = cut_blocks(features, roles, settings, **window)
        self._known = roles.known

    def __call__(self, kill_at: int | None = None, seed: int = 3) -> tuple[Network, Trained]:
        blocks, settings, told = self._blocks, self.settings, []
        scalers = fit_scalers(blocks.panel, blocks.panel.columns, settings.targets, blocks.learning)
        inputs, targets = scalers.inputs(blocks.panel), scalers.scaled_targets(blocks.panel)
        learning = blocks.learning & blocks.complete
        dataset = window_dataset(blocks.panel, self._known, inputs, targets, learning, blocks.shape)
        deck = training_batches(
            dataset, batch_size=settings.batch_size, windows=4, stride=3, steps=settings.max_steps_per_epoch, seed=seed
        )
        held_back = Rows.of_panel(blocks.panel, inputs, blocks.shape, targets)
        cover = Cover(held_back, first_rows(blocks.validation_instants(), blocks.shape[0]))

        def report(epoch: int, metrics: Any) -> None:
            told.append((epoch, dict(metrics)))
            if epoch == kill_at:
                raise Killed

        with torch.random.fork_rng(devices=[]), torch_threads(1):
            torch.manual_seed(settings.seed)
            network = SharedTft.untrained(dataset, settings)
            network.workers, network.seed = settings.threads, settings.seed
            try:
                return network, train(network, deck, cover, settings, report, checkpoint=self.checkpoint)
            finally:
                self.told = told


@pytest.fixture
def runs(features, roles, window, settings, tmp_path):
    def make(name: str | None = "a", **changes: Any) -> Runs:
        told = settings(**({"max_epochs": 4, "max_steps_per_epoch": 2, "dropout": 0.3} | changes))
        return Runs(features, roles, window, told, None if name is None else tmp_path / name / "c.safetensors")

    return make


def same(one: Network, other: Network) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in one.state_dict().items())


@pytest.mark.parametrize("kills", [(3,), (1, 2)])
def test_a_training_killed_in_an_epoch_ends_with_the_weights_and_reports_of_an_undisturbed_one(runs, kills):
    whole, killed = runs(None), runs()
    network, trained = whole()
    for epoch in kills:
        with pytest.raises(Killed):
            killed(kill_at=epoch)
    again, resumed = killed()
    assert resumed.start == f"resumed after {kills[-1]} epochs"
    assert same(again, network)
    assert killed.told == whole.told
    assert (resumed.epochs, resumed.steps, resumed.best_epoch, resumed.best_loss, resumed.stopped_by) == (
        trained.epochs, trained.steps, trained.best_epoch, trained.best_loss, trained.stopped_by
    )  # fmt: skip


def test_a_checkpoint_that_cannot_be_written_ends_training_in_one_line(runs):
    stopped = runs()
    stopped.checkpoint.mkdir(parents=True)
    with pytest.raises(OihedgeError, match=r"checkpoint .*c\.safetensors cannot be written; got Is a directory"):
        stopped()
    assert [path.name for path in stopped.checkpoint.parent.iterdir()] == ["c.safetensors"]


def test_the_train_loss_of_an_epoch_is_the_mean_of_its_batches(runs, monkeypatch):
    step, losses = SharedTft.training_step, []

    def told(self: SharedTft, batch: Any, number: int) -> Any:
        losses.append(step(self, batch, number))
        return losses[-1]

    monkeypatch.setattr(SharedTft, "training_step", told)
    whole = runs(None)
    whole()
    means = torch.stack(losses).detach().view(4, 2).mean(1).tolist()
    assert [metrics["train_loss"] for _, metrics in whole.told] == pytest.approx(means)


def test_patience_is_kept_over_a_kill(runs):
    # Too fast a learner: it does not get better after the first epochs.
    settings = {"max_epochs": 12, "patience": 2, "learning_rate": 0.3}
    whole, killed = runs(None, **settings), runs(**settings)
    network, trained = whole()
    assert trained.stopped_by == "patience"
    with pytest.raises(Killed):
        killed(kill_at=trained.epochs - 1)
    again, resumed = killed()
    assert (resumed.epochs, resumed.stopped_by, same(again, network)) == (trained.epochs, "patience", True)


def test_a_training_that_had_ended_is_not_trained_again(runs):
    first = runs()
    network, trained = first()
    before = first.checkpoint.stat().st_mtime_ns
    again, resumed = first()
    assert resumed.start == "resumed after 4 epochs"
    assert (resumed.epochs, resumed.steps, resumed.stopped_by) == (4, trained.steps, "epochs")
    assert same(again, network)
    assert [epoch for epoch, _ in first.told] == [0, 1, 2, 3]
    assert first.checkpoint.stat().st_mtime_ns == before


def test_the_time_that_was_used_up_counts_on(runs):
    used = runs(max_train_s=1e-3)
    _, first = used()
    assert first.stopped_by == "time"
    _, again = used()
    assert (again.stopped_by, again.steps) == ("time", first.steps)


@pytest.mark.parametrize("change", [{"learning_rate": 0.02}, {"hidden_size": 6}])
def test_a_checkpoint_of_other_settings_is_not_used_and_that_is_told(runs, change):
    with pytest.raises(Killed):
        runs()(kill_at=2)
    other = runs(**change)
    network, trained = other()
    assert trained.start == "anew: checkpoint c.safetensors is of other settings or data"
    assert same(network, runs(None, **change)()[0])


def test_a_checkpoint_of_other_data_or_another_order_is_not_used(runs, features):
    with pytest.raises(Killed):
        runs()(kill_at=2)
    assert "other settings or data" in runs()(seed=9)[1].start
    with pytest.raises(Killed):
        runs()(kill_at=2)
    changed = runs()
    changed._blocks.panel.values[5, 0] += 1e-3
    assert "other settings or data" in changed()[1].start


@pytest.mark.parametrize("damage", ["cut", "flipped", "text"])
def test_a_damaged_checkpoint_is_told_and_training_starts_anew(runs, damage):
    broken = runs()
    with pytest.raises(Killed):
        broken(kill_at=2)
    content = broken.checkpoint.read_bytes()
    flipped = content[:-5] + bytes([content[-5] ^ 1]) + content[-4:]
    broken.checkpoint.write_bytes({"cut": content[:-100], "flipped": flipped, "text": b"no checkpoint"}[damage])
    network, trained = broken()
    assert trained.start == "anew: checkpoint c.safetensors is damaged"
    assert same(network, runs(None)()[0])


def test_no_half_written_file_stands_in_for_the_checkpoint(runs):
    killed = runs()
    with pytest.raises(Killed):
        killed(kill_at=2)
    whole = killed.checkpoint.read_bytes()
    killed.checkpoint.with_name("c.safetensors.new").write_bytes(whole[:500])
    assert killed()[1].start == "resumed after 2 epochs"


def test_a_checkpoint_is_tensors_and_json(runs):
    first = runs()
    first()
    with safe_open(first.checkpoint, "pt") as stored:
        facts = json.loads(stored.metadata()["facts"])
        assert facts["epochs"] == 4
        assert np.isfinite(stored.get_tensor("optimizer.0.exp_avg_sq").numpy()).all()
    assert [path.name for path in first.checkpoint.parent.iterdir()] == ["c.safetensors"]


def test_without_a_path_nothing_is_written(runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, trained = runs(None)()
    assert trained.start == "anew"
    assert list(tmp_path.rglob("*")) == []


def test_a_training_whose_loss_never_was_a_number_fails_again_without_training(runs):
    hopeless = runs(learning_rate=1e30, gradient_clip=1e30, max_epochs=3)
    for _ in range(2):
        with pytest.raises(ModelError, match="no finite loss"):
            hopeless()


@pytest.mark.parametrize(("model", "rate"), [("linear", 1e20), ("lstm", 1e4)])
def test_a_fit_that_ran_away_is_refused(model, rate, features, roles, settings, window):
    told = settings(model=model, learning_rate=rate, max_epochs=1)
    with pytest.raises(ModelError, match=r"training diverged.*below .* at best; lower forecast\.learning_rate"):
        fit(features, roles, told, **window)


@pytest.mark.parametrize("model", ["linear", "lstm", "tft"])
def test_what_no_model_at_all_would_lose_is_told_beside_the_best_loss(model, features, roles, settings, window):
    """A network that has hardly been trained is that far: it starts from those quantiles."""
    facts = fit(features, roles, settings(model=model, learning_rate=1e-9, dropout=0.0), **window).facts
    assert facts["best_loss"] == pytest.approx(facts["baseline_loss"], rel=0.1)


@pytest.mark.parametrize("total", range(1, 13))
def test_a_training_of_any_number_of_steps_takes_them_all(total, features, roles, settings, window):
    told = settings(model="linear", max_epochs=total, max_steps_per_epoch=1, patience=total)
    facts = fit(features, roles, told, **window).facts
    assert (facts["steps"], facts["stopped_by"]) == (total, "epochs")
    assert np.isfinite(facts["best_loss"])


@pytest.mark.parametrize("size", [{"batch_size": 100_000}, {"batch_size": 100_000, "segment_windows": 100_000}])
def test_a_batch_holds_at_most_the_windows_that_there_are(size, features, roles, settings, window):
    blocks = cut_blocks(features, roles, settings(), **window)
    scalers = fit_scalers(blocks.panel, blocks.panel.columns, settings().targets, blocks.learning)
    inputs, targets = scalers.inputs(blocks.panel), scalers.scaled_targets(blocks.panel)
    dataset = window_dataset(blocks.panel, roles.known, inputs, targets, blocks.learning, blocks.shape)
    windows = size.get("segment_windows", 16)
    (batch,) = training_batches(dataset, batch_size=100_000, windows=windows, stride=3)
    assert len(dataset) <= batch.segments.offsets.numel() < len(dataset) + 16
    facts = fit(features, roles, settings(model="linear", **size), **window).facts
    assert (facts["steps"], facts["epochs"]) == (2, 2)

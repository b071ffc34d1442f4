"""Training on a GPU and in bfloat16, as far as it shows without a GPU; and with one, where there is one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses import FakeTensorMode

from oihedge.core.errors import ConfigError
from oihedge.forecast.blocks import cut_blocks
from oihedge.forecast.fit import fit
from oihedge.forecast.folding import fold
from oihedge.forecast.fused import Dropper
from oihedge.forecast.kinds import network_class
from oihedge.forecast.load import load
from oihedge.forecast.network import Network
from oihedge.forecast.scaling import fit_scalers
from oihedge.forecast.segments import Cover, Deck, Rows
from oihedge.forecast.shared import contexts, forward_shared
from oihedge.forecast.windows import first_rows, training_batches, window_dataset

BF16_EPS = 2.0**-8
NETWORKS = ["tft", "lstm", "cnn_lstm", "linear"]
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


@pytest.fixture
def untrained(features, roles, window, settings):
    def make(**changes: Any) -> tuple[Network, Deck, Cover]:
        told = settings(**changes)
        blocks = cut_blocks(features, roles, told, **window)
        scalers = fit_scalers(blocks.panel, blocks.panel.columns, told.targets, blocks.learning)
        inputs, targets = scalers.inputs(blocks.panel), scalers.scaled_targets(blocks.panel)
        learning = blocks.learning & blocks.complete
        kind = network_class(told.model)
        categories = kind.categories_of(blocks.panel, roles.known)
        dataset = window_dataset(blocks.panel, roles.known, inputs, targets, learning, blocks.shape, categories)
        torch.manual_seed(told.seed)
        network = kind.untrained(dataset, told)
        deck = training_batches(dataset, batch_size=16, windows=4, stride=3, seed=told.seed)
        held_back = Rows.of_panel(blocks.panel, inputs, blocks.shape, targets, categories.codes)
        return network, deck, Cover(held_back, first_rows(blocks.validation_instants(), blocks.shape[0]))

    return make


@pytest.mark.parametrize("model", NETWORKS)
def test_a_step_and_a_forecast_stay_on_the_device_that_weights_and_rows_are_on(untrained, model, monkeypatch):
    # Fake tensors know their device and refuse to be mixed. Of the devices that are not the CPU, only "meta" has
    # gradients in every build of torch; it has no random numbers, so those of dropout are only asked for there.
    device, on_cpu, draws_on = torch.device("meta"), torch.Generator, set()
    monkeypatch.setattr(torch, "Generator", lambda asked="cpu": draws_on.add(asked) or on_cpu())
    network, deck, cover = untrained(model=model)
    network.to(device)
    for rows in (deck.rows, cover.rows):
        rows.to(device)
    with FakeTensorMode(allow_non_fake_inputs=True):
        batch = next(iter(deck))
        loss = network.batch_loss(batch, [1])
        found = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)
        said = network.eval().batch_quantiles(cover)
        with pytest.raises(RuntimeError, match="same device"):
            loss[None] + torch.zeros(1)
    of_batch = (batch.segments.reals, batch.segments.categoricals, batch.segments.offsets, *batch.targets)
    assert {one.device for one in (*of_batch, loss, *said, *found) if one is not None} == {device}
    assert draws_on == ({device} if model == "tft" else set())


@pytest.mark.parametrize("model", NETWORKS)
def test_a_gpu_that_is_not_there_is_refused_before_any_training(features, roles, window, settings, model, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    told: list[int] = []
    with pytest.raises(ConfigError, match=r"^forecast.accelerator asks .*; expected .*; got torch .*; set [^\n]*$"):
        fit(features, roles, settings(model=model, accelerator="cuda"), **window, report=lambda *said: told.append(1))
    assert not told


def loss_and_gradient(network: Network, batch: Any, seeds: list[int | None]) -> tuple[torch.Tensor, torch.Tensor]:
    loss = network.batch_loss(batch, seeds)
    found = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)
    gradient = torch.cat([one.flatten() for one in found if one is not None])
    assert (loss.dtype, gradient.dtype) == (torch.float32, torch.float32)
    return loss.detach(), gradient


@pytest.mark.parametrize("model", NETWORKS)
def test_loss_and_gradient_in_bf16_are_those_of_float32_but_for_its_rounding(untrained, model):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        network, deck, _ = untrained(
            model=model, seed=seed, hidden_size=int(rng.integers(4, 17)),
            hidden_continuous_size=int(rng.integers(2, 9)), attention_heads=int(rng.integers(1, 4)),
        )  # fmt: skip
        batch, seeds = next(iter(deck)), [None, None] if model == "tft" else [seed]
        loss, gradient = loss_and_gradient(network, batch, seeds)
        network.bf16 = True
        loss_bf16, gradient_bf16 = loss_and_gradient(network, batch, seeds)
        off = float((gradient_bf16 - gradient).norm() / gradient.norm()) / BF16_EPS
        assert abs(float(loss_bf16 / loss) - 1) < 0.5 * BF16_EPS
        assert off < 4
        assert (off == 0) == (model == "linear")
        network.eval()  # what is judged or forecast is in float32 whatever trains
        judged = loss_and_gradient(network, batch, seeds)
        network.bf16 = False
        assert all(map(torch.equal, judged, loss_and_gradient(network, batch, seeds)))


@torch.no_grad()
def test_quantiles_in_bf16_are_those_of_float32_but_for_its_rounding(untrained):
    for seed in range(3):
        network, deck, _ = untrained(seed=seed, hidden_size=8 + 4 * seed, attention_heads=1 + seed)
        folded, x = fold(network), next(iter(deck)).segments
        said = contexts(folded, x, Dropper())
        whole, halved = (torch.stack(forward_shared(folded, said, x, Dropper(bf16=bf16))) for bf16 in (False, True))
        spread = float(whole.std(dim=(1, 2)).square().mean().sqrt())
        off = (halved - whole).abs() / spread / BF16_EPS
        assert halved.dtype == torch.float32
        assert 0 < float(off.square().mean().sqrt()) < 1
        assert float(off.max()) < 4


def test_what_bf16_trained_is_float32_and_forecasts_the_same_once_stored(features, roles, window, settings, tmp_path):
    model = fit(features, roles, settings(precision="bf16"), **window)
    stock = fit(features, roles, settings(), **window).network.state_dict()
    trained = model.network.state_dict()
    assert {name: (one.dtype, one.shape) for name, one in trained.items()} == {
        name: (one.dtype, one.shape) for name, one in stock.items()
    }
    assert not all(torch.equal(one, stock[name]) for name, one in trained.items())
    model.save(tmp_path)
    assert load(tmp_path).predict(features).equals(model.predict(features))


@pytest.mark.long
@pytest.mark.parametrize("model", ["tft", "cnn_lstm"])
def test_hundreds_of_steps_in_bf16_stay_finite_and_learn_what_float32_learns(features, roles, window, settings, model):
    told: dict[str, list[float]] = {}
    for precision in ("32", "bf16"):
        losses: list[float] = []
        learnt = settings(
            model=model, precision=precision, max_epochs=10, max_steps_per_epoch=30, patience=10, hidden_size=8,
            validation_windows=200,
        )  # fmt: skip
        best = fit(
            features, roles, learnt, **window, report=lambda _, said, to=losses: to.append(said["train_loss"])
        ).facts["best_loss"]  # fmt: skip
        told[precision] = [*losses, best]
    assert np.isfinite(told["bf16"]).all()
    assert told["bf16"][9] < 0.97 * told["bf16"][0]
    assert np.allclose(told["bf16"][9:], told["32"][9:], rtol=0.03)


class Killed(Exception):
    """Stands for the process's end."""


@gpu
@pytest.mark.parametrize("precision", ["32", "bf16"])
@pytest.mark.parametrize("model", NETWORKS)
def test_a_gpu_trains_and_resumes_as_the_cpu_does_and_leaves_a_model_that_the_cpu_asks(
    features, roles, window, settings, tmp_path, model, precision
):
    def trained(accelerator: str, kill_at: int | None = None, **more: Any) -> tuple[Any, list[float]]:
        losses: list[float] = []

        def report(epoch: int, metrics: Any) -> None:
            losses.extend(metrics.values())
            if epoch == kill_at:
                raise Killed

        # Nothing is dropped: a device draws its own numbers.
        told = settings(model=model, precision=precision, accelerator=accelerator, dropout=0.0, max_epochs=4)
        return fit(features, roles, told, **window, report=report, **more), losses

    (_, on_cpu), (_, on_gpu) = trained("cpu"), trained("cuda")
    tolerance = 1e-3 if precision == "32" else 4 * BF16_EPS
    assert np.allclose(on_gpu, on_cpu, rtol=tolerance)
    kept = tmp_path / "c.safetensors"
    with pytest.raises(Killed):
        trained("cuda", kill_at=2, checkpoint=kept)
    again, resumed = trained("cuda", checkpoint=kept)
    assert again.facts["start"] == "resumed after 2 epochs"
    assert np.allclose(resumed, on_gpu, rtol=tolerance)
    assert {one.device.type for one in again.network.state_dict().values()} == {"cpu"}
    assert np.isfinite(again.predict(features)["p_unwind"].to_numpy()).all()

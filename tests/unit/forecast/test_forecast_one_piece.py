"""All parameters as one tensor: what trains so, and that it is what trains apart."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from fakes.tft_windows import CORNERS, QUIET, dataset, network

from oihedge.forecast.folding import fold
from oihedge.forecast.one_piece import HELD_BY, in_one_piece
from oihedge.forecast.parallel import parallel_loss
from oihedge.forecast.tft import SharedTft
from oihedge.forecast.windows import training_batches

pytestmark = QUIET


def trained(steps: int, *, compiled: bool) -> tuple[SharedTft, list[float]]:
    data = dataset(known=2)
    model, losses = network(data).train(), []
    deck = training_batches(data, batch_size=16, windows=4, stride=3)
    with in_one_piece(model):
        optimizer = torch.optim.Adam(model.trained(), lr=0.02)
        for step in range(steps):
            optimizer.zero_grad()
            found = parallel_loss(fold(model), next(iter(deck)), [step, step + 1], compiled=compiled)
            loss = model.one_piece.flat(found)
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    return model, losses


@pytest.mark.parametrize("compiled", [True, False])
def test_training_repeats_and_leaves_every_parameter_its_own_memory(compiled):
    model, losses = trained(8, compiled=compiled)
    again, repeated = trained(8, compiled=compiled)
    assert losses == repeated
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), again.parameters(), strict=True))
    assert len({one.untyped_storage().data_ptr() for one in model.parameters()}) == len(list(model.parameters()))


@pytest.mark.long
@pytest.mark.parametrize("compiled", [True, False])
def test_hundreds_of_steps_stay_finite_and_learn(compiled):
    _, losses = trained(400, compiled=compiled)
    assert np.isfinite(losses).all()
    assert np.mean(losses[-50:]) < 0.95 * np.mean(losses[:50])


@pytest.mark.parametrize(("inputs", "shape", "seed", "workers"), CORNERS.values(), ids=list(CORNERS))
def test_parameters_in_one_piece_get_the_gradients_they_get_apart(inputs, shape, seed, workers):
    data = dataset(**inputs)
    model = network(data, seed=seed, **shape)
    batch = next(iter(training_batches(data, batch_size=8, windows=4, stride=2)))
    parallel_loss(fold(model), batch, [None] * workers, compiled=True).backward()
    apart = torch.cat([torch.zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in model.parameters()])
    model.zero_grad()
    with in_one_piece(model):
        loss = parallel_loss(fold(model), batch, [None] * workers, compiled=True)
        assert model.one_piece.read  # some are read many at once
        model.one_piece.flat(loss).backward()
        (flat,) = model.trained()
    torch.testing.assert_close(flat.grad, apart, rtol=1e-5, atol=1e-6)


def test_what_a_network_reads_at_once_are_views_of_its_parameters():
    model = torch.nn.ModuleDict({name: torch.nn.Linear(3, 2) for name in "abcd"})
    layers = [model[name] for name in "abcd"]
    with in_one_piece(model):
        piece = model.__dict__[HELD_BY]
        every = piece.stacked([layer.weight for layer in layers])
        some = piece.stacked([layer.weight for layer in layers[1:3]])
        apart = piece.stacked([layers[0].bias, layers[1].bias, layers[3].bias])
        assert len(piece.read) == 2  # the third is no view
        assert torch.equal(every, torch.stack([layer.weight for layer in layers]))
        assert torch.equal(some, every[1:3])
        piece.flat(every.sum() + 2 * some.sum() + 3 * apart.sum() + 5 * layers[0].weight.sum()).backward()
        steps = [*[6.0] * 6, *[3.0] * 2, *[3.0] * 6, *[3.0] * 2, *[3.0] * 6, *[0.0] * 2, *[1.0] * 6, *[3.0] * 2]
        assert piece.whole.grad.tolist() == steps
        with torch.no_grad():
            piece.whole.add_(1.0)
        assert torch.equal(piece.stacked([layer.weight for layer in layers]), every + 1)
    assert HELD_BY not in model.__dict__


def test_gradients_of_what_is_read_many_times_add_up_as_they_do_apart():
    torch.manual_seed(0)
    parts = [torch.nn.Parameter(torch.randn(50)) for _ in range(4)]
    factors = torch.randn(5, 4, 50)

    def loss(stacked: Callable[[list[torch.Tensor]], torch.Tensor]) -> torch.Tensor:
        every = [(stacked(parts) * factor).sum() for factor in factors]
        return torch.stack([*every, stacked(parts[1:3]).pow(3).sum()]).sum()

    apart = torch.autograd.grad(loss(torch.stack), parts)
    with in_one_piece(model := torch.nn.ParameterList(parts)):
        piece = model.__dict__[HELD_BY]
        loss(piece.stacked)  # what comes to nothing leaves nothing
        for _ in range(2):
            piece.whole.grad = None
            piece.flat(loss(piece.stacked)).backward()
            assert torch.equal(piece.whole.grad, torch.cat(apart))
        with torch.no_grad():
            loss(piece.stacked)
        assert not piece.read

"""Segments over threads: each does its part of a batch alone, and the parts are added up in order.

A step is hundreds of small operations. Splitting each over cores costs more than it brings; splitting the batch does
not. Compiled loops and matrix products leave the interpreter free meanwhile.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch

from oihedge.forecast.folding import Folded
from oihedge.forecast.fused import Dropper, applied
from oihedge.forecast.panel import Ints
from oihedge.forecast.segments import Batch, Cover
from oihedge.forecast.shared import contexts, forward_shared
from oihedge.forecast.threads import torch_threads

Tensor = torch.Tensor
WORTH_SPLITTING = 16
"""Windows from which on a forecast is shared among threads: below, starting and joining them takes longer."""
_In = TypeVar("_In")
_Out = TypeVar("_Out")


def parallel_loss(
    folded: Folded, batch: Batch, seeds: Sequence[int | None], *, compiled: bool, bf16: bool = False
) -> Tensor:
    """Return the quantile loss of a batch, as pytorch-forecasting counts it, worked out by one thread per seed.

    The gradients are worked out with it where they are wanted, so that a thread goes once through its part.

    Args:
        folded: a TFT with a MultiLoss or QuantileLoss.
        batch: the windows.
        seeds: of the parts' dropout; None drops nothing.
        compiled: whether to use compiled loops.
        bf16: whether windows' matrix products are in bfloat16; series' contexts, a thousandth of them, are not.
    """
    network = folded.network
    with_gradient = torch.is_grad_enabled()
    said = contexts(folded, batch.segments, Dropper(seed=seeds[0], compiled=compiled))
    bounds = _bounds(len(batch.segments.offsets), len(seeds))
    shared, direct = list(folded.tensors.values()), list(folded.direct)

    def one(number: int) -> tuple[Tensor, Sequence[Tensor | None], Sequence[Tensor]]:
        with torch.set_grad_enabled(with_gradient):
            mine, of = folded.cut_off() if with_gradient else folded, slice(*bounds[number])
            context = {name: value[of].detach().requires_grad_(with_gradient) for name, value in said.items()}
            seed = seeds[number]
            drop = Dropper(seed=None if seed is None else seed + 1, compiled=compiled, bf16=bf16)
            part = batch.part(*bounds[number])
            loss = quantile_loss(network, _said(mine, context, part, drop), part.targets)
            loss = loss * ((of.stop - of.start) / len(batch.segments.offsets))
            if not with_gradient:
                return loss, (), ()
            inputs = [*mine.tensors.values(), *direct, *context.values()]
            gradients = torch.autograd.grad(loss, inputs, allow_unused=True)
            cut = len(inputs) - len(context)
            return loss.detach(), gradients[:cut], gradients[cut:]

    done = spread(one, range(len(bounds)))
    total = torch.stack([loss for loss, *_ in done]).sum()
    if not with_gradient:
        return total
    of_weights = _added([weights for _, weights, _ in done])
    of_contexts = [torch.cat(parts) for parts in zip(*(context for *_, context in done), strict=True)]
    loss: Tensor = applied(Ready, total, [*of_weights, *of_contexts], *shared, *direct, *said.values())
    return loss


def predict_in_parallel(folded: Folded, cover: Cover, workers: int, *, compiled: bool) -> list[Tensor]:
    """Return, part by part of the cover, what the network says: (windows, targets, horizon, outputs)."""
    drop = Dropper(compiled=compiled)

    def one(span: tuple[Ints, Ints]) -> Tensor:
        part = cover.rows.batch(*span)
        with torch.inference_mode():
            return torch.stack(_said(folded, contexts(folded, part.segments, drop), part, drop), dim=1)

    parts = 1 if len(cover.order) < WORTH_SPLITTING else workers
    cut = [(first[a:b], offsets[a:b]) for first, offsets in cover.spans for a, b in _bounds(len(first), parts)]
    return spread(one, cut, parts)


def _bounds(segments: int, parts: int) -> list[tuple[int, int]]:
    """Return where `segments` are cut into at most `parts`, as even as can be."""
    cuts = [round(segments * n / min(parts, segments)) for n in range(min(parts, segments) + 1)]
    return list(itertools.pairwise(cuts))


def _said(folded: Folded, context: Mapping[str, Tensor], part: Batch, drop: Dropper) -> list[Tensor]:
    network, said = folded.network, forward_shared(folded, context, part.segments, drop)
    if not part.scales:
        return said
    scales = list(part.scales) if network.n_targets > 1 else part.scales[0]
    back = network.transform_output(said if network.n_targets > 1 else said[0], target_scale=scales)
    return back if network.n_targets > 1 else [back]


def quantile_loss(network: Any, said: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """Return what pytorch-forecasting's QuantileLoss says, weighted and summed over targets by its MultiLoss."""
    losses = getattr(network.loss, "metrics", [network.loss])
    weights = getattr(network.loss, "weights", [1.0])
    total = said[0].new_zeros(())
    for prediction, actual, loss, weight in zip(said, targets, losses, weights, strict=True):
        levels = prediction.new_tensor(loss.quantiles)
        miss = actual[..., None] - prediction
        total = total + weight * 2.0 * torch.maximum((levels - 1.0) * miss, levels * miss).mean()
    return total


def spread(task: Callable[[_In], _Out], work: Sequence[_In], workers: int | None = None) -> list[_Out]:
    """Do `work` in threads, each with one core, and return what comes in the order of the work."""
    if len(work) < 2 or workers == 1:
        return [task(one) for one in work]
    with torch_threads(1), ThreadPoolExecutor(min(workers or len(work), len(work))) as pool:
        return list(pool.map(task, work))


def _added(parts: Sequence[Sequence[Tensor | None]]) -> list[Tensor | None]:
    """Add up parts' gradients, tensor by tensor; what one part does not use (None), no part does."""
    total, *others = ([one for one in part if one is not None] for part in parts)
    for other in others:
        total = list(torch._foreach_add(total, other))
    sums = iter(total)
    return [None if one is None else next(sums) for one in parts[0]]


class Ready(torch.autograd.Function):
    """A loss whose gradients are known already."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, gradients: list[Tensor | None], *parameters: Tensor) -> Tensor:
        """Keep the gradients of `parameters`."""
        ctx.gradients = gradients
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, d_loss: Tensor) -> tuple[Any, ...]:
        """Return the gradients, times `d_loss`."""
        there = [one for one in ctx.gradients if one is not None]
        free = d_loss.device.type == "cpu" and d_loss == 1  # to ask a GPU is to wait for it
        scaled = iter(there if free else torch._foreach_mul(there, d_loss))
        return None, None, *(None if one is None else next(scaled) for one in ctx.gradients)

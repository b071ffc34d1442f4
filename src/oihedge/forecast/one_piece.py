"""A network's parameters as views of one: clipping, stepping and stacking are a few operations instead of hundreds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import torch

from oihedge.forecast.fused import applied
from oihedge.forecast.parallel import Ready

Tensor = torch.Tensor
HELD_BY = "_one_piece"


class OnePiece:
    """The parameters of `network`, views of `whole` in their order.

    `read`: what was read at once since the last `flat`, the latest last, each with the place of its gradient.
    """

    def __init__(self, network: torch.nn.Module) -> None:
        self._parts = list(network.parameters())
        self.whole = torch.nn.Parameter(torch.cat([part.detach().flatten() for part in self._parts]))
        self._gradient = torch.zeros_like(self.whole)
        sizes = [part.numel() for part in self._parts]
        for part, view in zip(self._parts, torch.split(self.whole.data, sizes), strict=True):
            part.data = view.view_as(part)
        slots = torch.split(self._gradient, sizes)
        self._slots = [slot.view_as(part) for part, slot in zip(self._parts, slots, strict=True)]
        self._rows: dict[tuple[int, ...], tuple[Tensor, Tensor] | None] = {}
        self.read: list[tuple[Tensor, Tensor]] = []

    def stacked(self, parts: list[Tensor]) -> Tensor:
        """Return parameters of one shape as torch.stack does, but read at once where they lie equally far apart.

        What is read so is a leaf: its gradient goes from there to its place by `flat`, past the parameters.
        """
        key = tuple(map(id, parts))
        if key not in self._rows:
            self._rows[key] = self._found(parts)
        rows = self._rows[key]
        if rows is None:
            return torch.stack(parts)
        weights, slot = rows
        read = weights.detach().contiguous()
        if torch.is_grad_enabled():
            self.read.append((read.requires_grad_(), slot))
        return read

    def flat(self, loss: Tensor) -> Tensor:
        """Return the same loss, whose gradient, worked out here, goes to `whole`."""
        # A parameter may be read many times, by itself too: sums are in the order in which autograd adds up.
        leaves = [*reversed(self.read), *zip(self._parts, self._slots, strict=True)]
        found = torch.autograd.grad(loss, [leaf for leaf, _ in leaves], allow_unused=True)
        there = [(slot, one) for (_, slot), one in zip(leaves, found, strict=True) if one is not None]
        self.read.clear()
        self._gradient.zero_()
        torch._foreach_add_([slot for slot, _ in there], [one for _, one in there])
        ready: Tensor = applied(Ready, loss.detach(), [self._gradient], self.whole)
        return ready

    def apart(self) -> None:
        """Let each parameter stand by itself again."""
        for part in self._parts:
            part.data = part.data.clone()

    def _found(self, parts: Sequence[Tensor]) -> tuple[Tensor, Tensor] | None:
        """Return one view of the parameters and one of the places of their gradients, if they lie equally far apart."""
        starts, first = [part.storage_offset() for part in parts], parts[0]
        gaps = {after - before for before, after in pairwise(starts)} or {first.numel()}
        if len(gaps) > 1 or min(gaps) < first.numel() or any(part.shape != first.shape for part in parts):
            return None
        place = (len(parts), *first.shape), (gaps.pop(), *first.stride()), starts[0]
        return self.whole.data.as_strided(*place), self._gradient.as_strided(*place)


@contextmanager
def in_one_piece(network: torch.nn.Module) -> Iterator[None]:
    """Let all parameters be views of one meanwhile, `network.one_piece`."""
    piece = network.__dict__[HELD_BY] = OnePiece(network)
    try:
        yield
    finally:
        del network.__dict__[HELD_BY]
        piece.apart()

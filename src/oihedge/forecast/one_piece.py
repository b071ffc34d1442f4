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
    """The parameters of `network`, views of `whole` in their order."""

    def __init__(self, network: torch.nn.Module) -> None:
        self._parts = list(network.parameters())
        self.whole = torch.nn.Parameter(torch.cat([part.detach().flatten() for part in self._parts]))
        views = torch.split(self.whole.data, [part.numel() for part in self._parts])
        for part, view in zip(self._parts, views, strict=True):
            part.data = view.view_as(part)
        self._stacks: dict[tuple[int, ...], Tensor] = {}
        self._rows: dict[tuple[int, ...], tuple[Tensor, int] | None] = {}

    @property
    def leaves(self) -> tuple[Tensor, ...]:
        """Return what gradients can go to: the parameters, and the views through which many are read at once."""
        return (*self._parts, *self._stacks.values())

    def stacked(self, parts: list[Tensor]) -> Tensor:
        """Return parameters of one shape as torch.stack does, but as rows of one view where they lie equally apart."""
        key = tuple(map(id, parts))
        if key not in self._rows:
            self._rows[key] = self._found(key) or self._made(key, parts)
        rows = self._rows[key]
        if rows is None:
            return torch.stack(parts)
        view, first = rows
        return view[first : first + len(parts)].contiguous()

    def flat(self, loss: Tensor) -> Tensor:
        """Return the same loss, whose gradient, worked out here, goes to `whole`."""
        gradient, leaves = torch.zeros_like(self.whole), self.leaves
        for leaf, one in zip(leaves, torch.autograd.grad(loss, leaves, allow_unused=True), strict=True):
            if one is not None:  # a parameter may be read by itself and through a view
                gradient.as_strided(leaf.size(), leaf.stride(), leaf.storage_offset()).add_(one)
        ready: Tensor = applied(Ready, loss.detach(), [gradient], self.whole)
        return ready

    def apart(self) -> None:
        """Let each parameter stand by itself again."""
        for part in self._parts:
            part.data = part.data.clone()

    def _found(self, key: tuple[int, ...]) -> tuple[Tensor, int] | None:
        """Return where parameters lie in an earlier stack: what both read gets one gradient, in one order."""
        for other, view in self._stacks.items():
            for first in range(len(other) - len(key) + 1):
                if other[first : first + len(key)] == key:
                    return view, first
        return None

    def _made(self, key: tuple[int, ...], parts: Sequence[Tensor]) -> tuple[Tensor, int] | None:
        starts, first = [part.storage_offset() for part in parts], parts[0]
        gaps = {after - before for before, after in pairwise(starts)} or {first.numel()}
        if len(gaps) > 1 or min(gaps) < first.numel() or any(part.shape != first.shape for part in parts):
            return None
        view = self.whole.data.as_strided((len(parts), *first.shape), (gaps.pop(), *first.stride()), starts[0])
        self._stacks[key] = view.requires_grad_()
        return view, 0


@contextmanager
def in_one_piece(network: torch.nn.Module) -> Iterator[None]:
    """Let all parameters be views of one meanwhile, `network.one_piece`."""
    piece = network.__dict__[HELD_BY] = OnePiece(network)
    try:
        yield
    finally:
        del network.__dict__[HELD_BY]
        piece.apart()

"""How long the TFT of the benchmarks takes at least: its products at the matrix peak, its numbers at the copy rate."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from synthetic import HIDDEN, VARIABLES


def spent(task: Callable[[], Any]) -> float:
    """Return the seconds that `task` takes."""
    began = time.perf_counter()
    task()
    return time.perf_counter() - began


def peaks() -> tuple[float, float]:
    """Return the floating-point operations a second of large products, and the bytes a second of copying, measured."""
    a, big = torch.randn(2048, 2048), torch.randn(1 << 26)
    there = big.clone()  # into memory that is there: otherwise what is measured is the kernel handing out pages
    torch.mm(a, a)
    products = 2 * 2048**3 / min(spent(lambda: torch.mm(a, a)) for _ in range(5))
    return products, 2 * big.numel() * 4 / min(spent(lambda: there.copy_(big)) for _ in range(5))


def floor(rows: int, steps: int, passes: int, measured: tuple[float, float]) -> tuple[float, float]:
    """Return the least milliseconds by arithmetic and by memory.

    Memory: each number that one layer hands to the next is written once and read once.

    Args:
        rows: hours whose variables are selected: once where windows share it, once a window where they do not.
        steps: hours of all windows, each through recurrence, attention and heads.
        passes: 1 forward; 3 with backward, which multiplies twice as much.
        measured: `peaks`.
    """
    h, c = HIDDEN["hidden_size"], HIDDEN["hidden_continuous_size"]
    per_variable = c * c * 2 + c * 2 * h  # two layers and the gate
    choosing = VARIABLES * (VARIABLES * 3)
    row = VARIABLES * per_variable + choosing + h * 4 * h
    step = h * 4 * h + h * 2 * h + 2 * h * h + h * 2 * h + h * h + h * h // HIDDEN["attention_head_size"]
    row_out = VARIABLES * (c + h + 1) + h + 4 * h  # embedded, transformed, weights; chosen; the LSTM's input half
    step_out = 6 * h  # LSTM, its gate, enrichment, attention, its gate, feed-forward
    products, copied = measured
    operations, numbers = 2.0 * passes * (rows * row + steps * step), passes * (rows * row_out + steps * step_out)
    return 1e3 * operations / products, 1e3 * 2 * 4 * numbers / copied

"""Dropout by a hash: no mask is kept, the way back works it out again."""

from __future__ import annotations

from typing import Any

from oihedge.forecast.compiled.compiling import compiled
from oihedge.forecast.compiled.lanes import WIDTH, dropped
from oihedge.forecast.compiled.maths import Array, get, put


@compiled
def dropout(x: Array, seed: int, threshold: int, scale: Any, out: Array) -> None:
    """Out = x * scale where a hash of (seed, position) is at or above `threshold`, else 0; all flat."""
    size = x.shape[0]
    for i in range(0, size, WIDTH):
        put(out, i, size - i, dropped(get(x, i, size - i), i, seed, threshold, scale))

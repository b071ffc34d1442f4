"""Dropout by a hash: no mask is kept, the way back works it out again."""

from __future__ import annotations

from typing import Any

import numpy as np

from oihedge.forecast.compiled.maths import ZERO, Array, compiled


@compiled
def dropout(
    x: Array,
    seed: Any,
    threshold: Any,
    scale: Any,
    out: Array,
) -> None:
    """Out = x * scale where a hash of (seed, position) is at or above `threshold`, else 0; all flat."""
    for i in range(x.shape[0]):
        bits = np.uint32(np.uint32(i) * np.uint32(0x9E3779B1) + seed)
        bits = np.uint32(bits ^ (bits >> np.uint32(16)))
        bits = np.uint32(bits * np.uint32(0x7FEB352D))
        bits = np.uint32(bits ^ (bits >> np.uint32(15)))
        bits = np.uint32(bits * np.uint32(0x846CA68B))
        bits = np.uint32(bits ^ (bits >> np.uint32(16)))
        out[i] = x[i] * scale if bits >= threshold else ZERO

"""Memory that one training step frees and the next one needs again.

glibc hands freed memory back to the system, and each step then gets it anew page by page, zeroed: thousands of page
faults. While a network trains it is kept. Nor does Python's collector, which each step's graph wakes, walk every time
through the million objects that were there before. Before that, the threads of a retrain's many libraries are told to
allocate from few places: each such place keeps for itself what was freed in it.
"""

from __future__ import annotations

import ctypes
import gc
import platform
from collections.abc import Iterator
from contextlib import contextmanager

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, ARENA_MAX = -1, -2, -3, -8
"""Of mallopt(3)."""
MIB = 1 << 20
KEPT = {MMAP_THRESHOLD: 32 * MIB, TRIM_THRESHOLD: 1024 * MIB, TOP_PAD: 64 * MIB}
USUAL = {MMAP_THRESHOLD: 32 * MIB, TRIM_THRESHOLD: 64 * MIB, TOP_PAD: 128 << 10}
"""What glibc's own thresholds rise to once blocks of such sizes have been freed."""


def few_arenas() -> None:
    """Let this process's threads share what glibc allocates from, from now on: a retrain peaks some 140 MB lower."""
    libc = _glibc()
    if libc is not None:
        _set(libc, {ARENA_MAX: 2})


@contextmanager
def kept_memory() -> Iterator[None]:
    """Let this process keep what it frees, up to a gigabyte on glibc, and leave its older objects uncollected."""
    libc = _glibc()
    if libc is not None:
        _set(libc, KEPT)
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        if libc is not None:
            _set(libc, USUAL)
            libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None


def _set(libc: ctypes.CDLL, options: dict[int, int]) -> None:
    for option, value in options.items():
        libc.mallopt(option, value)

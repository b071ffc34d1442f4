"""Memory that one training step or forecast frees and the next one needs again.

glibc hands freed memory back to the system, and each step then gets it anew page by page, zeroed: thousands of page
faults. While a network trains or forecasts years it is kept. Nor does Python's collector, which each step's graph
wakes, walk every time through the million objects that were there before.

Between such stretches a job that trains keeps as little as it can: in what it would keep, the next stretch finds no
whole place, and takes more.
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
LEAN = {MMAP_THRESHOLD: MIB, TRIM_THRESHOLD: 4 * MIB, TOP_PAD: 128 << 10, ARENA_MAX: 2}
"""Arrays apart from small objects, and few places that threads allocate from: each keeps what was freed in it."""

_otherwise = dict(USUAL)
"""What holds outside `kept_memory`. As the thresholds themselves it is of the whole process."""


def lean_memory() -> None:
    """Let this process, from now on, give back what it frees outside `kept_memory`: for a job that trains and ends."""
    libc = _glibc()
    if libc is not None:
        _otherwise.update(LEAN)
        _set(libc, LEAN)


@contextmanager
def kept_memory() -> Iterator[None]:
    """Let this process keep what it frees, up to a gigabyte on glibc, and leave its older objects uncollected.

    One at a time: of two, the first to end ends it for both.
    """
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)
        _set(libc, KEPT)
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        if libc is not None:
            _set(libc, _otherwise)
            libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None


def _set(libc: ctypes.CDLL, options: dict[int, int]) -> None:
    for option, value in options.items():
        libc.mallopt(option, value)

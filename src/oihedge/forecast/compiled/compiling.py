"""How the loops are compiled, and where their code is kept."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache, IndexDataCacheFile

_OPTIONS = {"nogil": True, "error_model": "numpy", "_nrt": False}
"""Without numba's runtime (_nrt) views are not counted, which would take longer than short loops; nothing can be
allocated then, and callers bring arrays to work in."""
_SOURCES = hashlib.sha256(
    b"".join(file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py")))
).hexdigest()


class _Kept(FunctionCache):  # type: ignore[misc]
    """Numba's place for compiled code, beside Python's own, by the sources of all loops.

    A loop's code holds what it calls in the other files, which numba does not look at. Code that cannot be read is made
    anew, and where it cannot be written each process makes its own.
    """

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        self._cache_file = IndexDataCacheFile(self._cache_path, self._impl.filename_base, _SOURCES)

    def load_overload(self, *asked: Any) -> Any:
        """Return the code kept for a signature, or None."""
        try:
            return super().load_overload(*asked)
        except Exception:  # a file cut short or damaged ends in whatever unpickling comes upon
            with suppress(OSError):
                self.flush()
            return None

    def save_overload(self, *made: Any) -> None:
        """Keep the code made for a signature, if there is room."""
        with suppress(OSError):
            super().save_overload(*made)


def compiled(function: Any) -> Any:
    """Compile for one thread, once per machine."""
    loop = numba.njit(**_OPTIONS)(function)
    with suppress(RuntimeError):  # neither beside the source nor in the user's own folder
        loop._cache = _Kept(function)
    return loop


def inlined(function: Any) -> Any:
    """Compile into whatever calls it."""
    return numba.njit(**_OPTIONS, inline="always")(function)

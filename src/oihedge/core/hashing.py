"""Stable digests: same content, same hash, on every machine."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parents[1]


def canonical_json(value: Any) -> str:
    """Serialise with sorted keys, no white space and no NaN.

    Raises:
        ValueError: if `value` holds NaN or infinity.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=str)


def digest(value: Any, length: int = 16) -> str:
    """Return the first `length` hex digits of the sha256 of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:length]


@cache
def code_version(version: str) -> str:
    """Return `version` with a digest of the package's own source, so that an edit without a release shows."""
    sources = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        sources.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return f"{version}+{sources.hexdigest()[:12]}"

"""Unmodified ccxt clients whose addresses are moved to a loopback server."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import ccxt


def client(name: str, root: str, **options: Any) -> Any:
    """Make the synchronous client of a venue; only its `urls` are rewritten."""
    venue = getattr(ccxt, name)({"enableRateLimit": False, "timeout": 20_000, "options": options})
    venue.urls["api"] = _moved(venue.urls["api"], root, venue.hostname or "")
    return venue


def ms(moment: datetime) -> int:
    """Write an instant as venues do."""
    return int(moment.timestamp() * 1000)


def _moved(urls: Any, root: str, hostname: str) -> Any:
    if isinstance(urls, dict):
        return {key: _moved(value, root, hostname) for key, value in urls.items()}
    path = urls.replace("{hostname}", hostname).split("://", 1)[1]
    return root + "/" + path.partition("/")[2] if "/" in path else root

"""Put the previous champion back, at once."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from oihedge.config import Config
from oihedge.jobs.opening import open_registry


@dataclass(frozen=True)
class RollbackReport:
    """Which version was in service and which is now."""

    before: str
    champion: str

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def run(config: Config, *, as_of: datetime, reason: str) -> RollbackReport:
    """Move the champion alias to the version that held it before, and write that into the ledger.

    Raises:
        ModelError: if there is no previous champion.
    """
    registry = open_registry(config)
    before = registry.champion()
    now = registry.rollback(at=as_of, reason=reason)
    return RollbackReport(before.version if before else "", now.version)

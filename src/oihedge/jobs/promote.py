"""Put the challenger in service if every gate held; nothing else does."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from oihedge.config import Config
from oihedge.core.errors import ModelError
from oihedge.core.types import Gate
from oihedge.evaluation.gates import passed
from oihedge.jobs.opening import open_registry


@dataclass(frozen=True)
class PromoteReport:
    """What became of the challenger."""

    promoted: bool
    version: str
    champion: str
    reason: str
    gates: tuple[dict[str, Any], ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def run(config: Config, *, as_of: datetime) -> PromoteReport:
    """Judge the newest challenger by the gates on its run; write the promotion or the refusal into the ledger.

    A promotion or rollback whose process died half-way is completed first.

    Raises:
        ModelError: if there is no challenger.
    """
    registry = open_registry(config)
    registry.settle()
    challenger = registry.challenger()
    if challenger is None:
        raise ModelError("there is no challenger to promote", expected="a finished retrain", do="run oihedge retrain")
    judged = registry.read_json(challenger.run_id, "gates.json")
    stored = judged["gates"]
    verdicts = [Gate(**gate) for gate in stored]
    champion = registry.champion()
    if champion is not None and champion.version == challenger.version:
        return PromoteReport(True, challenger.version, champion.version, "is already the champion", tuple(stored))
    failed = [gate.name for gate in verdicts if not gate.passed or gate.value is None]
    rolled_back = registry.rolled_back(challenger)
    outdated = judged.get("champion") != (champion.version if champion else "")
    promoted = passed(verdicts) and not rolled_back and not outdated
    if promoted:
        reason = "every gate held"
        registry.promote(challenger, reason=reason, at=as_of)
    else:
        reason = "refused by " + (", ".join(failed) or "a gate list that is not whole")
        if rolled_back:
            reason = "was rolled back: retrain"
        elif outdated:
            reason = "was judged against another champion: retrain"
        registry.refuse(challenger, reason=reason, at=as_of)
    now = registry.champion()
    return PromoteReport(promoted, challenger.version, now.version if now else "", reason, tuple(stored))

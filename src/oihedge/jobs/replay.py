"""Make a past decision again from what was stored before it, and compare the bytes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl
from pydantic import ValidationError

from oihedge import __version__
from oihedge.config import Config
from oihedge.core.errors import DataError
from oihedge.core.hashing import code_version
from oihedge.jobs.hedge import Inputs, make
from oihedge.jobs.opening import open_lake


@dataclass(frozen=True)
class ReplayReport:
    """Whether the same bytes came out, and what may explain it when they did not."""

    decision_id: str
    same: bool
    status: str
    note: str

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def run(config: Config, decision_id: str) -> ReplayReport:
    """Replay `decision_id` with its own settings, versions, positions, markets and model.

    Raises:
        DataError: if the lake has no such decision.
    """
    lake = open_lake(config)
    mine = pl.col("decision_id") == decision_id
    stored = lake.read("derived", "decision_inputs", where=mine).select("inputs").collect()
    made = lake.read("derived", "decisions", where=mine).select("payload", "status").collect()
    if stored.is_empty() or made.is_empty():
        raise DataError(
            f"there is no decision {decision_id!r} in {config.lake.root}", do="oihedge status names the newest"
        )
    inputs = Inputs(**json.loads(stored["inputs"].item()))
    try:
        then = Config.model_validate_json(json.dumps({**inputs.config, "home": str(config.home)}))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DataError(
            f"decision {decision_id!r} was made with settings that are not allowed any more",
            got=f"{where}: {first['msg']}",
            do=f"replay it with code {inputs.code_version}",
        ) from None
    same = make(lake, then, inputs).payload.decode() == made["payload"].item()
    now = code_version(__version__)
    note = "" if inputs.code_version == now else f"made by code {inputs.code_version}, replayed by {now}"
    return ReplayReport(decision_id, same, made["status"].item(), note)

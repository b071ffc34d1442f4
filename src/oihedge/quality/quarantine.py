"""Bad rows as rows of the quarantine table: whole, with their reason, and found again under the same key."""

from __future__ import annotations

import math
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import polars as pl

from oihedge.core.clock import iso
from oihedge.core.hashing import canonical_json, digest
from oihedge.core.tables import QUARANTINE, UTC_TIME
from oihedge.core.tables import table as table_named

_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


def quarantine_rows(table: str, bad: pl.DataFrame) -> pl.DataFrame:
    """Return `bad` as quarantine rows, without ingested_at.

    Args:
        table: the table they were kept out of.
        bad: its rows with `reason`, as `judge` returns them.

    Returns:
        One row per row of `bad`: payload is the whole row as JSON (NaN and infinities as text); source_key names the
        row by its key and content, so that judging it again adds nothing; available_at is never before ts.
    """
    key = table_named(table).key
    seen: Counter[str] = Counter()
    out = [_quarantined(table, key, row, seen) for row in bad.iter_rows(named=True)]
    schema = {**QUARANTINE.columns, "available_at": UTC_TIME}
    return pl.DataFrame(out, schema=schema, orient="row")


def _quarantined(table: str, key: tuple[str, ...], row: dict[str, Any], seen: Counter[str]) -> dict[str, Any]:
    plain = {name: _plain(value) for name, value in row.items() if name != "reason"}
    content = digest({name: value for name, value in plain.items() if name != "ingested_at"}, 12)
    source = "|".join(str(plain[name]) for name in key) + f"#{content}"
    seen[source] += 1
    again = f"~{seen[source]}" if seen[source] > 1 else ""
    known = [instant for instant in (row["ts"], row["available_at"]) if instant is not None]
    return {
        "table": table,
        "source_key": source + again,
        "reason": row["reason"],
        "venue": row["venue"],
        "symbol": row["symbol"],
        "ts": row["ts"],
        "payload": canonical_json(plain),
        "available_at": max(known, default=_NEVER),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value

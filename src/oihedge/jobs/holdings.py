"""What the lake holds: per layer, table, venue and symbol; each series with its span in time and its holes if asked."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from oihedge.config import Config
from oihedge.core.protocols import Progress, silent
from oihedge.jobs.holes import GRIDDED, holes, series_of
from oihedge.jobs.opening import open_lake
from oihedge.lake.store import Lake

LAYERS = ("raw", "validated")
Lines = list[dict[str, Any]]


@dataclass(frozen=True)
class HoldingsReport:
    """`series`: layer, table, venue, symbol and rows.

    With the time range also `series` (kind, timeframe or measure), first, last, gaps and the rows missing in them, null
    where the table has no grid.
    """

    label: str
    series: tuple[dict[str, Any], ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {"label": self.label, "series": list(self.series)}


def run(config: Config, *, timerange: bool = False, progress: Progress = silent) -> HoldingsReport:
    """List what the lake holds; with `timerange` every series, from when to when, and what is missing within it."""
    lake = open_lake(config)
    gridded = _gridded(lake, progress) if timerange else {}
    found: Lines = []
    for layer, table, venue, symbol, rows, first, last in lake.inventory().iter_rows():
        line = {"layer": layer, "table": table, "venue": venue, "symbol": symbol}
        whole = {"series": None, "rows": rows, "first": first, "last": last, "gaps": None, "missing": None}
        told = gridded.get((layer, table, venue, symbol), [whole]) if timerange else [{"rows": rows}]
        found += [line | one for one in told]
    return HoldingsReport(config.run.label, tuple(found))


def _gridded(lake: Lake, progress: Progress) -> dict[tuple[str, str, str, str], Lines]:
    """Tell every series on a grid with its holes; one series is in memory at a time."""
    lines = [(layer, line) for layer in LAYERS for name in GRIDDED for line in series_of(lake, layer, name)]
    found = defaultdict[tuple[str, str, str, str], Lines](list)
    for done, (layer, line) in enumerate(lines, 1):
        venue, symbol = line.named["venue"], line.named["symbol"]
        lost = [hole.rows for hole in holes(lake, layer, line)]
        told = {"series": line.series, "rows": line.rows, "first": line.first, "last": line.last}
        found[layer, line.table, venue, symbol].append({**told, "gaps": len(lost), "missing": sum(lost)})
        progress(done, len(lines), f"{layer} {line.table} {venue} {symbol} {line.series}".rstrip())
    return found

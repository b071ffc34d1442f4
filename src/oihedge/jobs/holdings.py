"""What the lake holds: per layer, table, venue and symbol, with its span in time and its holes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from oihedge.config import Config
from oihedge.core.protocols import Progress, silent
from oihedge.jobs.holes import GRIDDED, holes, series_of
from oihedge.jobs.opening import open_lake
from oihedge.lake.store import Lake

LAYERS = ("raw", "validated")


@dataclass(frozen=True)
class HoldingsReport:
    """`series`: layer, table, venue, symbol, rows and, where asked for, first, last and gaps (null: no grid)."""

    label: str
    series: tuple[dict[str, Any], ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {"label": self.label, "series": list(self.series)}


def run(config: Config, *, timerange: bool = False, progress: Progress = silent) -> HoldingsReport:
    """List what the lake holds; with `timerange` also from when to when, and in how many places rows are missing."""
    lake = open_lake(config)
    gaps = _gaps(lake, progress) if timerange else {}
    series = []
    for layer, table, venue, symbol, rows, first, last in lake.inventory().iter_rows():
        line = {"layer": layer, "table": table, "venue": venue, "symbol": symbol, "rows": rows}
        if timerange:
            on_grid = layer in LAYERS and table in GRIDDED
            line |= {"first": first, "last": last}
            line["gaps"] = gaps.get((layer, table, venue, symbol), 0) if on_grid else None
        series.append(line)
    return HoldingsReport(config.run.label, tuple(series))


def _gaps(lake: Lake, progress: Progress) -> Counter[tuple[str, str, str, str]]:
    """Count the holes of every series on a grid; one series is in memory at a time."""
    lines = [(layer, line) for layer in LAYERS for name in GRIDDED for line in series_of(lake, layer, name)]
    found: Counter[tuple[str, str, str, str]] = Counter()
    for done, (layer, line) in enumerate(lines, 1):
        named = line.named
        found[layer, line.table, named["venue"], named["symbol"]] += sum(1 for _ in holes(lake, layer, line))
        progress(done, len(lines), f"{layer} {line.table} {named['venue']} {named['symbol']}")
    return found

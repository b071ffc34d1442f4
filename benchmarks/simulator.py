"""A year of hourly data of the whole embedded market, beside as many rows of plain geometric Brownian motion.

Run by `make bench-simulator`. The last line is one JSON object.
"""

from __future__ import annotations

import json
import statistics
import time
from datetime import UTC, datetime

import numpy as np

from oihedge.config import load
from oihedge.market.settings import Venue
from oihedge.simulator.market import EmbeddedMarket

START, END = datetime(2024, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC)
RUNS = 5


def year(market: EmbeddedMarket, venues: tuple[Venue, ...]) -> int:
    """Make every series of the year and return the number of rows."""
    rows = 0
    for venue in venues:
        for asset in venue.symbols:
            rows += market.bars(asset, venue.id, venue.kind, START, END).height
            if venue.kind == "perp":
                rows += market.open_interest(asset, venue.id, START, END).height
                rows += market.funding(asset, venue.id, START, END).height
    return rows


def reference(rows: int) -> None:
    """Draw twelve 5-minute points a row and fold them into bars: what a market without any mechanism would cost."""
    points = np.random.default_rng(0).standard_normal((rows, 12)).cumsum(axis=1)
    np.column_stack([points[:, 0], points.max(axis=1), points.min(axis=1), points[:, -1]])


def main() -> None:
    """Print the table and the JSON line."""
    config = load()
    ours, plain, rows = [], [], 0
    for _ in range(RUNS):
        began = time.perf_counter()
        rows = year(EmbeddedMarket(config.simulator), config.market.venues)
        ours.append(time.perf_counter() - began)
        began = time.perf_counter()
        reference(rows)
        plain.append(time.perf_counter() - began)
    seconds, base = statistics.median(ours), statistics.median(plain)
    print(f"{rows} hourly rows of a year (simulated market), median of {RUNS}")
    print(f"embedded market        {seconds:6.2f} s   (min {min(ours):.2f}, max {max(ours):.2f})")
    print(f"plain Brownian motion  {base:6.2f} s")
    print(json.dumps({"year_s": round(seconds, 3), "rows": rows, "ratio_vs_brownian": round(seconds / base, 1)}))


if __name__ == "__main__":
    main()

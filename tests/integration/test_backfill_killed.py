"""Backfills killed with -9 and run again: they go on at the chunk and end with the rows of an undisturbed one."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from fakes.loopback_venue import LoopbackVenue
from fakes.market_settings import PERPS, SPOTS, market

from oihedge.config import Config, load
from oihedge.core.clock import FixedClock
from oihedge.core.tables import MARKET_TABLES
from oihedge.jobs import backfill
from oihedge.jobs.opening import open_lake, serving

NOW = datetime(2025, 7, 1, 0, 5, tzinfo=UTC)
TESTS = Path(__file__).parents[1]
VENUES = ("binanceusdm", "bybit", "hyperliquid", "binance")
WORK = """
import sys
from datetime import datetime
from pathlib import Path
sys.path.insert(0, {tests!r})
from fakes.market_settings import PERPS, SPOTS, market
from oihedge.config import load
from oihedge.jobs import backfill
def tell(done, total, what, lane=""):
    print(done, lane, what, flush=True)
home, url, start, end, now = Path({home!r}), {url!r}, *map(datetime.fromisoformat, {instants!r})
if {simulated!r}:
    config = load(("market.chunk_rows=6000",), home=home)
    backfill.run(config, start=start, end=end, as_of=now, market_url=url, venues={venues!r}, progress=tell)
else:
    config = load(("market=ccxt",), home=home).model_copy(update={{"market": market(*PERPS, SPOTS[0])}})
    planned = backfill.plan(config, start=start, end=end, as_of=now)
    backfill.carry_out(config, planned.chunks, as_of=now, url=url, progress=tell)
"""


def kill_in_the_middle(home: Path, url: str, start: datetime, end: datetime, *, simulated: bool, chunks: int) -> int:
    """Start a backfill in a process of its own and kill it somewhere after `chunks` chunks; return its exit status."""
    instants = [instant.isoformat() for instant in (start, end, NOW)]
    code = WORK.format(tests=str(TESTS), home=str(home), url=url, instants=instants, simulated=simulated, venues=VENUES)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            chunks -= not line.startswith("0 ")
            if chunks <= 0:
                break
        time.sleep(random.uniform(0, 0.3))
        os.kill(child.pid, signal.SIGKILL)
    return child.returncode


def stored(config: Config) -> dict[str, pl.DataFrame]:
    lake = open_lake(config)
    return {spec.name: lake.rows("raw", spec.name).sort(spec.key).collect() for spec in MARKET_TABLES}


@pytest.mark.long
def test_a_backfill_killed_half_way_goes_on_at_the_chunk_and_ends_with_the_same_rows(tmp_path: Path) -> None:
    start, end = datetime(2025, 3, 20, tzinfo=UTC), datetime(2025, 6, 10, tzinfo=UTC)
    killed, whole = (
        load(("market=ccxt",), home=tmp_path / name).model_copy(update={"market": market(*PERPS, SPOTS[0])})
        for name in ("killed", "whole")
    )
    with LoopbackVenue(int(NOW.timestamp() * 1000)) as loopback:
        status = kill_in_the_middle(killed.home, loopback.url, start, end, simulated=False, chunks=5)
        assert status == -signal.SIGKILL
        for config in (killed, whole):
            planned = backfill.plan(config, start=start, end=end, as_of=NOW)
            backfill.carry_out(config, planned.chunks, as_of=NOW, url=loopback.url)
            if config is killed:
                assert planned.finished > 0
                assert 0 < len(planned.chunks) <= 16 - 5, "at least the chunks that were told as done are skipped"
    resumed, undisturbed = stored(killed), stored(whole)
    assert all(rows.height for rows in undisturbed.values())
    assert all(resumed[name].equals(rows) for name, rows in undisturbed.items())


@pytest.mark.long
def test_a_year_over_four_venues_killed_three_times_ends_with_the_rows_of_an_undisturbed_one(tmp_path: Path) -> None:
    start, end = datetime(2024, 7, 1, tzinfo=UTC), datetime(2025, 7, 1, tzinfo=UTC)
    killed, whole = (load(("market.chunk_rows=6000",), home=tmp_path / name) for name in ("killed", "whole"))
    days = {"start": start, "end": end, "as_of": NOW, "venues": VENUES}
    with serving(killed, FixedClock(NOW)) as url:
        left = [len(backfill.plan(killed, **days).chunks)]
        for _ in range(3):
            told = random.randint(1, max(1, left[0] // 5))
            status = kill_in_the_middle(killed.home, url, start, end, simulated=True, chunks=told)
            assert status == -signal.SIGKILL
            left.append(len(backfill.plan(killed, **days).chunks))
        assert left == sorted(left, reverse=True)
        assert left[0] > left[-1] > 0
        resumed = backfill.run(killed, **days, market_url=url)
        backfill.run(whole, **days, market_url=url)
    assert resumed.finished_before > 0
    assert resumed.failures == ()
    rows, undisturbed = stored(killed), stored(whole)
    assert all(frame.height > 1000 for frame in undisturbed.values())
    assert all(rows[name].equals(frame) for name, frame in undisturbed.items())

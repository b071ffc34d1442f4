"""Features over forty million synthetic minute bars: seconds and peak memory, for a quarter, a half and the whole.

Run by `make bench-features`. Each build is a process of its own, whose peak resident memory the kernel tells. The last
line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from oihedge.config import Config, load
from oihedge.core.tables import UTC_TIME
from oihedge.jobs.featuring import compute
from oihedge.jobs.opening import open_lake

START, BLOCK, MINUTE, HOUR = (
    datetime(2017, 1, 1, tzinfo=UTC),
    timedelta(days=30),
    timedelta(minutes=1),
    timedelta(hours=1),
)
ASSETS = ("BTC", "ETH", "NEAR")
SERIES = (("binance", "spot", "{}/USDT"), ("binanceusdm", "perp", "{}/USDT:USDT"), ("bybit", "perp", "{}/USDT:USDT"))
SETTINGS = (
    "features.timeframe=1m", "features.oi_venues=[binanceusdm,bybit]", "features.funding_venues=[binanceusdm,bybit]",
)  # fmt: skip


def settings(home: Path) -> Config:
    """Return the settings of the synthetic lake at `home`."""
    return load(SETTINGS, home=home)


def stamps(start: datetime, end: datetime, every: str) -> pl.Series:
    """Return the instants of [start, end)."""
    return pl.datetime_range(start, end, every, closed="left", time_zone="UTC", eager=True).cast(UTC_TIME)


def named(frame: pl.DataFrame, venue: str, symbol: str, asset: str, delay: timedelta, **more: str) -> pl.DataFrame:
    """Add what tells one series from another."""
    names = {"venue": venue, "symbol": symbol.format(asset), "asset": asset, **more}
    return frame.with_columns(
        available_at=pl.col("ts") + delay, **{name: pl.lit(value) for name, value in names.items()}
    )


def fill(home: Path, days: int) -> int:
    """Write the random walks, a block of days at a time, and return the number of minute rows."""
    lake, draw, rows = open_lake(settings(home)), np.random.default_rng(7), 0
    price = dict.fromkeys(ASSETS, 100.0)
    for number, at in enumerate(START + BLOCK * i for i in range(-(-days // BLOCK.days))):
        end = min(at + BLOCK, START + timedelta(days=days))
        minutes, hours, bars, coins, paid = stamps(at, end, "1m"), stamps(at, end, "1h"), [], [], []
        for asset in ASSETS:
            close = price[asset] * np.exp(np.cumsum(draw.normal(0, 5e-4, len(minutes))))
            opened = np.r_[price[asset], close[:-1]]
            price[asset] = float(close[-1])
            frame = pl.DataFrame(
                {"ts": minutes, "open": opened, "high": np.maximum(opened, close), "low": np.minimum(opened, close),
                 "close": close, "volume": np.ones(len(close))}
            )  # fmt: skip
            for venue, kind, symbol in SERIES:
                bars.append(named(frame, venue, symbol, asset, MINUTE, kind=kind, timeframe="1m"))
                if kind == "perp":
                    base = np.exp(draw.normal(10, 0.02, len(hours)))
                    oi = pl.DataFrame({"ts": hours, "oi_base": base, "oi_usd": base * 100})
                    coins.append(named(oi, venue, symbol, asset, timedelta(0), unit_source="coins"))
                    funding = pl.DataFrame({"ts": stamps(at, end, "8h")})
                    funding = funding.with_columns(rate=pl.lit(1e-4), interval_h=pl.lit(8.0))
                    paid.append(named(funding, venue, symbol, asset, timedelta(0)))
        for name, frames in (("ohlcv", bars), ("open_interest", coins), ("funding", paid)):
            lake.append("validated", name, pl.concat(frames), now=end)
        rows += sum(frame.height for frame in bars)
        print(f"\rblock {number + 1}: {rows:,} minute rows", end="", file=sys.stderr)
    print(file=sys.stderr)
    return rows


def built(home: Path, days: int) -> dict[str, float]:
    """Build the features of the first `days` in a process of its own."""
    command = [sys.executable, __file__, "--home", str(home), "--build", str(days)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return dict(json.loads(told))


def peak_mb() -> float:
    """Return this process's peak resident memory; getrusage would tell the parent's where that was larger."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def build(home: Path, days: int) -> dict[str, float]:
    """Build and tell rows, seconds and the peak of resident memory in MB."""
    end, began = START + timedelta(days=days), time.perf_counter()
    config = settings(home)
    rows = compute(open_lake(config), config, as_of=end, start=START)
    seconds = time.perf_counter() - began
    return {"feature_rows": rows.height, "seconds": seconds, "peak_mb": peak_mb()}


def main() -> None:
    """Print the table and the JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--million", type=float, default=40.0, help="minute rows")
    parser.add_argument("--home", type=Path)
    parser.add_argument("--build", type=int, help="build that many days of the lake at --home, and tell")
    told = parser.parse_args()
    if told.build:
        print(json.dumps(build(told.home, told.build)))
        return
    print(json.dumps(measured(told.million)))


def measured(million: float) -> dict[str, float]:
    """Write the rows, build features over a quarter, a half and the whole of them, print the table, return the last."""
    days = round(million * 1e6 / (len(ASSETS) * len(SERIES) * 1440))
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        rows = fill(Path(folder), days)
        print(f"{rows:,} synthetic minute rows written in {time.perf_counter() - began:.0f} s")
        print(f"{'minute rows':>12} {'feature rows':>12} {'seconds':>8} {'rows/s':>10} {'peak MB':>8}")
        for share in (4, 2, 1):
            one = built(Path(folder), days // share)
            count = rows // share
            seconds, speed = f"{one['seconds']:8.1f}", f"{count / one['seconds']:10,.0f}"
            print(f"{count:12,} {one['feature_rows']:12,.0f} {seconds} {speed} {one['peak_mb']:8.0f}")
    return {
        "features_rows": rows,
        "features_s": round(one["seconds"], 1),
        "features_40m_peak_mb": round(one["peak_mb"]),
    }


if __name__ == "__main__":
    main()

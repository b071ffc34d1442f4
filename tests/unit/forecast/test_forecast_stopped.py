"""What a signal does to a process that trains: what it does to it elsewhere."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

TRAINS = """
import os, signal, sys
from datetime import datetime
from types import SimpleNamespace
import polars as pl
from oihedge.forecast.fit import fit
from oihedge.forecast.settings import Forecast
features, settings, number, start, end, last = sys.argv[1:]
signal.signal(signal.SIGINT, signal.default_int_handler)
known, unknown = ("hour_sin", "hour_cos"), ("log_return", "log_oi", "volatility")
def stop(epoch, metrics):
    os.kill(os.getpid(), int(number))
    print("went on", flush=True)
window = zip(("train_start", "train_end", "calibration_end"), map(datetime.fromisoformat, (start, end, last)))
fit(pl.read_parquet(features), SimpleNamespace(known=known, unknown=unknown), Forecast.model_validate_json(settings),
    report=stop, **dict(window))
"""


@pytest.mark.parametrize(("sent", "told"), [(signal.SIGTERM, ""), (signal.SIGINT, "stopped by Ctrl-C (SIGINT)")])
def test_a_signal_ends_a_training_at_once_as_it_ends_any_process(sent, told, features, settings, window, tmp_path):
    features.write_parquet(tmp_path / "features.parquet")
    text = settings(model="linear", max_epochs=3).model_dump_json()
    instants = [window[name].isoformat() for name in ("train_start", "train_end", "calibration_end")]
    arguments = [str(tmp_path / "features.parquet"), text, str(int(sent)), *instants]
    done = subprocess.run([sys.executable, "-c", TRAINS, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (-sent, "")
    assert told in done.stderr

"""Peak memory of the whole command `oihedge retrain`: libraries, features, folds, final fit, figures.

Run by `make bench-retrain`. For each length of history the demo fills a home with that much of the embedded market, on
which a process of its own then retrains each network once. The benchmarks' network takes few steps here: what a retrain
holds does not grow with their number. A GB is 10^9 bytes. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from datetime import date, timedelta
from pathlib import Path

from synthetic import BATCH, ENCODER, HIDDEN

AS_OF, WARM_UP_D, UNSEEN_D = date(2025, 7, 1), 180, 135
"""The demo's instant; what features look back on before the history; calibration and the folds' test windows."""
SIZES = {name: HIDDEN[name] for name in ("hidden_size", "hidden_continuous_size")}
SIZES["attention_heads"] = HIDDEN["attention_head_size"]
SHORT = {"encoder_h": ENCODER, "batch_size": BATCH, "max_epochs": 1, "max_steps_per_epoch": 20}
NETWORKS = {
    "the demo's": ["forecast.seed=1"],  # not the demo's own run, which would be told again
    "the benchmarks'": [f"forecast.{name}={value}" for name, value in {**SIZES, **SHORT}.items()],
}


def peak_gb(home: Path, *given: str) -> float:
    """Run the command on a home, and return the most that it was resident with.

    The kernel counts from this process's own peak: nothing large may be imported here.

    Raises:
        SystemExit: with what it said, where it failed.
    """
    command = [str(Path(sys.executable).with_name("oihedge")), *given, "--home", str(home)]
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(command, stdout=said, stderr=said)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        if child.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {child.returncode}: {said.read().decode()[-2000:]}")
    return used.ru_maxrss * 1024 / 1e9


def retrains(days: int) -> dict[str, float]:
    """Return what the retrain of each network on `days` of history peaks at, in GB."""
    market = [f"simulator.origin={AS_OF - timedelta(days=days + WARM_UP_D)}T00:00:00Z", f"run.history_days={days}"]
    market.append(f"forecast.train_days={days - UNSEEN_D}")
    told = {}
    with tempfile.TemporaryDirectory() as folder:
        print(f"{days} days: the demo fills a home", flush=True)
        peak_gb(Path(folder), "demo", *market)
        for name, settings in NETWORKS.items():
            told[name] = peak_gb(Path(folder), "retrain", "--experiment", "demo", *market, *settings)
            print(f"{days} days, {name} network: {told[name]:.2f} GB", flush=True)
    return told


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, nargs="+", default=[365, 1095])
    told = {days: retrains(days) for days in parser.parse_args().days}
    print(json.dumps({"retrain_peak_gb": {f"{days} days": one for days, one in told.items()}}))


if __name__ == "__main__":
    main()

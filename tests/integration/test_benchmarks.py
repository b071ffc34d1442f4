"""The benchmarks run on this code, if only with a few rounds: their figures are not looked at here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.long


@pytest.mark.parametrize(
    ("script", "given", "keys"),
    [
        ("predict.py", ["--times", "2", "--rounds", "1"], {"predict_ratio", "latency_p99_ms", "max_abs_diff"}),
        ("retrain.py", ["--days", "200"], {"retrain_peak_gb"}),
        ("unwind_limit.py", ["--seeds", "11", "--folds", "2", "--days", "3", "--paths", "8"], {"of_the_truth"}),
    ],
)
def test_a_benchmark_ends_with_one_json_object(script: str, given: list[str], keys: set[str]) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / script), *given],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert keys <= json.loads(done.stdout.splitlines()[-1]).keys()

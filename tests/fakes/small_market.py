"""A small embedded market with all up to a first retrain done, and settings that make each job take seconds."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from oihedge.config import load
from oihedge.jobs import bootstrap, ingest, retrain, validate

AS_OF = datetime(2025, 7, 1, 0, 5, tzinfo=UTC)
SMALL = [
    "forecast=persistence", "run.history_days=50", "run.as_of='2025-07-01T00:05:00Z'", "forecast.train_days=14",
    "forecast.calibration_days=4", "evaluation.test_days=4", "features.rank_window_h=168",
    "forecast.min_train_rows=200",
]  # fmt: skip


def small_home(folder: Path) -> Path:
    """Run everything up to the retrain once in `folder`, and return it."""
    config = load(SMALL, home=folder)
    for job in (bootstrap, ingest, validate, retrain):
        job.run(config, as_of=AS_OF)
    return folder

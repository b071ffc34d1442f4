"""Settings with which a Temporal Fusion Transformer trains in seconds on a small embedded market."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

from oihedge.config import load
from oihedge.jobs import bootstrap, ingest, validate

AS_OF = datetime(2025, 7, 1, 0, 5, tzinfo=UTC)
TINY = """# @package _global_
run: {name: tiny, as_of: "2025-07-01T00:05:00Z", history_days: 75}
features: {rank_window_h: 168}
forecast:
  {train_days: 14, calibration_days: 7, min_train_rows: 200, encoder_h: 12, hidden_size: 4, hidden_continuous_size: 2,
   attention_heads: 1, batch_size: 64, max_epochs: 6, max_steps_per_epoch: 8, patience: 6, validation_windows: 32,
   scenario_paths: 32, dropout: 0.3}
evaluation: {folds: 3, test_days: 4}
search:
  choices: {hidden_size: [4, 6], hidden_continuous_size: [2], encoder_h: [12], segment_stride_h: [6, 12]}
  ranges: {learning_rate: {low: 0.001, high: 0.05}}
"""


def tiny_market(folder: Path) -> Path:
    """Make a home with a validated market but no model; return its experiment file."""
    experiment = folder / "tiny.yaml"
    experiment.write_text(TINY)
    config = load(experiment=str(experiment), home=folder / "market")
    for job in (bootstrap, ingest, validate):
        job.run(config, as_of=AS_OF)
    return experiment


def home_of(experiment: Path, name: str) -> Path:
    """Return a home of its own with that market."""
    return Path(shutil.copytree(experiment.parent / "market", experiment.parent / name))

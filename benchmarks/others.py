"""Training of darts' and neuralforecast's Temporal Fusion Transformers: samples a second through their own fit.

Run by `make bench-others`, in an environment of its own; `make bench-train` runs it beside stock pytorch-forecasting.
Rows, lengths, width, heads, dropout, quantiles, batch and clipping are those of train.py. What cannot be alike:
darts forecasts y and z as one multivariate series (past: v6 to v21, future: v0 to v5); neuralforecast's network has one
target, y (history: z and v6 to v21, future: v0 to v5), half of stock's output and loss. Neither is told which asset a
window belongs to. That is less work than stock's; more is that both read the past of y and z, and that neuralforecast
embeds every variable at the full width. Timed is from on_train_start to the end of the last batch. The last line is one
JSON object.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
import warnings
from typing import Any

import numpy as np
import pandas as pd
from darts import TimeSeries
from darts.models import TFTModel
from darts.utils.likelihood_models import QuantileRegression
from neuralforecast import NeuralForecast
from neuralforecast.losses.pytorch import MQLoss
from neuralforecast.models import TFT
from pytorch_lightning.callbacks import Callback
from synthetic import BATCH, CLIP, ENCODER, HELD_BACK, HIDDEN, HORIZON, HOURS, KNOWN, QUANTILES, RATE, VARIABLES, frame

STEPS = 8
NAMES = [f"v{k}" for k in range(VARIABLES)]


class Stopwatch(Callback):
    """Times training; neuralforecast validates after its last batch, which is not training."""

    def __init__(self) -> None:
        self.steps, self.spent, self._began = 0, 0.0, 0.0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._began = time.perf_counter()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.steps, self.spent = self.steps + 1, time.perf_counter() - self._began


def trainer_of(watch: Stopwatch) -> dict[str, Any]:
    """Return what both hand to their Lightning trainer."""
    return {
        "accelerator": "cpu", "devices": 1, "gradient_clip_val": CLIP, "logger": False, "callbacks": [watch],
        "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False,
    }  # fmt: skip


def darts(rows: pd.DataFrame, steps: int, seed: int) -> Stopwatch:
    """Train darts' network for that many steps."""
    watch = Stopwatch()
    model = TFTModel(
        input_chunk_length=ENCODER, output_chunk_length=HORIZON, hidden_size=HIDDEN["hidden_size"],
        hidden_continuous_size=HIDDEN["hidden_continuous_size"], num_attention_heads=HIDDEN["attention_head_size"],
        dropout=HIDDEN["dropout"], likelihood=QuantileRegression(QUANTILES), batch_size=BATCH, random_state=seed,
        optimizer_kwargs={"lr": RATE}, pl_trainer_kwargs={**trainer_of(watch), "max_steps": steps},
    )  # fmt: skip

    def series(columns: list[str]) -> list[TimeSeries]:
        return [
            TimeSeries.from_dataframe(part, "hour", columns).astype(np.float32) for _, part in rows.groupby("asset")
        ]

    model.fit(series(["y", "z"]), series(NAMES[KNOWN:]), series(NAMES[:KNOWN]), verbose=False)
    return watch


def neuralforecast(rows: pd.DataFrame, steps: int, seed: int) -> Stopwatch:
    """Train neuralforecast's network for that many steps."""
    model = TFT(
        h=HORIZON, input_size=ENCODER, hist_exog_list=["z", *NAMES[KNOWN:]], futr_exog_list=NAMES[:KNOWN],
        hidden_size=HIDDEN["hidden_size"], n_head=HIDDEN["attention_head_size"], dropout=HIDDEN["dropout"],
        attn_dropout=HIDDEN["dropout"], loss=MQLoss(quantiles=QUANTILES), max_steps=steps, learning_rate=RATE,
        windows_batch_size=BATCH, scaler_type="identity", val_check_steps=steps, random_seed=seed,
        **trainer_of(Stopwatch()),
    )  # fmt: skip
    forecaster = NeuralForecast([model], freq=1)
    forecaster.fit(rows, id_col="asset", time_col="hour")
    watch: Stopwatch = forecaster.models[0].trainer_kwargs["callbacks"][0]  # it trains a copy, callbacks included
    return watch


CONTESTANTS = {"darts": darts, "neuralforecast": neuralforecast}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=list(CONTESTANTS))
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    for name in ("pytorch_lightning", "darts"):
        logging.getLogger(name).setLevel(logging.ERROR)
    rows = frame(HOURS)
    rows = rows[rows["hour"] < HOURS - HELD_BACK]
    rates: dict[str, list[float]] = {name: [] for name in CONTESTANTS if asked.only in (None, name)}
    for name in rates:
        CONTESTANTS[name](rows, 2, 0)  # warm up: allocate
    for number in range(asked.rounds):
        for name, told in rates.items():
            watch = CONTESTANTS[name](rows, STEPS, number)
            told.append(watch.steps * BATCH / watch.spent)
    print(f"\n{'samples/s through their own fit':34} {'median':>8} {'least':>8} {'most':>8}")
    for name, told in rates.items():
        print(f"{name:34} {np.median(told):8.1f} {min(told):8.1f} {max(told):8.1f}")
    print(json.dumps({f"{name}_samples_s": round(float(np.median(told)), 1) for name, told in rates.items()}))


if __name__ == "__main__":
    main()

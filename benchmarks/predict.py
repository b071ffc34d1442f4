"""Forecasts beside stock pytorch-forecasting: latency of the newest window, windows a second over history.

Run by `make bench-predict`. Network and rows are resident; a forecast goes from rows to quantiles as numbers. Stock is
its own forward on a batch that is there already (latency), and its `predict()` (bulk). `whole` is what a decision asks
for: from a feature frame through scalers, network and scenarios to a frame with p_unwind. All in one run, in
alternation. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import logging
import warnings
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from floor import floor, peaks, spent
from pytorch_forecasting import TemporalFusionTransformer
from training_set import ENCODER, HORIZON, dataset, features, forecaster, frame, network

from oihedge.forecast.network import forecast_windows
from oihedge.forecast.segments import Rows
from oihedge.forecast.tft import SharedTft

SERIES, BULK = (1, 3, 30), 3072


def latency(assets: int, times: int) -> dict[str, Any]:
    """Return p50 and p99 in ms of the newest forecast of that many series, own and stock, and how far they differ."""
    hours = frame(ENCODER + HORIZON + 40, assets)
    data = dataset(hours)
    mine = network(SharedTft, data, 0).eval()
    mine.workers = 2
    theirs = network(TemporalFusionTransformer, data, 0).eval()
    theirs.load_state_dict(mine.state_dict())
    rows, first = Rows.of_dataset(data)
    last = first[np.append(np.diff(rows.series[first]) != 0, True)]
    at = np.searchsorted(data.index["index_start"].to_numpy(), last)
    batch, _ = data._collate_fn([data[int(i)] for i in at])

    def stock() -> Any:
        with torch.inference_mode():
            return torch.stack(theirs(batch)["prediction"], 1)

    model, asked = forecaster(mine, sorted(hours["asset"].unique())), features(hours)
    newest = asked["ts"].max() - timedelta(hours=HORIZON)
    both = {
        "own": lambda: forecast_windows(mine, rows, last),
        "stock forward": stock,
        "whole": lambda: model.predict(asked, [newest]),
    }
    both["whole"]()
    difference = float(np.abs(both["own"]() - stock().double().numpy()).max())
    taken: dict[str, list[float]] = {name: [] for name in both}
    for _ in range(times):
        for name, task in both.items():
            taken[name].append(1e3 * spent(task))
    told = {
        name: (float(np.percentile(values, 50)), float(np.percentile(values, 99))) for name, values in taken.items()
    }
    for name, (middle, worst) in told.items():
        print(f"{assets:3} series  {name:14} p50 {middle:7.1f} ms  p99 {worst:7.1f} ms", flush=True)
    return {
        "p50": told["own"][0],
        "p99": told["own"][1],
        "stock_p50": told["stock forward"][0],
        "whole_p50": told["whole"][0],
        "whole_p99": told["whole"][1],
        "difference": difference,
    }


def bulk(rounds: int) -> tuple[float, float]:
    """Return the ratio of windows a second to stock's `predict()`, and how far the forecasts differ."""
    data = dataset(frame(BULK // 3 + ENCODER + HORIZON - 1))
    mine = network(SharedTft, data, 0).eval()
    mine.workers = 2
    theirs = network(TemporalFusionTransformer, data, 0).eval()
    theirs.load_state_dict(mine.state_dict())
    rows, first = Rows.of_dataset(data)
    quiet = {"logger": False, "enable_progress_bar": False, "accelerator": "cpu", "enable_checkpointing": False}

    def stock() -> Any:
        return theirs.predict(data, mode="quantiles", batch_size=256, trainer_kwargs=quiet)

    said, ours = torch.stack(list(stock()), 1).double().numpy(), forecast_windows(mine, rows, first)
    difference = float(np.abs(said - ours).max())
    rates: dict[str, list[float]] = {"own": [], "stock predict()": []}
    for _ in range(rounds):
        rates["own"].append(len(first) / spent(lambda: forecast_windows(mine, rows, first)))
        rates["stock predict()"].append(len(first) / spent(stock))
    for name, values in rates.items():
        print(f"{len(first)} windows {name:16} {np.median(values):7.0f} /s ({min(values):.0f} to {max(values):.0f})")
    return float(np.median(rates["own"]) / np.median(rates["stock predict()"])), difference


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    told = {assets: latency(assets, asked.times) for assets in SERIES}
    ratio, difference = bulk(asked.rounds)
    measured, hours = peaks(), 3 * (ENCODER + HORIZON)
    products, copied = floor(hours, hours, 1, measured)
    print(
        f"floor of 3 series: {products:.2f} ms of products at {measured[0] / 1e9:.0f} GF/s, {copied:.2f} ms of numbers "
        f"at {measured[1] / 1e9:.0f} GB/s; p50 is {told[3]['p50'] / max(products, copied):.1f} times the higher"
    )
    figures = {
        "predict_ratio": round(ratio, 2),
        "latency_p50_ms": round(told[3]["p50"], 2),
        "latency_p99_ms": round(told[3]["p99"], 2),
        "latency_whole_p50_ms": round(told[3]["whole_p50"], 2),
        "latency_whole_p99_ms": round(told[3]["whole_p99"], 2),
        "floor_ms": round(products, 2),
        "copy_floor_ms": round(copied, 2),
        "latency": {
            assets: {name: round(value, 2) for name, value in one.items() if name != "difference"}
            for assets, one in told.items()
        },
        "max_abs_diff": max(difference, *(one["difference"] for one in told.values())),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

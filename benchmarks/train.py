"""Training beside stock pytorch-forecasting: samples a second, time to the same validation loss, memory.

Run by `make bench-train`. Both train the same windows from the same weights through Trainer.fit, in alternation, in one
run; what is timed lies between on_train_start and on_train_end. darts and neuralforecast take their turns on the same
rows, each time in a process of their own environment, once `make bench-others` has made that: their networks differ a
little from stock's (others.py). The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import torch
from features import peak_mb
from floor import floor, peaks
from lightning.pytorch.callbacks import Callback
from pytorch_forecasting import TemporalFusionTransformer
from synthetic import BATCH, CLIP, ENCODER, HELD_BACK, HORIZON, HOURS, frame
from training_set import STRIDE, WINDOWS, Plain, dataset, network

from oihedge.forecast.folding import fold
from oihedge.forecast.memory import kept_memory
from oihedge.forecast.one_piece import in_one_piece
from oihedge.forecast.parallel import parallel_loss
from oihedge.forecast.segments import Cover, Rows, evenly
from oihedge.forecast.windows import training_batches

VALIDATION = 512
WORKERS = 2
OTHERS = ("darts", "neuralforecast")
OTHERS_VENV = Path(__file__).resolve().parents[1] / ".venv-others"


class Stopwatch(Callback):  # type: ignore[misc]
    """Times training, and asks for the validation loss every `every` steps while the watch stands still."""

    def __init__(self, ask: Any = None, every: int = 0, until: float | None = None) -> None:
        self.spent, self.losses = 0.0, []
        self._ask, self._every, self._until, self._began = ask, every, until, 0.0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._began = time.perf_counter()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self._every and (batch_idx + 1) % self._every == 0:
            self.spent += time.perf_counter() - self._began
            self.losses.append((self.spent, trainer.global_step, self._ask(pl_module)))
            if self._until is not None and self.losses[-1][2] <= self._until:
                trainer.should_stop = True
            self._began = time.perf_counter()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.spent += time.perf_counter() - self._began


def fit(model: Any, batches: Any, steps: int, watch: Stopwatch) -> None:
    """Train for that many steps."""
    trainer = lightning.Trainer(
        accelerator="cpu", devices=1, max_epochs=-1, max_steps=steps, gradient_clip_val=CLIP, logger=False,
        callbacks=[watch], enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        limit_train_batches=steps,
    )  # fmt: skip
    with ExitStack() as as_the_fit_does:
        if isinstance(model, Plain):
            for own in (kept_memory(), in_one_piece(model)):
                as_the_fit_does.enter_context(own)
        trainer.fit(model, Endless(batches))


class Endless:
    """Batches without end: an epoch's end must not differ between the two."""

    def __init__(self, batches: Any) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[Any]:
        while True:
            yield from self._batches


def stock_batches(data: Any) -> Any:
    """Return stock's loader."""
    return data.to_dataloader(train=True, batch_size=BATCH, num_workers=0)


def stock(data: Any, seed: int) -> tuple[Any, Any]:
    """Return stock's network and loader."""
    return network(TemporalFusionTransformer, data, seed), stock_batches(data)


def shared(data: Any, seed: int, *, compiled: bool = True) -> tuple[Any, Any]:
    """Return the own network and deck."""
    model = network(Plain, data, seed)
    model.workers, model.seed, model.compiled = WORKERS, seed, compiled
    return model, training_batches(data, batch_size=BATCH, windows=WINDOWS, stride=STRIDE, seed=seed)


CONTESTANTS = {
    "stock pytorch-forecasting": (stock, 8),
    "shared, plain PyTorch": (lambda data, seed: shared(data, seed, compiled=False), 24),
    "shared, compiled": (shared, 48),
}


def throughput(data: Any, rounds: int) -> dict[str, list[float]]:
    """Return samples a second of each contestant, one figure a round."""
    others = OTHERS if (OTHERS_VENV / "installed").exists() else ()
    if not others:
        print("darts and neuralforecast are not installed: make bench-others installs them", flush=True)
    rates: dict[str, list[float]] = {name: [] for name in (*CONTESTANTS, *others)}
    for make, _ in CONTESTANTS.values():
        fit(*make(data, 0), 2, Stopwatch())  # warm up: compile, allocate
    for number in range(rounds):
        for name, told in rates.items():
            told.append(rate_of_other(name) if name in others else rate_of(name, data, number))
            print(f"round {number + 1}: {name}: {told[-1]:.0f} samples/s", flush=True)
    return rates


def rate_of(name: str, data: Any, seed: int) -> float:
    """Return samples a second of that contestant."""
    make, steps = CONTESTANTS[name]
    watch = Stopwatch()
    fit(*make(data, seed), steps, watch)
    return steps * BATCH / watch.spent


def rate_of_other(name: str) -> float:
    """Return samples a second of another package's network, in a process of its own environment."""
    command = [str(OTHERS_VENV / "bin" / "python"), str(Path(__file__).with_name("others.py"))]
    done = subprocess.run([*command, "--rounds", "1", "--only", name], stdout=subprocess.PIPE, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1])[f"{name}_samples_s"])


def to_loss(data: Any, held_back: Any, seeds: int, steps: int) -> list[dict[str, float]]:
    """Return, by seed, the seconds of training until the loss that stock reaches in `steps` steps."""
    rows, first = Rows.of_dataset(held_back)
    cover = list(Cover(rows, evenly(first, VALIDATION)))

    def ask(model: Any) -> float:
        model.eval()
        with torch.no_grad():
            total = sum(
                float(parallel_loss(fold(model), one, [None] * WORKERS, compiled=True)) * one.segments.offsets.numel()
                for one in cover
            )
        model.train()
        return total / sum(one.segments.offsets.numel() for one in cover)

    told = []
    for seed in range(seeds):
        theirs, ours = Stopwatch(ask, every=10), None
        fit(*stock(data, seed), steps, theirs)
        aim = min(loss for _, _, loss in theirs.losses)
        reached = next(spent for spent, _, loss in theirs.losses if loss <= aim)
        ours = Stopwatch(ask, every=10, until=aim)
        fit(*shared(data, seed), 4 * steps, ours)
        spent, at, loss = ours.losses[-1]
        line = {
            "seed": seed,
            "loss": aim,
            "stock_s": reached,
            "own_s": spent if loss <= aim else float("inf"),
            "own_steps": at,
        }
        print("time to loss:", {name: round(value, 4) for name, value in line.items()}, flush=True)
        told.append(line)
    return told


def peak_of(which: str, hours: int) -> float:
    """Return the peak resident memory of a process that trains 6 steps on `hours` of three assets."""
    command = [sys.executable, __file__, "--alone", which, "--hours", str(hours)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def alone(which: str, hours: int) -> None:
    """Train a little and print the peak memory of this process in MB."""
    fit(*{"stock": stock, "shared": shared}[which](dataset(frame(hours)), 0), 6, Stopwatch())
    print(peak_mb())


def floors() -> dict[str, float]:
    """Return what was measured, and the least milliseconds that a step takes by it, shared and unshared."""
    measured, steps = peaks(), BATCH * (ENCODER + HORIZON)
    rows = BATCH // WINDOWS * (ENCODER + HORIZON + (WINDOWS - 1) * STRIDE)
    (products, copied), (alone_products, alone_copied) = (floor(of, steps, 3, measured) for of in (rows, steps))
    return {
        "gflops": measured[0] / 1e9, "copy_gb_s": measured[1] / 1e9, "shared_ms": products, "shared_copy_ms": copied,
        "unshared_ms": alone_products, "unshared_copy_ms": alone_copied,
    }  # fmt: skip


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=150, help="of stock, for the time to a loss")
    parser.add_argument("--alone", choices=["stock", "shared"])
    parser.add_argument("--hours", type=int, default=HOURS)
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    if asked.alone:
        return alone(asked.alone, asked.hours)
    rows = frame(HOURS)
    data = dataset(rows[rows["hour"] < HOURS - HELD_BACK])
    rates = throughput(data, asked.rounds)
    told = to_loss(data, dataset(rows[rows["hour"] >= HOURS - HELD_BACK]), asked.seeds, asked.steps)
    memory = {
        "stock, 1 year": peak_of("stock", HOURS),
        "shared, 1 year": peak_of("shared", HOURS),
        "shared, 3 years": peak_of("shared", 3 * HOURS),
    }
    tell(rates, told, memory, floors())
    return None


def tell(
    rates: dict[str, list[float]], told: list[dict[str, float]], memory: dict[str, float], least: dict[str, float]
) -> None:
    """Print the table, and the figures once more as one JSON object."""
    middle = {name: float(np.median(values)) for name, values in rates.items()}
    base = middle["stock pytorch-forecasting"]
    print(f"\n{'samples/s through Trainer.fit':34} {'median':>8} {'least':>8} {'most':>8} {'ratio':>6}")
    for name, values in rates.items():
        print(f"{name:34} {middle[name]:8.0f} {min(values):8.0f} {max(values):8.0f} {middle[name] / base:6.1f}")
    if OTHERS[0] in rates:
        print("darts and neuralforecast: no static variable; neuralforecast: one target of two (less work; others.py)")
    step_ms = 1e3 * BATCH / middle["shared, compiled"]
    most = max(least["shared_ms"], least["shared_copy_ms"])
    print(
        f"floor: {least['gflops']:.0f} GF/s matrix peak, {least['copy_gb_s']:.0f} GB/s copy; if windows share (if not),"
    )
    print(f"  a step's products take {least['shared_ms']:.1f} ms ({least['unshared_ms']:.1f}) at that peak,")
    print(f"  its numbers {least['shared_copy_ms']:.1f} ms ({least['unshared_copy_ms']:.1f}) at that rate;")
    print(f"  the compiled step takes {step_ms:.0f} ms, {step_ms / most:.1f} times the higher floor")
    print("peak memory, MB:", {name: round(value) for name, value in memory.items()})
    ratios = [line["stock_s"] / line["own_s"] for line in told]
    figures = {
        "train_ratio_vs_pytorch_forecasting": round(middle["shared, compiled"] / base, 2),
        "train_ratio_plain": round(middle["shared, plain PyTorch"] / base, 2),
        **{f"{name}_samples_s": round(middle[name], 1) if name in middle else None for name in OTHERS},
        **{f"{name}_ratio": round(middle[name] / base, 2) if name in middle else None for name in OTHERS},
        "time_to_loss_ratio": round(float(np.median(ratios)), 2) if ratios else None,
        "time_to_loss_ratios": [round(one, 2) for one in ratios],
        "peak_mb": {name: round(value) for name, value in memory.items()},
        "floor_ms": round(least["shared_ms"], 1),
        "copy_floor_ms": round(least["shared_copy_ms"], 1),
        "step_ms": round(step_ms, 1),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

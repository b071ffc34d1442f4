"""How well the market can be known at all: a forecaster that sees the embedded market's true state and its equations.

Run by `make bench-unwind-limit`. At every few hours of the newest days the market goes on from its true state
(crowding, leverage and volatility as they are, which no venue publishes) with fresh noise, many times; the share of
these continuations on which open interest falls by the drop within the horizon is the probability itself, up to the
number of continuations. What it scores against the unwinds that came bounds, on average, every model that sees less.

The continuations' hourly changes also are the true distribution of each hour ahead. How often its central intervals
hold in so few days tells how far from nominal a forecaster without any error comes out, by luck alone.
All of it is a SIMULATION. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view
from rich.console import Console
from rich.progress import track

from oihedge.config import Config, load
from oihedge.forecast.unwind import barrier, lowest
from oihedge.simulator.dynamics import State, decaying, season, step, walk
from oihedge.simulator.noise import HOURS, DayNoise, draw
from oihedge.simulator.parameters import Parameters

Floats = npt.NDArray[np.float64]
DAY = timedelta(days=1)
OTHER_SEED = 987_654_321
"""Added to a market's seed for the noise of its continuations."""


POOL = 2000
"""Continuations' noise to choose from: the same few for every state would be wrong about all of them alike."""


@dataclass(frozen=True)
class Moment:
    """The market at one hour: its state, and each venue's own crowding (assets, venues)."""

    hour: int
    state: State
    crowd: Floats


def moments(p: Parameters, weekday: int, first_day: int, days: int) -> Iterator[Moment]:
    """Yield every hour of the market's own path from `first_day` on."""
    state, keep = State.at_origin(p), np.array([perp.crowd_keep for perp in p.perps])
    for day in range(first_day + days):
        if day >= first_day:
            noise, here = draw(p, day), clone(state)
            crowd = decaying(state.venue_crowd, keep, noise.venue_crowd)
            for hour in range(HOURS):
                yield Moment(day * HOURS + hour, clone(here), crowd[hour])
                step(p, here, noise, crowd[hour].tolist(), hour, season(p, hour, (weekday + day) % 7))
        _, state = walk(p, state, day, (weekday + day) % 7)


def clone(state: State) -> State:
    """Copy what a step changes in place."""
    return replace(state, assets=[copy(asset) for asset in state.assets])


def stand(state: State) -> Floats:
    """Return each asset's log price and log open interest over all venues, in coins: (assets, 2)."""
    return np.array([(asset.log_price, np.logaddexp.reduce(asset.log_oi)) for asset in state.assets])


def continued(p: Parameters, now: Moment, fresh: list[list[DayNoise]], weekday: int, horizon: int) -> Floats:
    """Return log price and log open interest from `now` on, (continuations, horizon + 1, assets, 2)."""
    keep = np.array([perp.crowd_keep for perp in p.perps])
    paths = []
    for days in fresh:
        state, crowd = clone(now.state), now.crowd
        paths.append([stand(state)])
        for ahead in range(horizon):
            noise, k = days[ahead // HOURS], ahead % HOURS
            day, hour = divmod(now.hour + ahead, HOURS)
            step(p, state, noise, crowd.tolist(), k, season(p, hour, (weekday + day) % 7))
            crowd = keep * crowd + noise.venue_crowd[k]
            paths[-1].append(stand(state))
    return np.array(paths)


@dataclass
class Told:
    """What the truth says at one hour: by asset, the unwind's probability and where what came lay in its continuations.

    pits: (horizon, assets, 2) the share of continuations below the hourly change that came, ties and gaps at random.
    """

    p_unwind: Floats
    pits: Floats


def told_at(paths: Floats, came: Floats, level: float, pick: np.random.Generator) -> Told:
    """Judge `paths` (continuations, horizon + 1, assets, 2) by the hourly changes that `came` (horizon, assets, 2)."""
    fell = (paths[..., 1] - paths[:, :1, :, 1]).min(axis=1) <= level
    below = (np.diff(paths, axis=1) <= came).sum(axis=0)
    return Told(fell.mean(axis=0), (below + pick.random(came.shape)) / (len(paths) + 1))


def market(config: Config, asked: argparse.Namespace) -> dict[str, Any]:
    """Return one market's skill and coverage error: over all folds, by fold, and each fold's separate unwinds."""
    simulator, horizon = config.simulator, config.forecast.horizon_h
    assert config.run.as_of is not None
    p, weekday = Parameters.of(simulator), simulator.origin.weekday()
    other = Parameters.of(simulator.model_copy(update={"seed": simulator.seed + OTHER_SEED}))
    per = -(-horizon // HOURS)
    fresh = [[draw(other, path * per + day) for day in range(per)] for path in range(POOL)]
    pick = np.random.default_rng(simulator.seed)
    level, last = barrier(config.forecast.drop), (config.run.as_of - simulator.origin) // DAY
    first = last - asked.folds * asked.days
    history = config.forecast.train_days + config.forecast.calibration_days
    hours = list(moments(p, weekday, first - history, history + asked.folds * asked.days))
    changes = np.diff([stand(now.state) for now in hours], axis=0)
    event = np.asarray(lowest(sliding_window_view(changes[..., 1], horizon, axis=0)) <= level)
    told = {}
    asked_at = range(history * HOURS, len(event), asked.every)
    for at in track(asked_at, f"market {simulator.seed}", console=Console(stderr=True)):
        drawn = [fresh[k] for k in pick.choice(POOL, asked.paths, replace=False)]
        paths = continued(p, hours[at], drawn, weekday, horizon)
        told[at] = told_at(paths, changes[at : at + horizon], level, pick)
    return {
        **_skill(event, {at: one.p_unwind for at, one in told.items()}, asked, history, horizon),
        **_coverage({at: one.pits for at, one in told.items()}, asked, history, config.forecast.quantiles),
    }


def _of_fold(at: npt.NDArray[np.int_], fold: int, asked: argparse.Namespace, history: int) -> npt.NDArray[np.bool_]:
    begin, end = ((history + day) * HOURS for day in (fold * asked.days, (fold + 1) * asked.days))
    return (at >= begin) & (at < end)


def _coverage(
    told: dict[int, Floats], asked: argparse.Namespace, history: int, levels: Sequence[float]
) -> dict[str, object]:
    """Return the largest distance from nominal of any central interval and target: all folds together, and by fold."""
    at, pits = np.array(list(told)), np.array(list(told.values()))

    def worst(own: npt.NDArray[np.bool_]) -> float:
        off = [
            np.abs(((low < pits[own]) & (pits[own] < 1 - low)).mean(axis=(0, 1, 2)) - (1 - 2 * low)).max()
            for low in levels
            if low < 0.5
        ]
        return round(float(max(off)), 3)

    by_fold = [worst(_of_fold(at, fold, asked, history)) for fold in range(asked.folds)]
    return {"worst_coverage": worst(np.ones(len(at), bool)), "worst_coverage_by_fold": by_fold}


def _skill(
    event: npt.NDArray[np.bool_], told: dict[int, Floats], asked: argparse.Namespace, history: int, horizon: int
) -> dict[str, object]:
    at, p = np.array(list(told)), np.array(list(told.values()))
    noise = p * (1 - p) / asked.paths  # a probability by counting is off by so much, squared: taken off again
    loss, usual, begun = np.zeros(asked.folds), np.zeros(asked.folds), np.zeros(asked.folds, int)
    for fold in range(asked.folds):
        begin, end = ((history + day) * HOURS for day in (fold * asked.days, (fold + 1) * asked.days))
        rate = event[begin - history * HOURS : begin - horizon].mean(axis=0)
        own = _of_fold(at, fold, asked, history)
        came = event[at[own]]
        loss[fold] = ((p[own] - came) ** 2 - noise[own]).sum()
        usual[fold] = ((rate - came) ** 2).sum()
        begun[fold] = (np.diff(event[begin:end].astype(int), axis=0, prepend=0) > 0).sum()
    return {
        "skill": round(float(1 - loss.sum() / usual.sum()), 3),
        "by_fold": [round(float(one), 3) for one in 1 - loss / usual],
        "unwinds": begun.tolist(),
        "expected_skill": round(float((p.var() - noise.mean()) / (p.mean() * (1 - p.mean()))), 3),
    }


def main() -> None:
    """Print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[20240101, 11, 12, 13, 14])
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--days", type=int, default=12, help="of each fold")
    parser.add_argument("--paths", type=int, default=96, help="continuations of each state")
    parser.add_argument("--every", type=int, default=6, help="hours between the states")
    parser.add_argument("settings", nargs="*", help="further settings, e.g. forecast.horizon_h=72")
    asked = parser.parse_args()
    told = {}
    for seed in asked.seeds:
        told[str(seed)] = market(load([*asked.settings, f"simulator.seed={seed}"], experiment="demo"), asked)
    print(f"SIMULATED market: Brier skill of its own probability, {asked.folds} folds of {asked.days} days")
    print(f"{'seed':>10} {'skill':>7} {'expected':>9}  by fold (separate unwinds)")
    for seed, one in told.items():
        folds = "  ".join(f"{s:+.3f} ({n})" for s, n in zip(one["by_fold"], one["unwinds"], strict=True))
        print(f"{seed:>10} {one['skill']:+7.3f} {one['expected_skill']:9.3f}  {folds}")
    print("SIMULATED market: coverage of its own quantiles, the interval and target farthest from nominal")
    print(f"{'seed':>10} {'pooled':>7}  by fold")
    for seed, one in told.items():
        print(
            f"{seed:>10} {one['worst_coverage']:7.3f}  {'  '.join(f'{f:.3f}' for f in one['worst_coverage_by_fold'])}"
        )
    print(json.dumps({"of_the_truth": told}))


if __name__ == "__main__":
    main()

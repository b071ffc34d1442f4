"""How well p_unwind can be known at all: a forecaster that sees the embedded market's true state and its equations.

Run by `make bench-unwind-limit`. At every few hours of the newest days the market goes on from its true state
(crowding, leverage and volatility as they are, which no venue publishes) with fresh noise, many times; the share of
these continuations on which open interest falls by the drop within the horizon is the probability itself, up to the
number of continuations. What it scores against the unwinds that came bounds, on average, every model that sees less.
All of it is a SIMULATION. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np
import numpy.typing as npt
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


def basket(state: State) -> Floats:
    """Return each asset's log open interest over all venues, in coins."""
    return np.array([np.logaddexp.reduce(asset.log_oi) for asset in state.assets])


def probability(
    p: Parameters, now: Moment, fresh: list[list[DayNoise]], weekday: int, horizon: int, level: float
) -> Floats:
    """Return, by asset, the share of continuations whose open interest falls through `level` (a log change)."""
    keep, start, hits = np.array([perp.crowd_keep for perp in p.perps]), basket(now.state), np.zeros(len(p.assets))
    for days in fresh:
        state, crowd, lowest = clone(now.state), now.crowd, start
        for ahead in range(horizon):
            noise, k = days[ahead // HOURS], ahead % HOURS
            day, hour = divmod(now.hour + ahead, HOURS)
            step(p, state, noise, crowd.tolist(), k, season(p, hour, (weekday + day) % 7))
            crowd = keep * crowd + noise.venue_crowd[k]
            lowest = np.minimum(lowest, basket(state))
        hits += lowest - start <= level
    return hits / len(fresh)


def unwinds(path: Floats, horizon: int, level: float) -> npt.NDArray[np.bool_]:
    """Tell per hour and asset of `path` (hours, assets) whether it falls through `level` within the horizon."""
    return np.asarray(lowest(np.lib.stride_tricks.sliding_window_view(np.diff(path, axis=0), horizon, axis=0)) <= level)


def market(config: Config, asked: argparse.Namespace) -> dict[str, object]:
    """Return one market's skill: over all folds, by fold, and how many separate unwinds each fold saw."""
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
    path, told = [], {}
    hours = moments(p, weekday, first - history, history + asked.folds * asked.days)
    total = (history + asked.folds * asked.days) * HOURS
    for now in track(hours, f"market {simulator.seed}", total=total, console=Console(stderr=True)):
        path.append(basket(now.state))
        if now.hour >= first * HOURS and now.hour % asked.every == 0:
            drawn = [fresh[k] for k in pick.choice(POOL, asked.paths, replace=False)]
            told[now.hour - (first - history) * HOURS] = probability(p, now, drawn, weekday, horizon, level)
    event = unwinds(np.array(path), horizon, level)
    return _scores(event, {at: share for at, share in told.items() if at < len(event)}, asked, history, horizon)


def _scores(
    event: npt.NDArray[np.bool_],
    told: dict[int, Floats],
    asked: argparse.Namespace,
    history: int,
    horizon: int,
) -> dict[str, object]:
    at, p = np.array(list(told)), np.array(list(told.values()))
    noise = p * (1 - p) / asked.paths  # a probability by counting is off by so much, squared: taken off again
    loss, usual, begun = np.zeros(asked.folds), np.zeros(asked.folds), np.zeros(asked.folds, int)
    for fold in range(asked.folds):
        begin, end = ((history + day) * HOURS for day in (fold * asked.days, (fold + 1) * asked.days))
        rate = event[begin - history * HOURS : begin - horizon].mean(axis=0)
        own = (at >= begin) & (at < end)
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
        folds = "  ".join(f"{s:+.3f} ({n})" for s, n in zip(one["by_fold"], one["unwinds"], strict=True))  # type: ignore[call-overload]
        print(f"{seed:>10} {one['skill']:+7.3f} {one['expected_skill']:9.3f}  {folds}")
    print(json.dumps({"brier_skill_of_the_truth": told}))


if __name__ == "__main__":
    main()

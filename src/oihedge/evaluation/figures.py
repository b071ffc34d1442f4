"""Figures of the evaluation, drawn on the Agg canvas without pyplot; imported late, for matplotlib is slow to load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from oihedge.core.forecasts import PATH_TARGETS, quantile_column
from oihedge.core.types import Gate
from oihedge.evaluation.figure_style import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    PALE,
    STRATEGY_LOOKS,
    canvas,
    date_axis,
    percent_axis,
    shade,
    title,
)
from oihedge.evaluation.gates import NO_CHAMPION
from oihedge.evaluation.grid import Floats
from oihedge.evaluation.joint import ReturnGivenOi
from oihedge.evaluation.scores import targets_of
from oihedge.evaluation.strategies import POLICY
from oihedge.evaluation.walk_forward import Evaluated

FAN_TARGETS = {
    "log_return": "hourly return", "log_oi": "hourly OI change",
    "realised_downside": "realised downside", "hedge_ratio": "hedge ratio",
}  # fmt: skip


def strategies_equity(evaluated: Evaluated, label: str) -> Figure:
    """Draw each strategy's chained NAV (start = 1) and its drawdown over the unseen windows."""
    figure, (top, low) = canvas(2, 1, size=(10, 6.4), ratios=(2.4, 1), sharex=True)
    for name, look in STRATEGY_LOOKS.items():
        if name in evaluated.ledgers:
            ledger = evaluated.ledgers[name]
            path = np.cumprod(1 + ledger["ret"].to_numpy())
            fall = path / np.maximum.accumulate(np.maximum(path, 1.0)) - 1
            at = _naive(ledger["ts"])
            top.plot(at, path, label=name, **look)
            low.plot(at, fall, **look)
    for axes in (top, low):
        for fold in evaluated.folds[1:]:
            axes.axvline(fold.test_start.replace(tzinfo=None), color=GREY, lw=0.8, ls=(0, (2, 3)))
    top.set_ylabel("NAV, start = 1")
    low.set_ylabel("drawdown")
    low.set_xlabel("UTC")
    percent_axis(low)
    date_axis(low)
    top.legend(loc="upper left", bbox_to_anchor=(1.005, 1.02))
    days = (
        f"{evaluated.oos_days:.0f} out-of-sample days, {len(evaluated.folds)} folds, net of fees, slippage and funding"
    )
    title(figure, "Equity of the strategies", label, days)
    return figure


def ratio_over_market(evaluated: Evaluated, features: pl.DataFrame, asset: str, label: str) -> Figure:
    """Draw an asset's price, open interest and the policy's hedge ratio over the unseen windows."""
    first, last = evaluated.folds[0].test_start, evaluated.folds[-1].test_end
    rows = features.filter(pl.col("asset") == asset, pl.col("ts").is_between(first, last)).sort("ts")
    held = evaluated.applied.filter(pl.col("asset") == asset).sort("ts")
    figure, (price, interest, ratio) = canvas(3, 1, size=(10, 7), ratios=(1.2, 1, 1), sharex=True)
    at = _naive(rows["ts"])
    price.plot(at, _floats(rows["spot_price"]), color=INK, lw=1.1)
    price.set_ylabel(f"{asset} price, USD")
    interest.plot(at, _floats(rows["oi_base"]), color=ORANGE, lw=1.1)
    interest.set_ylabel("OI, coins")
    for name in ("static_twin_expost", "signal_rule", POLICY):
        own = held.filter(pl.col("strategy") == name)
        ratio.step(_naive(own["ts"]), own["ratio"].to_numpy(), where="pre", label=name, **STRATEGY_LOOKS[name])
    ratio.set_ylabel("hedge ratio")
    ratio.set_ylim(-0.03, max(1.03, float(held["ratio"].max() or 0) + 0.03))  # type: ignore[arg-type]
    ratio.legend(loc="upper left", bbox_to_anchor=(1.005, 1.02))
    ratio.set_xlabel("UTC")
    _shade_tiers(evaluated, asset, (price, interest, ratio))
    date_axis(ratio)
    title(figure, f"Hedge ratio over price and open interest: {asset}", label, "shaded: tier 2 and above")
    return figure


def quantile_fan(
    evaluated: Evaluated, features: pl.DataFrame, asset: str, quantiles: Sequence[float], label: str
) -> Figure:
    """Draw what was forecast and what came at the hour of highest p_unwind of each unseen window with a forecast."""
    own = evaluated.forecasts.filter(pl.col("asset") == asset)
    chosen = [loudest(window) for window in own.partition_by("fold", maintain_order=True)]
    targets = targets_of(own)
    if not chosen:
        figure, axes = canvas(1, 1, size=(10, 1))
        axes.set_axis_off()
        title(figure, f"Forecast quantiles on unseen windows: {asset}", label, "no forecast")
        return figure
    figure, axes = canvas(len(targets), len(chosen), size=(10, 1 + 2.3 * len(targets)), sharey="row", sharex=True)
    panels = np.reshape(axes, (len(targets), len(chosen)))
    outcome = features.filter(pl.col("asset") == asset).sort("ts")
    for row, target in enumerate(targets):
        for column, instant in enumerate(chosen):
            axes = panels[row][column]
            _fan(axes, own.filter(pl.col("ts") == instant).sort("step"), outcome, target, quantiles)
            percent_axis(axes)
            if column == 0:
                axes.set_ylabel(FAN_TARGETS[target])
            if row == 0:
                p_unwind = float(own.filter(pl.col("ts") == instant)["p_unwind"][0])
                axes.set_title(f"{instant:%Y-%m-%d %H:%M} UTC, p_unwind {p_unwind:.2f}", fontsize=9, color=INK)
            if row == len(targets) - 1:
                axes.set_xlabel("hours ahead")
                axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 3, 6, 10], integer=True))
    panels[0][-1].legend(loc="upper left", bbox_to_anchor=(1.005, 1.02))
    title(figure, f"Forecast quantiles on unseen windows: {asset}", label, "each fold's hour of highest p_unwind")
    return figure


def return_given_oi(drawn: Floats, came: Floats, given: ReturnGivenOi, label: str, note: str) -> Figure:
    """Draw where one forecast's paths end, OI against price, what they say of the return given OI, and what came.

    Args:
        drawn: hourly log changes (2, paths, steps), return first.
        came: the same as they came (2, steps), NaN where not known.
        given: answers for this forecast alone.
        label: the run's.
        note: whose forecast, and when.
    """
    price, oi = drawn.sum(axis=-1)
    asked = np.linspace(oi.min(), oi.max(), 33)
    low, median, high = np.expm1(given(asked, (0.1, 0.5, 0.9))[0].T)
    figure, axes = canvas(1, 1, size=(7.2, 4.8))
    x = np.expm1(asked)
    axes.fill_between(x, low, high, color=_tint(0.75), lw=0, label="80 % given OI")
    axes.plot(np.expm1(oi), np.expm1(price), "o", ms=2.6, mew=0, color=INK, alpha=0.45, label="scenario paths")
    axes.plot(x, median, color=BLUE, lw=1.8, label="median given OI")
    axes.plot(*np.expm1(came.sum(axis=-1))[::-1], "D", ms=7, color=ORANGE, mec="white", label="came")
    axes.axhline(0, color=GREY, lw=0.7)
    axes.axvline(0, color=GREY, lw=0.7)
    axes.set_xlabel(f"OI change over {drawn.shape[-1]} h, coins")
    axes.set_ylabel(f"return over {drawn.shape[-1]} h")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    percent_axis(axes)
    axes.legend(loc="upper left", bbox_to_anchor=(1.005, 1.02))
    title(figure, "Return given open interest", label, note)
    return figure


def gate_table(gates: Sequence[Gate], label: str) -> Figure:
    """Draw the gates as a table: name, value, rule, verdict."""
    figure, axes = canvas(1, 1, size=(10, 1.1 + 0.32 * (len(gates) + 1)))
    axes.set_axis_off()
    axes.set_xlim(-0.012, 1)
    axes.set_ylim(len(gates) + 0.6, -0.7)
    columns = (0.0, 0.37, 0.44, 0.92)
    for x, text, side in zip(
        columns, ("gate", "value", "rule", "verdict"), ("left", "right", "left", "left"), strict=True
    ):
        axes.text(x, -0.2, text, fontsize=9, color=GREY, ha=side, va="center")
    for row, gate in enumerate(gates):
        y = row + 0.5
        colour = BLUE if gate.passed else ORANGE
        axes.axhspan(row + 0.02, row + 0.98, color=colour, alpha=0.05 if gate.passed else 0.16, lw=0)
        axes.text(columns[0], y, gate.name, fontsize=9, va="center", color=INK)
        axes.text(columns[1], y, _written(gate.value), fontsize=9, va="center", ha="right", color=INK)
        axes.text(
            columns[2],
            y,
            _shortened(gate.detail if gate.detail == NO_CHAMPION else gate.rule, 72),
            fontsize=8,
            va="center",
            color=INK,
        )
        verdict = "passed" if gate.passed else "REFUSED"
        axes.text(columns[3], y, verdict, fontsize=9, va="center", color=colour, weight="bold")
    failed = sum(not gate.passed for gate in gates)
    title(
        figure, "Promotion gates", label, f"{len(gates) - failed} of {len(gates)} passed" if gates else "none was run"
    )
    return figure


def reliability(scores: Mapping[str, Any], label: str) -> Figure:
    """Draw observed frequency over p_unwind, with the count of forecasts in each bin."""
    model = scores["model"]
    figure, (axes, counts) = canvas(2, 1, size=(6.4, 6.4), ratios=(3, 1), sharex=True)
    bins = model["reliability"]
    axes.plot([0, 1], [0, 1], color=GREY, lw=1, ls=(0, (4, 3)), label="perfect")
    axes.axhline(model["base_rate"], color=PALE, lw=1.4, label="base rate")
    axes.plot([one["p"] for one in bins], [one["observed"] for one in bins], "o-", color=BLUE, lw=1.8, label="model")
    axes.set_ylabel("observed share of unwinds")
    top = max([0.1, *(max(one["p"], one["observed"]) for one in bins)])
    span = (-0.02 * top, min(1.25 * top, 1.02))
    axes.set_xlim(span)
    axes.set_ylim(span)
    axes.legend(loc="upper left")
    counts.bar([one["p"] for one in bins], [one["count"] for one in bins], width=0.04 * top, color=BLUE, alpha=0.7)
    counts.set_yscale("log")
    counts.set_ylim(bottom=0.8)
    counts.set_ylabel("forecasts")
    counts.set_xlabel("forecast p_unwind")
    note = f"Brier skill {model['brier_skill']:+.3f}, {model['distinct_events']} separate unwinds on unseen hours"
    title(figure, "Reliability of p_unwind", label, note)
    return figure


def loss_curve(epochs: Sequence[Mapping[str, float]], label: str) -> Figure:
    """Draw every metric of `epochs` (one mapping per epoch) whose name holds "loss"."""
    names = sorted({name for metrics in epochs for name in metrics if "loss" in name})
    figure, axes = canvas(1, 1, size=(7.2, 4.2 if names else 1))
    for name, colour in zip(names, (BLUE, ORANGE, GREY, PALE, INK), strict=False):
        points = [(epoch + 1, metrics[name]) for epoch, metrics in enumerate(epochs) if name in metrics]
        axes.plot([x for x, _ in points], [y for _, y in points], "o-", ms=3.5, lw=1.6, color=colour, label=name)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("epoch")
    axes.set_ylabel("quantile loss, scaled targets")
    if names:
        axes.legend(loc="upper left", bbox_to_anchor=(1.005, 1.02))
    else:
        axes.set_axis_off()
    title(figure, "Training", label, f"{len(epochs)} epochs" if names else "no training epochs")
    return figure


def variable_importance(encoder: Mapping[str, float], decoder: Mapping[str, float], label: str, note: str) -> Figure:
    """Draw each variable's share in what the network's variable selection passes on, largest first, per side."""
    sides = {"past hours (encoder)": encoder, "hours ahead (decoder)": decoder}
    heights = [max(len(shares), 1) for shares in sides.values()]
    figure, panels = canvas(2, 1, size=(7.2, 1.9 + 0.24 * sum(heights)), ratios=heights, sharex=True)
    for axes, (name, shares) in zip(panels, sides.items(), strict=True):
        ranked = sorted(shares.items(), key=lambda one: one[1])
        bars = axes.barh([variable for variable, _ in ranked], [share for _, share in ranked], color=BLUE, alpha=0.85)
        axes.bar_label(bars, [f"{100 * share:.1f}%" for _, share in ranked], padding=3, fontsize=8, color=INK)
        axes.set_ylim(-0.7, max(len(ranked), 1) - 0.3)
        axes.grid(visible=False)
        axes.set_title(name, loc="left", fontsize=9, color=INK)
    panels[-1].set_xlim(0, 1.12 * max([*encoder.values(), *decoder.values()]))
    panels[-1].xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    panels[-1].set_xlabel("mean share of the variable selection")
    title(figure, "Variable importance", label, note)
    return figure


def attention_by_lag(attention: Sequence[float], label: str, note: str) -> Figure:
    """Draw the share of attention that each past hour gets; `attention[k]` is k hours before the forecast."""
    figure, axes = canvas(1, 1, size=(7.2, 4.2))
    lags = np.arange(len(attention))
    axes.bar(lags, attention, width=0.85, color=BLUE, alpha=0.85)
    axes.axhline(1 / len(attention), color=ORANGE, lw=1.2, ls=(0, (4, 3)), label="all hours alike")
    axes.set_xlim(len(attention) - 0.4, -0.6)
    axes.xaxis.set_major_locator(MaxNLocator(9, steps=[1, 2, 3, 6, 10], integer=True))
    axes.set_xlabel("hours before the forecast")
    axes.set_ylabel("mean share of attention")
    percent_axis(axes, digits=1)
    axes.legend(loc="upper left", bbox_to_anchor=(1.005, 1.02))
    title(figure, "Attention by lag", label, note)
    return figure


def loudest(forecasts: pl.DataFrame) -> datetime:
    """Return the instant of highest p_unwind, the earliest of several; there must be a forecast."""
    ranked = forecasts.sort(["p_unwind", "ts"], descending=[True, False], nulls_last=True)
    found: datetime = ranked["ts"][0]
    return found


def _fan(axes: Axes, forecast: pl.DataFrame, outcome: pl.DataFrame, target: str, quantiles: Sequence[float]) -> None:
    step = forecast["step"].to_numpy()
    levels = sorted(quantiles)
    for depth in range(len(levels) // 2):
        low, high = (_floats(forecast[quantile_column(target, level)]) for level in (levels[depth], levels[-1 - depth]))
        name = f"{100 * (levels[-1 - depth] - levels[depth]):g} %"
        axes.fill_between(step, low, high, color=_tint(0.8 - 0.6 * depth / (len(levels) // 2)), lw=0, label=name)
    axes.plot(step, _floats(forecast[quantile_column(target, 0.5)]), color=BLUE, lw=1.6, label="median")
    at = forecast.select("step", (pl.col("ts") + pl.duration(hours="step")).alias("ts"))
    came = at.join(outcome.select("ts", target), on="ts", how="left").sort("step")
    axes.plot(came["step"].to_numpy(), _floats(came[target]), "o", color=ORANGE, ms=3.2, label="came")
    if target in PATH_TARGETS:
        axes.axhline(0, color=GREY, lw=0.7)


def _shade_tiers(evaluated: Evaluated, asset: str, panels: Sequence[Axes]) -> None:
    if "tier" not in evaluated.decisions.columns:
        return
    rows = evaluated.decisions.filter(pl.col("asset") == asset).sort("ts")
    shade(panels, _naive(rows["ts"]), rows["tier"].to_numpy() >= 2)


def _tint(share: float) -> Any:
    """Return blue mixed with `share` of white: bands lie on one another, and the legend shows what is seen."""
    return tuple(share + (1 - share) * part for part in to_rgb(BLUE))


def _written(value: float | None) -> str:
    """Return a gate's value so that one that only rounds to 0 does not read as 0."""
    if value is None:
        return "unknown"
    return f"{value:.1e}" if 0 < abs(value) < 5e-5 else f"{value:.4f}"


def _naive(ts: pl.Series) -> Any:
    return ts.dt.replace_time_zone(None).to_numpy()


def _floats(values: pl.Series) -> Floats:
    return np.asarray(values.cast(pl.Float64).fill_null(np.nan).to_numpy(), dtype=np.float64)


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"

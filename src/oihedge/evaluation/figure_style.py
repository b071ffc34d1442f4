"""How every figure looks: canvas, colours that the colour-blind tell apart, titles with the run's label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

INK, GREY, PALE = "#1f2933", "#8a94a0", "#c3cad2"
BLUE, ORANGE, GREEN, PURPLE, SKY = "#0b5fa5", "#d1600b", "#2a8c6e", "#8e5ea2", "#6fb1dd"
DPI = 120

STRATEGY_LOOKS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "no_hedge": {"color": GREY, "lw": 1.1},
        "full_hedge": {"color": INK, "lw": 1.1},
        "static_50": {"color": PALE, "lw": 1.4},
        "static_twin_tradable": {"color": GREEN, "lw": 1.1, "ls": (0, (1, 1.2))},
        "static_twin_expost": {"color": GREEN, "lw": 1.3},
        "volatility_target": {"color": PURPLE, "lw": 1.1},
        "signal_rule": {"color": ORANGE, "lw": 1.4},
        "policy": {"color": BLUE, "lw": 2.1, "zorder": 5},
    }
)


def canvas(
    rows: int,
    columns: int,
    *,
    size: tuple[float, float],
    ratios: Sequence[float] | None = None,
    sharex: bool = False,
    sharey: bool | Literal["row"] = False,
) -> tuple[Figure, Any]:
    """Return a Figure and its axes: one, a list, or rows of axes as in `Figure.subplots`."""
    figure = Figure(figsize=size, dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    spec = {"height_ratios": list(ratios)} if ratios else None
    axes = figure.subplots(rows, columns, sharex=sharex, sharey=sharey, gridspec_kw=spec)
    for one in np.atleast_1d(axes).flat:
        _quiet(one)
    return figure, axes


def _quiet(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(PALE)
    axes.grid(axis="y", color=PALE, lw=0.5, alpha=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=8.5, length=3, color=PALE)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)


def title(figure: Figure, what: str, label: str, note: str = "") -> None:
    """Put the title on the figure: what it shows, the run's label in brackets, and one line of note."""
    for axes in figure.axes:
        legend = axes.get_legend()
        if legend is not None:
            legend.set_frame_on(False)
            for text in legend.get_texts():
                text.set_fontsize(8.5)
                text.set_color(INK)
    figure.align_ylabels()
    heading = f"{what}  [{label}]"
    figure.suptitle(
        heading + (f"\n{note}" if note else ""), fontsize=11, color=INK, x=0.012, ha="left", linespacing=1.5
    )


def percent_axis(axes: Axes, digits: int | None = None) -> None:
    """Write the y axis in percent."""
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=digits))


def date_axis(axes: Axes) -> None:
    """Write the x axis as short UTC dates."""
    locator = AutoDateLocator(minticks=4, maxticks=9)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))


def shade(panels: Sequence[Axes], at: Any, on: NDArray[np.bool_]) -> None:
    """Shade the stretches of `at` where `on` holds, on every panel."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], on, [False])).astype(int)))
    for first, last in edges.reshape(-1, 2):
        for axes in panels:
            axes.axvspan(at[first], at[min(last, len(at) - 1)], color=ORANGE, alpha=0.10, lw=0)

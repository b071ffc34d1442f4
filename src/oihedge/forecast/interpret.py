"""What the Temporal Fusion Transformer looks at: how it weighs its variables, and how far back it attends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from oihedge.core.clock import iso
from oihedge.core.errors import DataError
from oihedge.core.protocols import FittedModel
from oihedge.forecast.frames import wanted_rows
from oihedge.forecast.panel import Floats, Ints, Panel, build_panel, hour_of

if TYPE_CHECKING:
    import torch

MOST_WINDOWS = 64
"""Windows looked at: means over more hardly differ."""


@dataclass(frozen=True)
class Interpretation:
    """Means over `windows` windows whose instants (last encoder hours) lie in [first, last].

    `encoder` and `decoder`: share of each variable in what the variable selection passes on, summing to 1 per side.
    `attention`: share of each encoder hour in the attention that the hours ahead pay to the encoder, over heads and
    hours ahead, summing to 1; `attention[k]` is k hours before the instant.
    """

    encoder: dict[str, float]
    decoder: dict[str, float]
    attention: tuple[float, ...]
    windows: int
    first: datetime
    last: datetime

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "encoder_variables": self.encoder, "decoder_variables": self.decoder,
            "attention_by_hours_before": list(self.attention), "windows": self.windows,
            "first": iso(self.first), "last": iso(self.last),
        }  # fmt: skip


def interpret(model: FittedModel, features: pl.DataFrame, *, after: datetime) -> Interpretation | None:
    """Ask the network, by pytorch-forecasting's own forward and `interpret_output`, what it looks at.

    Args:
        model: a fitted model.
        features: rows as `model.predict` takes them, the hours ahead included.
        after: only instants later than this: the end of what the network was trained on.

    Returns:
        The means over at most `MOST_WINDOWS` windows, evenly spaced; None for a model that cannot be asked.

    Raises:
        DataError: if no window lies after `after`.
    """
    network: Any = getattr(model, "network", None)
    if not hasattr(network, "interpret_output"):
        return None
    of_tft: Any = model
    panel = build_panel(features, of_tft.scalers.columns, of_tft.scalers.assets)
    rows = wanted_rows(panel, network.decoder_variables, of_tft.shape, None)
    rows = rows[panel.hour[rows] > hour_of(after)]
    if not len(rows):
        raise DataError("no window to interpret the model on", expected=f"instants after {iso(after)}", got="none")
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), MOST_WINDOWS)).round().astype(np.int64)]
    said = _ask(network, _windows(network, panel, of_tft.scalers.inputs(panel), rows, of_tft.shape), of_tft.shape[1])
    hours = panel.hour[rows]
    return Interpretation(
        encoder=_shares(network.encoder_variables, said["encoder_variables"]),
        decoder=_shares(network.decoder_variables, said["decoder_variables"]),
        attention=tuple(_normed(said["attention"])[::-1].tolist()),
        windows=len(rows), first=_instant(hours.min()), last=_instant(hours.max()),
    )  # fmt: skip


def _instant(hour: int) -> datetime:
    return datetime.fromtimestamp(int(hour) * 3600, UTC)


def _windows(network: Any, panel: Panel, inputs: Floats, rows: Ints, shape: tuple[int, int]) -> dict[str, Any]:
    """Return the windows whose instants are `rows` as pytorch-forecasting's loader would.

    As in prediction, unknown columns of the hours ahead, which the decoder does not read, are 0 where they are missing.
    """
    import torch

    encoder, horizon = shape
    cells = rows[:, None] + np.arange(1 - encoder, horizon + 1)
    order = [panel.columns.index(name) for name in network.hparams.x_reals]
    reals = torch.as_tensor(np.nan_to_num(inputs[:, order])[cells], dtype=torch.float32)
    codes = torch.as_tensor(panel.asset[cells])[..., None][..., : len(network.hparams.x_categoricals)]
    return {
        "encoder_cat": codes[:, :encoder], "encoder_cont": reals[:, :encoder],
        "decoder_cat": codes[:, encoder:], "decoder_cont": reals[:, encoder:],
        "encoder_lengths": torch.full((len(rows),), encoder), "decoder_lengths": torch.full((len(rows),), horizon),
        "target_scale": [torch.tensor([[0.0, 1.0]]).expand(len(rows), 2) for _ in range(network.n_targets)],
    }  # fmt: skip


def _ask(network: Any, x: dict[str, Any], horizon: int) -> dict[str, Floats]:
    """Return the means over windows; those of attention over the hours ahead, too, since each attends by itself."""
    import torch

    network.eval()
    with torch.no_grad():
        out = network.forward(x)
        said = [network.interpret_output(out, attention_prediction_horizon=step) for step in range(horizon)]
    encoder = x["encoder_cont"].shape[1]
    attention = torch.stack([of_step["attention"][:, :encoder] for of_step in said])
    return {
        "attention": _mean(attention.flatten(0, 1)),
        **{name: _mean(said[0][name]) for name in ("encoder_variables", "decoder_variables")},
    }


def _mean(values: torch.Tensor) -> Floats:
    return np.asarray(values.double().mean(dim=0).numpy())


def _shares(names: Sequence[str], values: Floats) -> dict[str, float]:
    return dict(zip(names, _normed(values).tolist(), strict=True))


def _normed(values: Floats) -> Floats:
    return np.asarray(values / values.sum()) if values.size else values

"""Windows of encoder and decoder hours, as index lists into prebuilt tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from pytorch_forecasting import TimeSeriesDataSet
from pytorch_forecasting.data.encoders import MultiNormalizer, NaNLabelEncoder, TorchNormalizer

from oihedge.forecast.panel import TARGETS, Floats, Ints, Mask, Panel

Batch = tuple[dict[str, Any], tuple[list[torch.Tensor], None]]
_TARGET = "target of {}"


def window_dataset(
    panel: Panel, known: Sequence[str], inputs: Floats, targets: Floats, rows: Mask, shape: tuple[int, int]
) -> Any:
    """Build pytorch-forecasting's TimeSeriesDataSet over the unbroken stretches of `rows`.

    Values come already scaled, so that every scaler and normaliser in it is the identity and holds nothing to store.

    Args:
        panel: whose columns `inputs` has, in order.
        known: the columns known ahead.
        inputs: scaled inputs (rows, columns).
        targets: scaled targets (rows, 2).
        rows: the rows that windows may touch, all complete.
        shape: encoder and horizon hours.
    """
    frame = pd.DataFrame(inputs[rows], columns=list(panel.columns))
    frame["asset"] = np.array(panel.assets, dtype=object)[panel.asset[rows]]
    frame["hour"] = panel.hour[rows]
    frame["stretch"] = [f"{start}" for start in (panel.hour - panel.run_until(rows))[rows]]
    for i, name in enumerate(TARGETS):
        frame[_TARGET.format(name)] = targets[rows, i]
    identity = MultiNormalizer([TorchNormalizer(method="identity") for _ in TARGETS])
    encoder, horizon = shape
    lengths = frame.groupby(["asset", "stretch"], observed=True)["hour"].transform("size")
    return TimeSeriesDataSet(
        frame[lengths >= encoder + horizon],
        time_idx="hour",
        target=[_TARGET.format(name) for name in TARGETS],
        group_ids=["asset", "stretch"],
        static_categoricals=["asset"] if len(panel.assets) > 1 else [],
        time_varying_known_reals=list(known),
        time_varying_unknown_reals=[name for name in panel.columns if name not in known],
        min_encoder_length=encoder,
        max_encoder_length=encoder,
        min_prediction_length=horizon,
        max_prediction_length=horizon,
        target_normalizer=identity,
        categorical_encoders={"asset": NaNLabelEncoder(), "stretch": NaNLabelEncoder()},
        scalers=dict.fromkeys(panel.columns),
    )


class WindowTensors:
    """Hands out batches by indexing whole tensors, as the dataset's own loader would collate them one by one."""

    def __init__(
        self, reals: torch.Tensor, categoricals: torch.Tensor, targets: Sequence[torch.Tensor], shape: tuple[int, int]
    ) -> None:
        self._reals, self._categoricals, self._targets = reals, categoricals, list(targets)
        self._encoder, self._horizon = shape
        self._ahead = torch.arange(sum(shape))

    @classmethod
    def of_dataset(cls, dataset: Any) -> tuple[WindowTensors, torch.Tensor]:
        """Return the tensors of a TimeSeriesDataSet and the first row of each of its windows."""
        data = dataset.data
        shape = dataset.max_encoder_length, dataset.max_prediction_length
        first = torch.as_tensor(dataset.index["index_start"].to_numpy(np.int64, copy=True))
        categoricals = data["categoricals"][:, [dataset.flat_categoricals.index(name) for name in dataset.categoricals]]
        return cls(data["reals"], categoricals, data["target"], shape), first

    @classmethod
    def of_panel(
        cls, panel: Panel, inputs: Floats, shape: tuple[int, int], targets: Floats | None = None
    ) -> WindowTensors:
        """Return tensors over every row of `panel`, with zeros for targets where none are given.

        Cells without a value become 0 here; they lie outside every window that may be asked for, or under an unknown
        column of the hours ahead, which the network's decoder does not read.
        """
        reals = torch.as_tensor(np.nan_to_num(inputs), dtype=torch.float32)
        codes = torch.as_tensor(panel.asset)[:, None] if len(panel.assets) > 1 else torch.zeros(len(reals), 0).long()
        aims = np.zeros((len(reals), len(TARGETS))) if targets is None else np.nan_to_num(targets)
        return cls(reals, codes, list(torch.as_tensor(aims, dtype=torch.float32).unbind(1)), shape)

    def batch(self, first: torch.Tensor) -> Batch:
        """Return the windows that start at rows `first`, in the layout of TimeSeriesDataSet's loader."""
        count, cut = len(first), self._encoder
        rows = first[:, None] + self._ahead
        reals, categoricals = self._reals[rows], self._categoricals[rows]
        targets = [target[rows] for target in self._targets]
        x: dict[str, Any] = {
            "encoder_cont": reals[:, :cut],
            "decoder_cont": reals[:, cut:],
            "encoder_cat": categoricals[:, :cut],
            "decoder_cat": categoricals[:, cut:],
            "encoder_target": [target[:, :cut] for target in targets],
            "decoder_target": [target[:, cut:] for target in targets],
            "encoder_lengths": torch.full((count,), cut),
            "decoder_lengths": torch.full((count,), self._horizon),
            "target_scale": [torch.tensor([[0.0, 1.0]]).expand(count, 2) for _ in TARGETS],
        }
        return x, (x["decoder_target"], None)


class Batches:
    """An endless deck of windows dealt in `steps` batches an epoch, reshuffled by seed when it runs out."""

    def __init__(self, tensors: WindowTensors, first: torch.Tensor, *, size: int, steps: int, seed: int) -> None:
        self._tensors, self._first = tensors, first
        self._size, self._steps = min(size, len(first)), steps
        self._generator = torch.Generator().manual_seed(seed)
        self._deck = first[:0]

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[Batch]:
        for _ in range(self._steps):
            if len(self._deck) < self._size:
                order = torch.randperm(len(self._first), generator=self._generator)
                self._deck = torch.cat([self._deck, self._first[order]])
            hand, self._deck = self._deck[: self._size], self._deck[self._size :]
            yield self._tensors.batch(hand)


class FixedBatches:
    """The same windows in the same order, every time."""

    def __init__(self, tensors: WindowTensors, first: torch.Tensor, *, size: int) -> None:
        self._tensors, self._parts = tensors, torch.split(first, size)

    def __len__(self) -> int:
        return len(self._parts)

    def __iter__(self) -> Iterator[Batch]:
        return (self._tensors.batch(part) for part in self._parts)


def evenly(first: torch.Tensor, count: int) -> torch.Tensor:
    """Return at most `count` of `first`, evenly spaced over all of it."""
    if len(first) <= count:
        return first
    return first[torch.linspace(0, len(first) - 1, count).round().long()]


def first_rows(instants: Ints, encoder_h: int) -> torch.Tensor:
    """Return the first encoder row of the window whose last encoder row is each of `instants`."""
    return torch.as_tensor(instants - encoder_h + 1)

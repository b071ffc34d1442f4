"""Windows of encoder and decoder hours, as pytorch-forecasting's dataset knows them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from pytorch_forecasting import TimeSeriesDataSet
from pytorch_forecasting.data.encoders import EncoderNormalizer, MultiNormalizer, NaNLabelEncoder, TorchNormalizer

from oihedge.forecast.categories import Categories, no_categories
from oihedge.forecast.panel import Floats, Ints, Mask, Panel
from oihedge.forecast.segments import Deck, Rows


def window_dataset(
    panel: Panel, known: Sequence[str], inputs: Floats, targets: Floats, rows: Mask, shape: tuple[int, int],
    categories: Categories | None = None,
) -> Any:  # fmt: skip
    """Build pytorch-forecasting's TimeSeriesDataSet over the unbroken stretches of `rows`.

    Values come already scaled, so that every scaler and normaliser in it is the identity and holds nothing to store.

    Args:
        panel: whose columns `inputs` has, in order.
        known: the columns known ahead.
        inputs: scaled inputs (rows, columns).
        targets: scaled targets (rows, targets).
        rows: the rows that windows may touch, all complete.
        shape: encoder and horizon hours.
        categories: of the panel's rows, known ahead, if any.
    """
    frame = pd.DataFrame(inputs[rows], columns=list(panel.columns))
    frame["asset"] = np.array(panel.assets, dtype=object)[panel.asset[rows]]
    frame["hour"] = panel.hour[rows]
    frame["stretch"] = [f"{start}" for start in (panel.hour - panel.run_until(rows))[rows]]
    categories = categories or no_categories(panel)
    coded = {f"category {i}": _all_codes(size) for i, size in enumerate(categories.sizes)}
    for name, codes in zip(coded, categories.codes[rows].T, strict=True):
        frame[name] = [f"{code:03d}" for code in codes]
    names = [f"target {i}" for i in range(targets.shape[1])]
    frame[names] = targets[rows]
    identity = MultiNormalizer([TorchNormalizer(method="identity") for _ in names])
    encoder, horizon = shape
    lengths = frame.groupby(["asset", "stretch"], observed=True)["hour"].transform("size")
    return TimeSeriesDataSet(
        frame[lengths >= encoder + horizon],
        time_idx="hour",
        target=names,
        group_ids=["asset", "stretch"],
        static_categoricals=["asset"] if len(panel.assets) > 1 else [],
        time_varying_known_categoricals=list(coded),
        time_varying_known_reals=list(known),
        time_varying_unknown_reals=[name for name in panel.columns if name not in known],
        min_encoder_length=encoder,
        max_encoder_length=encoder,
        min_prediction_length=horizon,
        max_prediction_length=horizon,
        target_normalizer=identity,
        categorical_encoders={"asset": NaNLabelEncoder(), "stretch": NaNLabelEncoder(), **coded},
        scalers=dict.fromkeys(panel.columns),
    )


def _all_codes(size: int) -> Any:
    """Return the encoder of a category with `size` codes: one that no window shows keeps its place."""
    return NaNLabelEncoder().fit(pd.Series([f"{code:03d}" for code in range(size)]))


def first_rows(instants: Ints, encoder_h: int) -> Ints:
    """Return the first encoder row of the window whose last encoder row is each of `instants`."""
    return instants - encoder_h + 1


def why_not_shared(dataset: Any) -> str | None:
    """Return why windows of a TimeSeriesDataSet cannot share what is computed per time step; None where they can."""
    normalizers = [*dataset.target_normalizers, *(dataset.scalers or {}).values()]
    reasons = {
        "encoder lengths vary": dataset.min_encoder_length != dataset.max_encoder_length,
        "prediction lengths vary": dataset.min_prediction_length != dataset.max_prediction_length,
        "lengths are randomised": dataset.randomize_length is not None,
        "relative_time_idx differs from window to window": dataset.add_relative_time_idx,
        "a normaliser is fitted to each window's encoder": any(isinstance(n, EncoderNormalizer) for n in normalizers),
        "missing time steps are filled in per window": dataset.allow_missing_timesteps,
        "windows are weighted": dataset.weight is not None,
        "values are overwritten per window": dataset._overwrite_values is not None,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def training_batches(
    dataset: Any, *, batch_size: int, windows: int = 16, stride: int = 12, steps: int | None = None, seed: int = 0
) -> Any:
    """Return shared batches of a TimeSeriesDataSet for `Network`, or its own loader, with a warning that says why.

    Args:
        dataset: the windows.
        batch_size: windows in a batch, at most as many as there are.
        windows: in a segment.
        stride: rows between neighbouring windows of a segment.
        steps: shared batches in an epoch, at most; None for as many as hold every window.
        seed: of the order of the shared batches.
    """
    reason = why_not_shared(dataset)
    if reason is not None:
        warnings.warn(f"training without shared windows: {reason}", UserWarning, stacklevel=2)
        return dataset.to_dataloader(train=True, batch_size=batch_size)
    rows, first = Rows.of_dataset(dataset)
    per = min(windows, batch_size, len(first))
    segments = min(batch_size // per, -(-len(first) // per))
    return Deck(rows, first, segments=segments, windows=per, stride=stride, steps=steps, seed=seed)

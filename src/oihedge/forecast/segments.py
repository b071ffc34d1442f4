"""Which windows share a segment: decks for training, covers for prediction, and the tensors they index.

A segment is a run of consecutive rows of one series; its windows begin `offsets` rows in. Training takes windows some
steps apart, because neighbours teach the same; prediction takes what it is asked for, in order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from oihedge.forecast.panel import Floats, Ints, Panel
from oihedge.forecast.shared import Segments
from oihedge.forecast.threads import torch_threads

Tensor = torch.Tensor
MOST_WINDOWS = 64
"""Windows of one segment in prediction: more share more rows, and need more memory."""
BATCH_WINDOWS = 128
"""Windows predicted at once: more are no faster, and need more memory."""


@dataclass(frozen=True)
class Batch:
    """Windows in segments; what came after each, per target (windows, horizon); and the targets' scales, (windows, 2).

    All segment by segment; without `scales` the network's output is in the targets' own units.
    """

    segments: Segments
    targets: tuple[Tensor, ...]
    scales: tuple[Tensor, ...] = ()

    def part(self, start: int, end: int) -> Batch:
        """Return the segments from `start` to before `end`."""
        windows = self.segments.offsets.shape[1]
        cut = slice(start * windows, end * windows)
        return Batch(
            self.segments.part(start, end),
            tuple(target[cut] for target in self.targets),
            tuple(scale[cut] for scale in self.scales),
        )


class Rows:
    """Whole tensors, one row an hour: `reals`, `categoricals`, `targets`, and the code of each row's series.

    `scales`: per target (series, 2) centre and spread that the network's output is to be put back by, if any.
    """

    def __init__(
        self, reals: Tensor, categoricals: Tensor, targets: Sequence[Tensor], series: Ints,
        shape: tuple[int, int], scales: Sequence[Tensor] = (),
    ) -> None:  # fmt: skip
        self.reals, self.categoricals, self.targets, self.series = reals, categoricals, tuple(targets), series
        self.shape, self.scales = shape, tuple(scales)

    @classmethod
    def of_dataset(cls, dataset: Any) -> tuple[Rows, Ints]:
        """Return the tensors of a TimeSeriesDataSet, and the first row of each of its windows in rising order."""
        data, groups = dataset.data, dataset.data["groups"].numpy()
        series = np.append(0, (groups[1:] != groups[:-1]).any(axis=1).cumsum()) if len(groups) else groups[:, 0]
        shape = dataset.max_encoder_length, dataset.max_prediction_length
        first = np.sort(dataset.index["index_start"].to_numpy(np.int64, copy=True))
        one_of_each = data["groups"][np.flatnonzero(np.diff(series, prepend=-1))]
        scales = [_scales(normalizer, one_of_each, dataset.group_ids) for normalizer in dataset.target_normalizers]
        return cls(data["reals"], data["categoricals"], data["target"], series.astype(np.int64), shape, scales), first

    @classmethod
    def of_panel(
        cls, panel: Panel, inputs: Floats, shape: tuple[int, int], targets: Floats | None = None,
        codes: Ints | None = None,
    ) -> Rows:  # fmt: skip
        """Return tensors over every row of `panel`, with or without `targets` (rows, targets) and categories' `codes`.

        Cells without a value become 0 here; they lie outside every window that may be asked for, or under an unknown
        column of the hours ahead, which the network's decoder does not read.
        """
        reals = torch.as_tensor(np.nan_to_num(inputs), dtype=torch.float32)
        assets = panel.asset[:, None] if len(panel.assets) > 1 else np.zeros((len(reals), 0), np.int64)
        coded = torch.as_tensor(assets if codes is None else np.column_stack([assets, codes]))
        aims = np.zeros((len(reals), 0)) if targets is None else np.nan_to_num(targets)
        return cls(reals, coded, torch.as_tensor(aims, dtype=torch.float32).unbind(1), panel.asset, shape)

    def to(self, device: torch.device) -> None:
        """Move the tensors: batches are then put together there, of which only the first rows are sent."""
        self.reals, self.categoricals = self.reals.to(device), self.categoricals.to(device)
        self.targets = tuple(target.to(device) for target in self.targets)
        self.scales = tuple(scale.to(device) for scale in self.scales)

    def batch(self, begin: Ints, offsets: Ints) -> Batch:
        """Return the segments that begin at rows `begin` (segments,), with windows at `offsets` (segments, windows)."""
        with torch_threads(1):  # to split so little copying takes longer than to do it
            return self._batch(begin, offsets)

    def _batch(self, begin: Ints, offsets: Ints) -> Batch:
        encoder, horizon = self.shape
        device, reach = self.reals.device, encoder + horizon + int(offsets.max(initial=0))
        rows = torch.as_tensor(begin, device=device)[:, None] + torch.arange(reach, device=device)
        rows.clamp_(max=len(self.reals) - 1)  # the last segment's tail, which no window reads
        first = torch.as_tensor((begin[:, None] + offsets).reshape(-1, 1), device=device)
        ahead = first + torch.arange(encoder, encoder + horizon, device=device)
        starts = torch.as_tensor(offsets, device=device)
        segments = Segments(self.reals[rows], self.categoricals[rows], starts, encoder, horizon)
        of = torch.as_tensor(np.repeat(self.series[begin], offsets.shape[1]), device=device)
        return Batch(segments, tuple(aim[ahead] for aim in self.targets), tuple(scale[of] for scale in self.scales))


class Deck:
    """An endless deck of segments dealt in `steps` batches an epoch, cut anew by seed when it runs out.

    Args:
        rows: the tensors.
        first: first rows of the windows, rising.
        segments: in a batch.
        windows: in a segment.
        stride: rows between neighbouring windows of a segment.
        steps: batches in an epoch; as many as hold every window once when None.
        seed: of the shuffle.
    """

    def __init__(
        self, rows: Rows, first: Ints, *, segments: int, windows: int, stride: int, steps: int | None, seed: int
    ) -> None:
        self.rows, self._runs, self._shape = rows, _runs(rows, first), (segments, windows, stride)
        self._draw = np.random.default_rng(seed)
        self._begin, self._offsets = _cut(self._runs, windows, stride, self._draw)
        whole = max(len(first) // (segments * windows), 1)
        self._steps, self._next = whole if steps is None else min(steps, whole), 0

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[Batch]:
        segments, windows, stride = self._shape
        for _ in range(self._steps):
            while self._next + segments > len(self._begin):
                begin, offsets = _cut(self._runs, windows, stride, self._draw)
                self._begin = np.concatenate([self._begin[self._next :], begin])
                self._offsets = np.concatenate([self._offsets[self._next :], offsets])
                self._next = 0
            hand = slice(self._next, self._next + segments)
            self._next += segments
            yield self.rows.batch(self._begin[hand], self._offsets[hand])

    def tensors(self) -> dict[str, Tensor]:
        """Return all that is dealt from, by name."""
        rows = self.rows
        named = {"reals": rows.reals, "categoricals": rows.categoricals, "series": torch.as_tensor(rows.series)}
        aims = {f"target {i}": target for i, target in enumerate(rows.targets)}
        return named | aims | {f"scale {i}": scale for i, scale in enumerate(rows.scales)}

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return, as tensors and as plain JSON values, where the deal stands: `restore` goes on from there."""
        cut = {"begin": torch.as_tensor(self._begin), "offsets": torch.as_tensor(self._offsets)}
        return cut, {"next": self._next, "draw": self._draw.bit_generator.state}

    def restore(self, cut: Mapping[str, Tensor], told: Mapping[str, Any]) -> None:
        """Deal next what the deck whose `state` this is would have dealt."""
        self._begin, self._offsets = cut["begin"].numpy(), cut["offsets"].numpy()
        self._next, self._draw.bit_generator.state = told["next"], told["draw"]


class Cover:
    """Given windows in segments, always the same.

    `spans` are the batches as what `Rows.batch` takes, put together only when they are read; `order` tells the place of
    each window in what comes out.
    """

    def __init__(self, rows: Rows, first: Ints) -> None:
        self.rows = rows
        self.spans: list[tuple[Ints, Ints]] = []
        places: list[Ints] = []
        groups = sorted(_groups(rows, np.sort(first)), key=lambda one: (len(one), one[-1] - one[0]))
        at = 0
        while at < len(groups):
            width = len(groups[at])
            hand = [one for one in groups[at : at + max(BATCH_WINDOWS // width, 1)] if len(one) == width]
            at += len(hand)
            starts = np.stack(hand)
            self.spans.append((starts[:, 0], starts - starts[:, :1]))
            places.append(starts.reshape(-1))
        came = np.concatenate(places) if places else np.zeros(0, np.int64)
        by_row = np.argsort(came, kind="stable")
        self.order = by_row[np.searchsorted(came[by_row], first)]

    def __len__(self) -> int:
        return len(self.spans)

    def __iter__(self) -> Iterator[Batch]:
        return (self.rows.batch(begin, offsets) for begin, offsets in self.spans)


def evenly(first: Ints, count: int) -> Ints:
    """Return at most `count` of `first`, evenly spaced over all of it."""
    if len(first) <= count:
        return first
    return first[np.linspace(0, len(first) - 1, count).round().astype(np.int64)]


def _scales(normalizer: Any, groups: Tensor, names: Sequence[str]) -> Tensor:
    told = [torch.tensor(np.asarray(normalizer.get_parameters(group, names))).flatten() for group in groups]
    return torch.stack(told).to(torch.float32)


def _runs(rows: Rows, first: Ints) -> list[Ints]:
    """Split first rows into runs of neighbours of one series."""
    cuts = (np.diff(first) != 1) | (np.diff(rows.series[first]) != 0)
    return np.split(first, np.flatnonzero(cuts) + 1) if len(first) else []


def _cut(runs: Sequence[Ints], windows: int, stride: int, draw: np.random.Generator) -> tuple[Ints, Ints]:
    """Cut runs of windows into shuffled segments: (segments,) first rows and (segments, windows) offsets.

    Every window is in a segment. The cuts lie elsewhere each time, and where a run's length is no multiple, the windows
    at its ends come twice.
    """
    parts = []
    for run in runs:
        step = max(min(stride, (len(run) - 1) // max(windows - 1, 1)), 1)
        for shift in range(min(step, len(run))):
            chain = run[shift::step]
            if len(chain) < windows:
                parts.append(np.sort(np.resize(draw.permutation(chain), windows))[None])
                continue
            at = np.arange(-int(draw.integers(windows)), len(chain), windows).clip(0, len(chain) - windows)
            parts.append(chain[np.unique(at)[:, None] + np.arange(windows)])
    starts = np.concatenate(parts)
    starts = starts[draw.permutation(len(starts))]
    return starts[:, 0], starts - starts[:, :1]


def _groups(rows: Rows, first: Ints) -> list[Ints]:
    """Join windows of one series that overlap into groups of at most MOST_WINDOWS."""
    if not len(first):
        return []
    reach = sum(rows.shape) // 2
    apart = (np.diff(first) > reach) | (np.diff(rows.series[first]) != 0)
    return [
        group[at : at + MOST_WINDOWS]
        for group in np.split(first, np.flatnonzero(apart) + 1)
        for at in range(0, len(group), MOST_WINDOWS)
    ]

"""Networks that read each window by itself: what is shared are the windows, the loss and how they are stored."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch

from oihedge.core.errors import ModelError
from oihedge.forecast.network import Network, quantile_losses
from oihedge.forecast.parallel import quantile_loss
from oihedge.forecast.segments import Batch, Cover
from oihedge.forecast.settings import Forecast
from oihedge.forecast.shared import Segments

Tensor = torch.Tensor


@dataclass(frozen=True)
class Sizes:
    """What such a network is built from: its inputs in order, those known ahead, and how large it is."""

    reals: tuple[str, ...]
    known: tuple[str, ...]
    assets: int
    horizon: int
    quantiles: tuple[float, ...]
    hidden: int
    dropout: float
    targets: int = 2
    categories: tuple[int, ...] = ()
    """How many codes each category known ahead has. What was stored before this and `targets` has the defaults."""


class WindowNetwork(Network):
    """One window's hours to the quantiles of the hours ahead."""

    def __init__(self, sizes: Sizes, learning_rate: float = 1e-3) -> None:
        super().__init__()
        self.save_hyperparameters({"learning_rate": learning_rate})
        self.sizes = sizes
        self.loss = quantile_losses(sizes.quantiles, sizes.targets)
        self._known = [sizes.reals.index(name) for name in sizes.known]

    @abstractmethod
    def forward(self, past: Tensor, ahead: Tensor, asset: Tensor, codes: Tensor) -> list[Tensor]:
        """Forecast.

        Args:
            past: every input of the encoder hours (windows, hours, reals).
            ahead: the known inputs of the hours ahead (windows, steps, known).
            asset: code of each window's asset (windows,).
            codes: categories of the hours ahead (windows, steps, categories).

        Returns:
            Per target (windows, steps, levels).
        """

    @classmethod
    def untrained(cls, dataset: Any, settings: Forecast) -> Self:
        """Build a network that fits the windows of a TimeSeriesDataSet, with fresh weights."""
        encoders = dataset.get_parameters()["categorical_encoders"]
        codes = {name: len(encoders[name].classes_) for name in dataset.categoricals}
        sizes = Sizes(
            reals=tuple(dataset.reals), known=tuple(dataset.time_varying_known_reals),
            assets=codes.get("asset", 1),  # a single asset is no categorical
            horizon=dataset.max_prediction_length, quantiles=settings.quantiles, hidden=settings.hidden_size,
            dropout=settings.dropout, targets=len(settings.targets),
            categories=tuple(codes[name] for name in dataset.time_varying_known_categoricals),
        )  # fmt: skip
        return cls(sizes, settings.learning_rate)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Build the network that `as_json` described, with fresh weights.

        Raises:
            ModelError: if the description does not make a network.
        """
        try:
            plain: Any = {name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()}
            return cls(Sizes(**plain))
        except (TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise ModelError(f"the stored network cannot be rebuilt: {type(error).__name__} {error}") from error

    def as_json(self) -> dict[str, Any]:
        """Return, as plain JSON values, all that `from_json` needs."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self.sizes).items()}

    @property
    def reads_and_says(self) -> tuple[tuple[str, ...], tuple[str, ...], tuple[float, ...]]:
        """Return the names of its inputs in order, of those known ahead, and the levels of its quantiles."""
        return self.sizes.reals, self.sizes.known, self.sizes.quantiles

    def batch_loss(self, batch: Batch, seeds: Sequence[int | None]) -> Tensor:
        """Return the quantile loss of a batch; the first seed is that of its dropout."""
        seed = seeds[0]
        # A GPU's random state need not be kept: nothing draws from it but by the seed of a step.
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            said = self(*self._windows(batch.segments))
        return quantile_loss(self, said, batch.targets)

    def batch_quantiles(self, cover: Cover) -> list[Tensor]:
        """Return, batch by batch, (windows, targets, steps, levels)."""
        with torch.inference_mode():
            return [torch.stack(self(*self._windows(batch.segments)), dim=1) for batch in cover]

    def _windows(self, x: Segments) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return what `forward` takes; an unknown input of the hours ahead is not in it."""
        device = x.offsets.device
        rows = x.offsets[..., None] + torch.arange(x.encoder + x.horizon, device=device)
        segments = torch.arange(len(rows), device=device)
        segment = segments[:, None, None]
        hours = x.reals[segment, rows].flatten(0, 1)
        codes = x.categoricals[segment, rows[..., x.encoder :]].flatten(0, 1)
        asset = codes[:, 0, 0] if self.sizes.assets > 1 else codes.new_zeros(len(codes))
        past, ahead = hours[:, : x.encoder], hours[:, x.encoder :, self._known]
        return past, ahead, asset, codes[..., int(self.sizes.assets > 1) :]

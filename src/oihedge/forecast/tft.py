"""The Temporal Fusion Transformer: pytorch-forecasting's, trained and asked in shared segments."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Self

import torch
from pytorch_forecasting import TemporalFusionTransformer
from pytorch_forecasting.data.encoders import MultiNormalizer, TorchNormalizer

from oihedge.core.errors import ModelError
from oihedge.forecast.folding import fold, folded_once
from oihedge.forecast.fused import COMPILED
from oihedge.forecast.network import Network, quantile_losses
from oihedge.forecast.parallel import parallel_loss, predict_in_parallel
from oihedge.forecast.segments import Batch, Cover
from oihedge.forecast.settings import Forecast
from oihedge.forecast.threads import torch_threads

_HYPER_PARAMETERS = (
    "hidden_size", "lstm_layers", "dropout", "output_size", "attention_head_size", "max_encoder_length",
    "static_categoricals", "static_reals", "time_varying_categoricals_encoder", "time_varying_categoricals_decoder",
    "categorical_groups", "time_varying_reals_encoder", "time_varying_reals_decoder", "x_reals", "x_categoricals",
    "hidden_continuous_size", "hidden_continuous_sizes", "embedding_sizes", "embedding_paddings", "embedding_labels",
    "share_single_variable_networks", "causal_attention", "mask_bias",
)  # fmt: skip


class SharedTft(Network, TemporalFusionTransformer):  # type: ignore[misc]
    """pytorch-forecasting's TFT; same forward and state_dict.

    It takes pytorch-forecasting's own batches as ever, and a `Batch` of segments by the shared path, of which `workers`
    threads each do a part.
    """

    kind = "tft"
    compiled = COMPILED

    @classmethod
    def untrained(cls, dataset: Any, settings: Forecast) -> Self:
        """Build a network that fits the windows of a TimeSeriesDataSet, with fresh weights."""
        with _no_hint():
            network: Self = cls.from_dataset(
                dataset,
                hidden_size=settings.hidden_size,
                hidden_continuous_size=settings.hidden_continuous_size,
                attention_head_size=settings.attention_heads,
                dropout=settings.dropout,
                learning_rate=settings.learning_rate,
                loss=quantile_losses(settings.quantiles, len(settings.targets)),
                logging_metrics=torch.nn.ModuleList([]),
            )
        return network

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Build the network that `as_json` described, with fresh weights.

        Raises:
            ModelError: if the description does not make a network.
        """
        try:
            arguments = {name: stored["arguments"][name] for name in _HYPER_PARAMETERS}
            targets = len(arguments["output_size"])
            arguments["embedding_sizes"] = {name: tuple(size) for name, size in arguments["embedding_sizes"].items()}
            with _no_hint():
                return cls(
                    **arguments,
                    loss=quantile_losses(stored["quantiles"], targets),
                    logging_metrics=torch.nn.ModuleList([]),
                    output_transformer=MultiNormalizer([TorchNormalizer(method="identity") for _ in range(targets)]),
                )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(f"the stored network cannot be rebuilt: {type(error).__name__} {error}") from error

    def as_json(self) -> dict[str, Any]:
        """Return, as plain JSON values, all that `from_json` needs."""
        arguments = {name: self.hparams[name] for name in _HYPER_PARAMETERS}
        quantiles = list(self.loss.metrics[0].quantiles)
        plain: dict[str, Any] = json.loads(json.dumps({"arguments": arguments, "quantiles": quantiles}))
        return plain

    @property
    def reads_and_says(self) -> tuple[tuple[str, ...], tuple[str, ...], tuple[float, ...]]:
        """Return the names of its inputs in order, of those known ahead, and the levels of its quantiles."""
        names = self.hparams
        return tuple(names.x_reals), tuple(names.time_varying_reals_decoder), tuple(self.loss.metrics[0].quantiles)

    def batch_loss(self, batch: Batch, seeds: Sequence[int | None]) -> torch.Tensor:
        """Return the quantile loss of a batch, worked out by one thread per seed; None drops nothing."""
        return parallel_loss(fold(self), batch, seeds, compiled=self.compiled, bf16=self.bf16 and self.training)

    def batch_quantiles(self, cover: Cover) -> list[torch.Tensor]:
        """Return, batch by batch, (windows, targets, steps, levels)."""
        with torch_threads(1):
            # In one piece the weights change without a mark on the parameters that are views of it.
            with torch.inference_mode():
                folded = fold(self) if self.one_piece is not None else folded_once(self)
            return predict_in_parallel(folded, cover, self.workers, compiled=self.compiled)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Do all of a step on one thread but what `parallel_loss` spreads: its operations are too small to be split."""
        with nullcontext() if self.one_piece is None else torch_threads(1):
            super().optimizer_step(*args, **kwargs)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """Return the loss of a batch."""
        if isinstance(batch, Batch):
            return super().training_step(batch, batch_idx)
        return TemporalFusionTransformer.training_step(self, batch, batch_idx)

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        """Log the loss of a batch."""
        if isinstance(batch, Batch):
            return super().validation_step(batch, batch_idx)
        return TemporalFusionTransformer.validation_step(self, batch, batch_idx)


NETWORK = SharedTft


@contextmanager
def _no_hint() -> Iterator[None]:
    """Keep Lightning's hint about modules among hyper-parameters away: no checkpoint of its kind is ever written."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Attribute '.*' is an instance of `nn.Module`.*")
        yield

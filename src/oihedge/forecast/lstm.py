"""LSTM encoder and decoder with dense heads: sequence to sequence, the hidden state carried over the instant."""

from __future__ import annotations

import torch
from torch import nn

from oihedge.forecast.fused import in_float32, reduced
from oihedge.forecast.windowed import Sizes, WindowNetwork

Tensor = torch.Tensor
ASSET_SIZE = 4
"""Numbers that an asset is embedded in, and a category at most."""


class Lstm(WindowNetwork):
    """The encoder reads every input, the decoder what is known ahead.

    Beside the decoder, a dense layer over asset, calendar and its categories (hour, weekday, events) reaches each
    output directly: an hour's own level need not be carried through the recurrence.
    """

    kind = "lstm"
    reads_categories = True

    def __init__(self, sizes: Sizes, learning_rate: float = 1e-3) -> None:
        super().__init__(sizes, learning_rate)
        hidden, ahead = sizes.hidden, len(sizes.known) + ASSET_SIZE
        self.asset = nn.Embedding(sizes.assets, ASSET_SIZE)
        self.reader, width = self.reads(len(sizes.reals) + ASSET_SIZE)
        self.encoder = nn.LSTM(width, hidden, batch_first=True)
        self.decoder = nn.LSTM(ahead, hidden, batch_first=True)
        self.categories = nn.ModuleList(nn.Embedding(size, min(ASSET_SIZE, size // 2)) for size in sizes.categories)
        coded = sum(min(ASSET_SIZE, size // 2) for size in sizes.categories)
        self.calendar = nn.Sequential(nn.Linear(ahead + coded, hidden), nn.ELU())
        self.dropout = nn.Dropout(sizes.dropout)
        self.output_layer = nn.ModuleList(nn.Linear(2 * hidden, len(sizes.quantiles)) for _ in range(sizes.targets))

    def reads(self, inputs: int) -> tuple[nn.Module, int]:
        """Return what the encoder hours, each `inputs` numbers, go through before the encoder, and its outputs."""
        return nn.Identity(), inputs

    def forward(self, past: Tensor, ahead: Tensor, asset: Tensor, codes: Tensor) -> list[Tensor]:
        """Forecast; see `WindowNetwork.forward`."""
        past, ahead = (self._with_asset(hours, asset) for hours in (past, ahead))
        coded = [category(codes[..., place]) for place, category in enumerate(self.categories)]
        with reduced(past.device, self.bf16 and self.training):
            read, calendar = self.reader(past), self.calendar(torch.cat([ahead, *coded], dim=-1))
        _, state = self.encoder(in_float32(read))
        decoded, _ = self.decoder(ahead, state)
        joined = self.dropout(torch.cat([decoded, calendar], dim=-1))
        return [layer(joined) for layer in self.output_layer]

    def _with_asset(self, hours: Tensor, asset: Tensor) -> Tensor:
        return torch.cat([hours, self.asset(asset)[:, None].expand(-1, hours.shape[1], -1)], dim=-1)


NETWORK = Lstm

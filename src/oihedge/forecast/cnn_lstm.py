"""Dilated causal convolutions over the encoder hours before the LSTM: short patterns first, then their order."""

from __future__ import annotations

import torch
from torch import nn

from oihedge.forecast.lstm import Lstm

Tensor = torch.Tensor
KERNEL, DILATIONS = 3, (1, 2, 4)
"""Together they see 15 hours back."""


class CausalConvolutions(nn.Module):
    """Convolutions (windows, hours, inputs) to (windows, hours, channels), of which no hour sees a later one."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        sizes = [inputs, *[channels] * (len(DILATIONS) - 1)]
        self.layers = nn.ModuleList(
            nn.Conv1d(size, channels, KERNEL, dilation=dilation)
            for size, dilation in zip(sizes, DILATIONS, strict=True)
        )

    def forward(self, hours: Tensor) -> Tensor:
        """Return what the hours up to each one say."""
        x = hours.transpose(1, 2)
        for layer, dilation in zip(self.layers, DILATIONS, strict=True):
            new = nn.functional.elu(layer(nn.functional.pad(x, ((KERNEL - 1) * dilation, 0))))
            x = new + x if new.shape == x.shape else new
        return x.transpose(1, 2)


class CnnLstm(Lstm):
    """`Lstm` whose encoder reads convolutions of the inputs."""

    kind = "cnn_lstm"

    def reads(self, inputs: int) -> tuple[nn.Module, int]:
        """Return the convolutions and their channels."""
        return CausalConvolutions(inputs, self.sizes.hidden), self.sizes.hidden


NETWORK = CnnLstm

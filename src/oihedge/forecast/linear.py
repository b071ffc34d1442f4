"""Linear quantile regression: the newest row's inputs and what is known of the hour ahead, nothing between."""

from __future__ import annotations

import torch
from torch import nn

from oihedge.forecast.windowed import Sizes, WindowNetwork

Tensor = torch.Tensor


class Linear(WindowNetwork):
    """Each step and quantile has weights of its own on the newest row; those on calendar and asset serve all steps."""

    kind = "linear"

    def __init__(self, sizes: Sizes, learning_rate: float = 1e-3) -> None:
        super().__init__(sizes, learning_rate)
        levels, hours, targets = len(sizes.quantiles), len(sizes.known) + sizes.assets, range(sizes.targets)
        self.output_layer = nn.ModuleList(nn.Linear(len(sizes.reals), sizes.horizon * levels) for _ in targets)
        self.ahead = nn.ModuleList(nn.Linear(hours, levels, bias=False) for _ in targets)
        for weight in self.ahead.parameters():
            nn.init.zeros_(weight)

    def forward(self, past: Tensor, ahead: Tensor, asset: Tensor, codes: Tensor) -> list[Tensor]:
        """Forecast; see `WindowNetwork.forward`."""
        who = nn.functional.one_hot(asset, self.sizes.assets).to(ahead.dtype)
        hours = torch.cat([ahead, who[:, None].expand(-1, ahead.shape[1], -1)], dim=-1)
        return [
            newest(past[:, -1]).unflatten(-1, (ahead.shape[1], -1)) + known(hours)
            for newest, known in zip(self.output_layer, self.ahead, strict=True)
        ]


NETWORK = Linear

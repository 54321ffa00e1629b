"""Group normalisation (Wu & He 2018, https://arxiv.org/abs/1803.08494) with 16 channels in each group."""

import math
from typing import Any

import torch
from torch import Tensor, nn

CHANNELS_PER_GROUP = 16


class GroupNorm(nn.GroupNorm):
    """Group norm whose first argument is the number of channels, as timm passes it to a ``norm_layer``."""

    def __init__(self, num_channels: int, **factory: Any) -> None:
        super().__init__(math.gcd(num_channels, max(1, num_channels // CHANNELS_PER_GROUP)), num_channels, **factory)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # the name that nn.GroupNorm gives it
        """(B, C, ...) -> (B, C, ...). A group of one value gives the bias, where ``F.group_norm`` raises."""
        return torch.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

"""A small residual network of our own."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from rap_training.model.backbones.backbone import Backbone


class ResidualStage(nn.Module):
    """Halves the resolution, then refines: two 3x3 convolutions with a strided 1x1 shortcut."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        """Builds a stage from `in_channels` to `out_channels`."""
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) to (N, out, H/2, W/2)."""
        return torch.relu(self.body(x) + self.shortcut(x))


class Plain(Backbone):
    """A stem that divides the resolution by 4, then residual stages.

    It is deliberately small: rasters are flat-coloured, and the default bundle is trained and run
    on CPU cores.
    """

    def __init__(self, widths: tuple[int, ...]) -> None:
        """Builds stem and stages of these widths."""
        super().__init__(widths[-1], 4 * 2 ** (len(widths) - 1), unused=())
        self.stem = nn.Sequential(
            nn.Conv2d(3, widths[0], 6, stride=4, padding=1, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(),
        )
        self.stages = nn.Sequential(*(ResidualStage(a, b) for a, b in itertools.pairwise(widths)))

    def _features(self, images: Tensor) -> Tensor:
        features: Tensor = self.stages(self.stem(images))
        return features

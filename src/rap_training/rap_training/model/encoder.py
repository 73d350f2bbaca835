"""The image encoder: one network for camera images and rasters.

Its output is the aligned feature. It is deliberately small: rasters are flat-coloured, and the
default bundle is trained and run on CPU cores.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn


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


class Encoder(nn.Module):
    """Images to per-camera feature maps."""

    def __init__(self, channels: tuple[int, ...], feature_channels: int) -> None:
        """Builds the encoder.

        Args:
            channels: Width of each stage; the first is the stem, which divides the resolution by 4.
            feature_channels: F.
        """
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, channels[0], 6, stride=4, padding=1, bias=False),
            nn.BatchNorm2d(channels[0]),
            nn.ReLU(),
        )
        self.stages = nn.Sequential(*(ResidualStage(a, b) for a, b in itertools.pairwise(channels)))
        self.neck = nn.Conv2d(channels[-1], feature_channels, 1)
        self.stride = 4 * 2 ** (len(channels) - 1)

    def forward(self, images: Tensor) -> Tensor:
        """Encodes images.

        Args:
            images: (N, 3, H, W) normalised; H and W are multiples of `stride`.

        Returns:
            (N, F, H / stride, W / stride).
        """
        features: Tensor = self.neck(self.stages(self.stem(images)))
        return features

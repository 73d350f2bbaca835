"""Input normalisation: fixed here for training, written into the bundle for everybody else."""

from __future__ import annotations

from torch import Tensor

MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)
"""ImageNet statistics in 0..255, as in the published recipe (RAP section 4.1)."""


def normalize(images: Tensor) -> Tensor:
    """(..., H, W, 3) uint8 rgb to (..., 3, H, W) float32 network input, channels last in memory."""
    pixels = images.float()
    pixels.sub_(pixels.new_tensor(MEAN)).div_(pixels.new_tensor(STD))
    return pixels.movedim(-1, -3)

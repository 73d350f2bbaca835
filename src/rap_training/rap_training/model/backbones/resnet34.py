"""ResNet-34 (He et al. 2015, table 1), with torchvision's names."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from rap_training.model.backbones.backbone import Backbone, kept_stages

_BLOCKS = (3, 4, 6, 3)
_CHANNELS = (64, 128, 256, 512)


class ResNet34(Backbone):
    """Stem and the first stages, without the classifier; strides 4, 8, 16, 32."""

    def __init__(self, stages: int | None = None) -> None:
        """Builds the first `stages` of 4 stages; None means all."""
        kept = kept_stages("resnet34", stages, len(_BLOCKS))
        unused = ("fc.", *(f"layer{i}." for i in range(kept + 1, len(_BLOCKS) + 1)))
        super().__init__(_CHANNELS[kept - 1], 2 * 2**kept, unused)
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self._stages = tuple(f"layer{i}" for i in range(1, kept + 1))
        shapes = zip((64, *_CHANNELS), _CHANNELS, _BLOCKS, strict=False)
        for name, shape in zip(self._stages, shapes, strict=False):
            self.add_module(name, _stage(*shape))

    def _features(self, images: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(images)))
        x = functional.max_pool2d(x, 3, stride=2, padding=1)
        for name in self._stages:
            x = self.get_submodule(name)(x)
        return x


def _stage(in_channels: int, channels: int, blocks: int) -> nn.Sequential:
    """Returns a stage that halves the resolution where it widens."""
    stride = 1 if in_channels == channels else 2
    rest = (_Block(channels, channels, 1) for _ in range(blocks - 1))
    return nn.Sequential(_Block(in_channels, channels, stride), *rest)


class _Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = nn.Sequential()
        if stride > 1:
            self.downsample.append(nn.Conv2d(in_channels, channels, 1, stride, bias=False))
            self.downsample.append(nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) to (N, out, H / stride, W / stride)."""
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(y)) + self.downsample(x))

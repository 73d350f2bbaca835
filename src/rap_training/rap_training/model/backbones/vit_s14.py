"""ViT-S/14 as in DINOv2 (github.com/facebookresearch/dinov2), with the names of its checkpoints."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from rap_training.model.backbones.backbone import Backbone, kept_stages

_PATCH = 14
_WIDTH = 384
_DEPTH = 12
_HEADS = 6
_GRID = 37
"""Published position embeddings are a square of these many patches a side: 518 pixels."""


class VitS14(Backbone):
    """Patch tokens after the first blocks and the final norm; the class token is dropped."""

    def __init__(self, stages: int | None = None) -> None:
        """Builds the first `stages` of 12 blocks; None means all."""
        kept = kept_stages("vit_s14", stages, _DEPTH)
        unused = ("mask_token", *(f"blocks.{i}." for i in range(kept, _DEPTH)))
        super().__init__(_WIDTH, _PATCH, unused)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, _WIDTH))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, 1 + _GRID**2, _WIDTH))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, _WIDTH, _PATCH, _PATCH)})
        self.blocks = nn.Sequential(*(_Block() for _ in range(kept)))
        self.norm = _norm()

    def _features(self, images: Tensor) -> Tensor:
        patches = self.patch_embed["proj"](images)
        rows, columns = patches.shape[-2:]
        tokens = (patches + self._positions(rows, columns)).flatten(2).transpose(1, 2)
        first = (self.cls_token + self.pos_embed[:, :1]).expand(len(tokens), -1, -1)
        tokens = self.norm(self.blocks(torch.cat([first, tokens], dim=1)))
        features: Tensor = tokens[:, 1:].transpose(1, 2).unflatten(2, (rows, columns))
        return features

    def _positions(self, rows: int, columns: int) -> Tensor:
        """Returns (1, D, rows, columns) of the position embeddings, stretched over the image."""
        square = self.pos_embed[:, 1:].transpose(1, 2).reshape(1, _WIDTH, _GRID, _GRID)
        return functional.interpolate(square, (rows, columns), mode="bicubic")


class _Block(nn.Module):
    """Attention and a perceptron, each normalised before and scaled behind."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = _norm(), _norm()
        self.attn = _Attention()
        self.ls1, self.ls2 = _LayerScale(), _LayerScale()
        self.mlp = _Perceptron()

    def forward(self, x: Tensor) -> Tensor:
        """(N, M, D) to (N, M, D)."""
        x = x + self.ls1(self.attn(self.norm1(x)))
        y: Tensor = x + self.ls2(self.mlp(self.norm2(x)))
        return y


class _Attention(nn.Module):
    """Multi-head attention of tokens among themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(_WIDTH, 3 * _WIDTH)
        self.proj = nn.Linear(_WIDTH, _WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """(N, M, D) to (N, M, D)."""
        heads = self.qkv(x).unflatten(2, (3, _HEADS, _WIDTH // _HEADS)).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(*heads.unbind(0))
        y: Tensor = self.proj(attended.transpose(1, 2).flatten(2))
        return y


class _LayerScale(nn.Module):
    """A learned factor for each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(_WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        """(N, M, D) to (N, M, D)."""
        return x * self.gamma


class _Perceptron(nn.Module):
    """Two layers, four times as wide between."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(_WIDTH, 4 * _WIDTH)
        self.fc2 = nn.Linear(4 * _WIDTH, _WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """(N, M, D) to (N, M, D)."""
        y: Tensor = self.fc2(functional.gelu(self.fc1(x)))
        return y


def _norm() -> nn.LayerNorm:
    return nn.LayerNorm(_WIDTH, eps=1e-6)

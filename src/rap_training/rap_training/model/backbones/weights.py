"""Weights that others published, read as plain tensors only."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from rap_training.model.backbones.backbone import Backbone, BackboneError


def load_published(backbone: Backbone, path: Path) -> None:
    """Fills a backbone from a file with the published names.

    Args:
        backbone: Every tensor of it must be in the file, and every tensor of the file in it or
            among its `unused`. Counters of batch norms, which old files lack, may be absent.
        path: As for `read_tensors`.

    Raises:
        BackboneError: If the file cannot be read or does not fit.
    """
    tensors = read_tensors(path)
    used = {name: x for name, x in tensors.items() if not name.startswith(backbone.unused)}
    expected, found = _shapes(backbone.state_dict()), _shapes(used)
    wrong = sorted(
        name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
    )
    if wrong:
        there, here = expected.get(wrong[0], "nothing"), found.get(wrong[0], "nothing")
        raise BackboneError(
            f"{path}: {len(wrong)} tensors do not fit, such as {wrong[0]}: "
            f"expected {there}, found {here}"
        )
    backbone.load_state_dict(used)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Reads a table of tensors by name.

    Args:
        path: `.safetensors`, or `.pth` as `torch.save` writes a state dict.

    Raises:
        BackboneError: If there is no such file or it holds anything else.
    """
    if not path.is_file():
        raise BackboneError(f"{path}: no such file")
    try:
        tensors = _load(path)
    except Exception as error:  # a foreign file may break its reader in any way
        reason = type(error).__name__
        raise BackboneError(f"{path}: cannot be read as plain tensors ({reason})") from error
    if not isinstance(tensors, dict) or not all(isinstance(x, Tensor) for x in tensors.values()):
        raise BackboneError(f"{path}: expected a table of tensors by name and nothing else")
    return tensors


def _load(path: Path) -> object:
    if path.suffix == ".safetensors":
        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _shapes(tensors: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {
        name: tuple(tensor.shape)
        for name, tensor in tensors.items()
        if not name.endswith("num_batches_tracked")
    }

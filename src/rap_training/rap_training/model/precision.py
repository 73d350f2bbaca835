"""Geometry keeps to single precision where networks compute in half of it.

Pixels and metres do not fit into half precision: at 12 m/s, bfloat16 moves poses by decimetres, and
cofactors of a camera matrix exceed what float16 can hold.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

_Arguments = ParamSpec("_Arguments")


def in_single_precision(geometry: Callable[_Arguments, Tensor]) -> Callable[_Arguments, Tensor]:
    """Keeps a function of tensors out of `torch.autocast`; halves it is given are widened."""

    @wraps(geometry)
    def computed(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> Tensor:
        device = next(value.device.type for value in args if isinstance(value, Tensor))
        with torch.autocast(device, enabled=False):
            return geometry(*map(_widened, args), **kwargs)  # type: ignore[arg-type]

    return computed


def _widened(value: object) -> object:
    halves = (torch.float16, torch.bfloat16)
    return value.float() if isinstance(value, Tensor) and value.dtype in halves else value


def store_in_half(module: nn.Module) -> None:
    """Keeps a module's weight matrices in half precision; it goes on computing in single.

    Computing in half precision would take half the memory too, but DINOv3 is known to overflow
    there. Export with `do_constant_folding=False`, or the exporter widens the weights for good.

    Args:
        module: Changed in place.
    """
    for part in list(module.modules()):
        if isinstance(part, nn.Linear | nn.Conv2d):
            part.weight = nn.Parameter(part.weight.half(), requires_grad=False)
            parametrize.register_parametrization(part, "weight", _Widening(), unsafe=True)


class _Widening(nn.Module):
    """Gives a stored weight to the layer that computes with it."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight.float()

"""Geometry keeps to single precision where networks compute in half of it.

Pixels and metres do not fit into half precision: at 12 m/s, bfloat16 moves poses by decimetres, and
cofactors of a camera matrix exceed what float16 can hold.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import torch
from torch import Tensor

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

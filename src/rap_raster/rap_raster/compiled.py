"""How the kernels of the rasterizer are compiled: one decorator for all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from numba import njit

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _digest() -> str:
    """Returns a hash of all modules of this package that kernels may take something from."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


_SOURCES = _digest()


def kernel(function: _Function) -> _Function:
    """Compiles a function to machine code, cached on disk, releasing the GIL.

    - numba's cache only notices changes of the file in which a function stands, not of functions
      and constants that it uses from other files. Its entries go by qualified name, so that name
      is made to carry a hash of the sources.
    - numpy's error model: dividing by zero gives infinity. Python's would put a branch that raises
      behind every division, which also keeps loops from being vectorised.
    """
    return _compiled(function, "never")


def inlined(function: _Function) -> _Function:
    """Compiles the body of a hot loop into its callers.

    numba counts the references of every array that is passed on, atomically; for a face of four
    corners that costs more than its arithmetic.
    """
    return _compiled(function, "always")


def _compiled(function: _Function, inline: str) -> _Function:
    function.__qualname__ = f"{function.__qualname__}_{_SOURCES}"
    result: _Function = njit(cache=True, nogil=True, error_model="numpy", inline=inline)(function)
    return result

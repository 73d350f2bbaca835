"""How the kernels of the rasterizer are compiled, and what arrays they take."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from numba import njit

_Function = TypeVar("_Function", bound=Callable[..., Any])
_Scalar = TypeVar("_Scalar", bound=np.generic)


def _digest() -> str:
    """Returns a hash of all modules of this package that kernels may take something from."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if not path.name.startswith("warp_"):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


_SOURCES = _digest()


def kernel(function: _Function) -> _Function:
    """Compiles a function that Python calls to machine code, cached on disk, releasing the GIL.

    - numba's cache only notices changes of the file in which a function stands, not of functions
      and constants that it uses from other files. Its entries go by qualified name, so that name
      is made to carry a hash of the sources.
    - numpy's error model: dividing by zero gives infinity. Python's would put a branch that raises
      behind every division, which also keeps loops from being vectorised.
    """
    return _compiled(function)


def helper(function: _Function) -> _Function:
    """Compiles a function for kernels to call.

    It has none of the code that Python would need to call it, which is a third of all compile time;
    calling it from Python would crash.
    """
    return _compiled(function, no_cpython_wrapper=True)


def inlined(function: _Function) -> _Function:
    """Compiles the body of a hot loop into its callers.

    numba counts the references of every array that is passed on, atomically; for a face of four
    corners that costs more than its arithmetic.
    """
    return _compiled(function, no_cpython_wrapper=True, inline="always")


def _compiled(function: _Function, **options: Any) -> _Function:  # noqa: ANN401 - numba's own
    function.__qualname__ = f"{function.__qualname__}_{_SOURCES}"
    options |= {"cache": True, "nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
    result: _Function = njit(**options)(function)
    return result


def writable(array: npt.NDArray[Any], dtype: type[_Scalar]) -> npt.NDArray[_Scalar]:
    """Returns the array as kernels want it: of that type, C-contiguous and writable.

    Logs hand out read-only arrays, for which numba would compile every kernel again.
    """
    if array.dtype == dtype and array.flags.c_contiguous and array.flags.writeable:
        return array
    return np.array(array, dtype)

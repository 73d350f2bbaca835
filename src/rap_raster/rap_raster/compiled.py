"""How the kernels of the rasterizer are compiled: one decorator for all of them."""

from __future__ import annotations

from numba import njit

kernel = njit(cache=True, nogil=True, error_model="numpy")
"""Compiles a function to machine code, cached on disk, releasing the GIL.

numpy's error model: dividing by zero gives infinity. Python's would put a branch that raises behind
every division, which also keeps loops from being vectorised.
"""

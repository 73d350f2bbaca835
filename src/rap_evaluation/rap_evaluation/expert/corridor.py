"""Which road users cover the paths of the ego, when, and between which stations.

Boxes are seen from the centreline: stations along it, offsets across. There a path with the width
that a vehicle sweeps is a band, and a box a polygon that the band's edges cut.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

Array = npt.NDArray[Any]

_FAR_M = 30.0  # Boxes whose centres are farther from the centreline cover no path.
_CORNERS = np.array(
    [[1, 1], [0, 1], [-1, 1], [-1, 0], [-1, -1], [0, -1], [1, -1], [1, 0]], dtype=np.float64
)
"""Half lengths and widths; middles of sides too, since seen from a bend a long side is bent."""


@njit(cache=True, nogil=True)
def covered(center: Array, bands: Array, states: Array, sizes: Array) -> tuple[Array, Array]:
    """Finds what road users cover of paths.

    Args:
        center: (M, 3) x, y, heading of the centreline at every metre.
        bands: (P, M, 2) per path and metre: offset of the band's middle to the left, half width.
        states: (N, T, 5) x, y, heading, vx, vy of box centres.
        sizes: (N, 2) length and width.

    Returns:
        extents: (P, N, T, 2) first and last station covered, NaN for none.
        along: (N, T) speeds along the centreline.
    """
    count, steps = states.shape[:2]
    extents = np.full((len(bands), count, steps, 2), np.nan)
    along = np.zeros((count, steps))
    box = np.empty((len(_CORNERS), 2))
    for n in range(count):
        index = _nearest(center, states[n, 0, 0], states[n, 0, 1])
        for t in range(steps):
            x, y, heading, vx, vy = states[n, t]
            index = _slide(center, index, x, y)
            cx, cy, direction = center[index]
            if math.hypot(x - cx, y - cy) > _FAR_M:
                continue
            along[n, t] = vx * math.cos(direction) + vy * math.sin(direction)
            cos, sin = math.cos(heading), math.sin(heading)
            for i in range(len(_CORNERS)):
                forward, left = (
                    0.5 * sizes[n, 0] * _CORNERS[i, 0],
                    0.5 * sizes[n, 1] * _CORNERS[i, 1],
                )
                px, py = x + cos * forward - sin * left, y + sin * forward + cos * left
                box[i, 0], box[i, 1] = _station(center, index, px, py)
            for p in range(len(bands)):
                extents[p, n, t] = _cut(box, bands[p])
    return extents, along


@njit(cache=True, nogil=True)
def _nearest(center: Array, x: float, y: float) -> int:
    return int(np.argmin((center[:, 0] - x) ** 2 + (center[:, 1] - y) ** 2))


@njit(cache=True, nogil=True)
def _slide(center: Array, index: int, x: float, y: float) -> int:
    """Returns the nearest point of the centreline, walking down from one nearby."""
    here = (center[index, 0] - x) ** 2 + (center[index, 1] - y) ** 2
    for step in (-1, 1):
        while 0 <= index + step < len(center):
            there = (center[index + step, 0] - x) ** 2 + (center[index + step, 1] - y) ** 2
            if there >= here:
                break
            index, here = index + step, there
    return index


@njit(cache=True, nogil=True)
def _station(center: Array, index: int, x: float, y: float) -> tuple[float, float]:
    """Returns station and offset to the left of a point; the ends go on straight."""
    index = _slide(center, index, x, y)
    dx, dy = x - center[index, 0], y - center[index, 1]
    cos, sin = math.cos(center[index, 2]), math.sin(center[index, 2])
    return index + dx * cos + dy * sin, dy * cos - dx * sin


@njit(cache=True, nogil=True)
def _cut(box: Array, band: Array) -> tuple[float, float]:
    """Returns the first and last station of the part of a polygon that lies in a band."""
    low, high = np.inf, -np.inf
    last = len(band) - 1
    previous = box[-1, 0]
    place = min(max(int(previous + 0.5), 0), last)
    across_before = (box[-1, 1] - band[place, 0]) / band[place, 1]
    for i in range(len(box)):
        station = box[i, 0]
        place = min(max(int(station + 0.5), 0), last)
        across = (box[i, 1] - band[place, 0]) / band[place, 1]
        if abs(across) <= 1.0:
            low, high = min(low, station), max(high, station)
        for edge in (-1.0, 1.0):
            if (across - edge) * (across_before - edge) < 0.0:
                share = (edge - across_before) / (across - across_before)
                crossing = previous + share * (station - previous)
                low, high = min(low, crossing), max(high, crossing)
        previous, across_before = station, across
    if low > high:
        return np.nan, np.nan
    return low, high

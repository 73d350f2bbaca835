"""Image polygons to trapezoids in painting order, and the depth test where order is not enough.

Painting the trapezoids, later ones over earlier ones, is all that is left to do for any channel.
In `deep` rows, where the painting order may be wrong, every pixel is tested against an inverse
depth, and only the runs that pass stay on the list. Inverse depth is affine in image coordinates,
whatever the perspective, and larger is nearer.
"""

# ruff: noqa: PLR0917 - kernels take flat arrays, and numba wants them by position.

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rap_raster.compiled import kernel
from rap_raster.frames import FloatArray
from rap_raster.polygons import Polygons

MAX_CROSSINGS = 32
"""Borders of a bent polygon that one image row can cross."""

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
UInt8 = npt.NDArray[np.uint8]


class Trapezoids(NamedTuple):
    """T trapezoids of image rows.

    In row r, the columns go from ceil(a) to ceil(b) - 1 between the borders
    a = left + r left_slope and b = right + r right_slope.

    Attributes:
        counts: (2,) int64 trapezoids, first trapezoid of a solid.
        owners: (T,) int32 primitive of each, see `Polygons`.
        rows: (T, 2) int32 first row and end.
        borders: (T, 4) float64 left, left_slope, right, right_slope.
    """

    counts: npt.NDArray[np.int64]
    owners: Int32
    rows: Int32
    borders: FloatArray


class RowScratch(NamedTuple):
    """Scratch of one image size.

    Attributes:
        deep: (H,) uint8, 1 for rows that need a depth test.
        nearest: (H + 1, W) float32 inverse depth in those rows; the last row is for one span.
        crossings: (H, MAX_CROSSINGS) float64 columns where a bent outline crosses each row.
        crossed: (H,) int32 how many.
    """

    deep: UInt8
    nearest: Float32
    crossings: FloatArray
    crossed: Int32


@kernel
def ceil_within(value: float, limit: int) -> int:
    """Returns the first integer >= value, kept within 0..limit."""
    if not value > 0.0:
        return 0
    if value >= limit:
        return limit
    return int(math.ceil(value))


@kernel
def inverse_depths(plane: FloatArray, rays: Float32, row: int, first: int, out: Float32) -> None:
    """Computes the inverse depth of neighbouring pixels of a row.

    Args:
        plane: See `Polygons.planes`.
        rays: (H, W, 2) of a lens, (0, 0, 2) for a pinhole.
        row: Of the image.
        first: Column.
        out: (n,) written; NaN where the lens has no ray.
    """
    least, most = np.float32(plane[3]), np.float32(plane[4])
    if len(rays):
        a, b, c = np.float32(plane[0]), np.float32(plane[1]), np.float32(plane[2])
        for k in range(np.uintp(len(out))):
            column = np.uintp(first) + k
            w = a * rays[row, column, 0] + b * rays[row, column, 1] + c
            out[k] = min(max(w, least), most)
        return
    base = np.float32(plane[0] * first + plane[1] * row + plane[2])
    step = np.float32(plane[0])
    for k in range(np.int32(len(out))):
        out[k] = min(max(base + step * np.float32(k), least), most)


@kernel
def _cut_convex(
    us: FloatArray, vs: FloatArray, start: int, count: int, height: int, owner: int,
    owners: Int32, rows: Int32, borders: FloatArray, n: int,
) -> int:  # fmt: skip
    """Cuts a convex polygon into trapezoids, walking down both borders from its top.

    A border is always computed from its upper to its lower end, so that neighbours share it
    exactly. Returns how many trapezoids there are then.
    """
    top, last = start, start + count - 1
    area, bottom = 0.0, -math.inf
    for i in range(start, start + count):
        j = i + 1 if i < last else start
        area += us[i] * vs[j] - us[j] * vs[i]
        if vs[i] < vs[top]:
            top = i
        bottom = max(bottom, vs[i])
    row, end = ceil_within(vs[top], height), ceil_within(bottom, height)
    if row >= end:
        return n
    # Rows grow downwards: with a positive area the following corners lie on the right border.
    forward_is_right = area > 0.0
    forward = backward = top
    forward_end = backward_end = row
    fa = fs = ba = bs = 0.0
    budget = 2 * count
    while row < end:
        while forward_end <= row and budget > 0:
            upper = forward
            forward = forward + 1 if forward < last else start
            forward_end, budget = ceil_within(vs[forward], height), budget - 1
            if forward_end > row:
                fs = (us[forward] - us[upper]) / (vs[forward] - vs[upper])
                fa = us[upper] - vs[upper] * fs
        while backward_end <= row and budget > 0:
            upper = backward
            backward = backward - 1 if backward > start else last
            backward_end, budget = ceil_within(vs[backward], height), budget - 1
            if backward_end > row:
                bs = (us[backward] - us[upper]) / (vs[backward] - vs[upper])
                ba = us[upper] - vs[upper] * bs
        stop = min(forward_end, backward_end, end)
        if stop <= row:
            break
        owners[n], rows[n, 0], rows[n, 1] = owner, row, stop
        if forward_is_right:
            borders[n, 0], borders[n, 1], borders[n, 2], borders[n, 3] = ba, bs, fa, fs
        else:
            borders[n, 0], borders[n, 1], borders[n, 2], borders[n, 3] = fa, fs, ba, bs
        n, row = n + 1, stop
    return n


@kernel
def _cross_rows(
    us: FloatArray, vs: FloatArray, start: int, stop: int, scratch: RowScratch
) -> tuple[int, int]:
    """Lists, sorted, where an outline crosses each row; returns the rows that it spans."""
    crossings, crossed = scratch.crossings, scratch.crossed
    height = len(crossed)
    low, high = math.inf, -math.inf
    for i in range(start, stop):
        low, high = min(low, vs[i]), max(high, vs[i])
    first, last = ceil_within(low, height), ceil_within(high, height)
    crossed[first:last] = 0
    for i in range(start, stop):
        j = i + 1 if i + 1 < stop else start
        upper, lower = (i, j) if vs[i] < vs[j] else (j, i)
        begin, end = ceil_within(vs[upper], height), ceil_within(vs[lower], height)
        if begin >= end:
            continue
        slope = (us[lower] - us[upper]) / (vs[lower] - vs[upper])
        origin = us[upper] - vs[upper] * slope
        for row in range(begin, end):
            at = crossed[row]
            if at < MAX_CROSSINGS:
                column = origin + row * slope
                while at > 0 and crossings[row, at - 1] > column:
                    crossings[row, at] = crossings[row, at - 1]
                    at -= 1
                crossings[row, at] = column
                crossed[row] += 1
    return first, last


@kernel
def _cut_bent(
    us: FloatArray, vs: FloatArray, start: int, stop: int, owner: int, scratch: RowScratch,
    trapezoids: Trapezoids, n: int,
) -> int:  # fmt: skip
    """Cuts a polygon of any shape into rows by the even-odd rule."""
    first, last = _cross_rows(us, vs, start, stop, scratch)
    for row in range(first, last):
        for k in range(0, scratch.crossed[row] - 1, 2):
            if n < len(trapezoids.owners):
                trapezoids.owners[n] = owner
                trapezoids.rows[n, 0], trapezoids.rows[n, 1] = row, row + 1
                trapezoids.borders[n, 0], trapezoids.borders[n, 1] = scratch.crossings[row, k], 0.0
                trapezoids.borders[n, 2] = scratch.crossings[row, k + 1]
                trapezoids.borders[n, 3] = 0.0
            n += 1
    return n


@kernel
def cut(polygons: Polygons, height: int, scratch: RowScratch, trapezoids: Trapezoids) -> None:
    """Cuts all polygons into trapezoids.

    Afterwards `trapezoids.counts` may exceed the arrays, which then have to be enlarged.
    """
    us, vs, starts = polygons.u, polygons.v, polygons.starts
    polygon_owners, bent = polygons.owners, polygons.bent
    owners, rows, borders = trapezoids.owners, trapezoids.rows, trapezoids.borders
    n = 0
    for p in range(polygons.counts[1]):
        if p == polygons.counts[3]:
            trapezoids.counts[1] = n
        start, stop = starts[p], starts[p + 1]
        if bent[p]:
            n = _cut_bent(us, vs, start, stop, polygon_owners[p], scratch, trapezoids, n)
        elif n + stop - start <= len(owners):
            n = _cut_convex(
                us, vs, start, stop - start, height, polygon_owners[p], owners, rows, borders, n
            )
        else:
            n += stop - start
    if polygons.counts[3] == polygons.counts[1]:
        trapezoids.counts[1] = n
    trapezoids.counts[0] = n


@kernel
def _append(trapezoids: Trapezoids, n: int, owner: int, row: int, stop: int, a: float, b: float,
            c: float, d: float) -> int:  # fmt: skip
    if n < len(trapezoids.owners):
        trapezoids.owners[n] = owner
        trapezoids.rows[n, 0], trapezoids.rows[n, 1] = row, stop
        trapezoids.borders[n, 0], trapezoids.borders[n, 1] = a, b
        trapezoids.borders[n, 2], trapezoids.borders[n, 3] = c, d
    return n + 1


@kernel
def _test_row(
    plane: FloatArray, rays: Float32, row: int, first: int, last: int, owner: int,
    scratch: RowScratch, tested: Trapezoids, n: int,
) -> int:  # fmt: skip
    """Tests pixels of one row for depth and appends the runs that pass.

    What passes stores its inverse depth times plane[5]: less than one for ground, so that what is
    drawn later may lie a little below it.
    """
    count = np.int32(last - first)
    here = scratch.nearest[len(scratch.deep), :count]
    inverse_depths(plane, rays, row, first, here)
    stored = scratch.nearest[row, first:last]
    kept = np.float32(plane[5])
    passing = np.int32(0)
    for k in range(count):
        passing += np.int32(here[k] >= stored[k])
    if passing == count:
        for k in range(count):
            stored[k] = here[k] * kept
        return _append(tested, n, owner, row, row + 1, float(first), 0.0, float(last), 0.0)
    if passing == 0:
        return n
    start = -1
    for k in range(count + 1):
        if k < count and here[k] >= stored[k]:
            stored[k] = here[k] * kept
            start = k if start < 0 else start
        elif start >= 0:
            a, b = float(first + start), float(first + k)
            n = _append(tested, n, owner, row, row + 1, a, 0.0, b, 0.0)
            start = -1
    return n


@kernel
def test_depth(
    trapezoids: Trapezoids, planes: FloatArray, rays: Float32, scratch: RowScratch,
    tested: Trapezoids,
) -> None:  # fmt: skip
    """Copies trapezoids, the deep rows of each replaced by what is visible of them.

    Args:
        trapezoids: From `cut`.
        planes: See `Polygons`.
        rays: See `inverse_depths`.
        scratch: `deep` says which rows are tested.
        tested: Written; its counts may exceed the arrays, which then have to be enlarged.
    """
    deep, width = scratch.deep, scratch.nearest.shape[1]
    for row in range(len(deep)):
        if deep[row]:
            scratch.nearest[row] = 0.0
    n = 0
    for t in range(trapezoids.counts[0]):
        if t == trapezoids.counts[1]:
            tested.counts[1] = n
        owner = trapezoids.owners[t]
        left, left_slope = trapezoids.borders[t, 0], trapezoids.borders[t, 1]
        right, right_slope = trapezoids.borders[t, 2], trapezoids.borders[t, 3]
        row, stop = trapezoids.rows[t, 0], trapezoids.rows[t, 1]
        while row < stop:
            start = row
            while row < stop and deep[row] == 0:
                row += 1
            if row > start:
                n = _append(tested, n, owner, start, row, left, left_slope, right, right_slope)
            while row < stop and deep[row] == 1:
                first = ceil_within(left + row * left_slope, width)
                last = ceil_within(right + row * right_slope, width)
                if first < last:
                    n = _test_row(
                        planes[owner], rays, row, first, last, owner, scratch, tested, n
                    )
                row += 1
    if trapezoids.counts[1] == trapezoids.counts[0]:
        tested.counts[1] = n
    tested.counts[0] = n

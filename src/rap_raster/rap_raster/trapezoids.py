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

from rap_raster.compiled import helper, inlined
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
        deep: (H, 2) int32 first column and end of what needs a depth test, in each row.
        nearest: (H + 1, W) float32 inverse depth there; the last row is for one span.
        bar: (H, W) float32 inverse depth that a later layer must reach there; see `SINK_M`.
        layers: (H, W) uint8 layer that is shown there.
        crossings: (H, MAX_CROSSINGS) float64 columns where a bent outline crosses each row.
        crossed: (H,) int32 how many.
    """

    deep: Int32
    nearest: Float32
    bar: Float32
    layers: UInt8
    crossings: FloatArray
    crossed: Int32


@helper
def ceil_within(value: float, limit: int) -> int:
    """Returns the first integer >= value, kept within 0..limit."""
    if not value > 0.0:
        return 0
    if value >= limit:
        return limit
    return math.ceil(value)


@inlined
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


@inlined
def _cut_convex(
    us: FloatArray, vs: FloatArray, start: int, count: int, height: int, owner: int,
    owners: Int32, rows: Int32, borders: FloatArray, n: int,
) -> int:  # fmt: skip
    """Cuts a convex polygon into trapezoids, walking down both borders from its top.

    A border is always computed from its upper to its lower end, so that neighbours share it
    exactly. Returns how many trapezoids there are then.
    """
    # Unsigned, because numba otherwise guards every index against being negative.
    first, one = np.uintp(start), np.uintp(1)
    last = first + np.uintp(count) - one
    top = first
    area, highest, lowest = 0.0, vs[first], vs[first]
    u, v = us[last], vs[last]
    for i in range(first, last + one):
        next_u, next_v = us[i], vs[i]
        area += u * next_v - next_u * v
        u, v = next_u, next_v
        if v < highest:
            top, highest = np.uintp(i), v
        lowest = max(lowest, v)
    row, end = ceil_within(highest, height), ceil_within(lowest, height)
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
            forward = forward + one if forward < last else first
            forward_end, budget = ceil_within(vs[forward], height), budget - 1
            if forward_end > row:
                fs = (us[forward] - us[upper]) / (vs[forward] - vs[upper])
                fa = us[upper] - vs[upper] * fs
        while backward_end <= row and budget > 0:
            upper = backward
            backward = backward - one if backward > first else last
            backward_end, budget = ceil_within(vs[backward], height), budget - 1
            if backward_end > row:
                bs = (us[backward] - us[upper]) / (vs[backward] - vs[upper])
                ba = us[upper] - vs[upper] * bs
        stop = min(forward_end, backward_end, end)
        if stop <= row:
            break
        at = np.uintp(n)
        owners[at], rows[at, 0], rows[at, 1] = owner, row, stop
        if forward_is_right:
            borders[at, 0], borders[at, 1], borders[at, 2], borders[at, 3] = ba, bs, fa, fs
        else:
            borders[at, 0], borders[at, 1], borders[at, 2], borders[at, 3] = fa, fs, ba, bs
        n, row = n + 1, stop
    return n


@helper
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


@helper
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


@helper
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


@inlined
def _append(
    owners: Int32, rows: Int32, borders: FloatArray, n: int, owner: int, first: int, stop: int,
    left: float, left_slope: float, right: float, right_slope: float,
) -> int:  # fmt: skip
    """Writes a trapezoid where there is room for it; returns how many there are then."""
    if n < len(owners):
        owners[n], rows[n, 0], rows[n, 1] = owner, first, stop
        borders[n, 0], borders[n, 1] = left, left_slope
        borders[n, 2], borders[n, 3] = right, right_slope
    return n + 1


@inlined
def _append_run(
    owners: Int32, rows: Int32, borders: FloatArray, n: int, owner: int, row: int, first: int,
    last: int,
) -> int:  # fmt: skip
    """Writes columns first .. last of one row as a trapezoid; returns how many there are then."""
    return _append(
        owners, rows, borders, n, owner, row, row + 1, float(first), 0.0, float(last), 0.0
    )


@inlined
def _test_span(
    nearest: Float32, bar: Float32, layers: UInt8, here: Float32, kept: np.float32,
    layer: np.uint8, row: int, first: int, last: int, low: int, high: int,
    owner: int, owners: Int32, rows: Int32, borders: FloatArray, n: int,
) -> int:  # fmt: skip
    """Tests columns low .. high of the span first .. last for depth; appends the visible runs.

    Within a layer the nearest is visible. Above another layer it is enough to reach what that one
    has set as its bar: `kept` times its inverse depth, less than all of it for ground, so that
    what is drawn later may lie a little below.
    """
    shown, limit, shown_layers = nearest[row, low:high], bar[row, low:high], layers[row, low:high]
    count = np.int32(high - low)
    passing = np.int32(0)
    for k in range(count):
        floor = shown[k] if shown_layers[k] == layer else limit[k]
        passes = here[k] >= floor
        passing += np.int32(passes)
        shown[k] = here[k] if passes else shown[k]
        limit[k] = here[k] * kept if passes else limit[k]
        # Where it failed, 0 marks the pixel for the search for runs below.
        here[k] = here[k] if passes else np.float32(0.0)
    if passing == 0 and first == low and last == high:
        return n
    if passing == count:
        shown_layers[:] = layer
        return _append_run(owners, rows, borders, n, owner, row, first, last)
    start = first if first < low else -1
    for k in range(count):
        if here[k] > 0.0:
            shown_layers[k] = layer
            start = low + k if start < 0 else start
        elif start >= 0:
            n = _append_run(owners, rows, borders, n, owner, row, start, low + k)
            start = -1
    if high < last and start < 0:
        start = high
    if start >= 0:
        n = _append_run(owners, rows, borders, n, owner, row, start, last)
    return n


@helper
def test_depth(
    trapezoids: Trapezoids, planes: FloatArray, rays: Float32, scratch: RowScratch,
    tested: Trapezoids,
) -> None:  # fmt: skip
    """Copies trapezoids, their deep parts replaced by what is visible of them.

    Args:
        trapezoids: From `cut`.
        planes: See `Polygons`.
        rays: See `inverse_depths`.
        scratch: `deep` says where to test.
        tested: Written; its counts may exceed the arrays, which then have to be enlarged.
    """
    deep, nearest, bar, layers = scratch.deep, scratch.nearest, scratch.bar, scratch.layers
    height, width = len(deep), nearest.shape[1]
    here = nearest[height]
    for row in range(height):
        if deep[row, 0] < deep[row, 1]:
            nearest[row, deep[row, 0] : deep[row, 1]] = 0.0
            bar[row, deep[row, 0] : deep[row, 1]] = 0.0
    owners, rows, borders = tested.owners, tested.rows, tested.borders
    n = 0
    for t in range(trapezoids.counts[0]):
        if t == trapezoids.counts[1]:
            tested.counts[1] = n
        owner = trapezoids.owners[t]
        left, left_slope = trapezoids.borders[t, 0], trapezoids.borders[t, 1]
        right, right_slope = trapezoids.borders[t, 2], trapezoids.borders[t, 3]
        start, stop = trapezoids.rows[t, 0], trapezoids.rows[t, 1]
        for row in range(start, stop):
            if deep[row, 0] >= deep[row, 1]:
                continue
            first = ceil_within(left + row * left_slope, width)
            last = ceil_within(right + row * right_slope, width)
            low, high = max(first, deep[row, 0]), min(last, deep[row, 1])
            if low >= high:
                continue
            if row > start:
                n = _append(
                    owners, rows, borders, n, owner, start, row,
                    left, left_slope, right, right_slope,
                )  # fmt: skip
            start = row + 1
            inverse_depths(planes[owner], rays, row, low, here[: high - low])
            n = _test_span(
                nearest, bar, layers, here, np.float32(planes[owner, 5]),
                np.uint8(planes[owner, 6]), row, first, last, low, high,
                owner, owners, rows, borders, n,
            )  # fmt: skip
        if start < stop:
            n = _append(
                owners, rows, borders, n, owner, start, stop, left, left_slope, right, right_slope
            )
    if trapezoids.counts[1] == trapezoids.counts[0]:
        tested.counts[1] = n
    tested.counts[0] = n

"""Paints the channels of a drawing: one kernel per channel, so that one not asked for is free.

Each fills its image with "nothing" and then paints trapezoids over it, in order; those with four
bytes per pixel band by band, so that what is painted over is still in the processor's cache.
"""

# ruff: noqa: PLR0917 - kernels take flat arrays, and numba wants them by position.

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rap_raster.compiled import helper, kernel
from rap_raster.frames import FloatArray
from rap_raster.polygons import Polygons
from rap_raster.projection import FAR_M
from rap_raster.styles import FADE_PIXEL
from rap_raster.trapezoids import Trapezoids, ceil_within, inverse_depths

PATTERN_PX = 32
"""Pixels of one colour that are copied at once; three bytes a pixel do not vectorise otherwise."""

BAND_ROWS = 64
"""Half a megabyte of depths at 1920 columns; 32 to 128 rows measured about the same."""

BLOCK_PX = 64
"""Pixels whose depth cue is computed at once."""

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
UInt8 = npt.NDArray[np.uint8]


@helper
def _fill_rgb(
    rgb: UInt8, start: np.uintp, stop: np.uintp, r: np.uint8, g: np.uint8, b: np.uint8
) -> None:
    """Fills bytes start .. stop with pixels of one colour."""
    # Unsigned, because numba otherwise guards every index against being negative.
    while start < stop:
        rgb[start] = r
        rgb[start + np.uintp(1)] = g
        rgb[start + np.uintp(2)] = b
        start += np.uintp(3)


@helper
def _copy_pattern(rgb: UInt8, start: np.uintp, stop: np.uintp, pattern: UInt8) -> np.uintp:
    """Copies a pattern of pixels as often as it fits; returns where the rest begins."""
    length = np.uintp(3 * PATTERN_PX)
    while start + length <= stop:
        target = rgb[start : start + length]
        for k in range(3 * PATTERN_PX):
            target[k] = pattern[k]
        start += length
    return start


@helper
def _shade_pixels(
    rgb: UInt8, start: int, inverse_depths: Float32, color: UInt8, factors: Float32
) -> None:
    """Writes pixels of one colour, each with its own depth cue; see `FADE_PIXEL`."""
    count = np.int32(len(inverse_depths))
    for k in range(count):
        factors[k] = np.float32(1.0) - np.float32(1.0 / FAR_M) / inverse_depths[k]
    r, g, b = np.float32(color[0]), np.float32(color[1]), np.float32(color[2])
    at = np.uintp(start)
    for k in range(np.uintp(count)):
        factor = factors[k]
        rgb[at] = np.uint8(factor * r)
        rgb[at + np.uintp(1)] = np.uint8(factor * g)
        rgb[at + np.uintp(2)] = np.uint8(factor * b)
        at += np.uintp(3)


@helper
def _paint_faded(
    rgb: UInt8, width: int, rays: Float32, row: int, first: int, last: int,
    plane: npt.NDArray[np.float64], color: UInt8, block: Float32, factors: Float32,
) -> None:  # fmt: skip
    """Paints one span with a depth cue per pixel."""
    while first < last:
        count = min(last - first, BLOCK_PX)
        inverse_depths(plane, rays, row, first, block[:count])
        _shade_pixels(rgb, 3 * (row * width + first), block[:count], color, factors)
        first += count


@kernel
def paint_rgb(
    trapezoids: Trapezoids, polygons: Polygons, width: int, rays: Float32, rgb: UInt8
) -> None:
    """Paints colours into (H * W * 3,) bytes."""
    rgb[:] = 0
    pattern = np.empty(3 * PATTERN_PX, np.uint8)
    block, factors = np.empty(BLOCK_PX, np.float32), np.empty(BLOCK_PX, np.float32)
    for t in range(np.uintp(trapezoids.counts[0])):
        owner = np.uintp(trapezoids.owners[t])
        left, left_slope = trapezoids.borders[t, 0], trapezoids.borders[t, 1]
        right, right_slope = trapezoids.borders[t, 2], trapezoids.borders[t, 3]
        r, g, b = polygons.colors[owner, 0], polygons.colors[owner, 1], polygons.colors[owner, 2]
        per_pixel = polygons.fades[owner] == FADE_PIXEL
        patterned = False
        for row in range(trapezoids.rows[t, 0], trapezoids.rows[t, 1]):
            first = ceil_within(left + row * left_slope, width)
            last = ceil_within(right + row * right_slope, width)
            if first >= last:
                continue
            if per_pixel:
                _paint_faded(
                    rgb, width, rays, row, first, last, polygons.planes[owner],
                    polygons.colors[owner], block, factors,
                )  # fmt: skip
                continue
            start = np.uintp(3 * (row * width + first))
            stop = np.uintp(3 * (row * width + last))
            if last - first >= PATTERN_PX:
                if not patterned:
                    _fill_rgb(pattern, np.uintp(0), np.uintp(3 * PATTERN_PX), r, g, b)
                    patterned = True
                start = _copy_pattern(rgb, start, stop, pattern)
            _fill_rgb(rgb, start, stop, r, g, b)


@kernel
def paint_class(
    trapezoids: Trapezoids, polygons: Polygons, width: int, rays: Float32, codes: UInt8
) -> None:
    """Paints class codes into (H * W,) bytes, 0 where there is nothing."""
    codes[:] = 0
    for t in range(np.uintp(trapezoids.counts[0])):
        code = polygons.codes[np.uintp(trapezoids.owners[t])]
        left, left_slope = trapezoids.borders[t, 0], trapezoids.borders[t, 1]
        right, right_slope = trapezoids.borders[t, 2], trapezoids.borders[t, 3]
        for row in range(trapezoids.rows[t, 0], trapezoids.rows[t, 1]):
            first = ceil_within(left + row * left_slope, width)
            last = ceil_within(right + row * right_slope, width)
            for k in range(np.uintp(row * width + first), np.uintp(row * width + last)):
                codes[k] = code


@kernel
def paint_instance(
    trapezoids: Trapezoids, polygons: Polygons, width: int, rays: Float32, ids: Int32
) -> None:
    """Paints box ids into (H * W,) numbers, 0 where there is no box."""
    rows, borders = trapezoids.rows, trapezoids.borders
    height = len(ids) // width
    for top in range(0, height, BAND_ROWS):
        bottom = min(top + BAND_ROWS, height)
        ids[top * width : bottom * width] = 0
        for t in range(np.uintp(trapezoids.counts[1]), np.uintp(trapezoids.counts[0])):
            start, stop = max(rows[t, 0], top), min(rows[t, 1], bottom)
            if start >= stop:
                continue
            box_id = polygons.instances[np.uintp(trapezoids.owners[t])]
            left, left_slope = borders[t, 0], borders[t, 1]
            right, right_slope = borders[t, 2], borders[t, 3]
            for row in range(start, stop):
                first = ceil_within(left + row * left_slope, width)
                last = ceil_within(right + row * right_slope, width)
                for k in range(np.uintp(row * width + first), np.uintp(row * width + last)):
                    ids[k] = box_id


@helper
def _paint_depth_span(
    planes: FloatArray, owner: np.uintp, rays: Float32, row: int, first: int, span: Float32
) -> None:
    """Writes the depth of neighbouring pixels; the reciprocal of `inverse_depths`, in one pass."""
    a, b, c = planes[owner, 0], planes[owner, 1], planes[owner, 2]
    least, most = np.float32(planes[owner, 3]), np.float32(planes[owner, 4])
    if len(rays):
        fa, fb, fc = np.float32(a), np.float32(b), np.float32(c)
        for k in range(np.uintp(len(span))):
            column = np.uintp(first) + k
            w = fa * rays[row, column, 0] + fb * rays[row, column, 1] + fc
            span[k] = np.float32(1.0) / min(max(w, least), most)
        return
    base, step = np.float32(a * first + b * row + c), np.float32(a)
    for k in range(np.int32(len(span))):
        span[k] = np.float32(1.0) / min(max(base + step * np.float32(k), least), most)


@kernel
def paint_depth(
    trapezoids: Trapezoids, polygons: Polygons, width: int, rays: Float32, depths_m: Float32
) -> None:
    """Paints metres along the optical axis into (H * W,) numbers, infinity where nothing is."""
    planes = polygons.planes
    owners, rows, borders = trapezoids.owners, trapezoids.rows, trapezoids.borders
    height = len(depths_m) // width
    for top in range(0, height, BAND_ROWS):
        bottom = min(top + BAND_ROWS, height)
        depths_m[top * width : bottom * width] = np.float32(np.inf)
        for t in range(np.uintp(trapezoids.counts[0])):
            start, stop = max(rows[t, 0], top), min(rows[t, 1], bottom)
            if start >= stop:
                continue
            owner = np.uintp(owners[t])
            left, left_slope = borders[t, 0], borders[t, 1]
            right, right_slope = borders[t, 2], borders[t, 3]
            for row in range(start, stop):
                first = ceil_within(left + row * left_slope, width)
                last = ceil_within(right + row * right_slope, width)
                if first < last:
                    span = depths_m[row * width + first : row * width + last]
                    _paint_depth_span(planes, owner, rays, row, first, span)


@kernel
def blank(gaps: Int32, image: npt.NDArray[Any], empty: float) -> None:
    """Empties the pixels that no ray of the lens reaches.

    Args:
        gaps: (n, 2) first and end of each run, in pixels from the start of the image.
        image: (H * W,) or (H * W, 3), written.
        empty: What an empty pixel holds.
    """
    for g in range(len(gaps)):
        image[gaps[g, 0] : gaps[g, 1]] = empty


@kernel
def average(large: UInt8, small: UInt8) -> None:
    """Averages 2 x 2 pixels of a (2 H, 2 W, 3) image into (H, W, 3), rounded to nearest."""
    height, width = small.shape[0], 3 * small.shape[1]
    for y in range(height):
        upper, lower = large[2 * y].reshape(-1), large[2 * y + 1].reshape(-1)
        row = small[y].reshape(-1)
        for x in range(0, width, 3):
            for channel in range(3):
                at = 2 * x + channel
                total = np.uint32(upper[at]) + upper[at + 3] + lower[at] + lower[at + 3]
                row[x + channel] = (total + 2) >> 2

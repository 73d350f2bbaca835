"""The samples of a picture: which surfaces its pixels show, and where in the map those are.

The channels are drawn at twice the size of the picture. Where the four samples of a pixel show the
same surface one of them stands for all; elsewhere the four are averaged, which smooths edges.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rap_raster.compiled import helper, kernel
from rap_raster.frames import FloatArray

HORIZON_M = 400.0
"""Bare ground farther away is hidden by what stands on it: the skyline."""

Pinhole = tuple[float, float, float, float]
Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
UInt8 = npt.NDArray[np.uint8]


class Sight(NamedTuple):
    """What a camera sees, at twice the size of its picture.

    Attributes:
        pinhole: fx, fy, cx, cy in pixels.
        rays: (2H, 2W, 2) float32 normalised coordinates of the pixels of a lens, empty otherwise.
        map_from_camera: (4, 4) float64.
        classes: (2H, 2W) uint8 class codes.
        indices: (2H, 2W) int32 index of the part of an object plus one, 0 for none.
        depths_m: (2H, 2W) float32 along the optical axis.
    """

    pinhole: Pinhole
    rays: Float32
    map_from_camera: FloatArray
    classes: UInt8
    indices: Int32
    depths_m: Float32


class Samples(NamedTuple):
    """S samples of a picture, pixel by pixel.

    Attributes:
        pixels: (S,) int32 pixel, counted row by row.
        shares: (S,) float32 share of its pixel; 0 where a lens shows nothing.
        codes: (S,) uint8 class codes.
        parts: (S,) int32 index of the part of an object, -1 for ground and sky.
        ways: (S, 3) float64 unit vectors from the camera, map frame.
        points_m: (S, 3) float64 what is seen, map frame.
        distances_m: (S,) float64 from the camera, infinity for the sky.
    """

    pixels: Int32
    shares: Float32
    codes: UInt8
    parts: Int32
    ways: FloatArray
    points_m: FloatArray
    distances_m: FloatArray


@kernel
def take_samples(sight: Sight, ground_m: float) -> Samples:
    """Chooses the samples.

    Args:
        sight: What the camera sees.
        ground_m: Height of bare ground, map frame.
    """
    height, width = sight.classes.shape[0] // 2, sight.classes.shape[1] // 2
    pixels, counts = np.empty(4 * height * width, np.int32), np.empty(height * width, np.uint8)
    places = np.empty(4 * height * width, np.int32)
    total = 0
    for j in range(height):
        for i in range(width):
            row, column = 2 * j, 2 * i
            alike = True
            for step in range(1, 4):
                y, x = row + step // 2, column + step % 2
                alike &= sight.classes[y, x] == sight.classes[row, column]
                alike &= sight.indices[y, x] == sight.indices[row, column]
            pixel = j * width + i
            counts[pixel] = 1 if alike else 4
            for step in range(counts[pixel]):
                pixels[total] = pixel
                places[total] = (row + step // 2) * 2 * width + column + step % 2
                total += 1
    return _located(sight, ground_m, pixels[:total].copy(), places[:total], counts)


@helper
def _located(sight: Sight, ground_m: float, pixels: Int32, places: Int32, counts: UInt8) -> Samples:
    """Finds out what each sample shows and where that is."""
    count, columns = len(pixels), sight.classes.shape[1]
    shares, codes = np.empty(count, np.float32), np.empty(count, np.uint8)
    parts, distances_m = np.empty(count, np.int32), np.empty(count)
    ways, points_m = np.empty((count, 3)), np.empty((count, 3))
    m, (fx, fy, cx, cy) = sight.map_from_camera, sight.pinhole
    for s in range(count):
        row, column = places[s] // columns, places[s] % columns
        u, v = (column - cx) / fx, (row - cy) / fy
        if len(sight.rays):
            u, v = float(sight.rays[row, column, 0]), float(sight.rays[row, column, 1])
        shares[s] = 0.0 if math.isnan(u) else 1.0 / counts[pixels[s]]
        codes[s], parts[s] = sight.classes[row, column], sight.indices[row, column] - 1
        depth_m = float(sight.depths_m[row, column])
        stretch = math.sqrt(u * u + v * v + 1.0)
        fall = (m[2, 0] * u + m[2, 1] * v + m[2, 2]) / (ground_m - m[2, 3])
        if codes[s] == 0:
            depth_m = 1.0 / fall if fall * HORIZON_M > stretch else math.inf
        distances_m[s] = depth_m * stretch
        for axis in range(3):
            way = m[axis, 0] * u + m[axis, 1] * v + m[axis, 2]
            ways[s, axis] = way / stretch
            points_m[s, axis] = m[axis, 3] + depth_m * way
    return Samples(pixels, shares, codes, parts, ways, points_m, distances_m)

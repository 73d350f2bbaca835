"""The path to drive, drawn on the ground of a camera image, through the camera's own lens."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from rap_bringup.birds_eye import SUBPIXEL_BITS
from rap_raster.camera import NEAR_M, CameraModel
from rap_raster.frames import FloatArray, inverse, transform_points
from rap_raster.lens import distort, lens_coefficients

Picture = npt.NDArray[np.uint8]
Color = tuple[int, int, int]

WIDTH_M = 0.5
OPACITY = 0.55
SPACING_M = 0.1
"""Between the points of the ribbon: short enough for the bend of any lens."""
DOT_PX = 3
RIM: Color = (20, 20, 20)


def image_points(
    camera: CameraModel, points_ego: FloatArray
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Projects ego-frame points into the raw image, lens included.

    Args:
        camera: The camera.
        points_ego: (n, 3) metres.

    Returns:
        pixels: (n, 2), undefined where not ahead.
        ahead: (n,) True beyond the near plane and within the range of the lens model; such a point
            may still lie beside the image.
    """
    points_camera = transform_points(inverse(camera.ego_from_camera), points_ego)
    ahead = points_camera[:, 2] > NEAR_M
    points = points_camera[:, :2] / np.where(ahead, points_camera[:, 2], 1.0)[:, None]
    if camera.distortion is not None:
        largest_radius = lens_coefficients(camera.distortion)[-1]
        ahead &= np.hypot(*points.T) < largest_radius
        points = distort(camera.distortion, points)
    pixels: FloatArray = points * [camera.fx, camera.fy] + [camera.cx, camera.cy]
    return pixels, ahead


def draw_ribbon(picture: Picture, camera: CameraModel, path_m: FloatArray, color: Color) -> None:
    """Lays a translucent ribbon on the ground along (n, 3) x, y, yaw in the ego frame."""
    line = _evenly_spaced(path_m)
    to_left = 0.5 * WIDTH_M * np.column_stack([-np.sin(line[:, 2]), np.cos(line[:, 2])])
    left, left_ahead = image_points(camera, _ground(line[:, :2] + to_left))
    right, right_ahead = image_points(camera, _ground(line[:, :2] - to_left))
    cover = np.zeros(picture.shape[:2], dtype=np.uint8)
    for run in _runs(left_ahead & right_ahead):
        ring = np.concatenate([left[run], right[run][::-1]])
        cv2.fillPoly(cover, [_fixed(ring)], 255, cv2.LINE_AA, SUBPIXEL_BITS)
    share = OPACITY / 255 * cover[..., None].astype(np.float32)
    picture[:] = np.rint(picture + share * (np.array(color, np.float32) - picture))


def draw_dots(picture: Picture, camera: CameraModel, places_m: FloatArray, color: Color) -> None:
    """Draws a dot at each of (n, >= 2) places on the ground, ego frame, where dots do not touch."""
    pixels, ahead = image_points(camera, _ground(places_m))
    for pixel in _fixed(_apart(pixels[ahead]))[::-1].tolist():
        for radius, level in ((DOT_PX + 1, RIM), (DOT_PX, color)):
            size = radius << SUBPIXEL_BITS
            cv2.circle(picture, pixel, size, level, -1, cv2.LINE_AA, SUBPIXEL_BITS)


def _apart(pixels: FloatArray) -> FloatArray:
    """Returns those of (n, 2) pixels that are farther than a dot's width from the one before."""
    kept: list[FloatArray] = []
    for pixel in pixels:
        if not kept or np.hypot(*(pixel - kept[-1])) > 2 * DOT_PX + 2:
            kept.append(pixel)
    return np.array(kept).reshape(-1, 2)


def _evenly_spaced(path_m: FloatArray) -> FloatArray:
    """Returns (m, 3) poses along a path, with no more than `SPACING_M` between them."""
    steps_m = np.hypot(*np.diff(path_m[:, :2], axis=0).T)
    along_m = np.concatenate([[0.0], np.cumsum(steps_m)])
    places_m = np.linspace(0.0, along_m[-1], 2 + int(along_m[-1] / SPACING_M))
    turned = np.column_stack([path_m[:, :2], np.unwrap(path_m[:, 2])])
    return np.column_stack([np.interp(places_m, along_m, column) for column in turned.T])


def _ground(places_m: FloatArray) -> FloatArray:
    """Returns (n, 3) points of the ego's ground plane below (n, >= 2) places."""
    return np.column_stack([places_m[:, :2], np.zeros(len(places_m))])


def _runs(flags: npt.NDArray[np.bool_]) -> list[slice]:
    """Returns the stretches of True that are longer than one."""
    steps = np.diff(flags.astype(np.int8), prepend=0, append=0)
    bounds = zip(np.flatnonzero(steps == 1), np.flatnonzero(steps == -1), strict=True)
    return [slice(first, end) for first, end in bounds if end - first > 1]


def _fixed(pixels: FloatArray) -> npt.NDArray[np.int32]:
    """Returns fixed-point pixels as OpenCV draws them."""
    return np.round(pixels * (1 << SUBPIXEL_BITS)).astype(np.int32)

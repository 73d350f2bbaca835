"""How much of a camera's view the other cameras of a rig see too."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rap_raster.camera import CameraModel, project_points
from rap_raster.frames import FloatArray

COLUMNS = 64
"""Directions looked at: about one degree apart in a usual camera."""

DISTANCES_M = (10.0, 40.0)
"""Where along each direction: cameras are metres apart, so near and far differ."""


def covered_share(camera: CameraModel, others: Sequence[CameraModel]) -> float:
    """Returns the share of a camera's horizontal field of view that others see, 0 to 1.

    Args:
        camera: Whose view it is about; its lens model is ignored.
        others: Cameras that see.
    """
    points = _points_in_view(camera)
    seen = np.zeros(len(points), bool)
    for other in others:
        seen |= project_points(other, points)[1]
    return float(seen.mean())


def _points_in_view(camera: CameraModel) -> FloatArray:
    """Returns (n, 3) points, ego frame, level with the camera in the directions it looks."""
    columns = np.linspace(0.0, camera.width - 1.0, COLUMNS)
    rays = np.stack([(columns - camera.cx) / camera.fx, 0 * columns, 0 * columns + 1.0], axis=1)
    level = rays @ camera.ego_from_camera[:3, :3].T
    level[:, 2] = 0.0
    level /= np.maximum(np.linalg.norm(level, axis=1, keepdims=True), 1e-9)
    points = [camera.ego_from_camera[:3, 3] + distance * level for distance in DISTANCES_M]
    return np.concatenate(points)

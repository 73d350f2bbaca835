"""The nominal camera rig that the default bundle is trained for.

Three cameras, because the published recipe drives on front, left and right; wide enough to see
what crosses, low enough in resolution to train on two CPU cores.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from rap_raster.camera import CameraModel, optical_rotation
from rap_raster.vehicle import PACIFICA, VehicleDimensions, remounted

WIDTH, HEIGHT = 256, 128


def _camera(
    name: str, yaw_deg: float, focal_px: float, position_m: tuple[float, float, float]
) -> CameraModel:
    pose = np.eye(4)
    pose[:3, :3] = optical_rotation(np.deg2rad(yaw_deg), pitch_rad=0.03)
    pose[:3, 3] = position_m
    center = (WIDTH - 1) / 2, (HEIGHT - 1) / 2
    return CameraModel(name, WIDTH, HEIGHT, focal_px, focal_px, *center, ego_from_camera=pose)


NOMINAL_RIG = (
    _camera("front", 0.0, 200.0, (1.7, 0.0, 1.55)),
    _camera("front_left", 65.0, 128.0, (1.6, 0.5, 1.5)),
    _camera("front_right", -65.0, 128.0, (1.6, -0.5, 1.5)),
)
"""Horizontal fields of view 65, 90 and 90 degrees; together 220 degrees to the front. The front
camera is narrower, so that a lamp of 0.3 m is two pixels wide at 30 m."""


def nominal_rig(size: tuple[int, int]) -> tuple[CameraModel, ...]:
    """Returns the nominal rig with images of this width and height."""
    return tuple(camera.resized(*size) for camera in NOMINAL_RIG)


@lru_cache(maxsize=1024)
def fitted_rig(
    vehicle: VehicleDimensions, size: tuple[int, int] = (WIDTH, HEIGHT)
) -> tuple[CameraModel, ...]:
    """Returns the nominal rig as it would sit on another vehicle.

    Args:
        vehicle: Outer dimensions.
        size: Width and height of the images.
    """
    return tuple(remounted(camera, PACIFICA, vehicle) for camera in nominal_rig(size))

"""The four cameras that the published planner was trained with: those of nuPlan."""

from __future__ import annotations

import numpy as np

from rap_raster.camera import CameraModel, optical_rotation
from rap_training.model.published.reference_points import PIXEL_SHIFT

WIDTH, HEIGHT = 768, 448
"""Of the network's input: 1920 x 1080 pixels times 0.4, padded below to a multiple of 32."""


def _camera(
    name: str, yaw_deg: float, pitch_deg: float, position_m: tuple[float, float, float]
) -> CameraModel:
    pose = np.eye(4)
    pose[:3, :3] = optical_rotation(np.deg2rad(yaw_deg), np.deg2rad(pitch_deg))
    pose[:3, 3] = position_m
    focal, cx, cy = 0.4 * 1545.0, 0.4 * 960.0 - PIXEL_SHIFT, 0.4 * 560.0 - PIXEL_SHIFT
    return CameraModel(name, WIDTH, HEIGHT, focal, focal, cx, cy, ego_from_camera=pose)


RELEASED_RIG = (
    _camera("back", 179.5, 0.6, (-0.475, 0.024, 1.434)),
    _camera("front", -0.4, 1.3, (1.655, -0.012, 1.491)),
    _camera("front_left", 54.9, 0.8, (1.631, 0.120, 1.481)),
    _camera("front_right", -55.5, 0.8, (1.618, -0.155, 1.490)),
)
"""nuPlan's B0, F0, L0 and R0, in the planner's order, without their roll of at most 1.4 degrees.
Source: RAP release, `nuplan_cameras_utils.py`."""

"""Which real camera feeds which camera slot of the bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from rap_raster.camera import CameraModel
from rap_raster.frames import FloatArray

MAX_VIEW_ANGLE_RAD = np.deg2rad(40.0)
"""A camera that looks further away than this from a slot's direction does not see what the
planner expects there; typical surround cameras are 55 to 60 degrees apart."""

QUATERNION_NORM_TOLERANCE = 1e-2
"""Rounded YAML values pass; a mistyped number does not."""


class RigError(ValueError):
    """A camera rig that cannot be used; the text names the camera and what is wrong."""


def ego_from_camera_values(name: str, values: Sequence[float]) -> FloatArray:
    """Returns the (4, 4) optical-to-ego transform of x, y, z, qx, qy, qz, qw.

    Raises:
        RigError: If there are not 7 finite values or the quaternion is not of unit length.
    """
    table = np.asarray(values, dtype=np.float64)
    if table.shape != (7,) or not np.isfinite(table).all():
        raise RigError(
            f"cameras.extrinsics.{name}: expected 7 finite numbers x, y, z, qx, qy, qz, qw, "
            f"got {table.tolist()}"
        )
    norm = float(np.linalg.norm(table[3:]))
    if abs(norm - 1.0) > QUATERNION_NORM_TOLERANCE:
        raise RigError(f"cameras.extrinsics.{name}: quaternion has length {norm:.4g}, expected 1")
    transform = np.eye(4)
    transform[:3, :3] = rotation_from_quaternion(table[3:] / norm)
    transform[:3, 3] = table[:3]
    return transform


def rotation_from_quaternion(quaternion: FloatArray) -> FloatArray:
    """Returns the (3, 3) rotation of a unit quaternion x, y, z, w."""
    x, y, z, w = quaternion
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def assign_slots(
    slots: Sequence[CameraModel],
    cameras: Mapping[str, FloatArray],
    wanted: Mapping[str, str],
) -> dict[str, str]:
    """Decides which camera feeds which slot.

    Args:
        slots: The bundle's nominal cameras.
        cameras: Camera name to (4, 4) optical-to-ego transform.
        wanted: Camera name to slot name, as configured; empty: assign by viewing direction,
            closest pair first.

    Returns:
        Slot name to camera name; slots that no camera covers are left out.

    Raises:
        RigError: If a configured slot does not exist or is given twice.
    """
    if wanted:
        return _configured(slots, wanted)
    pairs = sorted(
        (view_angle_rad(slot.ego_from_camera, pose), slot.name, name)
        for slot in slots
        for name, pose in cameras.items()
    )
    assigned: dict[str, str] = {}
    for angle_rad, slot_name, name in pairs:
        taken = slot_name in assigned or name in assigned.values()
        if angle_rad <= MAX_VIEW_ANGLE_RAD and not taken:
            assigned[slot_name] = name
    return assigned


def _configured(slots: Sequence[CameraModel], wanted: Mapping[str, str]) -> dict[str, str]:
    known = [slot.name for slot in slots]
    assigned: dict[str, str] = {}
    for name, slot_name in wanted.items():
        if slot_name not in known:
            raise RigError(f"cameras.slots: {slot_name!r} is not a slot of the bundle {known}")
        if slot_name in assigned:
            raise RigError(f"cameras.slots: {slot_name!r} is given to {assigned[slot_name]!r} too")
        assigned[slot_name] = name
    return assigned


def view_angle_rad(first: FloatArray, second: FloatArray) -> float:
    """Returns the angle between the optical axes of two (4, 4) poses of cameras."""
    return float(np.arccos(np.clip(first[:3, 2] @ second[:3, 2], -1.0, 1.0)))

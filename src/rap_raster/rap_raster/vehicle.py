"""Outer dimensions of a vehicle and where its rear axle sits."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from rap_raster.camera import CameraModel
from rap_raster.frames import FloatArray, Pose

REAR_AXLE_TO_CENTER_SHARE = 1.461 / 5.176
"""Rear axle to box centre as a share of the length: Chrysler Pacifica (nuPlan vehicle file)."""


@dataclass(frozen=True, slots=True)
class VehicleDimensions:
    """The box around a vehicle, relative to its ego frame (rear axle, on the ground).

    Attributes:
        length_m: Metres along x.
        width_m: Metres along y.
        height_m: Metres along z.
        rear_axle_to_center_m: How far the box centre lies ahead of the rear axle.
    """

    length_m: float
    width_m: float
    height_m: float
    rear_axle_to_center_m: float

    @classmethod
    def from_size(cls, length_m: float, width_m: float, height_m: float) -> VehicleDimensions:
        """Places the rear axle where a typical car has it, for tracks known by their box only."""
        return cls(length_m, width_m, height_m, length_m * REAR_AXLE_TO_CENTER_SHARE)

    def box_center(self, pose: Pose) -> FloatArray:
        """Returns the (3,) centre of the box of a vehicle whose ego frame is at `pose`."""
        return np.array(
            [
                pose.x_m + self.rear_axle_to_center_m * np.cos(pose.yaw_rad),
                pose.y_m + self.rear_axle_to_center_m * np.sin(pose.yaw_rad),
                pose.z_m + 0.5 * self.height_m,
            ]
        )

    def pose_from_box(self, center_m: FloatArray, yaw_rad: float) -> Pose:
        """Returns the ego pose of a vehicle from its (3,) box centre and heading."""
        return Pose(
            float(center_m[0] - self.rear_axle_to_center_m * np.cos(yaw_rad)),
            float(center_m[1] - self.rear_axle_to_center_m * np.sin(yaw_rad)),
            float(center_m[2] - 0.5 * self.height_m),
            float(yaw_rad),
        )


PACIFICA = VehicleDimensions(5.176, 2.297, 1.777, 1.461)
"""The nuPlan vehicle, our nominal ego. Source: nuplan-devkit `vehicle_parameters.py`."""


def remounted(
    camera: CameraModel, carrier: VehicleDimensions, vehicle: VehicleDimensions
) -> CameraModel:
    """Returns a camera as it would sit on another vehicle.

    Its place is moved as length, width and height differ; direction and field of view stay.

    Args:
        camera: The camera.
        carrier: What it sits on.
        vehicle: What it is to sit on.
    """
    pose: FloatArray = camera.ego_from_camera.copy()
    pose[:3, 3] *= np.array(
        [
            vehicle.length_m / carrier.length_m,
            vehicle.width_m / carrier.width_m,
            vehicle.height_m / carrier.height_m,
        ]
    )
    return replace(camera, ego_from_camera=pose)

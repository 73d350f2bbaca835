"""What perception hands to the raster step: synchronised camera images and tracked objects."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from rap_raster.camera import CameraModel
from rap_raster.frames import FloatArray
from rap_raster.scene import Boxes, Lights


@dataclass(frozen=True, slots=True)
class CameraFrame:
    """Rectified images of the bundle's C camera slots at one instant.

    Attributes:
        stamp_ns: Stamp of the anchor camera's image.
        names: Slot names, in the bundle's order.
        valid: (C,) False where there is no usable image; its pixels must not be looked at.
        age_s: (C,) anchor stamp minus the image's own stamp; NaN where not valid.
        images: (C, H, W, 3) uint8 rgb at the network's input size.
        intrinsics: (C, 4) fx, fy, cx, cy in pixels of these images.
        ego_from_camera: (C, 4, 4) optical frame to ego frame, metres.
    """

    stamp_ns: int
    names: tuple[str, ...]
    valid: npt.NDArray[np.bool_]
    age_s: npt.NDArray[np.float32]
    images: npt.NDArray[np.uint8]
    intrinsics: FloatArray
    ego_from_camera: FloatArray

    def cameras(self) -> list[CameraModel]:
        """Returns the camera models of these images."""
        height, width = self.images.shape[1:3]
        return [
            CameraModel(name, width, height, fx, fy, cx, cy, pose)
            for name, (fx, fy, cx, cy), pose in zip(
                self.names, self.intrinsics.tolist(), self.ego_from_camera, strict=True
            )
        ]


@dataclass(frozen=True, slots=True)
class TrackedObjects:
    """Objects and lights around the ego at one instant, map frame.

    Attributes:
        stamp_ns: Stamp of the observation.
        boxes: N objects.
        lights: L traffic lights.
        ages_s: (N,) float32 seconds since each object was last seen.
        existences: (N,) float32 probability that each object exists.
    """

    stamp_ns: int
    boxes: Boxes
    lights: Lights
    ages_s: npt.NDArray[np.float32]
    existences: npt.NDArray[np.float32]

    def boxes_at(self, stamp_ns: int) -> Boxes:
        """Returns the boxes moved to another stamp at constant velocity.

        Boxes of unknown velocity stay where they are.
        """
        dt_s = (stamp_ns - self.stamp_ns) * 1e-9
        if dt_s == 0.0 or len(self.boxes) == 0:
            return self.boxes
        centers_m = self.boxes.centers_m.copy()
        centers_m[:, :2] += dt_s * np.nan_to_num(self.boxes.velocities_mps)
        return replace(self.boxes, centers_m=centers_m)

"""Puts the rectified images of one instant into the camera slots of a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rap_perception.images import Image
from rap_raster.camera import CameraModel
from rap_raster.observations import CameraFrame


@dataclass(frozen=True, slots=True)
class SlotImage:
    """The image in one slot.

    Attributes:
        stamp_ns: The image's own stamp.
        rgb: (H, W, 3) at the network's input size.
        camera: Pinhole camera of that image.
    """

    stamp_ns: int
    rgb: Image
    camera: CameraModel


def make_frame(
    stamp_ns: int, slots: Sequence[CameraModel], images: Mapping[str, SlotImage]
) -> CameraFrame:
    """Assembles a camera frame.

    Args:
        stamp_ns: The anchor's stamp.
        slots: The bundle's nominal cameras; their calibration stands in where there is no image.
        images: Slot name to image; slots left out are not valid.
    """
    first = slots[0]
    frame = CameraFrame(
        stamp_ns=stamp_ns,
        names=tuple(slot.name for slot in slots),
        valid=np.array([slot.name in images for slot in slots]),
        age_s=np.full(len(slots), np.nan, np.float32),
        images=np.zeros((len(slots), first.height, first.width, 3), np.uint8),
        intrinsics=np.empty((len(slots), 4)),
        ego_from_camera=np.empty((len(slots), 4, 4)),
    )
    for index, slot in enumerate(slots):
        image = images.get(slot.name)
        camera = slot if image is None else image.camera
        frame.intrinsics[index] = camera.fx, camera.fy, camera.cx, camera.cy
        frame.ego_from_camera[index] = camera.ego_from_camera
        if image is not None:
            frame.images[index] = image.rgb
            frame.age_s[index] = (stamp_ns - image.stamp_ns) * 1e-9
    return frame

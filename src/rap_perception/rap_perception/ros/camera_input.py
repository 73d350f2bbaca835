"""One camera of the vehicle: its calibration as far as it is known, and its images decoded."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import fields, replace
from enum import Enum

import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from rap_perception.camera_info import CalibrationError, camera_model_from_message
from rap_perception.framing import SlotImage
from rap_perception.images import ImageError
from rap_perception.rectify import Rectifier
from rap_perception.ros.conversions import pixels
from rap_perception.transform_tree import TransformError, TransformTree
from rap_raster.camera import CameraModel
from rap_raster.frames import FloatArray


class Unused(Enum):
    """Why an image of a frame came to nothing; `Dropped` says it of those that joined none."""

    NO_CALIBRATION = "no calibration"
    NOT_DECODED = "not decoded"
    AHEAD = "from the future"


class CameraInput:
    """Calibration and images of one camera.

    Attributes:
        name: Of the camera.
        rectifier: For its images, or None until there is a usable calibration.
        problem: Why there is no rectifier; empty where there is one.
        unused: Images that came to nothing here, by cause.
    """

    def __init__(
        self,
        name: str,
        size: tuple[int, int],
        extrinsics: FloatArray | TransformTree,
        base_frame: str,
    ) -> None:
        """Starts without a calibration.

        Args:
            name: Of the camera.
            size: Width and height of rectified images.
            extrinsics: (4, 4) optical frame to ego frame, or where to look it up.
            base_frame: Name of the ego frame.
        """
        self.name = name
        self.rectifier: Rectifier | None = None
        self.problem = ""
        self.unused: Counter[Unused] = Counter()
        self._size = size
        self._extrinsics = extrinsics
        self._base_frame = base_frame
        self._info: CameraInfo | None = None
        self._image_came_s: float | None = None

    @property
    def extrinsics_source(self) -> str:
        """Where the pose of the camera comes from, for people."""
        if not isinstance(self._extrinsics, TransformTree):
            return "cameras.extrinsics"
        frame = "?" if self._info is None else self._info.header.frame_id
        return f"/tf_static, {self._base_frame} to {frame}"

    @property
    def silent_s(self) -> float | None:
        """Seconds since the last image came, by the wall clock; None before the first."""
        return None if self._image_came_s is None else time.monotonic() - self._image_came_s

    def image_came(self) -> None:
        """Notes that an image came."""
        self._image_came_s = time.monotonic()

    def calibrate(self, info: CameraInfo) -> str:
        """Takes a calibration message in; returns as `replan`."""
        if self._info is not None and _same_calibration(self._info, info):
            return ""
        self._info = info
        return self.replan()

    def replan(self) -> str:
        """Plans the rectification anew where calibration or pose are others than before.

        Returns:
            What changed in a calibration that was in use; empty where nothing did.
        """
        if self._info is None:
            return ""
        before = self.rectifier
        try:
            pose = self._pose(self._info.header.frame_id)
            source = camera_model_from_message(self.name, self._info, pose)
        except (CalibrationError, TransformError) as error:
            self.rectifier, self.problem = None, str(error)
            return "" if before is None else self.problem
        changed = [] if before is None else _differences(before.source, source)
        if before is None or changed:
            self.rectifier, self.problem = Rectifier(source, *self._size), ""
        return f"{', '.join(changed)} changed at run time" if changed else ""

    def slot_image(self, stamp_ns: int, message: Image | CompressedImage) -> SlotImage | None:
        """Decodes and rectifies an image.

        Returns:
            The image, or None without a calibration, which `problem` reports while it lasts.

        Raises:
            ImageError: If the image cannot be used.
        """
        rectifier = self.rectifier
        if rectifier is None:
            self.unused[Unused.NO_CALIBRATION] += 1
            return None
        try:
            image = pixels(message, rectifier.reduction)
            rgb = rectifier.rectify(image, rectifier.reduction)
        except ImageError:
            self.unused[Unused.NOT_DECODED] += 1
            raise
        return SlotImage(stamp_ns, rgb, rectifier.camera)

    def _pose(self, optical_frame: str) -> FloatArray:
        if isinstance(self._extrinsics, TransformTree):
            try:
                return self._extrinsics.look_up(self._base_frame, optical_frame)
            except TransformError as error:
                raise TransformError(f"{self.name}: {error}") from error
        return self._extrinsics


def _same_calibration(first: CameraInfo, second: CameraInfo) -> bool:
    names = ("width", "height", "distortion_model", "d", "binning_x", "binning_y", "roi")
    same = all(getattr(first, name) == getattr(second, name) for name in names)
    same &= first.header.frame_id == second.header.frame_id
    return same and list(first.k) == list(second.k)


def _differences(first: CameraModel, second: CameraModel) -> list[str]:
    """Returns what two models of the same camera differ in."""
    pose = np.eye(4)
    one, other = replace(first, ego_from_camera=pose), replace(second, ego_from_camera=pose)
    names = [f.name for f in fields(one) if getattr(one, f.name) is not getattr(other, f.name)]
    changed = [name for name in names if getattr(one, name) != getattr(other, name)]
    if not np.array_equal(first.ego_from_camera, second.ego_from_camera):
        changed.append("ego_from_camera")
    return changed

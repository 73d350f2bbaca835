"""Cameras of logs in the slots of the rig, and their images as the vehicle hands them over.

Which camera fills which slot, and what becomes of its image, is decided by the code that decides it
on the vehicle (`rap_perception`): the lens is undone, the image is scaled and cropped. The raster
beside it is drawn through the camera that is left, where it was when it exposed.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rap_evaluation.logs.drive_log import DriveLog, LogCamera, LogError
from rap_evaluation.moments import Moment
from rap_perception.images import ImageError, decode_compressed
from rap_perception.rectify import Rectifier
from rap_perception.rig import assign_slots
from rap_raster.camera import CameraModel
from rap_raster.frames import Pose, inverse
from rap_raster.geometry import Geometry, place_seen
from rap_raster.scene import Scene
from rap_raster.styles import Style
from rap_raster.vehicle import PACIFICA, VehicleDimensions, remounted


@dataclass(frozen=True, slots=True)
class Photo:
    """What the cameras of a log saw around one of its steps; C slots.

    Attributes:
        moment: The step.
        rig: Pinhole cameras of the images, each where it was when it exposed, in the ego frame of
            the step; nominal where no camera fills a slot.
        images: (C, H, W, 3) uint8 rgb, zero where there is none.
        taken: (C,) bool, False where no camera fills a slot, or its image cannot be decoded.
        scene: At the exposure of the first of them.
    """

    moment: Moment
    rig: tuple[CameraModel, ...]
    images: npt.NDArray[np.uint8]
    taken: npt.NDArray[np.bool_]
    scene: Scene

    def geometry(self, style: Style) -> Geometry:
        """Returns what `style` draws for the cameras of `rig`."""
        ego, ground = self.moment.ego().pose, self.moment.log.ground(style)
        return place_seen(ground, ego, self.scene.boxes, self.scene.lights, style)


@dataclass(frozen=True, slots=True)
class _Filled:
    """A slot that a camera fills."""

    camera: LogCamera
    rectifier: Rectifier

    def nearest(self, stamp_ns: int, within_ns: float) -> int | None:
        """Returns the image that was exposed nearest to a time, None where that is too far."""
        if not len(self.camera.stamps_ns):
            return None
        away_ns = np.abs(self.camera.stamps_ns - stamp_ns)
        index = int(away_ns.argmin())
        return index if away_ns[index] < within_ns else None

    def decoded(self, index: int) -> npt.NDArray[np.uint8]:
        """Returns an image, shrunk as `Rectifier.reduction` says; raises ImageError."""
        jpeg = np.frombuffer(self.camera.jpeg(index), np.uint8)
        return decode_compressed(jpeg, self.rectifier.reduction)

    def rectified(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Returns an image as it is on the vehicle; raises ImageError if its size is wrong."""
        return self.rectifier.rectify(image, self.rectifier.reduction)


class LoggedRig:
    """The cameras of one log in the slots of a nominal rig.

    Attributes:
        filled: (C,) bool, slots that a camera of the log fills; all of them in a log without any,
            which is seen through the nominal rig.
    """

    def __init__(
        self, log: DriveLog, slots: Sequence[CameraModel], wanted: Mapping[str, str] | None = None
    ) -> None:
        """Assigns the cameras of a log.

        Args:
            log: The log.
            slots: The nominal rig, as it sits on the nominal ego; its images have one size.
            wanted: Slot by name of the camera; by default cameras fill those that they look like.

        Raises:
            RigError: If a wanted slot does not exist, or is given twice.
        """
        self._log, self._slots = log, list(slots)
        self._size = size = slots[0].width, slots[0].height
        cameras = {camera.model.name: camera for camera in log.cameras}
        poses = {name: camera.model.ego_from_camera for name, camera in cameras.items()}
        assigned = assign_slots(self._slots, poses, wanted or {})
        self._filled = {
            slot: _Filled(cameras[name], Rectifier(cameras[name].model, *size))
            for slot, name in assigned.items()
            if name in cameras
        }
        self._carrier = log.dimensions(log.egos[0])
        self.filled = np.array([not self._filled or slot.name in self._filled for slot in slots])

    def rig(self, vehicle: VehicleDimensions) -> tuple[CameraModel, ...]:
        """Returns the cameras as they would sit on a vehicle of this size."""
        own = {
            name: replace(filled.rectifier.camera, name=name)
            for name, filled in self._filled.items()
        }
        return tuple(
            remounted(own[slot.name], self._carrier, vehicle)
            if slot.name in own
            else remounted(slot, PACIFICA, vehicle)
            for slot in self._slots
        )

    @property
    def cameras(self) -> dict[str, str]:
        """Name of the camera by slot, of the slots that are filled."""
        return {slot: filled.camera.model.name for slot, filled in self._filled.items()}

    def has_photo(self, moment: Moment) -> bool:
        """True if every camera in a slot took an image within half a step of a moment."""
        # All egos of a log with cameras are the vehicle that carries them, between gaps.
        if moment.seat not in self._log.egos or not self._filled:
            return False
        found = [self._nearest(filled, moment) for filled in self._filled.values()]
        return all(
            index is not None and self._pose_at(filled, index, moment) is not None
            for filled, index in zip(self._filled.values(), found, strict=True)
        )

    def photo(self, moment: Moment) -> Photo:
        """Returns what the cameras saw around a moment for which `has_photo` is true.

        Raises:
            LogError: If an image has not the size of its calibration.
        """
        rig = self.rig(self._carrier)
        taken = np.zeros(len(rig), dtype=np.bool_)
        images = np.zeros((len(rig), *self._size[::-1], 3), dtype=np.uint8)
        exposed_ns = [int(self._log.stamps_ns[moment.step])] * len(rig)
        for slot, camera in enumerate(rig):
            filled = self._filled.get(camera.name)
            index = None if filled is None else self._nearest(filled, moment)
            if filled is not None and index is not None:
                exposed_ns[slot] = int(filled.camera.stamps_ns[index])
                image = self._image(filled, index)
                if image is not None:
                    images[slot], taken[slot] = image, True
        scene = self._log.scene_at(exposed_ns[int(self.filled.argmax())], moment.seat)
        assert scene is not None  # Less than half a step from a moment.
        cameras = [self._then(moment, *pair) for pair in zip(rig, exposed_ns, strict=True)]
        return Photo(moment, tuple(cameras), images, taken, scene)

    def _image(self, filled: _Filled, index: int) -> npt.NDArray[np.uint8] | None:
        """Returns an image; None for one that cannot be decoded, which is missed as on the road."""
        camera = filled.camera
        what = f"{self._log.name}: image of {camera.model.name} at {camera.stamps_ns[index]} ns"
        try:
            image = filled.decoded(index)
        except ImageError as error:
            warnings.warn(f"{what} is left out: {error}", stacklevel=2)
            return None
        try:
            return filled.rectified(image)
        except ImageError as error:
            raise LogError(f"{what}: {error}") from error

    def _pose_at(self, filled: _Filled, index: int, moment: Moment) -> Pose | None:
        return self._log.pose_at(int(filled.camera.stamps_ns[index]), moment.seat)

    def _nearest(self, filled: _Filled, moment: Moment) -> int | None:
        stamp_ns = int(self._log.stamps_ns[moment.step])
        return filled.nearest(stamp_ns, 0.5e9 * self._log.dt_s)

    def _then(self, moment: Moment, camera: CameraModel, exposed_ns: int) -> CameraModel:
        """Returns a camera where it was at another time, in the ego frame of the moment."""
        then = self._log.pose_at(exposed_ns, moment.seat)
        assert then is not None  # As above.
        now_from_then = inverse(moment.ego().pose.map_from_ego()) @ then.map_from_ego()
        return replace(camera, ego_from_camera=now_from_then @ camera.ego_from_camera)


class LoggedRigs:
    """The rigs of logs, made once each."""

    def __init__(
        self, slots: Sequence[CameraModel], wanted: Mapping[str, str] | None = None
    ) -> None:
        """Takes the nominal rig, and slots by camera; see `LoggedRig`."""
        self._slots, self._wanted = slots, wanted
        self._rigs: dict[Path, LoggedRig] = {}

    def of(self, log: DriveLog) -> LoggedRig:
        """Returns the rig of a log; of one with other traffic, that of the log it was made of."""
        rig = self._rigs.get(log.path)
        if rig is None:
            rig = self._rigs[log.path] = LoggedRig(log.origin, self._slots, self._wanted)
        return rig

    def has_photo(self, moment: Moment) -> bool:
        """True if the cameras of its log took images of a moment; see `LoggedRig.has_photo`."""
        return self.of(moment.log).has_photo(moment)

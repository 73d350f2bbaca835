"""The node between the sensors and the stack: images in, one synchronised frame out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from rap_msgs.msg import CameraFrame as CameraFrameMsg
from rap_msgs.msg import TrackedObjects as TrackedObjectsMsg
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from rap_inference.bundle import load_bundle
from rap_inference.latest_worker import LatestWorker
from rap_perception.camera_info import CalibrationError
from rap_perception.framing import SlotImage, make_frame
from rap_perception.images import ImageError
from rap_perception.objects import checked_objects
from rap_perception.rectify import Rectifier
from rap_perception.rig import assign_slots, ego_from_camera_values
from rap_perception.ros.conversions import camera_model, pixels
from rap_perception.synchronizer import ImageSet, Synchronizer, SyncSettings
from rap_raster.features import nominal_rig
from rap_raster.frames import FloatArray
from rap_raster.observations import CameraFrame, TrackedObjects
from rap_raster.ros.conversions import check_frame, frame_msg, object_columns, objects_msg, stamp_ns
from rap_raster.ros.diagnostics import Health
from rap_raster.ros.node import RapNode
from rap_raster.ros.parameters import (
    BASE_FRAME,
    BUNDLE_PATH,
    CAMERA_NAMES,
    MAP_FRAME,
    Declared,
    ParameterError,
    declare_numbers,
    texts,
)
from rap_raster.ros.qos import RESULT, SENSOR, STREAM
from rap_raster.ros.spin import run_nodes

POLL_PERIOD_S = 0.01
"""How often a waiting image set is looked at; a third of the default waiting time."""


class PerceptionNode(RapNode):
    """Publishes rap/frame from the cameras and rap/objects from the objects topic."""

    PARAMETERS: ClassVar[tuple[Declared, ...]] = (
        BUNDLE_PATH,
        CAMERA_NAMES,
        Declared("cameras.slots", [""], "bundle slot per camera; not set: nearest direction"),
        Declared("cameras.compressed", False, "subscribe to image/compressed"),
        Declared("sync.anchor", "", "camera that sets the pace; not set: the first one used"),
        Declared("sync.tolerance_s", 0.05, "largest stamp difference to the anchor", 0.0, 1.0),
        Declared("sync.max_wait_s", 0.03, "longest wait for a late camera", 0.0, 1.0),
        Declared("sync.anchor_timeout_s", 0.3, "then another camera sets the pace", 0.01, 10.0),
        MAP_FRAME,
        BASE_FRAME,
    )

    def __init__(self, name: str = "perception_node", overrides: Sequence[Parameter] = ()) -> None:
        """Creates the node; see `RapNode`."""
        super().__init__(name, overrides)
        self._worker: LatestWorker[ImageSet[Any]] | None = None
        self._synchronizer: Synchronizer[Any] | None = None
        self._camera_of_slot: dict[str, str] = {}
        self._rectifiers: dict[str, Rectifier] = {}
        self._calibrations: dict[str, CameraInfo] = {}
        self._calibration_errors: dict[str, str] = {}
        self._last: CameraFrame | None = None
        self._hand_over_frame: Callable[[CameraFrame], None] | None = None
        self._hand_over_objects: Callable[[TrackedObjects], None] | None = None

    def declare_dependent_parameters(self) -> None:
        """Declares and reads one extrinsic calibration per camera."""
        self._extrinsics: dict[str, FloatArray] = {}
        for name in texts(self, CAMERA_NAMES.name):
            parameter = f"cameras.extrinsics.{name}"
            values = declare_numbers(self, parameter, "x, y, z, qx, qy, qz, qw: optical to base")
            self._extrinsics[name] = ego_from_camera_values(name, values)

    def connect(
        self,
        hand_over_frame: Callable[[CameraFrame], None],
        hand_over_objects: Callable[[TrackedObjects], None],
    ) -> None:
        """Passes frames (from the worker's thread) and objects on by reference."""
        self._hand_over_frame = hand_over_frame
        self._hand_over_objects = hand_over_objects

    def setup(self) -> None:
        """Loads the bundle's camera slots and decides which camera feeds which."""
        bundle = load_bundle(Path(self.parameter(BUNDLE_PATH.name)))
        self._slots = nominal_rig(bundle)
        self._camera_of_slot = assign_slots(self._slots, self._extrinsics, self._wanted_slots())
        if self._extrinsics and not self._camera_of_slot:
            raise ParameterError("cameras.extrinsics: no camera looks where a bundle slot does")
        used = list(self._camera_of_slot.values())
        if used:
            settings = SyncSettings(
                anchor=self.parameter("sync.anchor") or used[0],
                tolerance_s=self.parameter("sync.tolerance_s"),
                max_wait_s=self.parameter("sync.max_wait_s"),
                anchor_timeout_s=self.parameter("sync.anchor_timeout_s"),
            )
            self._synchronizer = Synchronizer(used, settings)
            self._worker = LatestWorker(
                self._make_frame, partial(self.reject, "frame"), name="perception_worker"
            )
        self._frames = self.advertise(CameraFrameMsg, "rap/frame", RESULT)
        self._objects = self.advertise(TrackedObjectsMsg, "rap/objects", STREAM)

    def _wanted_slots(self) -> dict[str, str]:
        names, slots = list(self._extrinsics), texts(self, "cameras.slots")
        if slots and len(slots) != len(names):
            raise ParameterError(
                f"cameras.slots: {len(slots)} slots for {len(names)} cameras.names, "
                "expected one each"
            )
        return dict(zip(names, slots, strict=True)) if slots else {}

    def start(self) -> None:
        """Subscribes to the cameras that feed a slot, and to objects."""
        self.subscribe(TrackedObjectsMsg, "objects", self._on_objects, STREAM)
        compressed = self.parameter("cameras.compressed")
        kind, suffix = (CompressedImage, "/compressed") if compressed else (Image, "")
        for name in self._camera_of_slot.values():
            on_info, on_image = partial(self._on_info, name), partial(self._on_image, name)
            self.subscribe(CameraInfo, f"camera/{name}/camera_info", on_info, SENSOR)
            self.subscribe(kind, f"camera/{name}/image{suffix}", on_image, SENSOR)
        if self._synchronizer is not None:
            self.every(POLL_PERIOD_S, self._poll, self.steady_clock)

    def close(self) -> None:
        """Ends the worker."""
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    def _on_objects(self, message: TrackedObjectsMsg) -> None:
        try:
            check_frame(message.header, self.parameter(MAP_FRAME.name))
            objects = checked_objects(stamp_ns(message.header.stamp), object_columns(message))
        except ValueError as error:
            self.reject("objects", error)
            return
        if self._hand_over_objects is not None:
            self._hand_over_objects(objects)
        if self._objects.get_subscription_count():
            self._objects.publish(objects_msg(objects, message.header.frame_id))

    def _on_info(self, name: str, message: CameraInfo) -> None:
        """Plans the rectification anew when a calibration came or changed."""
        known = self._calibrations.get(name)
        if known is not None and _same_calibration(known, message):
            return
        self._calibrations[name] = message
        try:
            model = camera_model(name, message, self._extrinsics[name])
        except CalibrationError as error:
            self._rectifiers.pop(name, None)
            self.get_logger().error(str(error))
            self._calibration_errors[name] = str(error)
            return
        self._calibration_errors.pop(name, None)
        self._rectifiers[name] = Rectifier(model, self._slots[0].width, self._slots[0].height)

    def _on_image(self, name: str, message: Image | CompressedImage) -> None:
        if self._synchronizer is None:
            return
        stamp = stamp_ns(message.header.stamp)
        self._submit(self._synchronizer.add(name, stamp, message, self._steady_ns()))

    def _poll(self) -> None:
        if self._synchronizer is not None:
            self._submit(self._synchronizer.poll(self._steady_ns()))

    def _steady_ns(self) -> int:
        return int(self.steady_clock.now().nanoseconds)

    def _submit(self, ready: list[ImageSet[Any]]) -> None:
        for images in ready:
            if self._worker is not None:
                self._worker.submit(images)

    def _make_frame(self, images: ImageSet[Any]) -> None:
        """Decodes and rectifies one image set; called in the worker's thread."""
        usable: dict[str, SlotImage] = {}
        for slot, name in self._camera_of_slot.items():
            if name in images.images:
                image = self._slot_image(name, *images.images[name])
                if image is not None:
                    usable[slot] = image
        frame = make_frame(images.stamp_ns, self._slots, usable)
        self._last = frame
        self.post(lambda: self._publish(frame))
        if self._hand_over_frame is not None:
            self._hand_over_frame(frame)

    def _slot_image(
        self, name: str, stamp: int, message: Image | CompressedImage
    ) -> SlotImage | None:
        rectifier = self._rectifiers.get(name)
        if rectifier is None:
            return None  # reported by `report` for as long as it lasts
        try:
            image = pixels(message, rectifier.reduction)
            return SlotImage(stamp, rectifier.rectify(image, rectifier.reduction), rectifier.camera)
        except ImageError as error:
            self.reject(f"camera {name}", error)
            return None

    def _publish(self, frame: CameraFrame) -> None:
        if self._frames.get_subscription_count():
            self._frames.publish(frame_msg(frame, self.parameter(BASE_FRAME.name)))

    def report(self, health: Health) -> None:
        """Says which camera feeds which slot and what is missing."""
        for slot in getattr(self, "_slots", []):
            name = self._camera_of_slot.get(slot.name)
            health.values[f"slot {slot.name}"] = name or "no camera"
            if name is not None:
                self._report_camera(health, name)
        if self._synchronizer is None or self._worker is None:
            return
        counts = self._synchronizer.counts
        health.values["image sets"] = str(counts.sets)
        health.values["image sets incomplete"] = str(counts.incomplete)
        health.values["images too late"] = str(counts.late)
        health.values["image sets dropped"] = str(self._worker.counts.dropped)

    def _report_camera(self, health: Health, name: str) -> None:
        if name in self._calibration_errors:
            health.error(self._calibration_errors[name])
        elif name not in self._rectifiers:
            topic = self.resolve_topic_name(f"camera/{name}/camera_info")
            health.error(f"{name}: no camera_info received on {topic}, its images are not used")
        if self._synchronizer is not None:
            missing = self._synchronizer.counts.missing[name]
            health.values[f"camera {name}: missing in sets"] = str(missing)


def _same_calibration(first: CameraInfo, second: CameraInfo) -> bool:
    fields = ("width", "height", "distortion_model", "d", "binning_x", "binning_y", "roi")
    same = all(getattr(first, name) == getattr(second, name) for name in fields)
    return same and list(first.k) == list(second.k)


def main() -> None:
    """Runs the node until a signal ends it."""
    sys.exit(run_nodes("perception_node", lambda: [PerceptionNode()]))


if __name__ == "__main__":
    main()

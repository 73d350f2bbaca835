"""The node between the sensors and the stack: synchronised frames and tracked objects out."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from nav_msgs.msg import Odometry
from rap_msgs.msg import CameraFrame as CameraFrameMsg
from rap_msgs.msg import TrackedObjects as TrackedObjectsMsg
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from rap_inference.bundle import load_bundle
from rap_inference.latest_worker import LatestWorker
from rap_perception.framing import SlotImage, make_frame
from rap_perception.object_messages import OBJECT_TYPES
from rap_perception.objects import ObjectsError, checked_objects, placed
from rap_perception.rig import (
    MAX_VIEW_ANGLE_RAD,
    assign_slots,
    ego_from_camera_values,
    view_angle_rad,
)
from rap_perception.ros.camera_input import CameraInput, Unused
from rap_perception.ros.conversions import add_transforms
from rap_perception.synchronizer import PATIENCE, Dropped, ImageSet, Synchronizer, SyncSettings
from rap_perception.tracker import Tracker
from rap_perception.transform_tree import TransformError, TransformTree
from rap_raster.camera import CameraModel
from rap_raster.encoder import nominal_rig
from rap_raster.frames import FloatArray
from rap_raster.observations import CameraFrame, TrackedObjects
from rap_raster.ros.conversions import MessageError, frame_msg, objects_msg, stamp_ns
from rap_raster.ros.diagnostics import Health
from rap_raster.ros.ego_input import EgoInput
from rap_raster.ros.node import RapNode
from rap_raster.ros.optional_messages import message_class
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

SILENT_S = 1.0
"""A camera without an image for this long is reported."""

MAX_AHEAD_NS = 250_000_000
"""An image stamped further in the future comes from a clock that is wrong. One that is taken in
makes all others late until that time has come."""

MAX_LATE_NS = 1_000_000_000
"""Objects with a stamp that is older say nothing about how late others are."""

STATIC_TRANSFORMS = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=100,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
"""As tf2 listens to /tf_static: every broadcaster has latched a message of its own."""


class PerceptionNode(RapNode):
    """Publishes rap/frame from the cameras and rap/objects from the objects topic."""

    PARAMETERS: ClassVar[tuple[Declared, ...]] = (
        BUNDLE_PATH,
        CAMERA_NAMES,
        Declared("cameras.slots", [""], "bundle slot per camera; not set: nearest direction"),
        Declared("cameras.compressed", False, "subscribe to image/compressed"),
        Declared(
            "extrinsics.source",
            "auto",
            "yaml: cameras.extrinsics.NAME | tf: /tf_static | auto: yaml where set, else tf",
            choices=("auto", "yaml", "tf"),
        ),
        Declared(
            "rate_hz",
            10.0,
            "highest rate of frames; up to a third more of some cameras",
            0.1,
            100.0,
        ),
        Declared("sync.anchor", "", "camera that sets the pace; not set: the first one used"),
        Declared("sync.tolerance_s", 0.05, "largest stamp difference to the anchor", 0.0, 1.0),
        Declared("sync.max_wait_s", 0.03, "longest wait for a late camera", 0.0, 1.0),
        Declared("sync.anchor_timeout_s", 0.3, "then another camera sets the pace", 0.01, 10.0),
        Declared(
            "objects.type",
            "rap_msgs/TrackedObjects",
            "message type of the objects topic: " + ", ".join(OBJECT_TYPES),
            choices=tuple(OBJECT_TYPES),
        ),
        Declared(
            "objects.track",
            "auto",
            "follow objects from message to message: on | off | auto: where the type has no "
            "lasting ids or no velocities",
            choices=("auto", "on", "off"),
        ),
        MAP_FRAME,
        BASE_FRAME,
    )

    def __init__(self, name: str = "perception_node", overrides: Sequence[Parameter] = ()) -> None:
        """Creates the node; see `RapNode`."""
        super().__init__(name, overrides)
        self._base_frame = self.parameter(BASE_FRAME.name)
        self._map_frame = self.parameter(MAP_FRAME.name)
        self._ego = EgoInput(self._map_frame, self._base_frame)
        self._worker: LatestWorker[ImageSet[Any]] | None = None
        self._decoders: ThreadPoolExecutor | None = None
        self._synchronizer: Synchronizer[Any] | None = None
        self._slots: list[CameraModel] = []
        self._camera_of_slot: dict[str, str] = {}
        self._cameras: dict[str, CameraInput] = {}
        self._tree = TransformTree()
        self._tracker: Tracker | None = None
        self._objects_late_ns = 0  # how late the last objects with a stamp were
        self._hand_over_frame: Callable[[CameraFrame], None] | None = None
        self._hand_over_objects: Callable[[TrackedObjects], None] | None = None

    def declare_dependent_parameters(self) -> None:
        """Declares and reads one extrinsic calibration per camera."""
        self._extrinsics: dict[str, FloatArray] = {}
        source = self.parameter("extrinsics.source")
        for name in texts(self, CAMERA_NAMES.name):
            parameter = f"cameras.extrinsics.{name}"
            meaning = "x, y, z, qx, qy, qz, qw: optical to base"
            values = declare_numbers(self, parameter, meaning, required=source == "yaml")
            if values is not None and source != "tf":
                self._extrinsics[name] = ego_from_camera_values(name, values)
        self._transform_type = self._needed_transform_type()

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
        self._set_up_objects()
        self._camera_of_slot = assign_slots(self._slots, self._extrinsics, self._wanted_slots())
        if self._names and not self._camera_of_slot:
            raise ParameterError("cameras.extrinsics: no camera looks where a bundle slot does")
        self._set_up_cameras(list(self._camera_of_slot.values()))
        self._frames = self.advertise(CameraFrameMsg, "rap/frame", RESULT)
        self._objects = self.advertise(TrackedObjectsMsg, "rap/objects", STREAM)

    @property
    def _names(self) -> list[str]:
        return texts(self, CAMERA_NAMES.name)

    def _needed_transform_type(self) -> type | None:
        """Returns the message type of /tf_static if a camera needs it."""
        without = [name for name in self._names if name not in self._extrinsics]
        if not without:
            return None
        try:
            kind = message_class("tf2_msgs/TFMessage")
        except MessageError as error:
            raise ParameterError(f"cameras.extrinsics.{without[0]}: is not set; {error}") from error
        if not texts(self, "cameras.slots"):
            raise ParameterError(
                f"cameras.slots: must be set, because the view of {without[0]} is not known before "
                "/tf_static comes"
            )
        return kind

    def _set_up_objects(self) -> None:
        name, track = self.parameter("objects.type"), self.parameter("objects.track")
        self._objects_type = message_class(name)
        self._read_objects = OBJECT_TYPES[name].read
        wanted = track == "on" or (track == "auto" and not OBJECT_TYPES[name].is_tracked)
        self._tracker = Tracker() if wanted else None

    def _set_up_cameras(self, used: list[str]) -> None:
        size = self._slots[0].width, self._slots[0].height
        self._cameras = {
            name: CameraInput(name, size, self._extrinsics.get(name, self._tree), self._base_frame)
            for name in used
        }
        if not used:
            return
        settings = SyncSettings(
            anchor=self.parameter("sync.anchor") or used[0],
            tolerance_s=self.parameter("sync.tolerance_s"),
            max_wait_s=self.parameter("sync.max_wait_s"),
            anchor_timeout_s=self.parameter("sync.anchor_timeout_s"),
            rate_hz=self.parameter("rate_hz"),
        )
        self._synchronizer = Synchronizer(used, settings)
        self._decoders = ThreadPoolExecutor(len(used), thread_name_prefix="perception_decoder")
        self._worker = LatestWorker(
            partial(self._make_frame, self._decoders),
            partial(self.reject, "frame"),
            name="perception_worker",
        )

    def _wanted_slots(self) -> dict[str, str]:
        names, slots = self._names, texts(self, "cameras.slots")
        if slots and len(slots) != len(names):
            raise ParameterError(
                f"cameras.slots: {len(slots)} slots for {len(names)} cameras.names, "
                "expected one each"
            )
        return dict(zip(names, slots, strict=True)) if slots else {}

    def start(self) -> None:
        """Subscribes to the cameras that feed a slot, and to objects; forgets those of before."""
        if self._synchronizer is not None:
            self._synchronizer.restart()
        if self._tracker is not None:
            self._tracker = Tracker()
        self.subscribe(Odometry, "odometry", self._on_odometry, STREAM)
        self.subscribe(self._objects_type, "objects", self._on_objects, STREAM)
        if self._transform_type is not None:
            self.subscribe(
                self._transform_type, "/tf_static", self._on_transforms, STATIC_TRANSFORMS
            )
        compressed = self.parameter("cameras.compressed")
        kind, suffix = (CompressedImage, "/compressed") if compressed else (Image, "")
        for name in self._cameras:
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
        if self._decoders is not None:
            self._decoders.shutdown()
            self._decoders = None

    # Objects.

    def _on_odometry(self, message: Odometry) -> None:
        try:
            self._ego.receive(message)
        except MessageError as error:
            self.reject("odometry", error)

    def _on_objects(self, message: Any) -> None:  # noqa: ANN401 - of the type set
        try:
            given = self._read_objects(message)
            stamp = self._observed_ns(given.stamp_ns)
            usable, problem = checked_objects(stamp, given.columns)
            if problem:
                self.reject("objects", problem)
            objects = self._in_map(usable, given.frame_id)
            if self._tracker is not None:
                objects = self._tracker.update(objects)
        except ValueError as error:
            self.reject("objects", error)
            return
        if self._hand_over_objects is not None:
            self._hand_over_objects(objects)
        if self._objects.get_subscription_count():
            self._objects.publish(objects_msg(objects, self._map_frame))

    def _observed_ns(self, stamp: int | None) -> int:
        """Returns when objects were observed; without a stamp, as long ago as the last ones.

        Raises:
            ObjectsError: If that has not come yet: tracker and guard would wait for it.
        """
        now_ns = self.now_ns()
        if stamp is None:
            return now_ns - self._objects_late_ns
        if 0 < now_ns < stamp - MAX_AHEAD_NS:  # 0: no simulated time came yet
            raise ObjectsError(f"stamped {(stamp - now_ns) * 1e-9:.1f} s in the future")
        self._objects_late_ns = min(max(0, now_ns - stamp), MAX_LATE_NS)
        return stamp

    def _in_map(self, objects: TrackedObjects, frame_id: str | None) -> TrackedObjects:
        """Returns objects in the map frame; raises MessageError where that cannot be."""
        if frame_id is None or frame_id == self._map_frame:
            return objects
        if frame_id != self._base_frame:
            raise MessageError(
                f"frame_id is {frame_id!r}, expected {self._map_frame!r} or {self._base_frame!r}"
            )
        ego = self._ego.wait_for(objects.stamp_ns, 0.0)
        if ego is None:
            raise MessageError(f"no odometry at stamp {objects.stamp_ns} ns of objects in base")
        return placed(objects, ego.pose)

    # Cameras.

    def _on_transforms(self, message: Any) -> None:  # noqa: ANN401 - tf2_msgs/TFMessage
        try:
            add_transforms(self._tree, message)
        except TransformError as error:
            self.reject("/tf_static", error)
        for name, camera in self._cameras.items():
            self._report_change(name, camera.replan())

    def _on_info(self, name: str, message: CameraInfo) -> None:
        self._report_change(name, self._cameras[name].calibrate(message))

    def _report_change(self, name: str, change: str) -> None:
        if change:
            self.reject(f"camera {name}: calibration", change)

    def _on_image(self, name: str, message: Image | CompressedImage) -> None:
        if self._synchronizer is None:
            return
        camera = self._cameras[name]
        camera.image_came()
        stamp, now_ns = stamp_ns(message.header.stamp), self.now_ns()
        if 0 < now_ns < stamp - MAX_AHEAD_NS:  # 0: no simulated time came yet
            camera.unused[Unused.AHEAD] += 1
            ahead_s = (stamp - now_ns) * 1e-9
            self.reject(f"camera {name}", f"image is stamped {ahead_s:.1f} s in the future")
            return
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

    def _make_frame(self, decoders: ThreadPoolExecutor, images: ImageSet[Any]) -> None:
        """Decodes and rectifies one image set; called in the worker's thread."""
        decoding = {  # beside each other: OpenCV releases the interpreter lock
            slot: decoders.submit(self._slot_image, self._cameras[name], *images.images[name])
            for slot, name in self._camera_of_slot.items()
            if name in images.images
        }
        decoded = {slot: future.result() for slot, future in decoding.items()}
        usable = {slot: image for slot, image in decoded.items() if image is not None}
        frame = make_frame(images.stamp_ns, self._calibrated_slots(), usable)
        self.post(lambda: self._publish(frame))
        if self._hand_over_frame is not None:
            self._hand_over_frame(frame)

    def _calibrated_slots(self) -> list[CameraModel]:
        """Returns the slots as the cameras in them see, where that is known, else nominally."""
        known = {slot: self._cameras[name].rectifier for slot, name in self._camera_of_slot.items()}
        return [
            slot if (real := known.get(slot.name)) is None else replace(real.camera, name=slot.name)
            for slot in self._slots
        ]

    def _slot_image(
        self, camera: CameraInput, stamp: int, message: Image | CompressedImage
    ) -> SlotImage | None:
        try:
            return camera.slot_image(stamp, message)
        except Exception as error:  # one image must not take those of the other cameras with it
            self.reject(f"camera {camera.name}", error)
            return None

    def _publish(self, frame: CameraFrame) -> None:
        if self._frames.get_subscription_count():
            self._frames.publish(frame_msg(frame, self._base_frame))

    # Health.

    def report(self, health: Health) -> None:
        """Says which camera feeds which slot, what is missing, and what became of the images."""
        for slot in self._slots:
            health.values[f"slot {slot.name}"] = self._camera_of_slot.get(slot.name, "no camera")
        for name in self._names if self._slots else ():
            if name not in self._cameras:
                health.warn(f"camera {name}: no slot is left where it looks, it is not used")
        health.values["objects: type"] = self.parameter("objects.type")
        health.values["objects: tracked here"] = str(self._tracker is not None)
        for camera in self._cameras.values():
            self._report_camera(health, camera)
        for slot in self._slots:
            self._report_view(health, slot)
        if self._synchronizer is None or self._worker is None:
            return
        counts = self._synchronizer.counts
        health.values["image sets"] = str(counts.sets)
        health.values["image sets incomplete"] = str(counts.incomplete)
        health.values["image sets replaced by newer ones"] = str(self._worker.counts.dropped)

    def _report_view(self, health: Health, slot: CameraModel) -> None:
        """Warns of a camera that looks elsewhere than its slot: body frames are taken for it."""
        camera = self._cameras.get(self._camera_of_slot.get(slot.name, ""))
        if camera is None or camera.rectifier is None:
            return
        away = view_angle_rad(slot.ego_from_camera, camera.rectifier.source.ego_from_camera)
        if away > MAX_VIEW_ANGLE_RAD:
            health.warn(
                f"{camera.name}: looks {math.degrees(away):.0f} degrees away from slot "
                f"{slot.name}; extrinsics ({camera.extrinsics_source}) must be of the optical "
                "frame: z ahead, x to the right"
            )

    def _report_camera(self, health: Health, camera: CameraInput) -> None:
        name, silent_s = camera.name, camera.silent_s
        health.values[f"camera {name}: extrinsics"] = camera.extrinsics_source
        if camera.problem:
            health.error(camera.problem)
        elif camera.rectifier is None:
            topic = self.resolve_topic_name(f"camera/{name}/camera_info")
            health.error(f"{name}: no camera_info received on {topic}, its images are not used")
        if silent_s is None:
            health.warn(f"camera {name}: no image received")
        elif silent_s > SILENT_S:
            health.warn(f"camera {name}: no image for {silent_s:.0f} s")
        if self._synchronizer is None:
            return
        counts = self._synchronizer.counts.cameras[name]
        if silent_s is not None and silent_s <= SILENT_S and counts.missing_in_a_row >= PATIENCE:
            health.warn(f"camera {name}: images come too late for the newest frames")
        health.values[f"camera {name}: received"] = str(counts.received)
        health.values[f"camera {name}: used"] = str(counts.used)
        health.values[f"camera {name}: missing in sets"] = str(counts.missing)
        for cause in Dropped:
            health.values[f"camera {name}: dropped, {cause.value}"] = str(counts.dropped[cause])
        for reason in Unused:
            health.values[f"camera {name}: unused, {reason.value}"] = str(camera.unused[reason])


def main() -> None:
    """Runs the node until a signal ends it."""
    sys.exit(run_nodes("perception_node", lambda: [PerceptionNode()]))


if __name__ == "__main__":
    main()

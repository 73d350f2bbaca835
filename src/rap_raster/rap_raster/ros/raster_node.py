"""The node that computes aligned features from camera images, or from rasters of the same scene."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from nav_msgs.msg import Odometry
from rap_msgs.msg import AlignedFeatures as AlignedFeaturesMsg
from rap_msgs.msg import CameraFrame as CameraFrameMsg
from rap_msgs.msg import MapPrimitives
from rap_msgs.msg import TrackedObjects as TrackedObjectsMsg
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from sensor_msgs.msg import Image
from std_msgs.msg import Float64

from rap_inference.backends import encoder_batch
from rap_inference.bundle import Bundle, BundleError, load_bundle
from rap_inference.latest_worker import LatestWorker
from rap_raster.ego_history import JUMP_NS
from rap_raster.encoder import FeatureEncoder, nominal_rig
from rap_raster.feature_step import FeaturePolicy, FeatureStep, StepResult, overlaid
from rap_raster.features import AlignedFeatures, FeatureSource
from rap_raster.frames import FloatArray, Pose
from rap_raster.geometry import Geometry, place, place_seen
from rap_raster.ground import Ground, build_ground
from rap_raster.maps.vector_map import height_above
from rap_raster.observations import CameraFrame, TrackedObjects
from rap_raster.ros import conversions
from rap_raster.ros.diagnostics import Health, Progress
from rap_raster.ros.ego_input import EgoInput
from rap_raster.ros.inference import INFERENCE, NodeInference
from rap_raster.ros.node import RapNode, one_line
from rap_raster.ros.parameters import (
    BASE_FRAME,
    BUNDLE_PATH,
    CAMERA_NAMES,
    MAP_FRAME,
    ODOMETRY_WAIT,
    Declared,
    texts,
)
from rap_raster.ros.qos import LATCHED, RESULT, STREAM
from rap_raster.ros.spin import run_nodes
from rap_raster.scene import Boxes, Lights, Shapes
from rap_raster.step_pacer import StepPacer
from rap_raster.styles import load_style

Step = CameraFrame | TrackedObjects


MAX_HEIGHT_M = 2.0
"""Odometry that knows no heights, on a map that does, or the other way round, differs by more."""

HEIGHT_EVERY_M = np.array([5.0, 5.0, 0.5])
"""How far the ego goes, along each axis, until its height above the map is looked up anew."""


class RasterNode(RapNode):
    """Computes rap/features, from rap/frame if cameras are in use, else from rap/objects."""

    PARAMETERS: ClassVar[tuple[Declared, ...]] = (
        BUNDLE_PATH,
        *INFERENCE,
        CAMERA_NAMES,
        Declared("rate_hz", 10.0, "highest step rate when stepping on rap/objects", 0.1, 100.0),
        Declared("features.source", "camera", "camera | raster", choices=("camera", "raster")),
        Declared("features.fill_missing_with_raster", True, "rasters for cameras without image"),
        Declared("features.measure_alignment", False, "compare camera and raster features"),
        Declared(
            "objects.independent_of_cameras",
            False,
            "objects come from other sensors, so rasters may stand in for a camera without image",
        ),
        Declared(
            "sync.frame_timeout_s",
            0.3,
            "without frames for this long, steps follow objects that are independent of cameras",
            0.0,
            60.0,
        ),
        Declared("objects.max_age_s", 0.5, "older objects are not drawn", 0.0, 60.0),
        ODOMETRY_WAIT,
        MAP_FRAME,
        BASE_FRAME,
    )

    def __init__(self, name: str = "raster_node", overrides: Sequence[Parameter] = ()) -> None:
        """Creates the node; see `RapNode`."""
        super().__init__(name, overrides)
        self._base_frame = self.parameter(BASE_FRAME.name)
        self._map_frame = self.parameter(MAP_FRAME.name)
        self.ego = EgoInput(self._map_frame, self._base_frame)
        self._takes_topics = True
        self._hand_over: Callable[[AlignedFeatures], None] | None = None
        self._inference: NodeInference | None = None
        self._step: FeatureStep | None = None
        self._worker: LatestWorker[Step] | None = None
        # Frames come in the perception node's thread, objects in that of the worker; networks
        # and what is wired behind this node take one step at a time.
        self._turn = threading.Lock()
        self._objects: TrackedObjects | None = None
        self._ground: Ground | None = None
        self._map_name = ""
        self._map_lines: Shapes | None = None
        self._height: tuple[FloatArray, float | None] | None = None  # above the map, and where
        self._pacer = StepPacer(self.parameter("rate_hz"))
        self._frame_ns: int | None = None  # stamp of the newest frame, or of the first objects
        self._lacked_scene = False
        self._at_frames = 0  # steps on frames that were begun and not finished
        self._last: AlignedFeatures | None = None
        self._progress = Progress()

    def connect(self, hand_over: Callable[[AlignedFeatures], None]) -> None:
        """Passes features on by reference instead of by topic.

        Input comes from a perception node of this process through `process` and `receive_objects`.
        """
        self._takes_topics = False
        self._hand_over = hand_over

    def setup(self) -> None:
        """Loads the bundle and the raster style."""
        bundle = load_bundle(Path(self.parameter(BUNDLE_PATH.name)))
        manifest = bundle.manifest
        from_images = self.parameter("features.source") == "camera"
        self._policy = FeaturePolicy(
            use_images=from_images,
            fill_missing=self.parameter("features.fill_missing_with_raster"),
            measure_alignment=self.parameter("features.measure_alignment"),
            objects_independent=self.parameter("objects.independent_of_cameras"),
        )
        shape = manifest.features
        self._style = load_style(manifest.style)
        self._no_ground = build_ground(Shapes.from_list([]), Shapes.from_list([]), self._style)
        self._rig = nominal_rig(bundle)
        self._slot_names = tuple(camera.name for camera in self._rig)
        self._image_shape = (len(self._rig), self._rig[0].height, self._rig[0].width, 3)
        self._encoder_sha256 = manifest.encoder.sha256
        self._inference = NodeInference(self)
        network = self._inference.open(bundle.encoder_path, batch=encoder_batch(bundle))
        encoder = FeatureEncoder(bundle, network)
        self._step = FeatureStep(
            encoder,
            (shape.channels, shape.height, shape.width),
            self._policy,
        )
        self._warm_up(self._step, encoder, bundle)
        self._worker = LatestWorker(
            self.process, partial(self.reject, "step"), name=f"{self.get_name()}_worker"
        )
        self._advertise()

    def _warm_up(self, step: FeatureStep, encoder: FeatureEncoder, bundle: Bundle) -> None:
        """Compiles the rasterizer and runs the encoder, so that no drive waits for it.

        On every number of images: backends on GPUs choose kernels at the first of each shape.
        """
        self.get_logger().info("warming up; a minute unless `rap warmup` was run before")
        nothing = (Pose(0.0, 0.0, 0.0, 0.0), Boxes.empty(), Lights.empty())
        try:
            step.from_rasters(0, self._rig, place(self._no_ground, *nothing, self._style))
            for count in range(1, encoder_batch(bundle) + 1):
                encoder.encode(np.zeros((count, *self._image_shape[1:]), dtype=np.uint8))
        except Exception as error:  # whatever the backend raises, the file is unfit
            raise BundleError(f"{bundle.encoder_path}: does not run: {one_line(error)}") from error

    def _advertise(self) -> None:
        self._features = self.advertise(AlignedFeaturesMsg, "rap/features", RESULT)
        self._step_ms = self.advertise(Float64, "~/debug/processing_time_ms", RESULT)
        self._rasters = [
            self.advertise(Image, f"raster/{name}/image", RESULT) for name in self._slot_names
        ]
        self._overlays = [
            self.advertise(Image, f"raster/{name}/overlay", RESULT) for name in self._slot_names
        ]

    def start(self) -> None:
        """Subscribes."""
        self._progress = Progress()
        self._last = self._objects = None
        self.subscribe(Odometry, "odometry", self._on_odometry, STREAM)
        self.subscribe(MapPrimitives, "rap/map", self._on_map, LATCHED)
        if self._takes_topics:
            self.subscribe(TrackedObjectsMsg, "rap/objects", self._on_objects, STREAM)
            if self._has_cameras:
                self.subscribe(CameraFrameMsg, "rap/frame", self._on_frame, RESULT)

    def close(self) -> None:
        """Ends the worker and lets go of the network."""
        if self._worker is not None:
            self._worker.stop()
            self._worker = None
        with self._turn:
            self._step = self._inference = None

    @property
    def _has_cameras(self) -> bool:
        return bool(texts(self, CAMERA_NAMES.name))

    def _on_odometry(self, message: Odometry) -> None:
        try:
            self.ego.receive(message)
        except conversions.MessageError as error:
            self.reject("odometry", error)

    def _on_map(self, message: MapPrimitives) -> None:
        try:
            vector_map = conversions.map_from_msg(message, self._map_frame)
        except conversions.MessageError as error:
            self.reject("rap/map", error)
            return
        # Once per map: what is far from the vehicle costs next to nothing when drawing.
        self._ground = build_ground(vector_map.polylines, vector_map.polygons, self._style)
        self._map_name, self._map_lines = vector_map.name, vector_map.polylines
        self._height = None

    def _on_objects(self, message: TrackedObjectsMsg) -> None:
        try:
            self.receive_objects(conversions.objects_from_msg(message, self._map_frame))
        except conversions.MessageError as error:
            self.reject("rap/objects", error)

    def _on_frame(self, message: CameraFrameMsg) -> None:
        try:
            frame = conversions.frame_from_msg(message, self._base_frame)
            self._check_slots(frame)
        except conversions.MessageError as error:
            self.reject("rap/frame", error)
            return
        if self._worker is not None:
            self._worker.submit(frame)

    def _check_slots(self, frame: CameraFrame) -> None:
        if frame.names != self._slot_names or frame.images.shape != self._image_shape:
            raise conversions.MessageError(
                f"cameras {list(frame.names)} of shape {frame.images.shape}, the bundle expects "
                f"{list(self._slot_names)} of shape {self._image_shape}"
            )

    def receive_objects(self, objects: TrackedObjects) -> None:
        """Takes objects in; without cameras, they are what the node steps on."""
        self._objects = objects
        if self._worker is None or not self._steps_on(objects):
            return
        if self._pacer.is_due(objects.stamp_ns):
            self._worker.submit(objects)

    def _steps_on(self, item: Step) -> bool:
        """True unless frames do it: then objects are only what is drawn for them."""
        return isinstance(item, CameraFrame) or not self._has_cameras or self._cameras_gone(item)

    def _cameras_gone(self, objects: TrackedObjects) -> bool:
        """True if no frame came for so long that rasters of these objects must do."""
        stands_in = self._policy.objects_independent and (
            self._policy.fill_missing or not self._policy.use_images
        )
        if self._frame_ns is None or objects.stamp_ns < self._frame_ns - JUMP_NS:
            self._frame_ns = objects.stamp_ns
        silent_s = (objects.stamp_ns - self._frame_ns) * 1e-9
        return (
            stands_in and not self._at_frames and silent_s > self.parameter("sync.frame_timeout_s")
        )

    def process(self, item: Step) -> None:
        """Computes one step unless inactive; called in worker threads, which take turns."""
        if not isinstance(item, CameraFrame):
            self._take_turn(item)
            return
        self._frame_ns = item.stamp_ns
        self._at_frames += 1  # of one thread
        try:
            self._take_turn(item)
        finally:  # however long it took, cameras were there all the time
            objects_ns = item.stamp_ns if self._objects is None else self._objects.stamp_ns
            self._frame_ns = max(item.stamp_ns, objects_ns)
            self._at_frames -= 1

    def _take_turn(self, item: Step) -> None:
        with self._turn:
            # Frames may have come back while objects waited for their turn.
            if self.is_active and self._step is not None and self._steps_on(item):
                self._take_step(self._step, item)

    def _take_step(self, step: FeatureStep, item: Step) -> None:
        started_s = time.perf_counter()
        try:
            result = self._compute(step, item)
        except Exception as error:  # one failed step must not end the drive
            self.reject("step", error)
            return
        elapsed_ms = 1e3 * (time.perf_counter() - started_s)
        self.post(lambda: self._publish(result, item, elapsed_ms))
        if self._hand_over is not None:
            self._hand_over(result.features)

    def _compute(self, step: FeatureStep, item: Step) -> StepResult:
        if isinstance(item, CameraFrame):
            shown = (*self._rasters, *self._overlays)
            watched = any(publisher.get_subscription_count() for publisher in shown)
            needed = watched or step.needs_scene(item)
            geometry = self._geometry(item.stamp_ns) if needed else None
            self._lacked_scene = needed and geometry is None
            return step.from_frame(item, geometry, draw_all=watched)
        geometry = self._geometry(item.stamp_ns)
        if geometry is None:
            raise ValueError(f"no ego pose for objects at stamp {item.stamp_ns} ns")
        return step.from_rasters(item.stamp_ns, self._rig, geometry)

    def _geometry(self, stamp_ns: int) -> Geometry | None:
        """Returns what is known about an instant, or None if objects or ego are not."""
        objects = self._objects
        max_age_s = self.parameter("objects.max_age_s")
        if objects is None or abs(stamp_ns - objects.stamp_ns) > 1e9 * max_age_s:
            self.reject("rasters: no objects", f"none within {max_age_s:g} s of a step's stamp")
            return None
        ego = self.ego.wait_for(stamp_ns, self.parameter(ODOMETRY_WAIT.name))
        if ego is None:
            self.reject("rasters: no odometry", "none for a step's stamp")
            return None
        ground = self._ground if self._ground is not None else self._no_ground
        boxes = objects.boxes_at(stamp_ns)
        return place_seen(ground, ego.pose, boxes, objects.lights, self._style)

    def _publish(self, result: StepResult, item: Step, elapsed_ms: float) -> None:
        features = result.features
        self._last = features
        self._progress.stepped()
        self._step_ms.publish(Float64(data=elapsed_ms))
        if self._features.get_subscription_count():
            self._features.publish(
                conversions.features_msg(
                    features, self._slot_names, self._encoder_sha256, self._base_frame
                )
            )
        for slot, raster in result.rasters.items():
            self._show(self._rasters[slot], features.stamp_ns, raster)
            if isinstance(item, CameraFrame) and item.valid[slot]:
                over = overlaid(item.images[slot], raster)
                self._show(self._overlays[slot], features.stamp_ns, over)

    def _show(self, publisher: Publisher, stamp_ns: int, picture: npt.NDArray[np.uint8]) -> None:
        if publisher.get_subscription_count():
            publisher.publish(conversions.image_msg(stamp_ns, self._base_frame, picture))

    def report(self, health: Health) -> None:
        """Says where features come from and what is missing for rasters."""
        if self._inference is not None:
            self._inference.report(health)
        if self._worker is not None:
            counts = self._worker.counts
            health.values["steps dropped"] = str(counts.dropped)
        health.values["map"] = self._map_name or "none"
        if self._ground is None:
            health.warn("no rap/map received: rasters show objects only")
        if (ego := self.ego.latest) is None:
            health.warn("no odometry received")
        elif self._map_lines is not None:
            above_m = self._height_above(self._map_lines, np.array([ego.x_m, ego.y_m, ego.z_m]))
            if above_m is not None and abs(above_m) > MAX_HEIGHT_M:
                side = "above" if above_m > 0.0 else "below"
                health.warn(f"the ego is {abs(above_m):.1f} m {side} the map: it cannot be drawn")
        if self._objects is None:
            health.warn("no objects received")
        if self._last is None:
            health.warn("no features made yet")
            return
        if self.is_active:
            self._progress.report(health)
        sources = [FeatureSource(int(source)).name for source in self._last.sources]
        for name, source, distance in zip(
            self._slot_names, sources, self._last.alignment_distance, strict=True
        ):
            health.values[f"{name}: source"] = source
            health.values[f"{name}: alignment distance"] = f"{distance:.3f}"
            if source == FeatureSource.MISSING.name:
                health.warn(f"{name}: neither image nor raster{self._why_no_raster()}")

    def _height_above(self, lines: Shapes, place_m: FloatArray) -> float | None:
        """Returns the height above the map; the search in all of it is not for every report."""
        if self._height is None or (np.abs(place_m - self._height[0]) > HEIGHT_EVERY_M).any():
            self._height = place_m, height_above(lines, place_m)
        return self._height[1]

    def _why_no_raster(self) -> str:
        policy = self._policy
        if self._lacked_scene:
            return ", no objects or odometry for one at the stamp of the last frame"
        if policy.use_images and not policy.fill_missing:
            return ", features.fill_missing_with_raster is off"
        if not policy.objects_independent:
            return (
                ": no other camera sees its view, and objects may come from it "
                "(objects.independent_of_cameras is off)"
            )
        return ""


def main() -> None:
    """Runs the node until a signal ends it."""
    sys.exit(run_nodes("raster_node", lambda: [RasterNode()]))


if __name__ == "__main__":
    main()

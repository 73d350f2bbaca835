"""Inputs and outputs of a graph that is driven in simulation: `graph_planner.Graph` over topics."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Condition
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import Odometry
from nav_msgs.msg import Path as PathMsg
from rap_msgs.msg import GuardState as GuardStateMsg
from rap_msgs.msg import TrackedObjects as TrackedObjectsMsg
from rap_msgs.msg import TrajectoryCandidates
from rclpy.duration import Duration
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image

from rap_evaluation.planners.camera_view import CameraView
from rap_evaluation.planners.graph_planner import Answers, GraphError
from rap_evaluation.planners.observation import Observation
from rap_evaluation.ros.conversions import (
    camera_info_msg,
    odometry_msg,
    seen_objects,
    trajectory_from_msg,
)
from rap_planner.guard import GuardState
from rap_planner.route import Command
from rap_raster.camera import CameraModel
from rap_raster.ego_history import EgoState
from rap_raster.frames import FloatArray
from rap_raster.ros.conversions import (
    MessageError,
    image_msg,
    objects_msg,
    route_msg,
    stamp_ns,
    time_msg,
)
from rap_raster.ros.node import RapNode
from rap_raster.ros.qos import LATCHED, RESULT, SENSOR, STREAM

LISTENERS = {"/clock": 5, "odometry": 3, "objects": 1, "route": 1}
"""All nodes live on simulated time; perception, raster and guard on odometry."""

START_TIMEOUT_S = 120.0
"""Loading bundle and map and compiling kernels for the first time on a slow, busy machine."""

REPEAT_S = 0.2
"""The clock is best effort: while somebody is waited for, it is said again this often."""


NEWS_S = 10.0
"""By the wall clock, between lines that say how far the drive is."""


class StoppedError(BaseException):
    """The node is being ended. Not an `Exception`: no failed drive is to be made of it."""


@dataclass(frozen=True, slots=True)
class Rig:
    """Simulated cameras.

    Attributes:
        cameras: In the order of the view's images.
        view: Takes the pictures.
    """

    cameras: tuple[CameraModel, ...]
    view: CameraView


class GraphTopics:
    """Publishes from the simulation's thread; answers come in from the executor's thread."""

    def __init__(self, node: RapNode, map_frame: str, base_frame: str, rig: Rig | None) -> None:
        """Makes publishers.

        Args:
            node: Owns them.
            map_frame: Frame of all positions.
            base_frame: Frame of the ego.
            rig: Cameras to publish; None publishes objects alone.
        """
        self.answers = Answers()
        self._node = node
        self._frames = (map_frame, base_frame)
        self._rig = rig
        self._changed = Condition()
        self._is_stopping = False
        self._has_map = False
        self._clock_ns = 0
        self._publishers: dict[str, Any] = {
            "/clock": node.advertise(Clock, "/clock", STREAM),
            "odometry": node.advertise(Odometry, "odometry", STREAM),
            "objects": node.advertise(TrackedObjectsMsg, "objects", STREAM),
            "route": node.advertise(PathMsg, "route", LATCHED),
        }
        for camera in () if rig is None else rig.cameras:
            image, info = _image_topic(camera), _info_topic(camera)
            self._publishers[image] = node.advertise(Image, image, SENSOR)
            self._publishers[info] = node.advertise(CameraInfo, info, SENSOR)

    def subscribe(self) -> None:
        """Listens to the graph, for a new drive if one was stopped."""
        self._is_stopping = False
        node = self._node
        node.subscribe(TrajectoryCandidates, "rap/candidates", self._on_candidates, RESULT)
        node.subscribe(TrackedObjectsMsg, "rap/objects", self._on_seen, STREAM)
        node.subscribe(GuardStateMsg, "rap/state", self._on_state, RESULT)
        node.subscribe(PathMsg, "rap/trajectory", self._on_trajectory, RESULT)
        node.subscribe(DiagnosticArray, "/diagnostics", self._on_diagnostics, STREAM)

    def stop(self) -> None:
        """Makes whoever waits or publishes raise `StoppedError`."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()

    def wait_for_graph(self) -> None:
        """Waits until all inputs have their readers, all outputs their writers, and a map is read.

        Raises:
            TimeoutError: If that takes longer than `START_TIMEOUT_S`.
        """
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while missing := self._missing():
            if time.monotonic() > deadline_s:
                raise TimeoutError(
                    f"the graph was not ready after {START_TIMEOUT_S:g} s: {', '.join(missing)}"
                )
            self.wait_until(lambda: False, 0.1)

    def _missing(self) -> list[str]:
        missing = [
            f"no reader of {topic}"
            for topic, publisher in self._publishers.items()
            if not publisher.is_activated
            or publisher.get_subscription_count() < LISTENERS.get(topic, 1)
        ]
        missing += [
            f"no writer of {topic}"
            for topic in ("rap/candidates", "rap/state", "rap/trajectory")
            if self._node.count_publishers(self._node.resolve_topic_name(topic)) == 0
        ]
        return missing + ([] if self._has_map else ["no rap/map read by raster_node"])

    def publish_clock(self, stamp_ns: int) -> None:
        """See `Graph`."""
        self._clock_ns = stamp_ns
        self._publish("/clock", Clock(clock=time_msg(stamp_ns)))

    def publish_route(self, stamp_ns: int, line_m: FloatArray) -> None:
        """See `Graph`.

        Raises:
            GraphError: If time comes from somewhere else as well.
        """
        clocks = self._node.count_publishers("/clock")
        if clocks > 1:
            raise GraphError(f"/clock has {clocks} publishers: another drive in this ROS domain?")
        self._publish("route", route_msg(stamp_ns, self._frames[0], line_m))
        self._publishers["route"].wait_for_all_acked(Duration(seconds=1.0))

    def publish_odometry(self, ego: EgoState) -> None:
        """See `Graph`."""
        self._publish("odometry", odometry_msg(ego, *self._frames))

    def publish_objects(self, stamp_ns: int, observation: Observation) -> None:
        """See `Graph`; says now and then how far the drive is."""
        self._node.get_logger().info(
            f"{1e-9 * observation.ego.stamp_ns:.0f} s, {observation.along_m:.0f} m on the route",
            throttle_duration_sec=NEWS_S,
        )
        objects = seen_objects(stamp_ns, observation.surroundings)
        self._publish("objects", objects_msg(objects, self._frames[0]))

    def publish_images(self, stamp_ns: int, observation: Observation) -> None:
        """See `Graph`."""
        if self._rig is None:
            return
        for camera, image in zip(self._rig.cameras, self._rig.view(observation), strict=True):
            self._publish(_info_topic(camera), camera_info_msg(stamp_ns, camera))
            self._publish(_image_topic(camera), image_msg(stamp_ns, camera.name, image))

    def wait_until(self, condition: Callable[[], bool], patience_s: float) -> bool:
        """See `Graph`."""
        deadline_s = time.monotonic() + patience_s
        while True:
            left_s = min(REPEAT_S, deadline_s - time.monotonic())
            with self._changed:
                if self._changed.wait_for(lambda: self._is_stopping or condition(), left_s):
                    break
            if time.monotonic() >= deadline_s:
                return False
            if self._clock_ns:
                self.publish_clock(self._clock_ns)
        self._check()
        return True

    def _check(self) -> None:
        if self._is_stopping or not self._node.context.ok():
            raise StoppedError

    def _publish(self, topic: str, message: Any) -> None:  # noqa: ANN401 - generated types
        self._check()
        try:
            self._publishers[topic].publish(message)
        except Exception:
            self._check()  # The context may have ended while publishing.
            raise

    def _on_candidates(self, message: TrajectoryCandidates) -> None:
        try:
            command = Command(message.command)
        except ValueError as error:
            self._node.reject("rap/candidates", error)
            return
        with self._changed:
            self.answers.planned_ns = stamp_ns(message.header.stamp)
            self.answers.command = command
            self._changed.notify_all()

    def _on_seen(self, message: TrackedObjectsMsg) -> None:
        with self._changed:
            self.answers.seen_ns = stamp_ns(message.header.stamp)
            self._changed.notify_all()

    def _on_state(self, message: GuardStateMsg) -> None:
        try:
            state = GuardState(message.state)
        except ValueError as error:
            self._node.reject("rap/state", error)
            return
        with self._changed:
            self.answers.cycle_ns = stamp_ns(message.header.stamp)
            self.answers.state = state
            self._changed.notify_all()

    def _on_trajectory(self, message: PathMsg) -> None:
        if message.header.frame_id == self._frames[1]:
            return  # A guard that does not know where the ego is: it waits.
        try:
            trajectory = trajectory_from_msg(message, self._frames[0])
        except MessageError as error:
            self._node.reject("rap/trajectory", error)
            return
        with self._changed:
            if not trajectory.equals(self.answers.trajectory):
                self.answers.trajectory = trajectory
            self.answers.trajectories += 1
            self._changed.notify_all()

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.endswith("raster_node"):
                values = {entry.key: entry.value for entry in status.values}
                self._has_map = values.get("map", "none") != "none"


def _image_topic(camera: CameraModel) -> str:
    return f"camera/{camera.name}/image"


def _info_topic(camera: CameraModel) -> str:
    return f"camera/{camera.name}/camera_info"

"""The node that turns aligned features into scored candidates."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
from nav_msgs.msg import Odometry
from nav_msgs.msg import Path as PathMsg
from rap_msgs.msg import AlignedFeatures as AlignedFeaturesMsg
from rap_msgs.msg import Float64Stamped, TrajectoryCandidates
from rclpy.parameter import Parameter
from rclpy.serialization import deserialize_message
from std_msgs.msg import UInt8
from visualization_msgs.msg import MarkerArray

from rap_inference.bundle import MANIFEST_NAME, Bundle, BundleError, load_bundle
from rap_inference.latest_worker import LatestWorker
from rap_planner.candidates import Candidates
from rap_planner.planner import PATIENCE_S, Planner
from rap_planner.ros.candidate_markers import candidate_markers
from rap_planner.ros.conversions import (
    MAX_CANDIDATES,
    MAX_HORIZON_S,
    MAX_POSES,
    MIN_HORIZON_S,
    STAMP_END,
    candidates_msg,
    number_msg,
)
from rap_planner.route import NO_GUIDANCE, Command, Guidance
from rap_raster.ego_history import EgoState, history_rows
from rap_raster.encoder import nominal_rig
from rap_raster.features import AlignedFeatures
from rap_raster.frames import FloatArray
from rap_raster.ros.conversions import MessageError, features_from_msg, path_points
from rap_raster.ros.diagnostics import Health, Progress
from rap_raster.ros.ego_input import EgoInput
from rap_raster.ros.inference import INFERENCE, NodeInference
from rap_raster.ros.node import RapNode, one_line
from rap_raster.ros.parameters import (
    BASE_FRAME,
    BUNDLE_PATH,
    MAP_FRAME,
    ODOMETRY_WAIT,
    Declared,
)
from rap_raster.ros.qos import LATCHED, RESULT, STREAM
from rap_raster.ros.spin import run_nodes


class PlannerNode(RapNode):
    """Publishes rap/candidates for every rap/features."""

    PARAMETERS: ClassVar[tuple[Declared, ...]] = (
        BUNDLE_PATH,
        *INFERENCE,
        ODOMETRY_WAIT,
        Declared(
            "patience_s",
            PATIENCE_S,
            "standing for longer, candidates that stay lose score",
            0.0,
            3600.0,
        ),
        MAP_FRAME,
        BASE_FRAME,
    )

    def __init__(
        self,
        name: str = "planner_node",
        overrides: Sequence[Parameter] = (),
        ego: EgoInput | None = None,
    ) -> None:
        """Creates the node.

        Args:
            name: Node name.
            overrides: See `RapNode`.
            ego: Ego history of a raster node of this process, which then also calls `process`;
                without it, odometry and rap/features come from their topics.
        """
        super().__init__(name, overrides)
        self._map_frame = self.parameter(MAP_FRAME.name)
        self._base_frame = self.parameter(BASE_FRAME.name)
        self._takes_topics = ego is None
        self._ego = ego or EgoInput(self._map_frame, self._base_frame)
        self._worker: LatestWorker[AlignedFeatures] | None = None
        self._inference: NodeInference | None = None
        self._planner: Planner | None = None
        self._command: Command | None = None
        self._route_m: FloatArray | None = None
        self._route = b""  # as it came, without its stamp
        self._last: Candidates | None = None
        self._progress = Progress()

    def setup(self) -> None:
        """Loads the bundle."""
        bundle = load_bundle(Path(self.parameter(BUNDLE_PATH.name)))
        _check_limits(bundle)
        self._history = bundle.manifest.history
        self._encoder_sha256 = bundle.manifest.encoder.sha256
        self._slot_names = [camera.name for camera in nominal_rig(bundle)]
        self._inference = NodeInference(self)
        network = self._inference.open(bundle.planner_path, batch=1)
        _try_out(Planner(bundle, network), bundle)
        self._planner = Planner(bundle, network, patience_s=self.parameter("patience_s"))
        if self._takes_topics:
            self._worker = LatestWorker(
                self.process, partial(self.reject, "plan"), name=f"{self.get_name()}_worker"
            )
        self._candidates = self.advertise(TrajectoryCandidates, "rap/candidates", RESULT)
        self._markers = self.advertise(MarkerArray, "rap/candidates/markers", RESULT)
        self._inference_ms = self.advertise(Float64Stamped, "rap/latency/inference", RESULT)
        self._input_age_ms = self.advertise(Float64Stamped, "rap/latency/input_age", RESULT)

    def start(self) -> None:
        """Subscribes; a command from before is none for here."""
        self._command = self._last = None
        self._progress = Progress()
        self.subscribe(UInt8, "command", self._on_command, RESULT)
        self.subscribe(PathMsg, "route", self._on_route, LATCHED, raw=True)
        if self._takes_topics:
            self.subscribe(Odometry, "odometry", self._on_odometry, STREAM)
            self.subscribe(AlignedFeaturesMsg, "rap/features", self._on_features, RESULT)

    def close(self) -> None:
        """Ends the worker and lets go of the network."""
        if self._worker is not None:
            self._worker.stop()
            self._worker = None
        self._planner = self._inference = None

    def _on_odometry(self, message: Odometry) -> None:
        try:
            self._ego.receive(message)
        except MessageError as error:
            self.reject("odometry", error)

    def _on_command(self, message: UInt8) -> None:
        if message.data > max(Command):
            self.reject("command", f"is {message.data}, expected 0 to {int(max(Command))}")
            return
        command = Command(message.data)
        self._command = None if command is Command.UNKNOWN else command

    def _on_route(self, serialized: bytes) -> None:
        """Takes a route, unless it is the one that is there, sent again: reading it takes long."""
        if serialized[STAMP_END:] == self._route:
            return
        try:
            message = deserialize_message(serialized, PathMsg)
            self._route_m = path_points(message, self._map_frame)
            self._route = serialized[STAMP_END:]
        except Exception as error:  # whatever a message does, the drive goes on
            self.reject("route", error)

    def _on_features(self, message: AlignedFeaturesMsg) -> None:
        try:
            features = features_from_msg(message, self._base_frame)
            self._check_origin(message)
        except MessageError as error:
            self.reject("rap/features", error)
            return
        if self._worker is not None:
            self._worker.submit(features)

    def _check_origin(self, message: AlignedFeaturesMsg) -> None:
        if message.bundle != self._encoder_sha256 or message.camera_names != self._slot_names:
            raise MessageError(
                f"made by encoder {message.bundle[:12]} for {message.camera_names}, this node's "
                f"bundle has encoder {self._encoder_sha256[:12]} for {self._slot_names}"
            )

    def process(self, features: AlignedFeatures) -> None:
        """Plans once unless inactive; called in one worker thread at a time."""
        planner = self._planner
        if planner is None or not self.is_active:
            return
        input_age_ms = 1e-6 * (self.now_ns() - features.stamp_ns)
        try:
            candidates = self._plan(planner, features)
        except Exception as error:  # one failed step must not end the drive
            self.reject("plan", error)
            return
        self.post(lambda: self._publish(candidates, input_age_ms))

    def _plan(self, planner: Planner, features: AlignedFeatures) -> Candidates:
        stamp_ns = features.stamp_ns
        ego = self._ego.wait_for(stamp_ns, self.parameter(ODOMETRY_WAIT.name))
        if ego is None:
            raise ValueError(f"no odometry around the features' stamp {stamp_ns} ns")
        history = self._ego.network_input(stamp_ns, self._history.steps, self._history.dt_s)
        return planner.plan(features, ego, history, self._guidance(ego))

    def _guidance(self, ego: EgoState) -> Guidance:
        """Returns where to go: the command topic wins over the route, unless it says unknown."""
        if (command := self._command) is not None:
            return Guidance(command, "command")
        if self._route_m is not None:
            return Guidance.along(self._route_m, ego.pose)
        return NO_GUIDANCE

    def _publish(self, candidates: Candidates, input_age_ms: float) -> None:
        self._last = candidates
        self._progress.stepped()
        self._candidates.publish(candidates_msg(candidates, self._map_frame))
        if self._markers.get_subscription_count():
            self._markers.publish(candidate_markers(candidates, self._map_frame))
        stamp_ns = candidates.stamp_ns
        self._inference_ms.publish(number_msg(stamp_ns, candidates.inference_ms))
        self._input_age_ms.publish(number_msg(stamp_ns, input_age_ms))

    def report(self, health: Health) -> None:
        """Says what the last plan was based on."""
        if self._inference is not None:
            self._inference.report(health)
        if self._worker is not None:
            health.values["features dropped"] = str(self._worker.counts.dropped)
        if self._ego.latest is None:
            health.warn("no odometry received")
        if self._last is None:
            health.warn("nothing planned yet")
            return
        if self.is_active:
            self._progress.report(health)
        health.values["command"] = self._last.command.name.lower()
        health.values["command source"] = self._last.command_source
        health.values["inference ms"] = f"{self._last.inference_ms:.1f}"
        health.values["uncertainty"] = f"{self._last.uncertainty:.2f}"


def _check_limits(bundle: Bundle) -> None:
    """Refuses a bundle whose candidates the guard would refuse, one message after the other."""
    manifest = bundle.manifest
    horizon_s = manifest.horizon_steps * manifest.dt_s
    for field, value, least, most in (
        ("proposals", manifest.proposals, 1, MAX_CANDIDATES),
        ("horizon_steps", manifest.horizon_steps, 1, MAX_POSES),
        ("horizon_steps times dt_s", horizon_s, MIN_HORIZON_S, MAX_HORIZON_S),
    ):
        if not least <= value <= most:
            raise BundleError(
                f"{bundle.path / MANIFEST_NAME}: {field} is {value:g}, the guard takes {least:g} "
                f"to {most:g}"
            )


def _try_out(planner: Planner, bundle: Bundle) -> None:
    """Plans once on nothing, so that an unfit network fails here and not on the road."""
    manifest, rig = bundle.manifest, nominal_rig(bundle)
    shape, history = manifest.features, manifest.history
    features = AlignedFeatures(
        stamp_ns=0,
        sources=np.zeros(len(rig), np.uint8),
        maps=np.zeros((len(rig), shape.channels, shape.height, shape.width), np.float32),
        intrinsics=np.array([(c.fx, c.fy, c.cx, c.cy) for c in rig]),
        ego_from_camera=np.stack([c.ego_from_camera for c in rig]),
        alignment_distance=np.full(len(rig), np.nan, np.float32),
    )
    standing = EgoState(0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    rows = history_rows(standing, [standing] * history.steps)
    try:
        planner.plan(features, standing, rows, NO_GUIDANCE)
    except Exception as error:  # whatever the backend raises, the file is unfit
        raise BundleError(f"{bundle.planner_path}: does not run: {one_line(error)}") from error


def main() -> None:
    """Runs the node until a signal ends it."""
    sys.exit(run_nodes("planner_node", lambda: [PlannerNode()]))


if __name__ == "__main__":
    main()

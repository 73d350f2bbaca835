"""A drive through the real graph whose inputs can be damaged, stopped or doubled."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen

import numpy as np
import yaml
from diagnostic_msgs.msg import DiagnosticArray
from graph_probe import ROOT, SPEED_MPS, START, Probe, children, rap_run
from nav_msgs.msg import Path as PathMsg
from promises import MRM, NOMINAL, STATE_NAMES, Recorder
from rap_msgs.msg import GuardState, MapPrimitives
from rclpy.qos import QoSProfile, ReliabilityPolicy

from rap_bringup.rotations import quaternion_from_rotation
from rap_raster.camera import optical_rotation
from rap_raster.maps.vector_map import VectorMap
from rap_raster.observations import TrackedObjects
from rap_raster.ros.conversions import map_msg, route_msg
from rap_raster.ros.qos import LATCHED, STREAM
from rap_raster.scene import Boxes, Lights, LineKind, PolygonKind, Shapes

DRIVE, GUARD = "rap_bringup.ros.graph", "rap_planner.ros.guard_node"
CAMERAS = {"front_cam": 0.0, "left_cam": 55.0, "right_cam": -55.0}
"""Name to viewing direction in degrees; the first one sets the pace."""

LATCHED_TOPICS = ("rap/map", "route")
_ALONE = os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1") == "1"
PATIENCE = 1.0 if _ALONE and os.getloadavg()[0] <= (os.cpu_count() or 1) else 3.0
"""On a busy machine, limits of ages, faults and reactions are all so many times as long."""

PERIOD_S = 0.1
EVERY_CYCLE = QoSProfile(depth=200, reliability=ReliabilityPolicy.RELIABLE)
ROAD_M = 20_000.0
"""Long enough for an hour of driving."""


def camera_params(bundle: Path, folder: Path) -> Path:
    """The shipped parameters with a bundle, an active guard and three cameras."""
    params = yaml.safe_load((ROOT / "config" / "rap.param.yaml").read_text())
    for section in params.values():
        values = section["ros__parameters"]
        if "bundle.path" in values:
            values["bundle.path"] = str(bundle)
        if "cameras.names" in values:
            values["cameras.names"] = list(CAMERAS)
    for name, yaw_deg in CAMERAS.items():
        q = quaternion_from_rotation(optical_rotation(np.deg2rad(yaw_deg)))
        pose = [1.5, 0.0, 1.6, *(float(value) for value in q)]
        params["/**/perception_node"]["ros__parameters"][f"cameras.extrinsics.{name}"] = pose
    guard = params["/**/guard_node"]["ros__parameters"]
    for name in ("candidate", "odometry", "objects"):
        guard[f"limits.{name}_age_s"] *= PATIENCE
    # A stop must not become a request while a killed process starts on a busy machine.
    guard |= {"mode": "active", "mrm.after_s": 60.0}
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(params))
    return path


class FaultDrive:
    """Feeds the graph, damages what it feeds, and watches the guard and all diagnostics."""

    def __init__(self, probe: Probe, graph: Popen) -> None:
        """Adds the inputs that the probe lacks, and starts to watch."""
        self.probe, self.graph = probe, graph
        self.recorder = Recorder()
        self.extra: list = []
        self.every_tick: list[Callable[[], None]] = []
        self._latest: dict[str, str] = {}
        self._routes = 0
        for name in CAMERAS:
            probe.add_camera(name, calibrated=True)
        probe.add_publisher(MapPrimitives, "rap/map", LATCHED)
        probe.add_publisher(PathMsg, "route", LATCHED)
        node = probe.node
        take_state, take_path = self.recorder.take_state, self.recorder.take_path
        node.create_subscription(GuardState, "rap/state", take_state, EVERY_CYCLE)
        node.create_subscription(PathMsg, "rap/trajectory", take_path, EVERY_CYCLE, raw=True)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_report, STREAM)
        self.send("rap/map")
        self.send("route")

    def _on_report(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = [f"{value.key} = {value.value}" for value in status.values]
            self._latest[status.name] = "; ".join([status.message, *values])

    def processes(self) -> dict[str, int]:
        """Module of every node process to its id."""
        return children(self.graph.pid)

    def says(self, node: str, text: str) -> bool:
        """True if the newest report of a node contains a text."""
        return text in self._latest.get(node, "")

    def tick(self) -> None:
        """Drives on for a tenth of a second."""
        self.probe.feed(objects=self._beside)
        for action in self.every_tick:
            action()
        self.probe.spin(PERIOD_S)

    def _beside(self, stamp: int) -> TrackedObjects:
        """A car that overtakes nobody, two lanes to the left."""
        x_m = self.probe.ego_x_m(stamp)
        row = [7, 1, x_m + 5.0, START[1] + 8.0, 0.8, 4.5, 1.9, 1.6, 0.0, SPEED_MPS, 0.0]
        one = np.ones(1, np.float32)
        return TrackedObjects(stamp, Boxes.from_rows([row]), Lights.empty(), 0 * one, one)

    def send(self, topic: str) -> None:
        """Publishes the map or the route, or what its fault makes of it."""
        now_ns = self.probe.node.get_clock().now().nanoseconds
        if topic == "rap/map":
            y_m = START[1]
            edge = [[-100.0, y_m + 12.0, 0.0], [ROAD_M, y_m + 12.0, 0.0]]
            area = [[-100.0, y_m - 12.0, 0.0], [ROAD_M, y_m - 12.0, 0.0], *reversed(edge)]
            road = VectorMap(
                "straight",
                Shapes.from_list([(LineKind.LANE_BOUNDARY, edge)]),
                Shapes.from_list([(PolygonKind.DRIVABLE, area)]),
            )
            self.probe.publish(topic, map_msg(road, now_ns, "map"))
            return
        points = np.array([[0.0, START[1], 0.0], [ROAD_M + self._routes, START[1], 0.0]])
        self.probe.publish(topic, route_msg(now_ns, "map", points))

    def inject(self, topic: str, fault: Callable) -> None:
        """Damages a topic from now on."""
        self.probe.faults[topic] = fault
        if topic in LATCHED_TOPICS:
            self.send(topic)

    def heal(self) -> None:
        """Ends all faults and waits until the guard is NOMINAL again by itself, for some cycles."""
        self.end_faults()
        self._until_nominal(lambda: None)

    def heal_with_new_routes(self) -> None:
        """As `heal`, but where the guard asks for a manoeuvre, a new route ends that."""
        self.end_faults()
        self._until_nominal(self._new_route_if_asked)

    def end_faults(self) -> None:
        """Lets all inputs be as they should again."""
        latched = [topic for topic in LATCHED_TOPICS if topic in self.probe.faults]
        self.probe.faults.clear()
        self.every_tick.clear()
        for publisher in self.extra:
            self.probe.node.destroy_publisher(publisher)
        self.extra.clear()
        for topic in latched:
            self.send(topic)

    def _until_nominal(self, help_it: Callable[[], None]) -> None:
        since = len(self.recorder.states)
        deadline_s = time.monotonic() + 60.0
        while not self.stays(NOMINAL, since):
            assert time.monotonic() < deadline_s, f"does not recover: {self.story(since)}"
            self.tick()
            help_it()

    def _new_route_if_asked(self) -> None:
        if self.recorder.states and self.recorder.states[-1][1] == MRM:
            self._routes += 1
            self.send("route")

    def catch_up(self) -> None:
        """Waits for the trajectory of the newest cycle."""
        newest_ns = self.recorder.cycles_ns[-1]
        deadline_s = time.monotonic() + 10.0
        while self.recorder.answers_ns[-1] < newest_ns:
            assert time.monotonic() < deadline_s, "a cycle without trajectory"
            self.probe.spin(PERIOD_S)

    def stays(self, state: int, since: int) -> bool:
        """True if the newest cycles after an index were all in a state."""
        newest = self.recorder.states[max(since, len(self.recorder.states) - 4) :]
        return len(newest) == 4 and {name for _, name, _ in newest} == {state}

    def story(self, since: int) -> list[str]:
        """What the guard said after an index, without repeats."""
        told = [f"{STATE_NAMES[state]}: {why}" for _, state, why in self.recorder.states[since:]]
        return list(dict.fromkeys(told))[-8:] + [f"{n}: {t}" for n, t in self._latest.items()]

    def kill(self, module: str) -> None:
        """Kills a node process of the graph."""
        os.kill(self.processes()[module], signal.SIGKILL)
        if module == GUARD:
            self.probe.spin(0.1)  # what it had sent already
            self.recorder.guard_was_killed()


@contextmanager
def fault_drive(bundle: Path, folder: Path) -> Iterator[FaultDrive]:
    """The whole graph under `rap run`, and a drive through it."""
    params = camera_params(bundle, folder)
    with (
        (folder / "graph.log").open("w") as log,
        Probe() as probe,
        rap_run("--params-file", params, stderr=log) as graph,
    ):
        yield FaultDrive(probe, graph)

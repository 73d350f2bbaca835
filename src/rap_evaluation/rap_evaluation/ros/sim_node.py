"""The node that closes the loop: SUMO traffic around an ego that follows rap/trajectory."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import rclpy
from rclpy.parameter import Parameter

from rap_evaluation.closed_loop.evaluation import (
    ClosedLoopOptions,
    bundle_sha256,
    check_options,
    evaluate_in_turn,
)
from rap_evaluation.closed_loop.place import open_place
from rap_evaluation.closed_loop.report import RouteReport
from rap_evaluation.planners.camera_view import CameraView
from rap_evaluation.planners.choice import SENSORS
from rap_evaluation.planners.graph_planner import GraphCounts, GraphPlanner
from rap_evaluation.ros.graph_topics import GraphTopics, Rig, StoppedError
from rap_evaluation.traffic.network import default_cache
from rap_evaluation.traffic.towns import map_path
from rap_inference.bundle import load_bundle
from rap_raster.encoder import nominal_rig
from rap_raster.ros.diagnostics import Health
from rap_raster.ros.node import RapNode, one_line
from rap_raster.ros.parameters import BASE_FRAME, BUNDLE_PATH, MAP_FRAME, Declared, ParameterError
from rap_raster.ros.spin import run_nodes

PLANNER = "ROS graph"
"""In the report, where the offline closed loop names a planner."""


class SimNode(RapNode):
    """Drives routes and writes their report; the process ends with the last one."""

    PARAMETERS: ClassVar[tuple[Declared, ...]] = (
        Declared("map.path", "", "OpenDRIVE file (.xodr, .xodr.gz), or a town such as Town01"),
        Declared("routes", 2, "how many, each of at least 300 m", 1, 10_000),
        Declared("seed", 0, "of routes and traffic", 0, 2**31 - 1),
        Declared("replan_hz", 2, "planning instants a second: 1, 2, 5 or 10", 1, 10),
        Declared("sensor", "raster", "camera publishes images too", choices=tuple(SENSORS)),
        Declared("out", "", "folder of the report; made if missing"),
        Declared("guarded", True, "in the report: whether the guard's checks stop plans"),
        Declared("patience_s", 5.0, "wall time after which a drive goes on unplanned", 0.1, 600.0),
        BUNDLE_PATH,
        MAP_FRAME,
        BASE_FRAME,
    )

    def __init__(self, name: str = "sim_node", overrides: Sequence[Parameter] = ()) -> None:
        """Creates the node; see `RapNode`."""
        super().__init__(name, overrides)
        self.status = 0
        self._thread: threading.Thread | None = None
        self._graph: GraphTopics | None = None
        self._planner: GraphPlanner | None = None
        self._rows: list[dict[str, Any]] = []

    def setup(self) -> None:
        """Opens the map and prepares the cameras."""
        options = self._closed_loop_options()
        check_options(options)
        place = open_place(options.map_path, options.cache)
        rig = None
        if options.sensor == "camera":
            cameras = tuple(nominal_rig(load_bundle(Path(self.parameter(BUNDLE_PATH.name)))))
            rig = Rig(cameras, CameraView(place.map, cameras))
        frames = (self.parameter(MAP_FRAME.name), self.parameter(BASE_FRAME.name))
        self._options = options
        self._graph = GraphTopics(self, *frames, rig)
        self._planner = GraphPlanner(
            self._graph, replan_hz=options.replan_hz, patience_s=self.parameter("patience_s")
        )

    def _closed_loop_options(self) -> ClosedLoopOptions:
        for name in ("map.path", "out"):
            if not self.parameter(name):
                raise ParameterError(f"{name}: is not set")
        return ClosedLoopOptions(
            planner=PLANNER,
            sensor=self.parameter("sensor"),
            map_path=map_path(self.parameter("map.path")).resolve(),
            cache=default_cache(),
            out=Path(self.parameter("out")).resolve(),
            routes=self.parameter("routes"),
            seed=self.parameter("seed"),
            replan_hz=self.parameter("replan_hz"),
            guarded=self.parameter("guarded"),
        )

    def start(self) -> None:
        """Begins to drive, in a thread of its own: it waits for what the executor receives."""
        if self._graph is None:
            return
        self._graph.subscribe()
        self._on_stop.append(self.close)  # before the subscriptions go that it waits for
        self._thread = threading.Thread(target=self._run, name="simulation")
        self._thread.start()

    def close(self) -> None:
        """Ends the drive; the next activation begins anew."""
        if self._graph is not None:
            self._graph.stop()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        """Drives all routes, then ends the process."""
        try:
            self._drive()
        except StoppedError:
            return
        except Exception as error:  # whatever went wrong, the process must end and say so
            self.get_logger().error(one_line(error))
            self.status = 1
        rclpy.try_shutdown()

    def _drive(self) -> None:
        graph, planner = self._graph, self._planner
        if graph is None or planner is None:
            return
        self._rows.clear()
        planner.counts = GraphCounts()
        graph.wait_for_graph()
        started_s = time.monotonic()

        def after_route(report: RouteReport) -> None:
            self._rows.append(report.row)
            driven_s = sum(row["seconds"] for row in self._rows)
            self.get_logger().info(
                f"route {len(self._rows)} of {self._options.routes}: {report.row['status']}, "
                f"score {report.row['driving_score']:.1f}, {report.row['seconds']:.0f} s, "
                f"real-time factor {driven_s / (time.monotonic() - started_s):.2f}"
            )

        def more() -> dict[str, Any]:
            sha256 = bundle_sha256(self.parameter(BUNDLE_PATH.name))
            return {"bundle_sha256": sha256, "graph": asdict(planner.counts)}

        evaluate_in_turn(self._options, planner, after_route, more)

    def report(self, health: Health) -> None:
        """Says how far the drive is."""
        statuses = Counter(row["status"] for row in self._rows)
        health.values["routes driven"] = str(len(self._rows))
        health.values |= {f"routes: {status}": str(n) for status, n in statuses.items()}
        if self._planner is not None:
            counts = asdict(self._planner.counts)
            health.values |= {name.replace("_", " "): str(n) for name, n in counts.items()}


def main() -> None:
    """Runs the node until all routes are driven, or a signal ends it."""
    nodes: list[SimNode] = []

    def make_nodes() -> list[SimNode]:
        nodes.append(SimNode())
        return nodes

    status = run_nodes("sim_node", make_nodes)
    sys.exit(status or (nodes[0].status if nodes else 0))  # none: ended while it was made


if __name__ == "__main__":
    main()

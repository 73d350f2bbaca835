"""The node that publishes the road map, once, for everybody who needs it.

Because it knows the lanes, it is also what turns a route of lanelets into one of points.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from nav_msgs.msg import Path as PathMsg
from rap_msgs.msg import MapPrimitives
from rclpy.parameter import Parameter

from rap_raster.maps.lanelet2_file import Projection, ProjectionKind, stated_projection
from rap_raster.maps.lanelet_route import lanelet_route_points
from rap_raster.maps.map_file import load_map
from rap_raster.maps.vector_map import VectorMap, shapes_near
from rap_raster.ros.conversions import MessageError, check_frame, map_msg, route_msg, stamp_ns
from rap_raster.ros.diagnostics import Health
from rap_raster.ros.node import RapNode
from rap_raster.ros.optional_messages import message_class
from rap_raster.ros.parameters import MAP_FRAME, Declared, ParameterError
from rap_raster.ros.qos import LATCHED
from rap_raster.ros.spin import run_nodes

AUTO = "auto"
PROJECTIONS = (AUTO, *(kind.value for kind in ProjectionKind))
NO_ORIGIN = [0.0, 0.0]
"""In the Gulf of Guinea, where no road is."""


class MapNode(RapNode):
    """Publishes rap/map from an OpenDRIVE or Lanelet2 file, latched."""

    PARAMETERS: ClassVar[tuple[Declared, ...]] = (
        Declared("map.path", "", "OpenDRIVE or Lanelet2 file: .xodr, .xodr.gz or .osm"),
        Declared(
            "map.projection",
            AUTO,
            "of a Lanelet2 file: local (tags local_x, local_y), utm (metres from the origin), mgrs "
            "(metres in the origin's 100 km square); auto: local where all nodes have it, else utm",
            choices=PROJECTIONS,
        ),
        Declared("map.origin_deg", NO_ORIGIN, "latitude, longitude; not set: of the first node"),
        Declared("map.center_m", [0.0, 0.0], "centre of the published part: x, y"),
        Declared("map.radius_m", 0.0, "half side of the published part; 0: all", 0.0, 1e6),
        Declared(
            "route.from_lanelets",
            False,
            "publish route from lanelet_route (autoware_planning_msgs/LaneletRoute)",
        ),
        MAP_FRAME,
    )

    def __init__(self, name: str = "map_node", overrides: Sequence[Parameter] = ()) -> None:
        """Creates the node; see `RapNode`."""
        super().__init__(name, overrides)
        self._map: VectorMap | None = None
        self._no_route = ""  # why the last lanelet route is none

    def setup(self) -> None:
        """Loads the map."""
        path = Path(self.parameter("map.path"))
        if path == Path():
            raise ParameterError("map.path: is not set, expected an OpenDRIVE or Lanelet2 file")
        loaded = load_map(path, self._wanted_projection())
        # Lanelet2 maps have it in their name; OpenDRIVE files are in metres already.
        self._projection = (
            loaded.name.rpartition(" (")[2][:-1] if path.suffix == ".osm" else "of the file"
        )
        self._map = self._cropped(loaded)
        self._lanelet_route = self._route_type() if self.parameter("route.from_lanelets") else None
        self._publisher = self.advertise(MapPrimitives, "rap/map", LATCHED)
        if self._lanelet_route is not None:
            self._route = self.advertise(PathMsg, "route", LATCHED)
        self.get_logger().info(f"map {self._map.name}, projection: {self._projection}")

    def start(self) -> None:
        """Publishes the map as soon as the publisher is active."""
        self._no_route = ""
        self.post(self._publish_map)
        if self._lanelet_route is not None:
            self.subscribe(self._lanelet_route, "lanelet_route", self._on_lanelet_route, LATCHED)

    def report(self, health: Health) -> None:
        """Says what is published."""
        if self._map is not None:
            health.values["map"] = self._map.name
            health.values["projection"] = self._projection
            health.values["polylines"] = str(len(self._map.polylines))
            health.values["polygons"] = str(len(self._map.polygons))
        if self._no_route:
            health.error(f"lanelet_route: {self._no_route}; there is no route")

    def _wanted_projection(self) -> Projection | None:
        kind, origin = self.parameter("map.projection"), list(self.parameter("map.origin_deg"))
        if len(origin) != 2:
            raise ParameterError(f"map.origin_deg: expected 2 numbers, got {origin}")
        try:
            return stated_projection(
                None if kind == AUTO else ProjectionKind(kind),
                None if origin == NO_ORIGIN else (origin[0], origin[1]),
            )
        except ValueError as error:
            raise ParameterError(f"map.origin_deg: {error}") from error

    def _route_type(self) -> type:
        try:
            return message_class("autoware_planning_msgs/LaneletRoute")
        except MessageError as error:
            raise ParameterError(f"route.from_lanelets: {error}") from error

    def _on_lanelet_route(self, message: Any) -> None:  # noqa: ANN401 - LaneletRoute
        """Publishes a route; one that cannot be driven here ends that of before."""
        map_frame = self.parameter(MAP_FRAME.name)
        goal = message.goal_pose.position
        ids = [segment.preferred_primitive.id for segment in message.segments]
        lanes = self._map.lanes if self._map is not None else {}
        try:
            check_frame(message.header, map_frame)
            points = lanelet_route_points(lanes, ids, np.array([goal.x, goal.y]))
        except (MessageError, ValueError) as error:
            self._no_route, points = str(error), np.zeros((0, 3))
        else:
            self._no_route = ""
        self._route.publish(route_msg(stamp_ns(message.header.stamp), map_frame, points))

    def _publish_map(self) -> None:
        if self._map is not None:
            message = map_msg(self._map, self.now_ns(), self.parameter(MAP_FRAME.name))
            self._publisher.publish(message)

    def _cropped(self, vector_map: VectorMap) -> VectorMap:
        radius_m = self.parameter("map.radius_m")
        if radius_m == 0.0:
            return vector_map
        center = np.array(self.parameter("map.center_m"))
        if center.shape != (2,):
            raise ParameterError(f"map.center_m: expected 2 numbers, got {center.tolist()}")
        return replace(
            vector_map,
            polylines=shapes_near(vector_map.polylines, center, radius_m),
            polygons=shapes_near(vector_map.polygons, center, radius_m),
        )


def main() -> None:
    """Runs the node until a signal ends it."""
    sys.exit(run_nodes("map_node", lambda: [MapNode()]))


if __name__ == "__main__":
    main()

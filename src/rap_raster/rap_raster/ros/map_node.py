"""The node that publishes the road map, once, for everybody who needs it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from rap_msgs.msg import MapPrimitives

from rap_raster.maps.map_file import load_map
from rap_raster.maps.vector_map import VectorMap, shapes_near
from rap_raster.ros.conversions import map_msg
from rap_raster.ros.diagnostics import Health
from rap_raster.ros.node import RapNode
from rap_raster.ros.parameters import MAP_FRAME, Declared, ParameterError
from rap_raster.ros.qos import LATCHED
from rap_raster.ros.spin import run_nodes


class MapNode(RapNode):
    """Publishes rap/map from an OpenDRIVE or Lanelet2 file, latched."""

    PARAMETERS: ClassVar[tuple[Declared, ...]] = (
        Declared("map.path", "", "OpenDRIVE or Lanelet2 file: .xodr, .xodr.gz or .osm"),
        Declared("map.center_m", [0.0, 0.0], "centre of the published part: x, y"),
        Declared("map.radius_m", 0.0, "half side of the published part; 0: all", 0.0, 1e6),
        MAP_FRAME,
    )

    def setup(self) -> None:
        """Loads the map."""
        path = self.parameter("map.path")
        if not path:
            raise ParameterError("map.path: is not set, expected an OpenDRIVE or Lanelet2 file")
        self._map = self._cropped(load_map(Path(path)))
        self._publisher = self.advertise(MapPrimitives, "rap/map", LATCHED)

    def start(self) -> None:
        """Publishes the map as soon as the publisher is active."""
        self.post(lambda: self._publisher.publish(self._message()))

    def report(self, health: Health) -> None:
        """Says what is published."""
        if hasattr(self, "_map"):
            health.values["map"] = self._map.name
            health.values["polylines"] = str(len(self._map.polylines))
            health.values["polygons"] = str(len(self._map.polygons))

    def _message(self) -> MapPrimitives:
        return map_msg(self._map, self.now_ns(), self.parameter(MAP_FRAME.name))

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
    sys.exit(run_nodes("map_node", lambda: [MapNode("map_node")]))


if __name__ == "__main__":
    main()

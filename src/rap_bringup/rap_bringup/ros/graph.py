"""Perception, raster and planner node in one process, handing arrays over by reference.

The guard is a process of its own and not part of this. Run as `python -m rap_bringup.ros.graph`
with the usual `--ros-args`.
"""

from __future__ import annotations

import sys

from rap_perception.ros.perception_node import PerceptionNode
from rap_planner.ros.planner_node import PlannerNode
from rap_raster.ros.node import RapNode
from rap_raster.ros.parameters import BUNDLE_PATH, CAMERA_NAMES, ParameterError
from rap_raster.ros.raster_node import RasterNode
from rap_raster.ros.spin import run_nodes


def make_nodes() -> list[RapNode]:
    """Creates and connects the nodes; those downstream are started first.

    Raises:
        ParameterError: If they are not set to the same bundle and cameras. What is handed over by
            reference does not say what it was made of, as messages do.
    """
    perception, raster = PerceptionNode(), RasterNode()
    planner = PlannerNode(ego=raster.ego)
    _check_same(BUNDLE_PATH.name, perception, raster, planner)
    _check_same(CAMERA_NAMES.name, perception, raster)
    raster.connect(planner.process)
    perception.connect(raster.process, raster.receive_objects)
    return [planner, raster, perception]


def _check_same(name: str, *nodes: RapNode) -> None:
    said = {node.get_name(): node.parameter(name) for node in nodes}
    if len({str(value) for value in said.values()}) > 1:
        each = ", ".join(f"{node} has {value}" for node, value in said.items())
        raise ParameterError(f"{name}: {each}; in one process they must have the same")


def main() -> None:
    """Runs the nodes until a signal ends them."""
    sys.exit(run_nodes("graph", make_nodes))


if __name__ == "__main__":
    main()

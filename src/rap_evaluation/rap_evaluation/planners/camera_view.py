"""What the cameras of a rig see of an observation, simulated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rap_evaluation.camera_sim import CameraSimulator
from rap_evaluation.planners.observation import Observation
from rap_raster.camera import CameraModel
from rap_raster.maps.vector_map import VectorMap

_FRAME_NS = 100_000_000  # Pictures are numbered by steps of 0.1 s.


class CameraView:
    """Takes the pictures of all cameras of a rig."""

    def __init__(self, vector_map: VectorMap, rig: Sequence[CameraModel]) -> None:
        """Prepares a map.

        Args:
            vector_map: Where the cameras are.
            rig: Cameras of one size, mounted on the ego.
        """
        self._simulator = CameraSimulator(vector_map.polylines, vector_map.polygons)
        self._rig = rig

    def __call__(self, observation: Observation) -> npt.NDArray[np.uint8]:
        """Returns (C, H, W, 3) rgb; the road's seed decides light and noise."""
        around, ego = observation.surroundings, observation.ego
        return np.stack(
            [
                self._simulator.image(
                    ego.pose,
                    around.boxes,
                    around.lights,
                    camera,
                    seed=observation.road.seed,
                    frame=ego.stamp_ns // _FRAME_NS,
                )
                for camera in self._rig
            ]
        )

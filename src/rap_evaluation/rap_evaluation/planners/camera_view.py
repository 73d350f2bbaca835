"""What the cameras of a rig see, simulated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from rap_evaluation import camera_sim
from rap_evaluation.camera_sim import CameraSimulator
from rap_evaluation.kept_arrays import KEEP_NOTHING, KeptArrays, Part, content_digest
from rap_evaluation.planners.observation import Observation
from rap_raster.camera import CameraModel
from rap_raster.frames import Pose
from rap_raster.maps.vector_map import VectorMap
from rap_raster.scene import Boxes, Lights

_FRAME_NS = 100_000_000  # Pictures are numbered by steps of 0.1 s.


class CameraView:
    """Takes the pictures of all cameras of a rig."""

    def __init__(
        self, vector_map: VectorMap, rig: Sequence[CameraModel], kept: KeptArrays = KEEP_NOTHING
    ) -> None:
        """Takes pictures on a map, which is prepared for the first that is not kept.

        Args:
            vector_map: Where the cameras are.
            rig: Cameras of one size, mounted on the ego.
            kept: Where pictures are kept.
        """
        self._map, self._rig, self._kept = vector_map, rig, kept

    def __call__(self, observation: Observation) -> npt.NDArray[np.uint8]:
        """Returns (C, H, W, 3) rgb; the road's seed decides light and noise."""
        around, ego = observation.surroundings, observation.ego
        frame = ego.stamp_ns // _FRAME_NS
        return self.images(
            ego.pose, around.boxes, around.lights, seed=observation.road.seed, frame=frame
        )

    def images(
        self, ego: Pose, boxes: Boxes, lights: Lights, *, seed: int, frame: int = 0
    ) -> npt.NDArray[np.uint8]:
        """Returns (C, H, W, 3) rgb; arguments as of `CameraSimulator.image`."""

        def take() -> npt.NDArray[np.uint8]:
            return np.stack(
                [
                    self._simulator.image(ego, boxes, lights, camera, seed=seed, frame=frame)
                    for camera in self._rig
                ]
            )

        def decisive() -> Iterator[Part]:
            yield from (self._place_digest, seed, frame, repr(ego))
            yield from (boxes.ids, boxes.classes, boxes.centers_m, boxes.sizes_m)
            yield from (boxes.yaws_rad, boxes.velocities_mps)
            yield from (lights.states, lights.centers_m, lights.sizes_m, lights.yaws_rad)

        return self._kept.array("cameras", take, decisive)

    @cached_property
    def _simulator(self) -> CameraSimulator:
        return CameraSimulator(self._map.polylines, self._map.polygons)

    @cached_property
    def _place_digest(self) -> str:
        """What map, cameras and the way pictures are made decide."""
        parts: list[Part] = [camera_sim.VERSION]
        for shapes in (self._map.polylines, self._map.polygons):
            parts += [shapes.kinds, shapes.offsets, shapes.points_m]
        for camera in self._rig:
            parts += [camera.name, camera.width, camera.height, camera.intrinsics]
            parts += [camera.ego_from_camera, repr(camera.distortion)]
        return content_digest(parts)

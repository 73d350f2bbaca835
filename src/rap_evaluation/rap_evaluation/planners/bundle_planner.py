"""A model bundle that drives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from rap_evaluation.kept_arrays import KEEP_NOTHING, KeptArrays
from rap_evaluation.logs.seat_routes import AHEAD_M, BEHIND_M
from rap_evaluation.planners.bundle_driver import BundleDriver, Seen
from rap_evaluation.planners.camera_view import CameraView
from rap_evaluation.planners.observation import Observation, Plan
from rap_inference.bundle import Bundle
from rap_planner.candidates import Candidates
from rap_planner.route import Guidance
from rap_raster.features import FeatureSource
from rap_raster.geometry import place_seen
from rap_raster.ground import build_ground
from rap_raster.maps.vector_map import VectorMap

Images = dict[str, npt.NDArray[np.uint8]]
"""(H, W, 3) rgb by camera, left to right."""


class BundlePlanner:
    """A model bundle that sees the world through rasters or simulated cameras."""

    def __init__(
        self,
        bundle: Bundle,
        vector_map: VectorMap,
        sensor: FeatureSource,
        *,
        patience_s: float,
        kept: KeptArrays = KEEP_NOTHING,
    ) -> None:
        """Loads the bundle and prepares the map for its sensors.

        Args:
            bundle: The model.
            vector_map: Where it is to drive.
            sensor: `RASTER` or `CAMERA`.
            patience_s: See `BundleDriver`.
            kept: Where pictures of cameras are kept.
        """
        self._driver = BundleDriver(bundle, patience_s=patience_s)
        self._sensor = sensor
        self._images = (
            CameraView(vector_map, self._driver.rig, kept)
            if sensor is FeatureSource.CAMERA
            else self._raster_view(vector_map)
        )
        axes = [camera.ego_from_camera[:2, 2] for camera in self._driver.rig]
        self._left_to_right = np.argsort([-np.arctan2(y, x) for x, y in axes])

    def plan(self, observation: Observation) -> Plan:
        """Plans from what the sensors see."""
        candidates, images = self.candidates(observation)
        return Plan(candidates.poses_m[candidates.best], candidates.dt_s, images)

    def candidates(self, observation: Observation) -> tuple[Candidates, Images]:
        """Returns all proposals, and what they were made from."""
        images = self._images(observation)
        history = self._driver.manifest.history
        ego = observation.ego
        road, along_m = observation.road, observation.along_m
        near = (road.along_m >= along_m - BEHIND_M) & (road.along_m <= along_m + AHEAD_M)
        candidates = self._driver.candidates(
            Seen.all_of(images, self._sensor, self._driver.rig),
            ego,
            observation.history.network_input(ego.stamp_ns, history.steps, history.dt_s),
            Guidance.along(road.line_m[near], ego.pose),
        )
        seen = {self._driver.rig[slot].name: images[slot] for slot in self._left_to_right}
        return candidates, seen

    def _raster_view(self, vector_map: VectorMap) -> Callable[[Observation], npt.NDArray[np.uint8]]:
        style = self._driver.style
        ground = build_ground(vector_map.polylines, vector_map.polygons, style)

        def see(observation: Observation) -> npt.NDArray[np.uint8]:
            around, pose = observation.surroundings, observation.ego.pose
            seen = place_seen(ground, pose, around.boxes, around.lights, style)
            return self._driver.rasters(seen)

        return see

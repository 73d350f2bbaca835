"""The planners that can drive: a model bundle, the rule-based expert and constant velocity."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from rap_evaluation.bundle_driver import BundleDriver
from rap_evaluation.camera_sim import CameraSimulator
from rap_evaluation.closed_loop.place import Place
from rap_evaluation.closed_loop.routes import Route
from rap_evaluation.closed_loop.surroundings import Surroundings
from rap_inference.bundle import Bundle
from rap_planner.route import command_from_route
from rap_raster.ego_history import EgoHistory, EgoState
from rap_raster.features import FeatureSource
from rap_raster.frames import FloatArray, to_parent
from rap_raster.geometry import place as placed
from rap_raster.ground import build_ground

HORIZON_S = 5.0
"""Of constant velocity: as long as the default bundle plans."""

_STEP_S = 0.5
_AHEAD_M, _BEHIND_M = 60.0, 20.0
"""Stretch of the route around the ego that the command looks at, as in training."""

_FRAME_NS = 100_000_000  # Pictures are numbered by steps of 0.1 s.


@dataclass(frozen=True, slots=True)
class Observation:
    """All a planner may look at.

    Attributes:
        ego: Present state.
        state: (11,) the same with acceleration and steering, `StateIndex` columns.
        history: Past states, the present one included.
        surroundings: Road users and lights.
        route: Where to go.
        along_m: Where on the route's line the ego is.
    """

    ego: EgoState
    state: FloatArray
    history: EgoHistory
    surroundings: Surroundings
    route: Route
    along_m: float


@dataclass(frozen=True, slots=True)
class Plan:
    """A planned trajectory.

    Attributes:
        poses_m: (T, 3) x, y, heading of the rear axle at dt_s, 2 dt_s, ..., map frame.
        dt_s: Time between poses.
        images: What the sensors saw, (H, W, 3) rgb by camera, left to right; empty without sensors.
    """

    poses_m: FloatArray
    dt_s: float
    images: Mapping[str, npt.NDArray[np.uint8]] = field(default_factory=dict)


class Planner(Protocol):
    """Anything that can drive."""

    def plan(self, observation: Observation) -> Plan:
        """Plans from the present instant on."""


class ConstantVelocity:
    """Drives straight on at the present speed: the baseline that every planner must beat."""

    def plan(self, observation: Observation) -> Plan:
        """Plans straight ahead."""
        times_s = np.arange(_STEP_S, HORIZON_S + 1e-6, _STEP_S)
        ahead = np.zeros((len(times_s), 3))
        ahead[:, 0] = observation.ego.vx_mps * times_s
        return Plan(to_parent(observation.ego.planar, ahead), _STEP_S)


class BundlePlanner:
    """A model bundle that sees the world through rasters or simulated cameras."""

    def __init__(self, bundle: Bundle, place: Place, sensor: FeatureSource) -> None:
        """Loads the bundle and prepares the map for its sensors.

        Args:
            bundle: The model.
            place: Where it is to drive.
            sensor: `RASTER` or `CAMERA`.
        """
        self._driver = BundleDriver(bundle)
        self._sensor = sensor
        see = {FeatureSource.RASTER: self._raster_view, FeatureSource.CAMERA: self._camera_view}
        self._images = see[sensor](place)
        axes = [camera.ego_from_camera[:2, 2] for camera in self._driver.rig]
        self._left_to_right = np.argsort([-np.arctan2(y, x) for x, y in axes])

    def plan(self, observation: Observation) -> Plan:
        """Plans from what the sensors see."""
        images = self._images(observation)
        history = self._driver.manifest.history
        ego = observation.ego
        route, along_m = observation.route, observation.along_m
        near = (route.along_m >= along_m - _BEHIND_M) & (route.along_m <= along_m + _AHEAD_M)
        candidates = self._driver.candidates(
            images,
            self._sensor,
            ego,
            observation.history.network_input(ego.stamp_ns, history.steps, history.dt_s),
            command_from_route(route.line_m[near], ego.pose),
        )
        seen = {self._driver.rig[slot].name: images[slot] for slot in self._left_to_right}
        return Plan(candidates.poses_m[candidates.best], candidates.dt_s, seen)

    def _raster_view(self, place: Place) -> Callable[[Observation], npt.NDArray[np.uint8]]:
        style = self._driver.style
        ground = build_ground(place.map.polylines, place.map.polygons, style)

        def see(observation: Observation) -> npt.NDArray[np.uint8]:
            around = observation.surroundings
            pose = observation.ego.pose
            return self._driver.rasters(placed(ground, pose, around.boxes, around.lights, style))

        return see

    def _camera_view(self, place: Place) -> Callable[[Observation], npt.NDArray[np.uint8]]:
        simulator = CameraSimulator(place.map.polylines, place.map.polygons)

        def see(observation: Observation) -> npt.NDArray[np.uint8]:
            around, ego = observation.surroundings, observation.ego
            return np.stack(
                [
                    simulator.image(
                        ego.pose,
                        around.boxes,
                        around.lights,
                        camera,
                        seed=observation.route.seed,
                        frame=ego.stamp_ns // _FRAME_NS,
                    )
                    for camera in self._driver.rig
                ]
            )

        return see

"""A model bundle whose plans pass through the vehicle's guard, as they do on the vehicle.

The guard looks twice in a step of 0.1 s, as it does by its clock. Candidates reach it without
delay, and objects are those of the simulation: what cameras and tracker miss is not part of this.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rap_evaluation.metrics.pdm_scene import DT_S
from rap_evaluation.metrics.pdm_simulator import MAX_STEERING_RAD, PREVIEW_S, SPEED_DELAY_S
from rap_evaluation.planners.bundle_planner import BundlePlanner, Images
from rap_evaluation.planners.observation import Observation, Plan, Road
from rap_evaluation.planners.trajectory_plan import trajectory_plan
from rap_planner.checks import CheckLimits
from rap_planner.drivable import DrivableArea
from rap_planner.guard import Guard, GuardInputs, GuardSettings
from rap_planner.trajectory import Trajectory
from rap_raster.maps.vector_map import VectorMap
from rap_raster.observations import TrackedObjects

CYCLE_NS = 50_000_000
"""Between two looks of the guard."""

PLAN_MARGIN_S = 0.1
"""How much older than the time between two plans candidates may become."""


class GuardedPlanner:
    """Lets the guard choose among a bundle's candidates; to be asked at every step of 0.1 s."""

    def __init__(self, planner: BundlePlanner, vector_map: VectorMap, *, replan_hz: int) -> None:
        """Makes a guard with the shipped limits, but steering and response of the simulated ego.

        Args:
            planner: Proposes.
            vector_map: Where the road is.
            replan_hz: Plans a second; divides 10.
        """
        limits = CheckLimits()
        limits = replace(
            limits,
            response_delay_s=SPEED_DELAY_S,
            response_preview_s=PREVIEW_S,
            candidate_age_s=max(limits.candidate_age_s, 1.0 / replan_hz + PLAN_MARGIN_S),
            bicycle=replace(limits.bicycle, max_steering_rad=MAX_STEERING_RAD),
        )
        self._planner = planner
        self._guard = Guard(GuardSettings(limits=limits))
        road = DrivableArea(vector_map.polygons)
        self._nothing = GuardInputs(road=None if road.is_empty else road)
        self._plan_every = round(1.0 / DT_S / replan_hz)
        self._road: Road | None = None
        self._inputs = self._nothing
        self._images: Images = {}
        self._followed: Trajectory | None = None
        self._plan: Plan | None = None

    def plan(self, observation: Observation) -> Plan:
        """Returns what the guard publishes, or the last plan if that goes on."""
        now_ns = observation.ego.stamp_ns
        is_first = observation.road is not self._road
        is_due = is_first or round(1e-9 * now_ns / DT_S) % self._plan_every == 0
        if is_first:
            self._road, self._inputs = observation.road, self._nothing
            self._guard.new_route()
        else:
            self._guard.step(now_ns - CYCLE_NS, self._inputs)
        self._look(observation, is_due=is_due)
        trajectory = self._guard.step(now_ns, self._inputs).trajectory
        if self._plan is None or is_due or trajectory is not self._followed:
            self._followed = trajectory
            self._plan = trajectory_plan(
                trajectory.stamp_ns,
                trajectory.poses_m,
                now_ns,
                observation.ego.planar,
                self._images,
            )
        return self._plan

    def _look(self, observation: Observation, *, is_due: bool) -> None:
        ego, around = observation.ego, observation.surroundings
        count = len(around.boxes)
        objects = TrackedObjects(
            stamp_ns=ego.stamp_ns,
            boxes=around.boxes,
            lights=around.lights,
            ages_s=np.zeros(count, np.float32),
            existences=np.ones(count, np.float32),
        )
        self._inputs = replace(self._inputs, odometry=ego, objects=objects)
        if is_due:
            candidates, self._images = self._planner.candidates(observation)
            self._inputs = replace(self._inputs, candidates=candidates, odometry_then=ego)

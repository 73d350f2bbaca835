"""The drive of one vehicle of a log, and starts of plans on it or a little beside it.

A start beside it is a scene that was never recorded: the ego is moved along and across the path it
took, everybody else is where they were.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.signal import savgol_filter

from rap_evaluation.expert.road_areas import RoadAreas
from rap_evaluation.logs.drive_log import DriveLog, LogError
from rap_evaluation.logs.driven_path import DrivenPath
from rap_evaluation.logs.recording import UNSEEN_LIGHT
from rap_evaluation.metrics.pdm_measures import drivable_area_compliance, ego_areas
from rap_evaluation.metrics.pdm_scene import (
    DT_S,
    HORIZON_STEPS,
    STATE_SIZE,
    STATES,
    PdmScene,
    StateIndex,
)
from rap_evaluation.moments import Moment
from rap_evaluation.planners.observation import Observation, Road, Surroundings
from rap_evaluation.pseudo_sim.log_scene import log_scene, nearest, route_way
from rap_raster.ego_history import EgoHistory, EgoState
from rap_raster.frames import FloatArray, to_local, to_parent, wrap_angle
from rap_raster.maps.lane_geometry import distances_along
from rap_raster.maps.routing import route_points
from rap_raster.scene import LightState

HISTORY_STEPS = 20
"""Of the past that planners may look at: 2 s, more than any bundle asks for."""

_PATH_M = 300.0  # Farther than anybody drives in 8 s.
_ACCELERATION_WINDOW = 11  # Recorded speeds are noisy: 1 s, as vehicles filter their own.


@dataclass(frozen=True, slots=True)
class Start:
    """Where and when a plan starts.

    Attributes:
        step: Step of the log.
        ahead_m: How far along its path the ego is moved.
        left_m: How far across.
        yaw_rad: By how much it is turned there, counter-clockwise.
        follow_up: True in the second stage: the planner did not get there on its own.
    """

    step: int
    ahead_m: float = 0.0
    left_m: float = 0.0
    yaw_rad: float = 0.0
    follow_up: bool = False


class SeatDrive:
    """One vehicle of a log.

    Attributes:
        log: The log.
        seat: Track id of the vehicle.
    """

    def __init__(self, log: DriveLog, seat: int, areas: RoadAreas, seed: int = 0) -> None:
        """Prepares path and route.

        Args:
            log: The log.
            seat: Track id.
            areas: Of the log's map.
            seed: Of light and noise of simulated pictures.

        Raises:
            LogError: If the seat has no route.
        """
        lane_ids = log.route_lanes(seat)
        if lane_ids is None:
            raise LogError(f"{log.name}: track {seat} has no route")
        self.log, self.seat = log, seat
        self._first = log.first_step(seat)
        self._states = _ego_columns(log, seat)
        self._path = DrivenPath(log.ego_states(seat).poses)
        self._areas = areas
        self._way = route_way(log.map.lanes, lane_ids)
        self._road = _road(log, self._way.lane_ids, seed)
        self._seen: dict[int, Surroundings] = {}

    def observation(self, start: Start) -> Observation:
        """Returns all that a planner may look at."""
        steps = np.arange(max(self._first, start.step - HISTORY_STEPS), start.step + 1)
        states = self.states(start, steps)
        past = [self._ego_state(*known) for known in zip(states, steps.tolist(), strict=True)]
        history, ego = EgoHistory(), past[-1]
        for known in past:
            history.add(known)
        return Observation(
            ego=ego,
            state=states[-1],
            history=history,
            surroundings=self._surroundings(start.step),
            road=self._road,
            along_m=self._road.along_m[nearest(self._road.line_m, ego.planar)],
        )

    def scene(self, start: Start) -> tuple[PdmScene, FloatArray]:
        """Returns the scene that a plan is scored in, and the speed limits along its line."""
        moment = Moment(self.log, self.seat, start.step)
        return log_scene(moment, self.state(start), self._areas, self._way)

    def state(self, start: Start) -> FloatArray:
        """Returns the (11,) state at a start."""
        state: FloatArray = self.states(start, np.array([start.step]))[0]
        return state

    def states(self, start: Start, steps: npt.NDArray[np.int64]) -> FloatArray:
        """Returns the (n, 11) states at steps up to that of the start, moved as the start is.

        The past moves along as a whole; its speed is what would have led there over the horizon.
        """
        now, then = self._states[start.step - self._first], self._states[steps - self._first]
        states = np.zeros((len(steps), STATE_SIZE))
        states[:, :7] = then
        place_m = self._path.along_m[start.step - self._first] + start.ahead_m
        pose = self._path.poses_at(np.array([place_m]), start.left_m)[0, [0, 1, 3]]
        pose[2] += start.yaw_rad
        states[:, :3] = to_parent(pose, to_local(now[:3], then[:, :3]))
        recorded_mps = then[:, StateIndex.VX]
        moved_mps = recorded_mps + start.ahead_m / (HORIZON_STEPS * DT_S)
        least_mps = np.where(recorded_mps >= 0.0, 0.0, -np.inf)
        states[:, StateIndex.VX] = np.maximum(moved_mps, least_mps)
        return states

    def driven(self, step: int) -> FloatArray | None:
        """Returns the (41, 3) poses driven from a step on, or None if the track ends before."""
        row = step - self._first
        poses = self._states[row : row + STATES, :3]
        return poses.copy() if len(poses) == STATES else None

    def stays_on_road(self, step: int, steps: int) -> bool:
        """True if the driven path stays within the drivable areas for some steps."""
        row = step - self._first
        return self._on_road(self._states[row : row + steps + 1, :3])

    def is_on_road(self, start: Start) -> bool:
        """True if the whole vehicle stands within the drivable areas at a start."""
        return self._on_road(self.state(start)[None, :3])

    def _on_road(self, poses_m: FloatArray) -> bool:
        """True if the vehicle is within the drivable areas at all (n, 3) poses."""
        states = np.zeros((1, len(poses_m), STATE_SIZE))
        states[0, :, :3] = poses_m
        areas = self._areas.near(poses_m[0, :2], self._way.lane_ids, _PATH_M)
        return bool(drivable_area_compliance(ego_areas(areas, states))[0])

    def _ego_state(self, state: FloatArray, step: int) -> EgoState:
        poses = self.log.ego_states(self.seat)
        row = step - self._first
        return EgoState(
            stamp_ns=int(self.log.stamps_ns[step]),
            x_m=float(state[StateIndex.X]),
            y_m=float(state[StateIndex.Y]),
            z_m=float(poses.poses[row, 2]),
            yaw_rad=float(wrap_angle(state[StateIndex.HEADING])),
            vx_mps=float(state[StateIndex.VX]),
            vy_mps=float(state[StateIndex.VY]),
            yaw_rate_radps=float(poses.yaw_rates_radps[row]),
        )

    def _surroundings(self, step: int) -> Surroundings:
        """Returns what is around at a step; all starts of a step see the same."""
        if step not in self._seen:
            self._seen[step] = self._look(step)
        return self._seen[step]

    def _look(self, step: int) -> Surroundings:
        scene, lights = self.log.scene(step, self.seat), self.log.lights
        signals = {
            lane: LightState(int(code))
            for lane, code in zip(lights.lane_ids, lights.states[step], strict=True)
            if lane and code != UNSEEN_LIGHT
        }
        return Surroundings(scene.boxes, scene.lights, signals)


def _ego_columns(log: DriveLog, seat: int) -> FloatArray:
    """Returns (n, 7) x, y, heading, and velocity and acceleration in the ego frame."""
    ego = log.ego_states(seat)
    yaw = ego.poses[:, 3]
    cos, sin = np.cos(yaw), np.sin(yaw)
    vx, vy = ego.velocities_mps.T
    ax, ay = (
        savgol_filter(v, _ACCELERATION_WINDOW, 2, deriv=1, delta=DT_S)
        for v in (cos * vx - sin * vy, sin * vx + cos * vy)
    )
    return np.column_stack(
        [ego.poses[:, :2], yaw, vx, vy, cos * ax + sin * ay, cos * ay - sin * ax]
    )


def _road(log: DriveLog, lane_ids: tuple[str, ...], seed: int) -> Road:
    line_m = route_points(log.map.lanes, list(lane_ids))
    return Road(lane_ids, line_m, distances_along(line_m), seed)

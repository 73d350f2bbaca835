"""The drive of one vehicle of a log, and starts of plans on it or a little beside it.

A start beside it is a scene that was never recorded: the ego is moved along and across the path it
took, everybody else is where they were.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import savgol_filter

from rap_evaluation.expert.road_areas import RoadAreas, route_centerline
from rap_evaluation.logs.drive_log import DriveLog, LogError
from rap_evaluation.logs.recording import UNSEEN_LIGHT
from rap_evaluation.metrics.pdm_measures import drivable_area_compliance, ego_areas
from rap_evaluation.metrics.pdm_scene import (
    DT_S,
    HORIZON_STEPS,
    STATE_SIZE,
    STATES,
    Agents,
    AreaMap,
    PdmScene,
    RedLights,
    StateIndex,
)
from rap_evaluation.planners.observation import (
    LEVEL_M,
    Observation,
    Road,
    Surroundings,
    agent_kinds,
)
from rap_raster.ego_history import EgoHistory, EgoState
from rap_raster.frames import FloatArray, to_local, to_parent, wrap_angle
from rap_raster.maps.lane_geometry import distances_along
from rap_raster.maps.routing import route_points
from rap_raster.scene import LightState

HISTORY_STEPS = 20
"""Of the past that planners may look at: 2 s, more than any bundle asks for."""

_AGENTS_M = 100.0
_PATH_M = 300.0  # Farther than anybody drives in 8 s.
_EXTENSION_M = 40.0  # Of the driven path, straight on at both ends.
_BEHIND_M, _AHEAD_M = 20.0, 150.0  # Of the line that progress is measured along.
_MOVED_M = 0.02
_OTHER_WAY_M = 1e3  # What leads elsewhere counts only where nothing leads the ego's way.
_ACCELERATION_WINDOW = 11  # Recorded speeds are noisy: 1 s, as vehicles filter their own.


@dataclass(frozen=True, slots=True)
class Start:
    """Where and when a plan starts.

    Attributes:
        step: Step of the log.
        ahead_m: How far along its path the ego is moved.
        left_m: How far across.
        follow_up: True in the second stage: the planner did not get there on its own.
    """

    step: int
    ahead_m: float = 0.0
    left_m: float = 0.0
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
        self._path = _Path(log.ego_states(seat).poses)
        self._areas = areas
        self._lane_ids = tuple(lane_ids)
        self._line_m, self._limits_mps = route_centerline(log.map.lanes, lane_ids)
        self._along_m = distances_along(self._line_m)
        self._road = _road(log, self._lane_ids, seed)
        self._seen: dict[int, Surroundings] = {}
        self._traffic: dict[int, Agents] = {}

    def observation(self, start: Start) -> Observation:
        """Returns all that a planner may look at."""
        history = EgoHistory()
        for step in range(max(self._first, start.step - HISTORY_STEPS), start.step + 1):
            history.add(self._ego_state(start, step))
        ego = self._ego_state(start, start.step)
        return Observation(
            ego=ego,
            state=self.state(start),
            history=history,
            surroundings=self._surroundings(start.step),
            road=self._road,
            along_m=self._road.along_m[_nearest(self._road.line_m, ego.planar)],
        )

    def scene(self, start: Start) -> tuple[PdmScene, FloatArray]:
        """Returns the scene that a plan is scored in, and the speed limits along its line."""
        state = self.state(start)
        here_m = self._along_m[_nearest(self._line_m, state)]
        near = slice(*np.searchsorted(self._along_m, [here_m - _BEHIND_M, here_m + _AHEAD_M]))
        areas = self._areas.near(state[:2], self._lane_ids)
        scene = PdmScene(
            initial_state=state,
            areas=areas,
            centerline_m=self._line_m[near],
            agents=self._agents(start.step),
            red_lights=self._red_lights(start.step, areas),
        )
        return scene, self._limits_mps[near]

    def state(self, start: Start, step: int | None = None) -> FloatArray:
        """Returns the (11,) state at a step up to that of the start, moved as the start is.

        The past moves along as a whole; its speed is what would have led there over the horizon.
        """
        now = self._states[start.step - self._first]
        then = now if step is None else self._states[step - self._first]
        state = np.zeros(STATE_SIZE)
        state[:7] = then
        pose = self._path.moved(start.step - self._first, start.ahead_m, start.left_m)
        state[:3] = to_parent(pose, to_local(now[:3], then[:3]))
        speed = then[StateIndex.VX] + start.ahead_m / (HORIZON_STEPS * DT_S)
        state[StateIndex.VX] = max(0.0, speed) if then[StateIndex.VX] >= 0.0 else speed
        return state

    def driven(self, step: int) -> FloatArray | None:
        """Returns the (41, 3) poses driven from a step on, or None if the track ends before."""
        row = step - self._first
        poses = self._states[row : row + STATES, :3]
        return poses.copy() if len(poses) == STATES else None

    def stays_on_road(self, step: int, steps: int) -> bool:
        """True if the driven path stays within the drivable areas for some steps."""
        row = step - self._first
        states = np.zeros((1, steps + 1, STATE_SIZE))
        states[0, :, :3] = self._states[row : row + steps + 1, :3]
        areas = self._areas.near(states[0, 0, :2], self._lane_ids, _PATH_M)
        return bool(drivable_area_compliance(ego_areas(areas, states))[0])

    def _ego_state(self, start: Start, step: int) -> EgoState:
        state = self.state(start, step)
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

    def _red_lights(self, step: int, areas: AreaMap) -> RedLights:
        """Returns when connectors near the ego are red; the last step of the log holds."""
        rows = {key: row for row, key in enumerate(areas.ids)}
        lights = self.log.lights
        near = [k for k, lane in enumerate(lights.lane_ids) if lane in rows]
        steps = np.minimum(np.arange(step, step + STATES), len(lights.states) - 1)
        return RedLights(
            areas=np.array([rows[lights.lane_ids[k]] for k in near], dtype=np.int64),
            red=np.ascontiguousarray((lights.states[steps][:, near] == LightState.RED).T),
        )

    def _agents(self, step: int) -> Agents:
        if step not in self._traffic:
            self._traffic[step] = self._replayed(step)
        return self._traffic[step]

    def _replayed(self, step: int) -> Agents:
        """Returns the road users near the driver over the horizon, as they were."""
        tracks, offsets = self.log.tracks, self.log.tracks.offsets
        here_m = self._states[step - self._first, :2]
        z_m = float(self.log.ego_states(self.seat).poses[step - self._first, 2])
        chosen, states = [], []
        for row in np.flatnonzero(
            (tracks.first_steps < step + STATES) & (tracks.last_steps >= step)
        ):
            first = max(step, int(tracks.first_steps[row]))
            last = min(step + STATES - 1, int(tracks.last_steps[row]))
            begin = offsets[row] + first - tracks.first_steps[row]
            run = tracks.states[begin : begin + last - first + 1]
            far_m = np.abs(run[:, :2] - here_m).max(axis=1).min()
            level = abs(run[0, 2] - z_m) < LEVEL_M
            if tracks.ids[row] != self.seat and far_m < _AGENTS_M and level:
                frames = np.full((STATES, 5), np.nan)
                frames[first - step : last - step + 1] = run[:, [0, 1, 3, 4, 5]]
                chosen.append(row)
                states.append(frames)
        return Agents(
            tokens=tuple(str(number) for number in tracks.ids[chosen]),
            kinds=agent_kinds(tracks.classes[chosen]),
            sizes_m=np.array(tracks.sizes_m[chosen][:, :2]).reshape(-1, 2),
            states=np.array(states).reshape(-1, STATES, 5),
        )


class _Path:
    """The way a vehicle took, by distance."""

    def __init__(self, poses: FloatArray) -> None:
        """Takes (n, 4) x, y, z, yaw over time."""
        self._along_m = distances_along(poses)
        moving = np.concatenate([[True], np.diff(self._along_m) > _MOVED_M])
        knots = np.column_stack([poses[moving][:, :2], np.unwrap(poses[moving][:, 3])])
        self._knots_m = np.concatenate(
            [_extended(knots[:1], -_EXTENSION_M), knots, _extended(knots[-1:], _EXTENSION_M)]
        )
        at = self._along_m[moving]
        self._at_m = np.concatenate([[at[0] - _EXTENSION_M], at, [at[-1] + _EXTENSION_M]])

    def moved(self, row: int, ahead_m: float, left_m: float) -> FloatArray:
        """Returns the (3,) pose at a row, moved along and across the path."""
        place = self._along_m[row] + ahead_m
        x, y, yaw = (np.interp(place, self._at_m, column) for column in self._knots_m.T)
        return np.array([x - left_m * np.sin(yaw), y + left_m * np.cos(yaw), wrap_angle(yaw)])


def _extended(knot: FloatArray, length_m: float) -> FloatArray:
    """Returns the (1, 3) knot straight on from a (1, 3) knot."""
    yaw = knot[:, 2:]
    return np.concatenate([knot[:, :2] + length_m * np.hstack([np.cos(yaw), np.sin(yaw)]), yaw], 1)


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


def _nearest(line_m: FloatArray, pose: FloatArray) -> int:
    """Returns the point of a line nearest to a (>= 3,) pose, among those that lead its way.

    A route may cross or come back to where it has been.
    """
    dx, dy = np.gradient(line_m[:, :2], axis=0).T
    ahead = dx * np.cos(pose[2]) + dy * np.sin(pose[2]) > 0.5 * np.hypot(dx, dy)
    gaps_m = np.hypot(*(line_m[:, :2] - pose[:2]).T)
    return int(np.argmin(np.where(ahead, gaps_m, gaps_m + _OTHER_WAY_M)))

"""A moment of a log as the PDM score sees it: the ego anywhere, everybody else as recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rap_evaluation.expert.road_areas import FALLBACK_SPEED_MPS, RoadAreas, route_centerline
from rap_evaluation.metrics.pdm_scene import Agents, AreaMap, PdmScene, RedLights
from rap_evaluation.moments import Moment
from rap_evaluation.planners.observation import LEVEL_M, agent_kinds
from rap_raster.frames import FloatArray, wrap_angle
from rap_raster.maps.lane_geometry import distances_along
from rap_raster.maps.vector_map import Lane
from rap_raster.scene import LightState

FRAMES = 51
"""Of road users and lights: v1 looks 0.9 s past the plan's 4 s, and labels reach 5 s."""

_AGENTS_M = 100.0
_BEHIND_M, _AHEAD_M = 20.0, 150.0  # Of the line that progress is measured along.
_OTHER_WAY_M = 1e3  # What leads elsewhere counts only where nothing leads the ego's way.
_STEP_M = 1.0


@dataclass(frozen=True, slots=True)
class Way:
    """The line that an ego is to drive on.

    Attributes:
        lane_ids: Lanes of the route; empty where none is known.
        line_m: (n, 3) x, y, heading, map frame.
        limits_mps: (n,) speed limits at its points.
        along_m: (n,) distance along it.
    """

    lane_ids: tuple[str, ...]
    line_m: FloatArray
    limits_mps: FloatArray
    along_m: FloatArray

    def near(self, pose: FloatArray) -> slice:
        """Returns the stretch of the line that matters from a (>= 3,) pose."""
        here_m = self.along_m[nearest(self.line_m, pose)]
        return slice(*np.searchsorted(self.along_m, [here_m - _BEHIND_M, here_m + _AHEAD_M]))


def route_way(lanes: Mapping[str, Lane], lane_ids: Sequence[str]) -> Way:
    """Returns the way along a route of lanes."""
    line_m, limits_mps = route_centerline(lanes, lane_ids)
    return Way(tuple(lane_ids), line_m, limits_mps, distances_along(line_m))


def driven_way(poses: FloatArray) -> Way:
    """Returns the way along (n, 3) x, y, yaw over time and on: who has no route goes there."""
    end = np.array([np.cos(poses[-1, 2]), np.sin(poses[-1, 2])])
    points = np.concatenate([poses[:, :2], poses[-1:, :2] + _AHEAD_M * end])
    along_m = distances_along(points)
    grid = np.arange(0.0, along_m[-1], _STEP_M)
    moving = np.concatenate([[True], np.diff(along_m) > 0.0])
    line_m = np.stack(
        [np.interp(grid, along_m[moving], points[moving, axis]) for axis in (0, 1)], axis=-1
    )
    slope = np.gradient(line_m, axis=0)
    heading = wrap_angle(np.arctan2(slope[:, 1], slope[:, 0]))
    limits_mps = np.full(len(grid), FALLBACK_SPEED_MPS)
    return Way((), np.column_stack([line_m, heading]), limits_mps, grid)


def log_scene(
    moment: Moment,
    state: FloatArray,
    areas: RoadAreas,
    way: Way,
    closed: tuple[LightState, ...] = (LightState.RED,),
) -> tuple[PdmScene, FloatArray]:
    """Returns the scene to score or plan in, and the speed limits along its line.

    Args:
        moment: Of the log; its seat is nobody's obstacle.
        state: (11,) `StateIndex` state of the ego, wherever it is.
        areas: Of the log's map.
        way: Where the ego is to go.
        closed: States of a light that close its connector.
    """
    near = way.near(state)
    around = areas.near(state[:2], way.lane_ids)
    scene = PdmScene(
        initial_state=state,
        areas=around,
        centerline_m=way.line_m[near],
        agents=replayed_agents(moment),
        red_lights=closed_connectors(moment, around, closed),
    )
    return scene, way.limits_mps[near]


def replayed_agents(moment: Moment) -> Agents:
    """Returns the road users near the seat from now on, as they were; (N, `FRAMES`) states."""
    ego = moment.ego()
    tracks, offsets = moment.log.tracks, moment.log.tracks.offsets
    last_step = moment.step + FRAMES - 1
    present = (tracks.first_steps <= last_step) & (tracks.last_steps >= moment.step)
    rows = np.flatnonzero(present & (tracks.ids != moment.seat))
    first, last = tracks.first_steps[rows, None], tracks.last_steps[rows, None]
    steps = moment.step + np.arange(FRAMES)
    states = tracks.states[offsets[rows, None] + np.clip(steps, first, last) - first]
    gaps_m = np.abs(states[..., :2] - ego.planar[:2]).max(axis=-1).min(axis=-1)
    near = (gaps_m < _AGENTS_M) & (np.abs(states[:, 0, 2] - ego.z_m) < LEVEL_M)
    frames = states[:, :, [0, 1, 3, 4, 5]]
    frames[(steps < first) | (steps > last)] = np.nan
    rows = rows[near]
    return Agents(
        tokens=tuple(map(str, tracks.ids[rows].tolist())),
        kinds=agent_kinds(tracks.classes[rows]),
        sizes_m=np.ascontiguousarray(tracks.sizes_m[rows, :2]),
        states=frames[near],
    )


def closed_connectors(
    moment: Moment, areas: AreaMap, closed: tuple[LightState, ...] = (LightState.RED,)
) -> RedLights:
    """Returns when connectors near the ego are closed; the last step of the log holds."""
    rows = {key: row for row, key in enumerate(areas.ids)}
    lights = moment.log.lights
    near = [k for k, lane in enumerate(lights.lane_ids) if lane in rows]
    steps = np.minimum(moment.step + np.arange(FRAMES), len(lights.states) - 1)
    return RedLights(
        areas=np.array([rows[lights.lane_ids[k]] for k in near], dtype=np.int64),
        red=np.ascontiguousarray(np.isin(lights.states[steps][:, near], closed).T),
    )


def nearest(line_m: FloatArray, pose: FloatArray) -> int:
    """Returns the point of a line nearest to a (>= 3,) pose, among those that lead its way.

    A route may cross or come back to where it has been.
    """
    dx, dy = np.gradient(line_m[:, :2], axis=0).T
    ahead = dx * np.cos(pose[2]) + dy * np.sin(pose[2]) > 0.5 * np.hypot(dx, dy)
    gaps_m = np.hypot(*(line_m[:, :2] - pose[:2]).T)
    return int(np.argmin(np.where(ahead, gaps_m, gaps_m + _OTHER_WAY_M)))

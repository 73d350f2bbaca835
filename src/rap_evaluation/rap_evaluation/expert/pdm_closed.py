"""PDM-Closed: the best of some drives beside the centreline, as the PDM score judges them.

It is the reference for progress where a case brings none, the expert that labels are taken from,
and the planner to beat. Source of the scheme: Dauner et al. 2023, "Parting with Misconceptions
about Learning-based Vehicle Motion Planning" (arXiv 2306.07962), section 4. Ours also slows down
for bends, starts from the ego's own pose, foresees traffic along lanes, has drives that give way
to those who will cross, and brakes as hard as it must.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import product

import numpy as np
import shapely

from rap_evaluation.expert.corridor import covered
from rap_evaluation.expert.forecast import FollowedLane, LaneForecaster, straight_on
from rap_evaluation.expert.idm import roll_out
from rap_evaluation.expert.paths import FRONT_M, OFFSETS_M, Paths, paths_from
from rap_evaluation.metrics.comfort import future_comfort_flags
from rap_evaluation.metrics.frame_score import (
    COMFORT_WEIGHT,
    EGO_PROGRESS_WEIGHT,
    LANE_KEEPING_WEIGHT,
    TTC_WEIGHT,
)
from rap_evaluation.metrics.pdm_measures import Measures, measure, without_initial_overlaps
from rap_evaluation.metrics.pdm_scene import DT_S, Agents, PdmScene, RedLights, StateIndex
from rap_evaluation.metrics.pdm_score import ego_progress_v2
from rap_evaluation.metrics.pdm_simulator import simulate
from rap_raster.frames import FloatArray, wrap_angle

SPEED_SHARES = (1.0, 0.8, 0.6, 0.4, 0.2)
"""Of the speed limit. Source: PDM-Closed, section 4."""

GIVE_WAY_S = 4.0
"""How far ahead the drives that give way see others cross: the horizon."""

EMERGENCY_MPS2 = 8.0
"""What good tyres hold on a dry road."""

HARD_MPS2 = 4.0
"""As hard as the score still finds comfortable (-4.05 m/s^2)."""

GENTLE_MPS2 = 2.0
"""A stop that passengers hardly notice."""

_MARGINS_M = np.array([2.0, 3.0, 2.0, 1.0])
"""Kept clear before agents by `AgentKind`, since the tracker stops later than planned. People do
not walk on where a bumper reaches into their crossing."""

_LINE_MARGIN_M = 1.0  # The same before a stop line.
_ROOM_M = np.array([0.15, 0.5, 0.3, 0.15])
"""Kept free around agents by `AgentKind`, since forecasts are not exact, of people least of all."""

_LINE_STEP_M = 0.1
_REACTION_S = 0.5  # The tracker looks a second ahead and brakes that much too gently.
_BRAKES_MPS2 = 1.0
_PAST_LINE_M = 1.0  # Who has stopped a little too far still waits.


_LINES = range(len(OFFSETS_M))
_FOLLOW = [(line, row, 0, 0.0) for line, row in product(_LINES, range(len(SPEED_SHARES)))]
_GIVE_WAY = [(line, 0, round(GIVE_WAY_S / DT_S), 0.0) for line in _LINES]
_BRAKE = [(0, 0, 0, rate) for rate in (GENTLE_MPS2, HARD_MPS2, EMERGENCY_MPS2)]
_POLICIES = np.array([*_FOLLOW, *_GIVE_WAY, *_BRAKE])
"""(C, 4) as `roll_out` wants them; of equally good ones the first is taken."""

_DRIVES = len(_FOLLOW) + len(_GIVE_WAY)
_PREFERENCES = np.where(_POLICIES[:, 0] == 0.0, 1.0, 0.9)
"""Of the lines: the inside of a bend is shorter, and that is no progress."""


class PdmClosed:
    """The planner; it keeps no state from plan to plan."""

    def __init__(self, lanes: Mapping[str, FollowedLane] | None = None) -> None:
        """Prepares forecasts.

        Args:
            lanes: Lane graph that others are expected to follow; without it they go straight on.
        """
        self._forecast = LaneForecaster(lanes) if lanes else straight_on

    def plan(self, scene: PdmScene, speed_limits_mps: FloatArray) -> FloatArray:
        """Plans from what is there now; later frames of the scene are not looked at.

        Args:
            scene: Agents and red lights of frame 0 and the areas near the ego. The centreline is
                the line to follow; where it ends, the rear axle stops.
            speed_limits_mps: (n,) at the points of the centreline.

        Returns:
            (41, 3) x, y, heading of the rear axle every 0.1 s from now on, map frame.
        """
        state = scene.initial_state
        paths = paths_from(state, scene.centerline_m, speed_limits_mps, SPEED_SHARES)
        stop_m, lights = _lights_to_obey(scene, paths)
        foreseen = replace(
            scene,
            centerline_m=paths.center_m,
            agents=_grown(self._forecast(scene.agents)),
            red_lights=lights,
        )
        stations = self._stations(foreseen, paths, stop_m)
        poses = np.stack(
            [paths.poses_at(int(p[0]), s) for p, s in zip(_POLICIES, stations, strict=True)]
        )
        poses[:, 0] = state[: StateIndex.HEADING + 1]
        poses[..., 2] = wrap_angle(poses[..., 2])
        states = simulate(state, poses)
        # No drive can avoid who touches the ego already: that says nothing about which to take.
        judged = replace(foreseen, agents=without_initial_overlaps(foreseen))
        chosen: FloatArray = poses[_best(measure(judged, states, "v1"), states)]
        return chosen

    def _stations(self, scene: PdmScene, paths: Paths, stop_m: float) -> FloatArray:
        """Returns the (C, 41) stations of all drives."""
        agents = scene.agents
        extents_m, along_mps = covered(paths.center_m, paths.bands_m, agents.states, agents.sizes_m)
        speed_mps = max(0.0, float(scene.initial_state[StateIndex.VX]))
        stations: FloatArray = roll_out(
            paths.start_m, speed_mps, FRONT_M, _POLICIES, paths.desired_mps, paths.stretch,
            extents_m, along_mps, _MARGINS_M[agents.kinds], stop_m - _LINE_MARGIN_M,
        )  # fmt: skip
        return stations


def _grown(agents: Agents) -> Agents:
    """Returns agents with room around them."""
    return replace(agents, sizes_m=agents.sizes_m + 2.0 * _ROOM_M[agents.kinds, None])


def _best(measures: Measures, states: FloatArray) -> int:
    """Returns the policy to take: the best drive or gentle stop, or hard braking where all fail."""
    scores = _scores(measures, states)
    at_ease = scores[: _DRIVES + 1]
    if at_ease.any():
        return int(np.argmax(at_ease))
    return int(np.argmax(scores)) if scores.any() else len(scores) - 1


def _scores(measures: Measures, states: FloatArray) -> FloatArray:
    """Returns the (C,) scores of drives among each other, by v2's rules but for comfort.

    A rule of the road that every drive breaks says nothing about which to take: it is left out.
    Braking would keep it, but an ego that is stuck at the edge of the road has to go on.
    """
    multiplier = measures.no_at_fault_collisions
    for values, known_to in (
        (measures.drivable_area_compliance, _DRIVES),
        (measures.driving_direction_compliance, _DRIVES),
        (measures.traffic_light_compliance, len(states)),
    ):
        if values[:known_to].any():
            multiplier = multiplier * values
    best_m = np.max(measures.progress_m * multiplier, keepdims=True)
    quality = (
        EGO_PROGRESS_WEIGHT * ego_progress_v2(measures, best_m)
        + TTC_WEIGHT * measures.time_to_collision_within_bound
        + LANE_KEEPING_WEIGHT * measures.lane_keeping
        + COMFORT_WEIGHT * future_comfort_flags(states).all(axis=-1)
    )
    scores: FloatArray = multiplier * quality * _PREFERENCES
    return scores


def _lights_to_obey(scene: PdmScene, paths: Paths) -> tuple[float, RedLights]:
    """Returns the station to stop at, and the red lights that it makes sense to judge plans by.

    Those are the lights that are red now and before which the ego can still stop.
    """
    stop_m, kept = np.inf, []
    front_m = paths.start_m + FRONT_M
    for i, row in enumerate(scene.red_lights.areas):
        if scene.red_lights.red[i, 0] and scene.areas.on_route[row]:
            line_m = _entry(scene, int(row), paths)
            if _can_stop(scene.initial_state, line_m - front_m):
                stop_m = min(stop_m, line_m)
                kept.append(i)
    lights = RedLights(scene.red_lights.areas[kept], scene.red_lights.red[kept, :1])
    return stop_m, lights


def _can_stop(state: FloatArray, gap_m: float) -> bool:
    """True if the ego stops before a line, or little after it. Who brakes already goes on so."""
    speed = float(state[StateIndex.VX])
    reaction_s = 0.0 if state[StateIndex.AX] < -_BRAKES_MPS2 else _REACTION_S
    needed_m = speed * reaction_s + 0.5 * speed**2 / HARD_MPS2
    return gap_m > -_PAST_LINE_M and needed_m <= gap_m + _PAST_LINE_M


def _entry(scene: PdmScene, row: int, paths: Paths) -> float:
    """Returns the station where the centreline ahead enters an area, infinite if it does not."""
    areas = scene.areas
    ring = shapely.polygons(areas.points_m[areas.offsets[row] : areas.offsets[row + 1]])
    shapely.prepare(ring)
    grid = np.arange(len(paths.center_m))
    stations = np.arange(0.0, grid[-1], _LINE_STEP_M)
    x, y = (np.interp(stations, grid, paths.center_m[:, axis]) for axis in (0, 1))
    inside = shapely.contains_xy(ring, x, y)
    return float(stations[np.argmax(inside)]) if inside.any() else np.inf

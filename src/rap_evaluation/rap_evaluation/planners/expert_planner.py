"""PDM-Closed as a planner: the present moment as the scene that it plans on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rap_evaluation.expert.pdm_closed import PdmClosed
from rap_evaluation.expert.road_areas import RoadAreas, route_centerline
from rap_evaluation.metrics.pdm_scene import DT_S, AreaMap, PdmScene, RedLights
from rap_evaluation.planners.observation import Observation, Plan, Road, as_agents, on_level
from rap_raster.frames import FloatArray
from rap_raster.maps.lane_geometry import distances_along
from rap_raster.maps.vector_map import VectorMap
from rap_raster.scene import LightState

_AHEAD_M, _BEHIND_M = 300.0, 10.0  # Of the centreline: the planner brakes for its end.
_SEARCH_M = 15.0


@dataclass(frozen=True, slots=True)
class _Line:
    """Line of a road with speed limits at its points."""

    road: Road
    points: FloatArray
    limits_mps: FloatArray
    along_m: FloatArray


class ExpertPlanner:
    """Drives with PDM-Closed, which sees everything the world knows."""

    def __init__(self, vector_map: VectorMap) -> None:
        """Prepares the map."""
        self._lanes = vector_map.lanes
        self._expert = PdmClosed(vector_map.lanes)
        self._areas = RoadAreas(vector_map)
        self._line: _Line | None = None

    def plan(self, observation: Observation) -> Plan:
        """Plans from the true state of the world."""
        line = self._line_of(observation.road)
        near = _stretch(line, observation)
        scene = pdm_scene(
            observation,
            self._areas.near(observation.state[:2], observation.road.lane_ids),
            line.points[near],
        )
        poses_m = self._expert.plan(scene, line.limits_mps[near])
        return Plan(poses_m[1:], DT_S)

    def _line_of(self, road: Road) -> _Line:
        if self._line is None or self._line.road is not road:
            points, limits_mps = route_centerline(self._lanes, road.lane_ids)
            self._line = _Line(road, points, limits_mps, distances_along(points))
        return self._line


def pdm_scene(observation: Observation, areas: AreaMap, centerline_m: FloatArray) -> PdmScene:
    """Returns the present moment as the PDM score sees it.

    A yellow light counts as red: planners that obey the red light only would be over the line when
    it changes.

    Args:
        observation: Of the ego.
        areas: Near it.
        centerline_m: (n, 3) x, y, heading of the line to follow.
    """
    signals = observation.surroundings.signals
    closed = [
        row
        for row, lane in enumerate(areas.ids)
        if signals.get(lane) in (LightState.RED, LightState.YELLOW)
    ]
    return PdmScene(
        initial_state=observation.state,
        areas=areas,
        centerline_m=centerline_m,
        agents=as_agents(on_level(observation.surroundings.boxes, observation.ego.z_m)),
        red_lights=RedLights(
            np.array(closed, dtype=np.int64), np.ones((len(closed), 1), dtype=np.bool_)
        ),
    )


def _stretch(line: _Line, observation: Observation) -> slice:
    """Returns the part of a line around the ego."""
    around = np.flatnonzero(np.abs(line.along_m - observation.along_m) <= _SEARCH_M)
    gaps_m = np.hypot(*(line.points[around, :2] - observation.state[:2]).T)
    here_m = line.along_m[around[int(gaps_m.argmin())]]
    first, last = np.searchsorted(line.along_m, [here_m - _BEHIND_M, here_m + _AHEAD_M])
    return slice(int(first), int(last))

"""What the PDM score compares a case with: the areas near the ego, its route, a reference plan.

The official code derives all of it from the map. A case may bring it along; where it does not, it
is derived here in the same way, with our PDM-Closed as the planner.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from rap_evaluation.expert.case_route import BlockLane, block_route_centerline
from rap_evaluation.expert.pdm_closed import PdmClosed
from rap_evaluation.expert.road_areas import MAP_RADIUS_M
from rap_evaluation.metrics.case_file import CaseError
from rap_evaluation.metrics.pdm_scene import PdmScene
from rap_evaluation.pdm_cases.inputs import (
    AreaInput,
    ConnectorInput,
    LaneInput,
    MapInput,
    PdmInput,
    ReferenceInput,
)
from rap_raster.frames import FloatArray

LONGEST_LANE_M = 1e5
"""Lanes are sampled every metre."""

AreaKey = tuple[str, str]
"""Layer and id of an area."""


@dataclass(frozen=True, slots=True)
class CaseRoute:
    """Where the ego of a case is to go.

    Attributes:
        areas: The areas near the ego.
        lane_ids: Lanes and connectors of the route.
        centerline_m: (n, 3) x, y, heading of the line that progress is measured along.
        speed_limits_mps: (n,) along it; unknown (NaN) where a reference is given.
        lanes: Lanes of the map; empty where a reference is given.
    """

    areas: tuple[AreaKey, ...]
    lane_ids: frozenset[str]
    centerline_m: FloatArray
    speed_limits_mps: FloatArray
    lanes: Mapping[str, BlockLane]


def layered(areas: MapInput) -> Iterator[tuple[AreaKey, AreaInput]]:
    """Yields all areas that can be scored with their layers."""
    layers: dict[str, list[AreaInput]] = {
        "ROADBLOCK": areas.roadblocks,
        "LANE": [*areas.lanes],
        "LANE_CONNECTOR": [*areas.lane_connectors],
        "INTERSECTION": areas.intersections,
        "CARPARK_AREA": areas.carparks,
    }
    for layer, members in layers.items():
        for area in members:
            yield (layer, area.id), area


def given_route(reference: ReferenceInput) -> CaseRoute:
    """Returns the route that a case brings along."""
    line = np.array(reference.centerline)
    return CaseRoute(
        areas=tuple((layer, key) for key, layer in reference.drivable_map),
        lane_ids=frozenset(reference.route_lane_ids),
        centerline_m=line,
        speed_limits_mps=np.full(len(line), np.nan),
        lanes={},
    )


def found_route(case: PdmInput) -> CaseRoute:
    """Derives the route of a case from its map.

    Raises:
        CaseError: If the map or the route lack what is needed.
    """
    lanes = _block_lanes(case.map)
    if not case.route_roadblock_ids:
        raise CaseError("input: route_roadblock_ids: is empty, and there is no reference")
    pose = np.array([case.ego.x, case.ego.y, case.ego.heading])
    try:
        line, limits = block_route_centerline(lanes, case.route_roadblock_ids, pose)
    except ValueError as error:
        raise CaseError(f"input: {error}") from error
    blocks = frozenset(case.route_roadblock_ids)
    return CaseRoute(
        areas=tuple(key for key, area in layered(case.map) if _is_near(area, pose)),
        lane_ids=frozenset(key for key, lane in lanes.items() if lane.block in blocks),
        centerline_m=line,
        speed_limits_mps=limits,
        lanes=lanes,
    )


def reference_plan(scene: PdmScene, route: CaseRoute) -> FloatArray:
    """Returns the (41, 3) plan of PDM-Closed for a case that brings none."""
    return PdmClosed(route.lanes).plan(scene, route.speed_limits_mps)


def _is_near(area: AreaInput, pose: FloatArray) -> bool:
    points = np.array(area.polygon) - pose[:2]
    return bool(
        (points.min(axis=0) <= MAP_RADIUS_M).all() and (points.max(axis=0) >= -MAP_RADIUS_M).all()
    )


def _block_lanes(areas: MapInput) -> dict[str, BlockLane]:
    """Returns all lanes and connectors, linked."""
    onward: dict[str, list[str]] = {}
    for connector in areas.lane_connectors:
        onward.setdefault(connector.from_lane, []).append(connector.id)
    lanes = {
        lane.id: _block_lane(lane, lane.roadblock_id, onward.get(lane.id, []))
        for lane in areas.lanes
    }
    return lanes | {
        connector.id: _block_lane(connector, connector.roadblock_connector_id, [connector.to_lane])
        for connector in areas.lane_connectors
    }


def _block_lane(lane: LaneInput | ConnectorInput, block: str, successors: list[str]) -> BlockLane:
    if lane.centerline is None:
        raise CaseError(
            f"input: map: lane '{lane.id}' has no centerline, and there is no reference"
        )
    line = np.array(lane.centerline)
    if np.hypot(*np.diff(line, axis=0).T).sum() > LONGEST_LANE_M:
        raise CaseError(f"input: map: lane '{lane.id}': centerline: is longer than 100 km")
    return BlockLane(
        block=block,
        centerline_m=line,
        polygon_m=np.array(lane.polygon),
        successors=tuple(successors),
        speed_limit_mps=lane.speed_limit_mps,
    )

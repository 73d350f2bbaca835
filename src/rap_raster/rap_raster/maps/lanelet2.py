"""Lanelet2 road maps (.osm) as a `VectorMap`, without the Lanelet2 library.

`lanelet2_file` reads and projects, `lanelet2_shapes` makes what is drawn; here lanelets become the
lane graph and all is put together. Which lanelets follow each other or lie side by side is decided
by the ids of shared nodes and ways, as Lanelet2's routing graph does, never by distances.

Source of the semantics: Lanelet2, `lanelet2_core/doc` (LaneletAndAreaTagging, LinestringTagging,
RegulatoryElementTagging) and `lanelet2_traffic_rules` (GenericTrafficRules).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import shapely

from rap_raster.frames import FloatArray, wrap_angle
from rap_raster.maps.lane_geometry import simplify
from rap_raster.maps.lanelet2_file import (
    Bound,
    Lanelet,
    Lanelet2File,
    Projection,
    Rule,
    Tags,
    Way,
    read_lanelet2,
)
from rap_raster.maps.lanelet2_ribbon import Ribbon, ribbon_of
from rap_raster.maps.lanelet2_shapes import map_shapes
from rap_raster.maps.vector_map import LIGHT_HEIGHT_M, Lane, TrafficLight, VectorMap
from rap_raster.maps.xml_file import finite_number

_VEHICLE_SUBTYPES = frozenset({"", "road", "highway", "play_street", "exit", "bus_lane"})
_EMERGENCY_ONLY = "participant:vehicle:emergency"
_NO = ("no", "false", "0")

_LEAST_LIGHT_HEIGHT_M = 1.0
_MARGIN_M = 0.5  # Lanelets that overlap by less are beside each other, digitised carelessly.
_BRIDGE_M = 3.0  # Lanelets with more between them cross on different levels.

_KMH, _MPH = 1.0 / 3.6, 0.44704
_UNITS_MPS = {
    **dict.fromkeys(("", "km/h", "kmh", "kmph", "kph"), _KMH),
    **dict.fromkeys(("mph", "mi/h"), _MPH),
    **dict.fromkeys(("m/s", "mps"), 1.0),
}
_SPEED = re.compile(r"(\d+(?:\.\d*)?) ?([a-z/]*)")
_GERMAN_LIMIT = re.compile(r"(?:de)?274(?:\.\d)?-(\d+)")
_GERMAN_ZONE = ("de274.1", "de274_1")
_ZONE_MPS = 30.0 / 3.6
# Signs 274-50 and the like, 274.1 (zone of 30 km/h). Source: StVO, annex 2.


def load_lanelet2(path: Path, projection: Projection | None = None) -> VectorMap:
    """Loads a Lanelet2 map.

    Lanes are the lanelets that vehicles may drive on, under their own ids; one that may be driven
    both ways is there a second time as "ID:inverted". The map's name ends with the projection used
    and its origin, such as "town (utm 32N from 49.00000000 8.40000000)".

    Args:
        path: A .osm file.
        projection: None for the tags local_x and local_y where nodes have them, otherwise UTM from
            the first node of the file.

    Raises:
        MapError: If the file is unreadable, malformed or misses something; one line.
    """
    file = read_lanelet2(path, projection)
    ribbons = {key: ribbon_of(lanelet) for key, lanelet in file.lanelets.items()}
    driven = [key for key, lanelet in file.lanelets.items() if _for_vehicles(lanelet.tags)]
    junction = _junction_lanelets(file, ribbons, driven)
    lanes = _lane_graph(file, ribbons, driven, junction, path)
    lights = _traffic_lights(file, lanes, path)
    polylines, polygons = map_shapes(file, ribbons, driven, junction)
    name = f"{path.name.removesuffix('.osm')} ({file.projection})"
    return VectorMap(name, polylines, polygons, lanes, lights)


def _for_vehicles(tags: Tags) -> bool:
    """Tells whether some motor vehicle may drive there; emergency vehicles do not count."""
    overrides = {key: value for key, value in tags.items() if key.startswith("participant:")}
    if not overrides:
        return tags.get("subtype", "") in _VEHICLE_SUBTYPES
    return any(
        key.startswith("participant:vehicle") and key != _EMERGENCY_ONLY and value not in _NO
        for key, value in overrides.items()
    )


def _both_ways(tags: Tags) -> bool:
    """Tells it as Lanelet2's traffic rules do: `one_way` alone decides where it is set."""
    if "one_way" in tags:
        return tags["one_way"] in _NO
    return any(tags.get(key) in _NO for key in ("one_way:vehicle", "one_way:vehicle:car"))


def _junction_lanelets(
    file: Lanelet2File, ribbons: Mapping[str, Ribbon], driven: list[str]
) -> set[str]:
    """Returns the lanelets inside junctions.

    Autoware tags them with turn_direction. In maps without that tag they are those that overlap
    others, which forks, merges and crossings do: "conflicting" in Lanelet2's routing graph.
    """
    tagged = {key for key in driven if "turn_direction" in file.lanelets[key].tags}
    if tagged:
        return tagged
    rings = [shapely.make_valid(shapely.Polygon(ribbons[key].ring_m[:, :2])) for key in driven]
    cores = shapely.buffer(rings, -_MARGIN_M)
    first, second = shapely.STRtree(cores).query(cores, predicate="intersects")
    first, second = first[first < second], second[first < second]
    shared = shapely.intersection(cores[first], cores[second])
    places = shapely.get_coordinates(shapely.centroid(shared))
    met = set()
    for one, other, place in zip(first, second, places, strict=True):
        heights = [_height_at(ribbons[driven[row]].center_m, place) for row in (one, other)]
        if abs(heights[0] - heights[1]) < _BRIDGE_M:
            met |= {driven[one], driven[other]}
    return met


def _height_at(line_m: FloatArray, place_m: FloatArray) -> float:
    """Returns the height of a line where it is nearest to a place, seen from above."""
    line = shapely.LineString(line_m)
    return float(line.interpolate(line.project(shapely.Point(place_m))).z)


def _lane_graph(
    file: Lanelet2File,
    ribbons: Mapping[str, Ribbon],
    driven: list[str],
    junction: set[str],
    path: Path,
) -> dict[str, Lane]:
    lanes: dict[str, Lane] = {}
    sides: dict[str, tuple[Bound, Bound]] = {}
    for key in driven:
        lanelet, ribbon = file.lanelets[key], ribbons[key]
        limit_mps = _speed_limit(lanelet)
        lanes[key] = _lane(key, ribbon, key in junction, limit_mps)
        sides[key] = (lanelet.left, lanelet.right)
        if _both_ways(lanelet.tags):
            inverted = f"{key}:inverted"
            lanes[inverted] = _lane(inverted, ribbon.inverted, key in junction, limit_mps)
            sides[inverted] = (lanelet.right.inverted, lanelet.left.inverted)
    return _connected(lanes, sides)


def _lane(key: str, ribbon: Ribbon, in_junction: bool, limit_mps: float | None) -> Lane:
    return Lane(
        id=key,
        centerline_m=simplify(ribbon.center_m),
        left_m=simplify(ribbon.left_m),
        right_m=simplify(ribbon.right_m),
        in_junction=in_junction,
        speed_limit_mps=limit_mps,
    )


def _connected(
    lanes: Mapping[str, Lane], sides: Mapping[str, tuple[Bound, Bound]]
) -> dict[str, Lane]:
    """Adds successors, which begin at both end nodes, and neighbours, which share a bound."""
    beginning: dict[tuple[str, str], list[str]] = defaultdict(list)
    left_of: dict[tuple[str, bool], str] = {}
    right_of: dict[tuple[str, bool], str] = {}
    for key, (left, right) in sides.items():
        beginning[left.nodes[0], right.nodes[0]].append(key)
        left_of.setdefault(right.key, key)
        right_of.setdefault(left.key, key)
    return {
        key: replace(
            lanes[key],
            successors=tuple(sorted(k for k in beginning[left.nodes[-1], right.nodes[-1]]
                                    if k != key)),
            left_neighbor=left_of.get(left.key),
            right_neighbor=right_of.get(right.key),
        )
        for key, (left, right) in sides.items()
    }  # fmt: skip


def _speed_limit(lanelet: Lanelet) -> float | None:
    """Returns the limit: that of a regulatory element, or the lanelet's tag, or None.

    What cannot be read as a speed is no limit: "none" is common in maps made from OpenStreetMap.

    The legal default of a country is not filled in: it belongs to traffic rules, not to a map.
    """
    for rule in lanelet.rules:
        if rule.tags.get("subtype") == "speed_limit":
            limit_mps = _rule_limit(rule)
            if limit_mps is not None:
                return limit_mps
    text = lanelet.tags.get("speed_limit")
    return None if text is None else _speed_mps(text)


def _rule_limit(rule: Rule) -> float | None:
    """Returns the limit that a regulatory element says, or None if its sign is not known."""
    signs = [rule.tags.get("sign_type"), *(way.tags.get("subtype") for way in rule.refers)]
    for sign in signs:
        if sign in _GERMAN_ZONE:
            return _ZONE_MPS
        if sign is not None and (match := _GERMAN_LIMIT.fullmatch(sign)):
            return float(match[1]) / 3.6
    text = signs[0]
    return _speed_mps(text) if text is not None else None


def _speed_mps(text: str) -> float | None:
    """Returns a speed, or None for "none", "walk" and whatever else is no number with a unit."""
    match = _SPEED.fullmatch(text.strip().lower())
    if match is None or match[2] not in _UNITS_MPS or float(match[1]) > 1e3:
        return None
    return float(match[1]) * _UNITS_MPS[match[2]]


def _traffic_lights(
    file: Lanelet2File, lanes: Mapping[str, Lane], path: Path
) -> tuple[TrafficLight, ...]:
    ways = {
        way.id: way
        for rule in file.rules.values()
        if rule.tags.get("subtype") == "traffic_light"
        for way in rule.refers
        if way.nodes
    }
    governed: dict[str, set[str]] = {key: set() for key in ways}
    for key, lanelet in file.lanelets.items():
        for rule in lanelet.rules:
            if rule.tags.get("subtype") == "traffic_light" and key in lanes:
                for way in rule.refers:
                    governed.get(way.id, set()).update(_governed_lanes(rule, lanes[key]))
    return tuple(
        _traffic_light(way, governed[key], lanes, f"{path}: way {key}") for key, way in ways.items()
    )


def _governed_lanes(rule: Rule, lane: Lane) -> tuple[str, ...]:
    """Returns the lanes behind the stop line of a lane that refers to a light.

    Without a stop line cars stop at the end of the lanelet (RegulatoryElementTagging).
    """
    if rule.ref_lines and rule.ref_lines[0].nodes:
        place = rule.ref_lines[0].points_m[:, :2].mean(axis=0)
        to_start, to_end = np.hypot(*(lane.centerline_m[[0, -1], :2] - place).T)
        if to_start < to_end:
            return (lane.id,)
    return lane.successors


def _traffic_light(
    way: Way, governed: set[str], lanes: Mapping[str, Lane], where: str
) -> TrafficLight:
    """Places a head in the middle of its way, facing the traffic.

    Ways of lights are the lower edge from left to right as drivers see it, and a tag tells the
    height of the head. Source: autoware_lanelet2_extension, lanelet2_format_extension.md.
    """
    lane_ids = tuple(sorted(governed))
    across = way.points_m[-1, :2] - way.points_m[0, :2]
    yaw = float(np.arctan2(-across[0], across[1]))
    center: FloatArray = way.points_m.mean(axis=0)
    if lane_ids:
        entry = lanes[lane_ids[0]].centerline_m
        heading = np.arctan2(*(entry[1, :2] - entry[0, :2])[::-1])
        yaw = float(wrap_angle(heading + np.pi))
    road_m = lanes[lane_ids[0]].centerline_m[0, 2] if lane_ids else 0.0
    # Maps drawn flat have the same height for everything: lights hang over the road.
    if way.has_height and center[2] > road_m + _LEAST_LIGHT_HEIGHT_M:
        center[2] += 0.5 * finite_number(way.tags.get("height", "0"), f"{where}: height")
    else:
        center[2] = LIGHT_HEIGHT_M + road_m
    return TrafficLight(way.id, center, yaw, lane_ids)

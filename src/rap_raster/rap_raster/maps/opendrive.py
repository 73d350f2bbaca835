"""OpenDRIVE (.xodr) road maps as a `VectorMap`.

`opendrive_file` reads the XML, `road_surface` lays the lanes on the ground, `opendrive_shapes`
makes what is drawn; here the lane graph and the traffic lights are made and all is put together.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rap_raster.frames import FloatArray, wrap_angle
from rap_raster.maps.lane_geometry import simplify
from rap_raster.maps.opendrive_file import (
    OpenDriveFile,
    RoadRecord,
    SignalRecord,
    read_opendrive,
)
from rap_raster.maps.opendrive_shapes import map_shapes
from rap_raster.maps.road_surface import (
    DRIVING_TYPES,
    SectionSurface,
    Strip,
    road_point,
    section_surfaces,
)
from rap_raster.maps.vector_map import LIGHT_HEIGHT_M, Lane, TrafficLight, VectorMap
from rap_raster.maps.xml_file import MapError

__all__ = ["MapError", "load_opendrive"]

_LEAST_LIGHT_HEIGHT_M = 2.0  # Below are the feet of posts.
_LINK_GAP_M = 2.0  # Links over a longer gap are mistakes in the file.

Surfaces = dict[str, list[SectionSurface]]


@dataclass(frozen=True, slots=True)
class _Site:
    """Where a lane comes from."""

    road: RoadRecord
    section: int
    strip: Strip

    @property
    def along_road(self) -> bool:
        """True if the lane is driven in the direction of the road's reference line."""
        return (self.strip.lane.id > 0) == self.road.left_hand

    @property
    def lane_id(self) -> int:
        return self.strip.lane.id


def load_opendrive(path: Path) -> VectorMap:
    """Loads an OpenDRIVE file.

    Lane ids are "road.section.lane". Lines and areas come in pieces of at most some 50 m and are
    simplified to a few centimetres, so that `shapes_near` crops well.

    Args:
        path: A .xodr or .xodr.gz file.

    Raises:
        MapError: If the file is unreadable, malformed or misses something; one line.
    """
    file = read_opendrive(path)
    surfaces = {road.id: section_surfaces(road) for road in file.roads.values()}
    lanes = _lane_graph(file, surfaces)
    lights = _traffic_lights(file, lanes)
    polylines, polygons = map_shapes(file, surfaces, _stop_lines(lanes, lights))
    name = path.name.removesuffix(".gz").removesuffix(".xodr")
    return VectorMap(name, polylines, polygons, lanes, lights)


def _key(road: str, section: int, lane: int) -> str:
    return f"{road}.{section}.{lane}"


def _lane_graph(file: OpenDriveFile, surfaces: Surfaces) -> dict[str, Lane]:
    sites = {
        _key(road.id, index, strip.lane.id): _Site(road, index, strip)
        for road in file.roads.values()
        for index, surface in enumerate(surfaces[road.id])
        for strip in surface.strips
        if strip.lane.type in DRIVING_TYPES
    }
    lanes = {key: _lane(key, site, sites) for key, site in sites.items()}
    successors = _successors(file, sites, lanes)
    return {key: replace(lane, successors=successors[key]) for key, lane in lanes.items()}


def _lane(key: str, site: _Site, sites: dict[str, _Site]) -> Lane:
    strip, road = site.strip, site.road
    step = 1 if site.along_road else -1
    left, right = (strip.left_m, strip.right_m)[::step]

    def neighbor(offset: int) -> str | None:
        other = site.lane_id + offset
        candidate = _key(road.id, site.section, other)
        return candidate if other * site.lane_id > 0 and candidate in sites else None

    return Lane(
        id=key,
        centerline_m=simplify(strip.center_m[::step]),
        left_m=simplify(left[::step]),
        right_m=simplify(right[::step]),
        left_neighbor=neighbor(step),
        right_neighbor=neighbor(-step),
        in_junction=road.junction is not None,
        speed_limit_mps=strip.lane.speed_limit_mps or _road_limit_mps(site),
    )


def _road_limit_mps(site: _Site) -> float | None:
    sections = [section.s_m for section in site.road.sections]
    begin_m, *following = sections[site.section :]
    return site.road.speed_limit_mps(begin_m, min(following, default=site.road.length_m))


def _successors(
    file: OpenDriveFile, sites: dict[str, _Site], lanes: dict[str, Lane]
) -> dict[str, tuple[str, ...]]:
    """Follows the file's links both ways, because towns name some of them only once."""
    found: dict[str, set[str]] = defaultdict(set)
    for key, site in sites.items():
        found[key].update(_linked(file, site, at_end=site.along_road))
        for previous in _linked(file, site, at_end=not site.along_road, junctions=False):
            found[previous].add(key)
    return {
        key: tuple(sorted(n for n in found[key] if n in lanes and _touch(lanes[key], lanes[n])))
        for key in sites
    }


def _touch(lane: Lane, following: Lane) -> bool:
    gap = lane.centerline_m[-1] - following.centerline_m[0]
    return float(np.linalg.norm(gap)) < _LINK_GAP_M


def _linked(file: OpenDriveFile, site: _Site, *, at_end: bool, junctions: bool = True) -> list[str]:
    """Returns the lanes linked to one end of a lane: the road's end or its start."""
    road, lane = site.road, site.strip.lane
    link = lane.successor if at_end else lane.predecessor
    section = site.section + (1 if at_end else -1)
    if 0 <= section < len(road.sections):
        return [] if link is None else [_key(road.id, section, link)]
    road_link = road.successor if at_end else road.predecessor
    if road_link is None:
        return []
    if road_link.is_junction:
        return _connected(file, site, road_link.id) if junctions else []
    other = file.roads.get(road_link.id)
    if other is None or link is None:
        return []
    return [_key(other.id, 0 if road_link.at_start else len(other.sections) - 1, link)]


def _connected(file: OpenDriveFile, site: _Site, junction: str) -> list[str]:
    """Returns the connecting lanes that a lane leads onto in a junction."""
    result = []
    for connection in file.junctions.get(junction, ()):
        connecting = file.roads.get(connection.connecting_road)
        if connection.incoming_road != site.road.id or connecting is None:
            continue
        section = 0 if connection.at_start else len(connecting.sections) - 1
        result += [
            _key(connecting.id, section, to)
            for origin, to in connection.lane_links
            if origin == site.lane_id
        ]
    return result


def _traffic_lights(file: OpenDriveFile, lanes: dict[str, Lane]) -> tuple[TrafficLight, ...]:
    lights = {
        signal.id: (road, signal)
        for road in file.roads.values()
        for signal in road.signals
        if signal.is_light
    }
    signals = [(road, s) for road in file.roads.values() for s in road.signals if s.id in lights]
    governed: dict[str, list[str]] = defaultdict(list)
    for road, signal in signals:
        if road.junction is not None:
            governed[signal.id] += _valid_lanes(road, signal, lanes)
    for road, signal in signals:
        if road.junction is None and not governed[signal.id]:  # it stands before the junction
            entered = (lanes[key].successors for key in _valid_lanes(road, signal, lanes))
            governed[signal.id] += [k for keys in entered for k in keys if lanes[k].in_junction]
    return tuple(
        _traffic_light(road, signal, tuple(sorted(set(governed[key]))), lanes)
        for key, (road, signal) in lights.items()
    )


def _valid_lanes(road: RoadRecord, signal: SignalRecord, lanes: dict[str, Lane]) -> list[str]:
    """Returns the lanes of a road that a signal on it, or a reference to one, is valid for."""

    def is_valid(lane: int) -> bool:
        if not signal.validity:
            return signal.along_road == ((lane > 0) == road.left_hand)
        return any(min(span) <= lane <= max(span) for span in signal.validity)

    return [
        key
        for section, record in enumerate(road.sections)
        for lane in record.lanes
        if is_valid(lane) and (key := _key(road.id, section, lane)) in lanes
    ]


def _traffic_light(
    road: RoadRecord, signal: SignalRecord, governed: tuple[str, ...], lanes: dict[str, Lane]
) -> TrafficLight:
    told_m = signal.z_offset_m if signal.z_offset_m > _LEAST_LIGHT_HEIGHT_M else LIGHT_HEIGHT_M
    center, heading = road_point(road, signal.s_m, signal.t_m, told_m)
    if governed:
        entry: FloatArray = lanes[governed[0]].centerline_m[:2]
        driven = float(np.arctan2(*(entry[1] - entry[0])[1::-1]))
    else:
        driven = heading + signal.heading_offset_rad + (0.0 if signal.along_road else np.pi)
    return TrafficLight(signal.id, center, float(wrap_angle(driven + np.pi)), governed)


def _stop_lines(lanes: dict[str, Lane], lights: tuple[TrafficLight, ...]) -> list[FloatArray]:
    """Returns lines across the ends of the lanes that lead onto governed connectors."""
    governed = {key for light in lights for key in light.lane_ids}
    return [
        np.stack([lane.left_m[-1], lane.right_m[-1]])
        for lane in lanes.values()
        if not lane.in_junction
        and lane.left_m is not None
        and lane.right_m is not None
        and governed.intersection(lane.successors)
    ]

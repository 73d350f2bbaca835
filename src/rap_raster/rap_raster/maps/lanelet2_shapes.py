"""What is drawn of a Lanelet2 map: painted lines, road borders, stop lines and areas.

Lines are drawn as mapped, also in junctions, where only what is painted on the road is a way of its
own. Virtual ways, symbols and markings for cyclists and pedestrians are not drawn.

Source of the tags: Lanelet2, LinestringTagging and LaneletAndAreaTagging; of areas that are closed
ways: Autoware, autoware_lanelet2_extension, lanelet2_format_extension.md.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import numpy as np
import shapely

from rap_raster.frames import FloatArray
from rap_raster.maps.lane_geometry import polyline_length, simplify
from rap_raster.maps.lanelet2_file import AreaRecord, Lanelet2File, Way
from rap_raster.maps.lanelet2_ribbon import Ribbon
from rap_raster.maps.shape_parts import (
    Shape,
    area_rings,
    pieces,
    polygons_of,
    sparse_line,
    united,
    with_height,
)
from rap_raster.scene import LineKind, PolygonKind, Shapes

_BORDER_TYPES = frozenset(
    {"road_border", "curbstone", "guard_rail", "jersey_barrier", "wall", "fence"}
)
_BESIDE_M = 0.5  # Borders this near to what can be driven on are the road's, not a footway's.
_SHOULDER_SUBTYPES = frozenset({"bicycle_lane", "emergency_lane", "road_shoulder"})
_AREA_KINDS = {
    "intersection_area": PolygonKind.INTERSECTION,
    "speed_bump": PolygonKind.SPEED_BUMP,
    "parking_lot": PolygonKind.DRIVABLE,
    "hatched_road_markings": PolygonKind.DRIVABLE,
}
_STOP_RULES = frozenset({"traffic_light", "traffic_sign", "right_of_way", "all_way_stop"})
_RING_POINTS = 3


def map_shapes(
    file: Lanelet2File,
    ribbons: Mapping[str, Ribbon],
    driven: Collection[str],
    junction: Collection[str],
) -> tuple[Shapes, Shapes]:
    """Returns the polylines and the polygons of a map.

    Args:
        file: The map.
        ribbons: Its lanelets as strips.
        driven: Ids of the lanelets that vehicles drive on.
        junction: Ids of those inside junctions.
    """
    areas = [
        *_way_areas(file),
        *_lanelet_areas(file, ribbons, driven),
        *((PolygonKind.DRIVABLE, ring) for area in file.areas for ring in _area_rings(area)),
    ]
    surface = [ring for kind, ring in areas if kind == PolygonKind.DRIVABLE]
    lines = [*_painted(file), *_borders(file, surface)]
    for key in driven:
        lines += sparse_line(LineKind.LANE_CENTERLINE, ribbons[key].center_m)
    if not any(kind == PolygonKind.INTERSECTION for kind, _ in areas):
        areas += _intersections([ribbons[key] for key in driven if key in junction])
    return Shapes.from_list(lines), Shapes.from_list(areas)


def _painted(file: Lanelet2File) -> Iterator[Shape]:
    """Yields painted lines: those that may be crossed from both sides divide lanes, others bound.

    Stop lines are found by their tag and by the rules that begin at them.
    """
    stops = {way.id for way in file.ways.values() if way.tags.get("type") == "stop_line"}
    for rule in file.rules.values():
        if rule.tags.get("subtype") in _STOP_RULES:
            stops |= {way.id for way in rule.ref_lines}
    for way in file.ways.values():
        if way.id in stops:
            yield from sparse_line(LineKind.STOP_LINE, way.points_m)
        elif way.tags.get("type") in ("line_thin", "line_thick"):
            is_dashed = way.tags.get("subtype") == "dashed"
            kind = LineKind.LANE_DIVIDER if is_dashed else LineKind.LANE_BOUNDARY
            yield from sparse_line(kind, way.points_m)


def _borders(file: Lanelet2File, surface: list[FloatArray]) -> Iterator[Shape]:
    """Yields the kerbs and the like that run along what can be driven on."""
    polygons = [shapely.make_valid(shapely.Polygon(ring[:, :2])) for ring in surface]
    beside = shapely.buffer(polygons, _BESIDE_M)
    tree = shapely.STRtree(beside)
    for way in file.ways.values():
        if way.tags.get("type") in _BORDER_TYPES and len(way.nodes) > 1:
            line = shapely.LineString(way.points_m[:, :2])
            near = shapely.union_all(beside[tree.query(line, predicate="intersects")])
            if line.intersection(near).length > 0.5 * line.length:
                yield from sparse_line(LineKind.ROAD_BOUNDARY, way.points_m)


def _way_areas(file: Lanelet2File) -> list[Shape]:
    return [
        (_AREA_KINDS[way.tags["type"]], ring)
        for way in file.ways.values()
        if way.tags.get("type") in _AREA_KINDS
        for ring in _area_rings(AreaRecord(way.id, _open_ring(way), ()))
    ]


def _open_ring(way: Way) -> FloatArray:
    closed = len(way.nodes) > 1 and way.nodes[0] == way.nodes[-1]
    return way.points_m[:-1] if closed else way.points_m


def _lanelet_areas(
    file: Lanelet2File, ribbons: Mapping[str, Ribbon], driven: Collection[str]
) -> Iterator[Shape]:
    surface = set(driven) | set(_shoulders(file, driven))
    for key, lanelet in file.lanelets.items():
        if lanelet.tags.get("subtype") == "crosswalk":
            yield PolygonKind.CROSSWALK, ribbons[key].ring_m
        elif key in surface:
            for ring in _pieces_of(ribbons[key]):
                yield PolygonKind.DRIVABLE, ring


def _shoulders(file: Lanelet2File, driven: Collection[str]) -> Iterator[str]:
    """Yields lanelets that vehicles can get onto: no kerb between them and one they drive on."""
    open_sides = {
        bound.way.id
        for key in driven
        for bound in (file.lanelets[key].left, file.lanelets[key].right)
        if bound.way.tags.get("type") not in _BORDER_TYPES
    }
    for key, lanelet in file.lanelets.items():
        if lanelet.tags.get("subtype") in _SHOULDER_SUBTYPES and not open_sides.isdisjoint(
            (lanelet.left.way.id, lanelet.right.way.id)
        ):
            yield key


def _pieces_of(ribbon: Ribbon) -> Iterator[FloatArray]:
    """Yields the outlines of pieces of a lanelet."""
    length_m = max(polyline_length(ribbon.left_m), polyline_length(ribbon.right_m))
    for piece in pieces(len(ribbon.left_m), length_m):
        left, right = simplify(ribbon.left_m[piece]), simplify(ribbon.right_m[piece])
        yield np.concatenate([left, right[::-1]])


def _area_rings(area: AreaRecord) -> Iterator[FloatArray]:
    """Yields outlines without holes."""
    if len(area.outer_m) < _RING_POINTS:
        return
    if not area.inner_m:
        yield area.outer_m
        return
    polygon = shapely.Polygon(area.outer_m[:, :2], [ring[:, :2] for ring in area.inner_m])
    yield from area_rings(polygon, np.concatenate([area.outer_m, *area.inner_m]))


def _intersections(ribbons: list[Ribbon]) -> list[Shape]:
    """Returns the areas that the lanelets of junctions cover together."""
    if not ribbons:
        return []
    known = np.concatenate([ribbon.ring_m for ribbon in ribbons])
    return [
        (PolygonKind.INTERSECTION, _outline(polygon, known))
        for polygon in polygons_of(united(ribbon.ring_m for ribbon in ribbons))
    ]


def _outline(polygon: shapely.Polygon, known_m: FloatArray) -> FloatArray:
    return with_height(shapely.get_coordinates(polygon.exterior)[:-1], known_m)

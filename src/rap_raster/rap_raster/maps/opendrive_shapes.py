"""What is drawn of an OpenDRIVE map: lane lines, road boundaries, surfaces and crossings.

Outside junctions lines follow the lane edges. Inside, connectors overlap, so no lane lines are
drawn and the boundary is that of the union of all connectors, open where roads enter.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import shapely

from rap_raster.frames import FloatArray, transform_from_yaw, transform_points
from rap_raster.maps.lane_geometry import simplify
from rap_raster.maps.opendrive_file import ObjectRecord, OpenDriveFile, RoadRecord
from rap_raster.maps.road_surface import DRIVING_TYPES, SectionSurface, Strip, road_point
from rap_raster.maps.shape_parts import (
    Shape,
    pieces,
    polygons_of,
    split_line,
    united,
    with_height,
    without_holes,
)
from rap_raster.scene import LineKind, PolygonKind, Shapes

_MOUTH_M = 0.5  # Half width of the opening cut around the line where a road enters a junction.
_CLOSED_M = 1e-3  # Between the ends of an outline that is closed.
_MIN_LINE_M = 0.3  # Shorter rests of a boundary are left over by cutting.

Surfaces = dict[str, list[SectionSurface]]


def map_shapes(
    file: OpenDriveFile, surfaces: Surfaces, stop_lines: list[FloatArray]
) -> tuple[Shapes, Shapes]:
    """Returns the polylines and the polygons of a map."""
    lines: list[Shape] = [(LineKind.STOP_LINE, line) for line in stop_lines]
    areas: list[Shape] = []
    junctions: dict[str, list[RoadRecord]] = defaultdict(list)
    for road in file.roads.values():
        lines += _centerlines(road, surfaces[road.id])
        areas += _crosswalks(road)
        if road.junction is None:
            for surface in surfaces[road.id]:
                lines += _section_lines(surface)
                areas += [(PolygonKind.DRIVABLE, ring) for ring in _surface_rings(surface)]
        else:
            junctions[road.junction].append(road)
    for connectors in junctions.values():
        junction_lines, junction_areas = _junction_shapes(file, surfaces, connectors)
        lines += junction_lines
        areas += junction_areas
    return Shapes.from_list(lines), Shapes.from_list(areas)


def _centerlines(road: RoadRecord, surfaces: list[SectionSurface]) -> list[Shape]:
    """Returns centrelines in driving direction, of which receivers may make lanes again."""
    return [
        shape
        for surface in surfaces
        for strip in surface.strips
        if strip.lane.type in DRIVING_TYPES
        for shape in split_line(
            LineKind.LANE_CENTERLINE,
            strip.center_m if (strip.lane.id > 0) == road.left_hand else strip.center_m[::-1],
        )
    ]


def _section_lines(surface: SectionSurface) -> list[Shape]:
    """Returns the edges of a section's strips: the road's boundary or painted lines."""
    shapes: list[Shape] = []
    left_is_surface = False
    marks = surface.left_marks
    for strip in surface.strips:
        shapes += _edge(surface, strip.left_m, marks, left_is_surface, strip.is_surface)
        left_is_surface, marks = strip.is_surface, strip.right_marks
    if surface.strips:
        shapes += _edge(surface, surface.strips[-1].right_m, marks, left_is_surface, False)
    return shapes


def _edge(
    surface: SectionSurface,
    points_m: FloatArray,
    marks: tuple[tuple[float, str], ...],
    left_is_surface: bool,
    right_is_surface: bool,
) -> list[Shape]:
    if left_is_surface != right_is_surface:
        return split_line(LineKind.ROAD_BOUNDARY, points_m)
    if not left_is_surface:
        return []
    shapes: list[Shape] = []
    starts = [surface.s_m[0] + offset for offset, _ in marks] + [surface.s_m[-1]]
    for (_, mark), start, end in zip(marks, starts[:-1], starts[1:], strict=True):
        kind = _line_kind(mark)
        first, last = np.searchsorted(surface.s_m, [start, end])
        if kind is not None and last > first:
            shapes += split_line(kind, points_m[first : last + 1])
    return shapes


def _line_kind(mark: str) -> LineKind | None:
    """A line that may be crossed from both sides divides lanes; any solid one bounds them."""
    if "solid" in mark or mark == "curb":
        return LineKind.LANE_BOUNDARY
    return LineKind.LANE_DIVIDER if "broken" in mark else None


def _surface_rings(surface: SectionSurface) -> list[FloatArray]:
    rings = []
    for group in surface.groups():
        left, right = group[0].left_m, group[-1].right_m
        for piece in pieces(len(left), surface.s_m[-1] - surface.s_m[0]):
            ring = np.concatenate([simplify(left[piece]), simplify(right[piece])[::-1]])
            rings.append(ring)
    return rings


def _crosswalks(road: RoadRecord) -> list[Shape]:
    return [
        (PolygonKind.CROSSWALK, ring)
        for item in road.objects
        if item.type == "crosswalk"
        for ring in _outlines(road, item)
    ]


def _outlines(road: RoadRecord, item: ObjectRecord) -> list[FloatArray]:
    """Returns the (n, 3) open rings of an object's outlines in the map frame."""
    origin, heading = road_point(road, item.s_m, item.t_m, item.z_offset_m)
    map_from_object = transform_from_yaw(heading + item.heading_rad, origin)
    rings = [transform_points(map_from_object, np.array(corners)) for corners in item.local_m]
    rings += [
        np.array([road_point(road, *corner)[0] for corner in corners]) for corners in item.road_m
    ]
    # By metres, not by shares of coordinates, which are millions in UTM.
    return [r[:-1] if np.linalg.norm(r[0] - r[-1]) < _CLOSED_M else r for r in rings]


def _junction_shapes(
    file: OpenDriveFile, surfaces: Surfaces, connectors: list[RoadRecord]
) -> tuple[list[Shape], list[Shape]]:
    sections = [surface for road in connectors for surface in surfaces[road.id]]
    edges = [edge for s in sections for group in s.groups() for edge in _group_edges(group)]
    if not edges:
        return [], []
    union = united(ring for surface in sections for ring in _surface_rings(surface))
    heights = np.concatenate(edges)
    lines = [
        (int(LineKind.ROAD_BOUNDARY), simplify(piece[1]))
        for line in _boundary(union, _openings(file, surfaces, connectors))
        for piece in split_line(LineKind.ROAD_BOUNDARY, with_height(line, heights))
    ]
    areas: list[Shape] = []
    for polygon in polygons_of(union):
        outline = shapely.get_coordinates(polygon.exterior)[:-1]
        areas.append((PolygonKind.INTERSECTION, with_height(outline, heights)))
        for part in without_holes(polygon):
            ring = shapely.get_coordinates(part.exterior)[:-1]
            areas.append((PolygonKind.DRIVABLE, with_height(ring, heights)))
    return lines, areas


def _group_edges(group: list[Strip]) -> tuple[FloatArray, FloatArray]:
    return group[0].left_m, group[-1].right_m


def _openings(
    file: OpenDriveFile, surfaces: Surfaces, connectors: list[RoadRecord]
) -> shapely.Geometry:
    """Returns what is cut out of a junction's boundary: the ends of the roads that enter it."""
    shapes = []
    junction = connectors[0].junction
    for road in file.roads.values():
        if road.junction is not None:
            continue
        for link, index, sample in ((road.predecessor, 0, 0), (road.successor, -1, -1)):
            if link is None or not link.is_junction or link.id != junction:
                continue
            surface = surfaces[road.id][index]
            for group in surface.groups():
                ends = np.stack([group[0].left_m[sample], group[-1].right_m[sample]])
                shapes.append(shapely.LineString(ends[:, :2]).buffer(_MOUTH_M))
            shapes += [
                shapely.make_valid(shapely.Polygon(ring[:, :2])).buffer(-0.1)
                for ring in _surface_rings(surface)
            ]
    return shapely.union_all(shapes)


def _boundary(union: shapely.Geometry, openings: shapely.Geometry) -> list[FloatArray]:
    """Returns the (n, 2) lines of an area's boundary outside the openings."""
    outline = shapely.segmentize(union.boundary, 2.0)
    rest = shapely.line_merge(shapely.difference(outline, openings))
    parts = [part for part in shapely.get_parts(rest) if part.length >= _MIN_LINE_M]
    return [shapely.get_coordinates(part) for part in parts]

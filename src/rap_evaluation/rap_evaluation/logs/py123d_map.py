"""Maps of py123d as a `VectorMap`, read without py123d.

Walkways and stop zones are left out: we draw no walkways, and stop zones are areas before a light,
not lines. Lanes for bicycles are no lanes of the graph.

Source: py123d 0.7, `api/map/arrow/arrow_map_writer.py` (columns, features) and
`datatypes/map_objects/map_layer_types.py` (numbers).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import shapely

from rap_evaluation.logs.log_reader import LogError
from rap_evaluation.logs.msgpack_values import unpacked
from rap_evaluation.logs.py123d_tables import Py123dTable, open_table
from rap_raster.frames import FloatArray
from rap_raster.maps.lane_geometry import simplify
from rap_raster.maps.shape_parts import Shape, area_rings, sparse_line
from rap_raster.maps.vector_map import Lane, VectorMap
from rap_raster.scene import LineKind, PolygonKind, Shapes


class MapLayer(IntEnum):
    """Layers of a map file; the value is the code in its column."""

    LANE = 0
    LANE_GROUP = 1
    INTERSECTION = 2
    CROSSWALK = 3
    WALKWAY = 4
    CARPARK = 5
    GENERIC_DRIVABLE = 6
    STOP_ZONE = 7
    ROAD_EDGE = 8
    ROAD_LINE = 9
    SPEED_BUMP = 10


_AREAS = {
    MapLayer.LANE_GROUP: PolygonKind.DRIVABLE,
    MapLayer.CARPARK: PolygonKind.DRIVABLE,
    MapLayer.GENERIC_DRIVABLE: PolygonKind.DRIVABLE,
    MapLayer.INTERSECTION: PolygonKind.INTERSECTION,
    MapLayer.CROSSWALK: PolygonKind.CROSSWALK,
    MapLayer.SPEED_BUMP: PolygonKind.SPEED_BUMP,
}
_FARTHEST_M = 1e7  # Largest northing of UTM.
_BIKE_LANE = 3  # Of `LaneType`.
_NO_LINE = 0  # Of `RoadLineType`; and
_DASHED = frozenset({4, 5, 8, 9})  # those that may be crossed from both sides.


@dataclass(frozen=True, slots=True)
class _Row:
    """One map object: layer, id, and what its features and geometry hold."""

    layer: MapLayer
    id: int
    features: dict[str, Any]
    geometry: shapely.Geometry

    def line(self, name: str) -> FloatArray:
        """Returns a (n, 3) feature."""
        line = np.asarray(self.features[name], dtype=np.float64)
        if line.ndim != 2 or line.shape[1] != 3 or len(line) < 2:
            raise ValueError(f"{name}: expected 2 points or more of 3 numbers")
        if not (np.abs(line) <= _FARTHEST_M).all():
            raise ValueError(f"{name}: expected numbers up to {_FARTHEST_M:g}")
        return line

    def key(self, name: str) -> str | None:
        """Returns the id in a feature as we name lanes."""
        value = self.features[name]
        return None if value is None else str(int(value))


def read_py123d_map(file: Path) -> VectorMap:
    """Reads a map file.

    Lane ids are py123d's numbers. Neighbours that run the other way are no neighbours.

    Args:
        file: `map.arrow` of a log, or a file below py123d's `maps` folder.

    Raises:
        LogError: If it is missing, damaged or of another layout.
    """
    table = open_table(file)
    rows = list(_rows(table))
    lanes: dict[str, Lane] = {}
    lines: list[Shape] = []
    areas: list[Shape] = []
    crossed = {row.id for row in rows if row.layer is MapLayer.LANE_GROUP and _is_crossed(row)}
    for row in rows:
        try:
            _add(row, crossed, lanes, lines, areas)
        except (KeyError, TypeError, ValueError) as error:
            raise table.error(f"{row.layer.name.lower()} {row.id}: {error}") from error
    names = [table.metadata.get(key) for key in ("dataset", "location")]
    name = " ".join(str(part) for part in names if part) or file.stem
    return VectorMap(name, Shapes.from_list(lines), Shapes.from_list(areas), _checked(lanes))


def _rows(table: Py123dTable) -> Iterator[_Row]:
    columns = [table.column(name) for name in ("map_layer", "object_id", "features", "wkb")]
    for column, types in zip(columns, _TYPES, strict=True):
        if column.type not in types or column.null_count:
            raise table.error(f"expected {types[0]} in every row, got {column.type}")
    for index, values in enumerate(zip(*(column.to_pylist() for column in columns), strict=True)):
        layer, key, features, wkb = values
        try:
            row = _Row(MapLayer(layer), key, unpacked(features), shapely.from_wkb(wkb))
        except (ValueError, shapely.errors.ShapelyError) as error:
            raise LogError(f"{table.file}: row {index}: {_line(error)}") from error
        if not isinstance(row.features, dict):
            raise LogError(f"{table.file}: row {index}: features: expected a map")
        if not (np.abs(row.geometry.bounds) <= _FARTHEST_M).all():
            raise LogError(f"{table.file}: row {index}: wkb: expected places up to {_FARTHEST_M:g}")
        yield row


_TYPES = ((pa.int8(),), (pa.int64(),), (pa.binary(), pa.large_binary()),
          (pa.binary(), pa.large_binary()))  # fmt: skip


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _is_crossed(group: _Row) -> bool:
    return group.features.get("intersection_id") is not None


def _add(
    row: _Row,
    crossed: set[int],
    lanes: dict[str, Lane],
    lines: list[Shape],
    areas: list[Shape],
) -> None:
    """Adds what a row is to the map."""
    if row.layer is MapLayer.LANE and row.features["lane_type"] != _BIKE_LANE:
        lanes[str(row.id)] = _lane(row, crossed)
        lines += sparse_line(LineKind.LANE_CENTERLINE, row.line("centerline"))
        if row.features["lane_group_id"] is None:
            areas += [(PolygonKind.DRIVABLE, ring) for ring in _rings(row)]
    elif row.layer in _AREAS:
        areas += [(_AREAS[row.layer], ring) for ring in _rings(row)]
    elif row.layer is MapLayer.ROAD_EDGE:
        lines += sparse_line(LineKind.ROAD_BOUNDARY, _points(row))
    elif row.layer is MapLayer.ROAD_LINE and row.features["road_line_type"] != _NO_LINE:
        dashed = row.features["road_line_type"] in _DASHED
        kind = LineKind.LANE_DIVIDER if dashed else LineKind.LANE_BOUNDARY
        lines += sparse_line(kind, _points(row))


def _lane(row: _Row, crossed: set[int]) -> Lane:
    limit = row.features["speed_limit_mps"]
    return Lane(
        id=str(row.id),
        centerline_m=simplify(row.line("centerline")),
        left_m=simplify(row.line("left_boundary")),
        right_m=simplify(row.line("right_boundary")),
        successors=tuple(sorted({str(int(key)) for key in row.features["successor_ids"]})),
        left_neighbor=row.key("left_lane_id"),
        right_neighbor=row.key("right_lane_id"),
        in_junction=row.features["lane_group_id"] in crossed,
        speed_limit_mps=None if limit is None or not np.isfinite(limit) else float(limit),
    )


def _rings(row: _Row) -> Iterator[FloatArray]:
    return area_rings(row.geometry, row.line("outline"))


def _points(row: _Row) -> FloatArray:
    """Returns the (n, 3) points of a line; flat maps have no heights."""
    points: FloatArray = shapely.get_coordinates(row.geometry, include_z=True)
    return np.where(np.isnan(points), 0.0, points)


def _checked(lanes: Mapping[str, Lane]) -> dict[str, Lane]:
    """Drops links to lanes that are not there, and neighbours that run the other way."""
    return {
        key: replace(
            lane,
            successors=tuple(k for k in lane.successors if k in lanes),
            left_neighbor=_same_way(lane, lane.left_neighbor, lanes),
            right_neighbor=_same_way(lane, lane.right_neighbor, lanes),
        )
        for key, lane in lanes.items()
    }


def _same_way(lane: Lane, neighbor: str | None, lanes: Mapping[str, Lane]) -> str | None:
    if neighbor is None or neighbor not in lanes:
        return None
    chords = [line[-1, :2] - line[0, :2]
              for line in (lane.centerline_m, lanes[neighbor].centerline_m)]  # fmt: skip
    return neighbor if float(chords[0] @ chords[1]) > 0.0 else None

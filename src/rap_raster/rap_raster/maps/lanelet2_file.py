"""Lanelet2 maps in OSM XML as plain data: reading, checking and projecting, no map semantics.

Source of the layout: Lanelet2, `lanelet2_io` (OsmFile, OsmHandler) and `lanelet2_core/doc`; of the
node tags local_x, local_y and ele: Autoware, `autoware_lanelet2_extension/docs`.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from rap_raster.frames import FloatArray
from rap_raster.maps.geographic import UtmZone, covers, mgrs_square, utm_metres, utm_zone
from rap_raster.maps.lane_geometry import polyline_length
from rap_raster.maps.xml_file import MapError, finite_number, read_xml, text_of

_FARTHEST_M = 1e6  # A map of 1,000 km is a mistake in a node or in the origin.
_FARTHEST_DEG = 10.0  # So is this, and UTM is not meant for more.
_AREA_SUBTYPES = ("parking", "freespace", "road", "exit")

Tags = dict[str, str]


class ProjectionKind(Enum):
    """How a map's nodes become metres."""

    LOCAL = "local"
    UTM = "utm"
    MGRS = "mgrs"


@dataclass(frozen=True, slots=True)
class Projection:
    """How a map's nodes become metres; x is east, y north, z the node's ele.

    LOCAL takes the node tags local_x and local_y as they are: Autoware's projector type Local, and
    what its tools write beside MGRS. UTM is metres of the origin's zone from the origin: Lanelet2's
    UtmProjector, Autoware's LocalCartesianUTM. MGRS is metres of the origin's zone from the corner
    of the origin's square of 100 km: Autoware's default.

    Attributes:
        kind: Which of them.
        origin_deg: Latitude and longitude; None for the first node of the file. Not of LOCAL.
    """

    kind: ProjectionKind
    origin_deg: tuple[float, float] | None = None


def stated_projection(
    kind: ProjectionKind | None, origin_deg: tuple[float, float] | None
) -> Projection | None:
    """Returns the projection that a user states, or None if the file is to tell.

    Args:
        kind: None if it is not stated.
        origin_deg: Latitude and longitude, or None.

    Raises:
        ValueError: If there is an origin and nothing that counts from it.
    """
    if origin_deg is not None and kind in (None, ProjectionKind.LOCAL):
        got = "none" if kind is None else kind.value
        raise ValueError(f"goes with projection utm or mgrs, got {got}")
    return None if kind is None else Projection(kind, origin_deg)


@dataclass(frozen=True, slots=True)
class Way:
    """A line, or the outline of an area.

    Attributes:
        id: As in the file.
        nodes: Ids of its nodes.
        points_m: (n, 3) their places, map frame.
        tags: As in the file.
        has_height: True if its nodes have an ele tag.
    """

    id: str
    nodes: tuple[str, ...]
    points_m: FloatArray
    tags: Tags
    has_height: bool


@dataclass(frozen=True, slots=True)
class Bound:
    """A side of a lanelet: a way, in the direction of the lanelet."""

    way: Way
    is_reversed: bool

    @property
    def nodes(self) -> tuple[str, ...]:
        """Node ids along the lanelet."""
        return self.way.nodes[::-1] if self.is_reversed else self.way.nodes

    @property
    def points_m(self) -> FloatArray:
        """(n, 3) along the lanelet, map frame."""
        return self.way.points_m[::-1] if self.is_reversed else self.way.points_m

    @property
    def inverted(self) -> Bound:
        """The same line the other way round."""
        return Bound(self.way, not self.is_reversed)

    @property
    def key(self) -> tuple[str, bool]:
        """Equal for lanelets that share the way and run the same way along it."""
        return self.way.id, self.is_reversed


@dataclass(frozen=True, slots=True)
class Rule:
    """A regulatory element: what it refers to and the lines where it begins to hold."""

    id: str
    tags: Tags
    refers: tuple[Way, ...]
    ref_lines: tuple[Way, ...]


@dataclass(frozen=True, slots=True)
class Lanelet:
    """A lanelet; left and right are seen in its direction."""

    id: str
    tags: Tags
    left: Bound
    right: Bound
    centerline: Way | None
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class AreaRecord:
    """An area: (n, 3) rings, not closed, map frame."""

    id: str
    outer_m: FloatArray
    inner_m: tuple[FloatArray, ...]


@dataclass(frozen=True, slots=True)
class Lanelet2File:
    """What a file holds.

    Attributes:
        projection: In words, with the origin used.
        ways: All ways by id.
        rules: All regulatory elements by id.
        lanelets: All lanelets by id.
        areas: Areas that vehicles can be on.
    """

    projection: str
    ways: dict[str, Way]
    rules: dict[str, Rule]
    lanelets: dict[str, Lanelet]
    areas: tuple[AreaRecord, ...]


def read_lanelet2(path: Path, projection: Projection | None = None) -> Lanelet2File:
    """Reads a .osm file.

    Args:
        path: The file.
        projection: None for LOCAL where the nodes of ways have local_x and local_y, for UTM where
            none of them has.

    Raises:
        MapError: If it cannot be read, is no Lanelet2 map, or something is missing or wrong.
    """
    root = read_xml(path, "osm")
    nodes, words = _nodes(root, path, projection, _used(root, path))
    ways = {
        way.id: way
        for way in (_way(element, nodes, path) for element in _elements(root, "way", path))
    }
    relations = [(element, _tags(element, path)) for element in _elements(root, "relation", path)]
    chosen = {kind: [r for r in relations if r[1].get("type") == kind] for kind in _KINDS}
    rules = {element.attrib["id"]: _rule(element, tags, ways, path)
             for element, tags in chosen["regulatory_element"]}  # fmt: skip
    lanelets = {element.attrib["id"]: _lanelet(element, tags, ways, rules, path)
                for element, tags in chosen["lanelet"]}  # fmt: skip
    if not lanelets:
        raise MapError(f"{path}: has no lanelet")
    areas = tuple(
        _area(element, ways, path)
        for element, tags in chosen["multipolygon"]
        if tags.get("subtype") in _AREA_SUBTYPES
    )
    return Lanelet2File(words, ways, rules, lanelets, areas)


_KINDS = ("regulatory_element", "lanelet", "multipolygon")


def _elements(root: ET.Element, tag: str, path: Path) -> Iterator[ET.Element]:
    """Yields the elements of a kind; editors keep deleted ones in the file and mark them."""
    for i, element in enumerate(root.iterfind(tag)):
        text_of(element, "id", f"{path}: {tag} {i}")
        if element.get("action") != "delete":
            yield element


def _tags(element: ET.Element, path: Path) -> Tags:
    where = f"{path}: {element.tag} {element.get('id')}"
    return {text_of(tag, "k", where): text_of(tag, "v", where) for tag in element.iterfind("tag")}


@dataclass(frozen=True, slots=True)
class _Nodes:
    """Rows by node id, (n, 3) places, and whether each has a height."""

    rows: dict[str, int]
    points_m: FloatArray
    has_height: npt.NDArray[np.bool_]


def _used(root: ET.Element, path: Path) -> set[str]:
    """Returns the ids of the nodes that ways go through: editors leave others behind."""
    return {
        text_of(nd, "ref", f"{path}: way {way.get('id')}")
        for way in _elements(root, "way", path)
        for nd in way.iterfind("nd")
    }


def _nodes(
    root: ET.Element, path: Path, projection: Projection | None, used: set[str]
) -> tuple[_Nodes, str]:
    """Returns the projected nodes that are used and the projection in words."""
    values = {
        e.attrib["id"]: _node(e, path)
        for e in _elements(root, "node", path)
        if e.attrib["id"] in used
    }
    if not values:
        raise MapError(f"{path}: has no node that a way goes through")
    ids, table = list(values), np.array(list(values.values()))
    if projection is None:
        without = np.isnan(table[:, 2:4]).any(axis=1)
        if without.any() and not without.all():
            raise MapError(
                f"{path}: node {ids[int(np.argmax(without))]}: has no local_x and local_y, others "
                "have: add them, or state the projection"
            )
        projection = Projection(ProjectionKind.UTM if without.all() else ProjectionKind.LOCAL)
    places, words = _projected(table, ids, path, projection)
    points = np.column_stack([places, _heights(places, table[:, 4])])
    _check(np.abs(points).max(axis=1) <= _FARTHEST_M, ids, f"{_FARTHEST_M} m from the origin", path)
    rows = {key: row for row, key in enumerate(ids)}
    return _Nodes(rows, points, ~np.isnan(table[:, 4])), words


def _heights(places: FloatArray, ele: FloatArray) -> FloatArray:
    """Returns (n,) heights: of a node without one, that of the nearest with one; else zero."""
    known = ~np.isnan(ele)
    if known.all() or not known.any():
        return np.nan_to_num(ele)
    _, nearest = cKDTree(places[known]).query(places)
    return np.where(known, ele, ele[known][nearest])


def _node(element: ET.Element, path: Path) -> tuple[float, ...]:
    """Returns latitude, longitude, local_x, local_y and ele; NaN where there is none."""
    where = f"{path}: node {element.get('id')}"
    texts = {**_tags(element, path), **{key: element.get(key, "") for key in ("lat", "lon")}}
    names = ("lat", "lon", "local_x", "local_y", "ele")
    return tuple(
        finite_number(text, f"{where}: {name}") if (text := texts.get(name, "")) else np.nan
        for name in names
    )


def _check(good: npt.NDArray[np.bool_], ids: Sequence[str], limit: str, path: Path) -> None:
    if not good.all():
        raise MapError(f"{path}: node {ids[int(np.argmin(good))]}: lies more than {limit}")


def _projected(
    table: FloatArray, ids: Sequence[str], path: Path, projection: Projection
) -> tuple[FloatArray, str]:
    """Returns (n, 2) metres and the projection in words."""
    is_local = projection.kind is ProjectionKind.LOCAL
    columns = table[:, 2:4] if is_local else table[:, :2]
    missing = np.isnan(columns).any(axis=1)
    if missing.any():
        names = "local_x and local_y" if is_local else "lat and lon"
        raise MapError(f"{path}: node {ids[int(np.argmax(missing))]}: has no {names}")
    if is_local:
        return columns, "local"
    origin = projection.origin_deg or (float(columns[0, 0]), float(columns[0, 1]))
    if not covers(np.vstack([columns, origin])):
        raise MapError(f"{path}: latitudes and longitudes: expected UTM's, -80 to 84 and +-180")
    away = (columns[:, 1] - origin[1] + 180.0) % 360.0 - 180.0
    _check(np.abs(away) <= _FARTHEST_DEG, ids, f"{_FARTHEST_DEG} degrees from the origin", path)
    zone = utm_zone(*origin)
    corner, words = _origin(projection.kind, origin, zone)
    return utm_metres(columns[:, 0], columns[:, 1], zone) - corner, words


def _origin(
    kind: ProjectionKind, origin_deg: tuple[float, float], zone: UtmZone
) -> tuple[FloatArray, str]:
    """Returns what is the origin in UTM, (2,) metres, and words for it."""
    latitude, longitude = origin_deg
    utm_m = utm_metres(np.array([latitude]), np.array([longitude]), zone)[0]
    if kind is ProjectionKind.UTM:
        return utm_m, f"utm {zone} from {latitude:.8f} {longitude:.8f}"
    square, corner = mgrs_square(latitude, utm_m, zone)
    return corner, f"mgrs {square}"


def _way(element: ET.Element, nodes: _Nodes, path: Path) -> Way:
    where = f"{path}: way {element.get('id')}"
    refs = tuple(text_of(nd, "ref", where) for nd in element.iterfind("nd"))
    for ref in refs:
        if ref not in nodes.rows:
            raise MapError(f"{where}: node {ref} is missing")
    rows = [nodes.rows[ref] for ref in refs]
    has_height = bool(rows) and bool(nodes.has_height[rows].all())
    return Way(element.attrib["id"], refs, nodes.points_m[rows], _tags(element, path), has_height)


def _members(element: ET.Element, role: str, ways: dict[str, Way], path: Path) -> tuple[Way, ...]:
    """Returns the ways that play a role in a relation."""
    where = f"{path}: relation {element.get('id')}"
    found = []
    for member in element.iterfind("member"):
        if member.get("role") == role and member.get("type") == "way":
            ref = text_of(member, "ref", where)
            if ref not in ways:
                raise MapError(f"{where}: way {ref} is missing")
            found.append(ways[ref])
    return tuple(found)


def _rule(element: ET.Element, tags: Tags, ways: dict[str, Way], path: Path) -> Rule:
    refers, ref_lines = (_members(element, role, ways, path) for role in ("refers", "ref_line"))
    return Rule(element.attrib["id"], tags, refers, ref_lines)


def _lanelet(
    element: ET.Element, tags: Tags, ways: dict[str, Way], rules: dict[str, Rule], path: Path
) -> Lanelet:
    where = f"{path}: lanelet {element.get('id')}"
    sides = []
    for role in ("left", "right"):
        found = _members(element, role, ways, path)
        if len(found) != 1:
            raise MapError(f"{where}: expected one {role} way, got {len(found)}")
        if polyline_length(found[0].points_m) <= 0.0:
            raise MapError(f"{where}: {role}: way {found[0].id} has no length")
        sides.append(found[0])
    left, right = _aligned(sides[0], sides[1])
    centerlines = _members(element, "centerline", ways, path)
    centerline = centerlines[0] if centerlines and len(centerlines[0].nodes) > 1 else None
    return Lanelet(
        element.attrib["id"], tags, left, right, centerline, _rules(element, rules, where)
    )


def _rules(element: ET.Element, rules: dict[str, Rule], where: str) -> tuple[Rule, ...]:
    found = []
    for member in element.iterfind("member"):
        if member.get("role") == "regulatory_element":
            ref = text_of(member, "ref", where)
            if ref not in rules:
                raise MapError(f"{where}: regulatory element {ref} is missing")
            found.append(rules[ref])
    return tuple(found)


def _aligned(left: Way, right: Way) -> tuple[Bound, Bound]:
    """Turns two ways so that they run side by side and the left one is on the left.

    Lanelets share ways whichever way these run, so the roles alone say where a lanelet leads.
    """
    a, b = left.points_m[[0, -1], :2], right.points_m[[0, -1], :2]
    crossed = np.hypot(*(a - b).T).sum() > np.hypot(*(a - b[::-1]).T).sum()
    first, second = Bound(left, False), Bound(right, bool(crossed))
    ring = np.concatenate([first.points_m[:, :2], second.points_m[::-1, :2]])
    ring = ring - ring[0]
    following = np.roll(ring, -1, axis=0)
    area = float(ring[:, 0] @ following[:, 1] - ring[:, 1] @ following[:, 0])
    return (first.inverted, second.inverted) if area > 0.0 else (first, second)


def _area(element: ET.Element, ways: dict[str, Way], path: Path) -> AreaRecord:
    where = f"{path}: area {element.get('id')}"
    outer = _rings(_members(element, "outer", ways, path), where)
    if len(outer) != 1:
        raise MapError(f"{where}: expected one closed outline, got {len(outer)}")
    inner = _rings(_members(element, "inner", ways, path), where)
    return AreaRecord(element.attrib["id"], outer[0], tuple(inner))


def _rings(members: Sequence[Way], where: str) -> list[FloatArray]:
    """Joins ways at their ends to closed rings."""
    rings = []
    waiting = [Bound(way, False) for way in members if way.nodes]
    while waiting:
        ring = [waiting.pop(0)]
        while ring[-1].nodes[-1] != ring[0].nodes[0]:
            end = ring[-1].nodes[-1]
            touching = [i for i, b in enumerate(waiting) if end in (b.nodes[0], b.nodes[-1])]
            if not touching:
                raise MapError(f"{where}: outline is open at node {end}")
            onward = waiting.pop(touching[0])
            ring.append(onward if onward.nodes[0] == end else onward.inverted)
        points = np.concatenate([bound.points_m[:-1] for bound in ring])
        if len(points) < 3:
            raise MapError(f"{where}: outline has {len(points)} nodes, expected 3")
        rings.append(points)
    return rings

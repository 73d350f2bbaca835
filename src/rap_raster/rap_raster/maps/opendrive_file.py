"""OpenDRIVE files as plain data: reading and checking the XML, no geometry.

Only what a driving stack draws and routes on is kept.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

from rap_raster.frames import MAX_PLACE_M
from rap_raster.maps.lane_geometry import PiecewiseCubic, PlanElement
from rap_raster.maps.xml_file import MapError, integer_of, number_of, read_xml, text_of

_SPEED_UNITS_MPS = {
    "m/s": 1.0,
    "mph": 0.44704,
    **dict.fromkeys(("km/h", "kmh", "kph"), 1.0 / 3.6),
}
_OTHER_LIGHTS = ("1000002", "1000007", "1000013")
"""Of pedestrians and cyclists. Source: ASAM OpenDRIVE signal reference."""


Corners = tuple[tuple[float, float, float], ...]


LONGEST_M = 1e6
"""Of a road: longer ones are broken numbers, which would fill the memory with points."""


@dataclass(frozen=True, slots=True)
class RoadLink:
    """What a road continues into: a road's end or a junction."""

    is_junction: bool
    id: str
    at_start: bool


@dataclass(frozen=True, slots=True)
class LaneRecord:
    """One lane of a lane section.

    Attributes:
        id: Positive to the left of the reference line, negative to the right, 0 on it.
        type: As in the file.
        width_m: Function of the distance from the section's start; None if `border_m` is used.
        border_m: Distance of the outer edge from the reference line, or None.
        marks: (start distance from the section's start, type) of the outer edge's markings.
        predecessor: Lane id in the previous section or road.
        successor: Lane id in the next section or road.
        speed_limit_mps: Or None.
    """

    id: int
    type: str
    width_m: PiecewiseCubic | None
    border_m: PiecewiseCubic | None
    marks: tuple[tuple[float, str], ...]
    predecessor: int | None
    successor: int | None
    speed_limit_mps: float | None


@dataclass(frozen=True, slots=True)
class SectionRecord:
    """One lane section: its start along the road and its lanes by id."""

    s_m: float
    lanes: dict[int, LaneRecord]


@dataclass(frozen=True, slots=True)
class ObjectRecord:
    """An object of a road.

    Attributes:
        s_m: Where it is along the road.
        t_m: And to the left.
        z_offset_m: And above.
        heading_rad: Of its own frame, relative to the road.
        type: As in the file.
        local_m: Outlines in its own frame, of (u, v, z) corners.
        road_m: Outlines in the road's frame, of (s, t, height above the road) corners.
    """

    s_m: float
    t_m: float
    z_offset_m: float
    heading_rad: float
    type: str
    local_m: tuple[Corners, ...]
    road_m: tuple[Corners, ...]


@dataclass(frozen=True, slots=True)
class SignalRecord:
    """A signal, or a reference to one from a road that it governs.

    `is_light` is None in a reference. `validity` are inclusive lane id ranges; without any it is
    for all lanes of its direction.
    """

    id: str
    s_m: float
    t_m: float
    z_offset_m: float
    heading_offset_rad: float
    along_road: bool
    is_light: bool | None
    validity: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class RoadRecord:
    """One road."""

    id: str
    length_m: float
    junction: str | None
    left_hand: bool
    predecessor: RoadLink | None
    successor: RoadLink | None
    plan: tuple[PlanElement, ...]
    elevation_m: PiecewiseCubic
    superelevation_rad: PiecewiseCubic
    lane_offset_m: PiecewiseCubic
    sections: tuple[SectionRecord, ...]
    objects: tuple[ObjectRecord, ...]
    signals: tuple[SignalRecord, ...]
    speed_limits_mps: tuple[tuple[float, float | None], ...]

    def speed_limit_mps(self, begin_m: float, end_m: float) -> float | None:
        """Returns the lowest known limit that holds somewhere on a stretch of the road."""
        before = [limit for start_m, limit in self.speed_limits_mps if start_m <= begin_m]
        within = [limit for start_m, limit in self.speed_limits_mps if begin_m < start_m < end_m]
        return min((limit for limit in (*before[-1:], *within) if limit is not None), default=None)


@dataclass(frozen=True, slots=True)
class Connection:
    """A junction's connection: from an incoming road onto a connecting road."""

    incoming_road: str
    connecting_road: str
    at_start: bool
    lane_links: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class OpenDriveFile:
    """Roads by id, and connections by junction id."""

    roads: dict[str, RoadRecord]
    junctions: dict[str, tuple[Connection, ...]]


def read_opendrive(path: Path) -> OpenDriveFile:
    """Reads a .xodr or .xodr.gz file.

    Raises:
        MapError: If the file cannot be read, is not OpenDRIVE, or an attribute is missing or wrong.
    """
    root = read_xml(path, "OpenDRIVE")
    roads = [_road(element, f"{path}: road {i}") for i, element in enumerate(root.iter("road"))]
    if not roads:
        raise MapError(f"{path}: has no road")
    junctions = {}
    for i, element in enumerate(root.iter("junction")):
        where = f"{path}: junction {i}"
        junctions[text_of(element, "id", where)] = _connections(element, where)
    return OpenDriveFile({road.id: road for road in roads}, junctions)


def _cubics(elements: list[ET.Element], start: str, where: str) -> PiecewiseCubic:
    names = (start, "a", "b", "c", "d")
    records = []
    for element in elements:
        s, a, b, c, d = (number_of(element, name, where) for name in names)
        records.append((s, a, b, c, d))
    return PiecewiseCubic.from_records(records)


def _road(element: ET.Element, where: str) -> RoadRecord:
    road_id = text_of(element, "id", where)
    where = f"{where} (id {road_id})"
    length_m = _length_of(element, where)
    junction = element.get("junction", "-1")
    sections = tuple(_section(s, where) for s in element.iterfind("lanes/laneSection"))
    if not sections:
        raise MapError(f"{where}: has no laneSection")
    limits = [
        (number_of(kind, "s", where, default=0.0), _speed_limit(kind.find("speed"), where))
        for kind in element.iterfind("type")
    ]
    return RoadRecord(
        id=road_id,
        length_m=length_m,
        junction=None if junction == "-1" else junction,
        left_hand=element.get("rule") == "LHT",
        predecessor=_road_link(element.find("link/predecessor"), where),
        successor=_road_link(element.find("link/successor"), where),
        plan=_plan(element, where),
        elevation_m=_cubics(element.findall("elevationProfile/elevation"), "s", where),
        superelevation_rad=_cubics(element.findall("lateralProfile/superelevation"), "s", where),
        lane_offset_m=_cubics(element.findall("lanes/laneOffset"), "s", where),
        sections=tuple(sorted(sections, key=lambda section: section.s_m)),
        objects=tuple(
            _object(o, where)
            for o in element.iterfind("objects/object")
            if o.get("type") == "crosswalk"
        ),
        signals=tuple(
            _signal(s, where)
            for s in element.iterfind("signals/*")
            if s.tag in ("signal", "signalReference")
        ),
        speed_limits_mps=tuple(sorted(limits, key=lambda limit: limit[0])),
    )


def _length_of(element: ET.Element, where: str) -> float:
    length_m = number_of(element, "length", where)
    if not 0.0 <= length_m <= LONGEST_M:
        raise MapError(f"{where}: length: is {length_m:g} m, expected 0 to {LONGEST_M:g}")
    return length_m


def _road_link(element: ET.Element | None, where: str) -> RoadLink | None:
    if element is None:
        return None
    return RoadLink(
        is_junction=text_of(element, "elementType", where) == "junction",
        id=text_of(element, "elementId", where),
        at_start=element.get("contactPoint", "start") == "start",
    )


def _plan(road: ET.Element, where: str) -> tuple[PlanElement, ...]:
    elements = [
        _plan_element(g, f"{where}: geometry {i}")
        for i, g in enumerate(road.iterfind("planView/geometry"))
    ]
    if not elements:
        raise MapError(f"{where}: planView has no geometry")
    return tuple(sorted(elements, key=lambda element: element.s_m))


def _plan_element(element: ET.Element, where: str) -> PlanElement:
    shape = next((child for child in element if child.tag in _PLAN_PARAMETERS), None)
    if shape is None:
        known = ", ".join(_PLAN_PARAMETERS)
        raise MapError(f"{where}: expected one of {known}")
    s, x, y, heading = (number_of(element, name, where) for name in ("s", "x", "y", "hdg"))
    length = _length_of(element, where)
    if max(abs(x), abs(y)) > MAX_PLACE_M:
        raise MapError(f"{where}: starts at {x:g}, {y:g}, expected at most {MAX_PLACE_M:g} m")
    parameters = tuple(number_of(shape, name, where) for name in _PLAN_PARAMETERS[shape.tag])
    if shape.tag == "paramPoly3":
        parameters += (1.0 if shape.get("pRange", "normalized") == "normalized" else length,)
    return PlanElement(s, x, y, heading, length, shape.tag, parameters)


_PLAN_PARAMETERS: dict[str, tuple[str, ...]] = {
    "line": (),
    "arc": ("curvature",),
    "spiral": ("curvStart", "curvEnd"),
    "poly3": ("a", "b", "c", "d"),
    "paramPoly3": ("aU", "bU", "cU", "dU", "aV", "bV", "cV", "dV"),
}


def _section(element: ET.Element, where: str) -> SectionRecord:
    s_m = number_of(element, "s", where)
    where = f"{where}: laneSection at {s_m:.2f} m"
    if element.get("singleSide") == "true":  # Its other side would be that of the one before.
        raise MapError(f"{where}: singleSide is not supported")
    lanes = [_lane(lane, where) for lane in element.iterfind("*/lane")]
    return SectionRecord(s_m, {lane.id: lane for lane in lanes})


def _lane(element: ET.Element, where: str) -> LaneRecord:
    lane_id = integer_of(element, "id", where)
    where = f"{where}: lane {lane_id}"
    widths, borders = element.findall("width"), element.findall("border")
    if lane_id != 0 and not widths and not borders:
        raise MapError(f"{where}: has neither width nor border")
    marks = [
        (number_of(mark, "sOffset", where, default=0.0), mark.get("type", "none"))
        for mark in element.iterfind("roadMark")
    ]
    return LaneRecord(
        id=lane_id,
        type=element.get("type", "none"),
        width_m=_cubics(widths, "sOffset", where) if widths else None,
        border_m=_cubics(borders, "sOffset", where) if borders and not widths else None,
        marks=tuple(sorted(marks, key=lambda mark: mark[0])),
        predecessor=_lane_link(element.find("link/predecessor"), where),
        successor=_lane_link(element.find("link/successor"), where),
        speed_limit_mps=min(
            (
                limit
                for speed in element.iterfind("speed")
                if (limit := _speed_limit(speed, where)) is not None
            ),
            default=None,
        ),
    )


def _lane_link(element: ET.Element | None, where: str) -> int | None:
    return None if element is None else integer_of(element, "id", where)


def _speed_limit(element: ET.Element | None, where: str) -> float | None:
    """Returns a limit; None for "no limit", and for one in a unit that nobody knows."""
    if element is None or element.get("max") in (None, "", "no limit", "undefined"):
        return None
    factor = _SPEED_UNITS_MPS.get(element.get("unit") or "m/s")
    return None if factor is None else number_of(element, "max", where) * factor


def _object(element: ET.Element, where: str) -> ObjectRecord:
    def outlines(tag: str, names: tuple[str, str, str]) -> tuple[Corners, ...]:
        found = []
        for outline in element.iter("outline"):
            rows = [
                [number_of(corner, name, where, default=0.0) for name in names]
                for corner in outline.iterfind(tag)
            ]
            if len(rows) >= 3 and outline.get("outer", "true") == "true":
                found.append(tuple((first, second, third) for first, second, third in rows))
        return tuple(found)

    local_m = outlines("cornerLocal", ("u", "v", "z"))
    road_m = outlines("cornerRoad", ("s", "t", "dz"))
    if not local_m and not road_m:
        local_m = _bounding_box(element, where)
    return ObjectRecord(
        s_m=number_of(element, "s", where),
        t_m=number_of(element, "t", where),
        z_offset_m=number_of(element, "zOffset", where, default=0.0),
        heading_rad=number_of(element, "hdg", where, default=0.0),
        type=element.get("type", ""),
        local_m=local_m,
        road_m=road_m,
    )


def _bounding_box(element: ET.Element, where: str) -> tuple[Corners, ...]:
    """Returns the outline of an object that has length and width alone; none without."""
    u, v = (0.5 * number_of(element, name, where, default=0.0) for name in ("length", "width"))
    if u <= 0.0 or v <= 0.0:
        return ()
    return (((-u, -v, 0.0), (u, -v, 0.0), (u, v, 0.0), (-u, v, 0.0)),)


def _signal(element: ET.Element, where: str) -> SignalRecord:
    is_reference = element.tag == "signalReference"
    # 1000001 is the three-colour light of the standard's signal list; 10000xx its relatives.
    kind = element.get("type", "")
    is_light = element.get("dynamic") == "yes" and kind.startswith("10000")
    is_light &= kind not in _OTHER_LIGHTS
    validity = tuple(
        (integer_of(v, "fromLane", where), integer_of(v, "toLane", where))
        for v in element.iterfind("validity")
    )
    return SignalRecord(
        id=text_of(element, "id", where),
        s_m=number_of(element, "s", where),
        t_m=number_of(element, "t", where),
        z_offset_m=number_of(element, "zOffset", where, default=0.0),
        heading_offset_rad=number_of(element, "hOffset", where, default=0.0),
        along_road=element.get("orientation", "+") != "-",
        is_light=None if is_reference else is_light,
        validity=validity,
    )


def _connections(junction: ET.Element, where: str) -> tuple[Connection, ...]:
    connections = []
    for element in junction.iterfind("connection"):
        # A direct junction has no connecting roads: it leads from road to road.
        onto = "linkedRoad" if element.get("connectingRoad") is None else "connectingRoad"
        if element.get(onto) is None:
            continue
        links = tuple(
            (integer_of(link, "from", where), integer_of(link, "to", where))
            for link in element.iterfind("laneLink")
        )
        connections.append(
            Connection(
                incoming_road=text_of(element, "incomingRoad", where),
                connecting_road=text_of(element, onto, where),
                at_start=element.get("contactPoint", "start") == "start",
                lane_links=links,
            )
        )
    return tuple(connections)

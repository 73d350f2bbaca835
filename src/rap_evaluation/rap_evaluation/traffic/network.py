"""SUMO networks made from OpenDRIVE maps by netconvert, and what the recorder needs from them.

Netconvert's defaults are wrong for these maps in two ways. Without all lanes and internal shapes
there are no pedestrians and cars cut junctions by metres. And its default lane types let cars drive
on sidewalks, shoulders and parking lanes; our own types close everything but driving lanes. Turns
that still leave the mapped lanes (three-dimensional junctions that netconvert simplifies) are
found by comparing both maps and kept out of all routes.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import subprocess
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from rap_evaluation.traffic.towns import TrafficError
from rap_raster.frames import FloatArray
from rap_raster.maps.vector_map import VectorMap

NETCONVERT_OPTIONS = (
    "--opendrive.import-all-lanes",
    "--opendrive.internal-shapes",
    "--sidewalks.guess",
    "--crossings.guess",
    "--walkingareas",
    "--junctions.limit-turn-speed=2.5",
    "--tls.cycle.time=50",
)

MAX_DEVIATION_M = 0.35
"""Largest distance of a usable SUMO lane from a mapped centreline; 0.5 m less driving noise."""

URBAN_SPEED_MPS = 60 / 3.6
"""Cap on roads with sidewalks: the towns post up to 55 mph between crossings."""

HIGHWAY_SPEED_MPS = 100 / 3.6
"""Cap elsewhere."""

_DRIVING = ("driving", "entry", "exit", "offRamp", "onRamp", "connectingRamp", "slipLane", "bus",
            "taxi", "mwyEntry", "mwyExit")  # fmt: skip
_CLOSED = ("none", "shoulder", "border", "median", "curb", "stop", "parking", "restricted",
           "roadWorks", "bidirectional", "special1", "special2", "special3", "tram", "rail",
           "biking")  # fmt: skip
_SAMPLE_M = 0.2


@dataclass(frozen=True, slots=True)
class Connection:
    """A turn from lane to lane.

    Attributes:
        from_edge: Edge it leaves.
        from_lane: Index of the lane on that edge.
        to_edge: Edge it leads to.
        direction: SUMO's letter: s, l, r, t, L or R.
        traffic_light: Id of the light that controls it, or None.
        link: Its place in the light's state.
        shape_m: (n, 3) path across the junction, network coordinates.
        gap_m: How far that path's ends lie from the lanes it joins.
    """

    from_edge: str
    from_lane: int
    to_edge: str
    direction: str
    traffic_light: str | None
    link: int
    shape_m: FloatArray
    gap_m: float


@dataclass(frozen=True, slots=True)
class Network:
    """A SUMO network.

    Attributes:
        path: The .net.xml file.
        offset_m: (2,) what SUMO adds to map coordinates.
        driving_edges: Ids of the edges that cars may use and that lie on mapped lanes.
        walking_edges: Ids of the edges that have a sidewalk.
        connections: All turns of vehicles.
        closed_turns: (from edge, to edge) pairs that leave the mapped lanes.
        edge_lengths_m: Length of every edge that cars may use.
        speed_limits_mps: Limit of each of them: the map's, capped by kind of road.
    """

    path: Path
    offset_m: FloatArray
    driving_edges: tuple[str, ...]
    walking_edges: tuple[str, ...]
    connections: tuple[Connection, ...]
    closed_turns: frozenset[tuple[str, str]]
    edge_lengths_m: dict[str, float]
    speed_limits_mps: dict[str, float]

    def to_map(self, xy: FloatArray) -> FloatArray:
        """Converts (n, 2) network coordinates to map coordinates."""
        in_map: FloatArray = xy - self.offset_m
        return in_map


def default_cache() -> Path:
    """Returns the folder where made networks are kept."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "rap" / "sumo"


def build_network(map_path: Path, vector_map: VectorMap, cache: Path) -> Network:
    """Makes, or takes from the cache, the SUMO network of an OpenDRIVE file.

    Args:
        map_path: .xodr or .xodr.gz file.
        vector_map: The same file, loaded.
        cache: Folder for networks; made if missing.

    Raises:
        TrafficError: If the map has no usable roads, or netconvert is missing or fails.
    """
    if not vector_map.lanes:
        raise TrafficError(f"{map_path}: has no driving lane")
    data = map_path.read_bytes()
    if map_path.suffix == ".gz":
        data = gzip.decompress(data)
    types = _lane_types()
    key = hashlib.sha256(data + types.encode() + " ".join(NETCONVERT_OPTIONS).encode()).hexdigest()
    path = cache / f"{vector_map.name}-{key[:16]}.net.xml"
    if not path.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        _convert(data, types, path)
    network = _read_network(path, vector_map)
    if not network.driving_edges:
        raise TrafficError(f"{map_path}: SUMO finds no road on the mapped lanes")
    return network


def sumo_binary(name: str) -> Path:
    """Returns a program of the eclipse-sumo package.

    Raises:
        TrafficError: If it is not installed.
    """
    try:
        import sumo  # noqa: PLC0415  (optional: an offline dependency)
    except ImportError as error:
        raise TrafficError("SUMO is not installed: run make setup") from error
    path = Path(sumo.SUMO_HOME) / "bin" / name
    if not path.is_file():
        raise TrafficError(f"{path} is missing: run make setup")
    return path


def _lane_types() -> str:
    """Returns the type file that tells netconvert who may use which lane."""
    rails = "tram rail_urban rail rail_electric rail_fast ship"
    rows = [
        f'<type id="{name}" priority="1" speed="{URBAN_SPEED_MPS:.2f}" width="3.5" '
        f'disallow="pedestrian {rails}"/>'
        for name in _DRIVING
    ]
    rows += [
        f'<type id="{name}" priority="0" speed="1.39" width="1.0" disallow="all"/>'
        for name in _CLOSED
    ]
    rows.append('<type id="sidewalk" priority="0" speed="2.78" width="2.0" allow="pedestrian"/>')
    return "<types>\n" + "\n".join(rows) + "\n</types>\n"


def _convert(data: bytes, types: str, path: Path) -> None:
    """Runs netconvert; the result appears under its name only when it is complete."""
    with tempfile.TemporaryDirectory(dir=path.parent) as name:
        folder = Path(name)
        (folder / "map.xodr").write_bytes(data)
        (folder / "types.xml").write_text(types)
        made = folder / "made.net.xml"
        command = [str(sumo_binary("netconvert")), "--opendrive-files", str(folder / "map.xodr"),
                   "--type-files", str(folder / "types.xml"), "--output-file", str(made),
                   "--no-warnings", *NETCONVERT_OPTIONS]  # fmt: skip
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0 or not made.is_file():
            lines = [line for line in result.stderr.splitlines() if line.startswith("Error")]
            raise TrafficError(f"netconvert failed: {lines[0] if lines else result.stderr[-200:]}")
        made.replace(path)


def _read_network(path: Path, vector_map: VectorMap) -> Network:
    root = ET.parse(path).getroot()
    location = root.find("location")
    if location is None:
        raise TrafficError(f"{path}: has no location")
    offset = np.array([float(v) for v in location.get("netOffset", "0,0").split(",")])
    shapes = _lane_shapes(root)
    mapped = _MappedLanes(vector_map, offset)
    connections = _connections(root, shapes)
    roads = {e.get("id", ""): e for e in root.iter("edge") if e.get("function") is None}
    cars = {key: _lanes_for(edge, "passenger") for key, edge in roads.items()}
    cars = {key: lanes for key, lanes in cars.items() if lanes}
    walking = [key for key, edge in roads.items() if _lanes_for(edge, "pedestrian")]
    return Network(
        path=path,
        offset_m=offset,
        driving_edges=tuple(
            key
            for key, lanes in cars.items()
            if all(mapped.follows(shapes[lane.get("id", "")]) for lane in lanes)
        ),
        walking_edges=tuple(walking),
        connections=connections,
        closed_turns=frozenset(
            (c.from_edge, c.to_edge)
            for c in connections
            if c.gap_m >= MAX_DEVIATION_M or not mapped.follows(c.shape_m)
        ),
        edge_lengths_m={key: float(lanes[0].get("length", "0")) for key, lanes in cars.items()},
        speed_limits_mps=_speed_limits(vector_map, cars, frozenset(walking)),
    )


def _lanes_for(edge: ET.Element, kind: str) -> list[ET.Element]:
    """Returns the lanes of an edge that a vehicle class may use."""
    return [lane for lane in edge.iter("lane") if _allows(lane, kind)]


def _speed_limits(
    vector_map: VectorMap, edges: Iterable[str], walking: frozenset[str]
) -> dict[str, float]:
    """Returns the limit of every edge: the posted one, capped by the kind of road."""
    posted = _posted_limits(vector_map)
    limits = {}
    for key in edges:
        cap = URBAN_SPEED_MPS if key in walking else HIGHWAY_SPEED_MPS
        # "-12#1" is the second part of road 12 against its direction.
        limits[key] = min(posted.get(key.lstrip("-").split("#")[0], cap), cap)
    return limits


def _posted_limits(vector_map: VectorMap) -> dict[str, float]:
    """Returns the posted limit of each road that has one."""
    return {
        key.split(".")[0]: lane.speed_limit_mps
        for key, lane in vector_map.lanes.items()
        if lane.speed_limit_mps is not None
    }


def _allows(lane: ET.Element, kind: str) -> bool:
    allow, disallow = lane.get("allow"), lane.get("disallow", "")
    if allow is not None:
        return allow == "all" or kind in allow.split()
    return disallow != "all" and kind not in disallow.split()


def _lane_shapes(root: ET.Element) -> dict[str, FloatArray]:
    return {
        lane.get("id", ""): np.array([_point(text) for text in lane.get("shape", "").split()])
        for lane in root.iter("lane")
    }


def _point(text: str) -> list[float]:
    """Reads "x,y" or "x,y,z"; SUMO leaves out a height of zero."""
    return ([float(value) for value in text.split(",")] + [0.0])[:3]


def _connections(root: ET.Element, shapes: dict[str, FloatArray]) -> tuple[Connection, ...]:
    """Returns the turns of vehicles, each with its whole path across the junction."""
    open_lanes = {lane.get("id") for lane in root.iter("lane") if _allows(lane, "passenger")}
    onward = {
        f"{c.get('from')}_{c.get('fromLane')}": c.get("via")
        for c in root.iter("connection")
        if c.get("from", "").startswith(":")
    }
    result = []
    for element in root.iter("connection"):
        via = element.get("via")
        origin = f"{element.get('from')}_{element.get('fromLane')}"
        if origin.startswith(":") or via is None or origin not in open_lanes:
            continue
        following = onward.get(via)
        shape = np.concatenate([shapes[lane] for lane in (via, following) if lane in shapes])
        target = f"{element.get('to')}_{element.get('toLane')}"
        ends = np.stack([shape[0] - shapes[origin][-1], shape[-1] - shapes[target][0]])
        result.append(
            Connection(
                from_edge=element.get("from", ""),
                from_lane=int(element.get("fromLane", "0")),
                to_edge=element.get("to", ""),
                direction=element.get("dir", "s"),
                traffic_light=element.get("tl"),
                link=int(element.get("linkIndex", "-1")),
                shape_m=shape,
                gap_m=float(np.hypot(*ends[:, :2].T).max()),
            )
        )
    return tuple(result)


class _MappedLanes:
    """Distances of SUMO lanes from the centrelines of the mapped ones."""

    def __init__(self, vector_map: VectorMap, offset_m: FloatArray) -> None:
        points = [densified(lane.centerline_m[:, :2]) for lane in vector_map.lanes.values()]
        self._tree = cKDTree(np.concatenate(points) + offset_m)

    def follows(self, shape_m: FloatArray) -> bool:
        """True if all of a (n, 3) network polyline lies near centrelines, seen from above."""
        distance, _ = self._tree.query(densified(shape_m[:, :2]))
        return bool(distance.max() < MAX_DEVIATION_M)


def densified(points_m: FloatArray, step_m: float = _SAMPLE_M) -> FloatArray:
    """Returns points along a (n, d) polyline, at most `step_m` apart, the corners among them."""
    steps = np.diff(points_m, axis=0)
    counts = np.maximum(1, np.ceil(np.linalg.norm(steps, axis=1) / step_m)).astype(int)
    pieces = [
        start + step * (np.arange(count) / count)[:, None]
        for start, step, count in zip(points_m[:-1], steps, counts, strict=True)
    ]
    return np.concatenate([*pieces, points_m[-1:]])

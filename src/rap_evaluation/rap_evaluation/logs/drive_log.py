"""Reads logs: scenes, states, routes and commands from any vehicle's seat."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rap_evaluation.camera_sim import CameraSimulator
from rap_evaluation.logs import log_schema as schema
from rap_evaluation.logs.ego_motion import EgoStates, at_rear_axle
from rap_evaluation.logs.recording import SEAT_CLASSES, LightTracks, Tracks
from rap_raster.ego_history import EgoState
from rap_raster.frames import FloatArray, Pose
from rap_raster.geometry import Geometry, place
from rap_raster.ground import Ground, build_ground
from rap_raster.maps.routing import route_points
from rap_raster.maps.vector_map import Lane, ShapeIndex, TrafficLight, VectorMap
from rap_raster.scene import Boxes, Lights, ObjectClass, Scene, Shapes
from rap_raster.styles import Style
from rap_raster.vehicle import VehicleDimensions

RADIUS_M = 125.0
"""How far around the ego a scene reaches: the rasterizer draws up to 120 m."""


class LogError(ValueError):
    """A log that cannot be used; the message names file and field."""


class DriveLog:
    """A log opened for reading; arrays are views of the mapped files."""

    def __init__(
        self,
        *,
        name: str,
        vector_map: VectorMap,
        stamps_ns: npt.NDArray[np.int64],
        tracks: Tracks,
        lights: LightTracks,
        routes: dict[int, list[str]],
        commands: npt.NDArray[np.uint8],
    ) -> None:
        """Indexes what was read; use `open`."""
        self.name = name
        self.map = vector_map
        self.stamps_ns = stamps_ns
        self.tracks = tracks
        self.lights = lights
        self._offsets = tracks.offsets
        self._rows = {int(track): row for row, track in enumerate(tracks.ids)}
        self._polylines = ShapeIndex(vector_map.polylines)
        self._polygons = ShapeIndex(vector_map.polygons)
        self._ground: tuple[Style, Ground] | None = None
        self._egos: dict[int, EgoStates] = {}
        self._routes = routes
        self._commands = commands

    @classmethod
    def open(cls, path: Path) -> DriveLog:
        """Opens a log folder.

        Raises:
            LogError: If a file is missing, damaged or of another format.
        """
        table = _read(path, schema.TRACKS)
        header = _header(path, table)
        return cls(
            name=header.name,
            vector_map=_read_map(path, header.map),
            stamps_ns=header.stamps_ns,
            tracks=_read_tracks(path, table, header.steps),
            lights=_read_lights(path, header.steps),
            routes=_read_routes(path),
            commands=_numbers(_read(path, schema.STATES), "command").astype(np.uint8, copy=False),
        )

    @cached_property
    def dt_s(self) -> float:
        """Time between steps."""
        return float(self.stamps_ns[1] - self.stamps_ns[0]) * 1e-9

    def seats(self, min_steps: int = 1) -> list[int]:
        """Returns the ids of the tracks that can be the ego and last at least `min_steps`."""
        tracks = self.tracks
        lasting = tracks.last_steps - tracks.first_steps + 1 >= min_steps
        chosen = np.isin(tracks.classes, SEAT_CLASSES) & lasting
        return [int(track) for track in tracks.ids[chosen]]

    def first_step(self, track: int) -> int:
        """Returns the first step of a track."""
        return int(self.tracks.first_steps[self._row(track)])

    def last_step(self, track: int) -> int:
        """Returns the last step of a track, included."""
        return int(self.tracks.last_steps[self._row(track)])

    def states(self, track: int) -> FloatArray:
        """Returns the (n, 7) states of a track; see `recording.STATE_COLUMNS`."""
        row = self._row(track)
        return self.tracks.states[self._offsets[row] : self._offsets[row + 1]]

    def object_class(self, track: int) -> ObjectClass:
        """Returns the class of a track."""
        return ObjectClass(int(self.tracks.classes[self._row(track)]))

    def dimensions(self, track: int) -> VehicleDimensions:
        """Returns the outer dimensions of a track."""
        return VehicleDimensions.from_size(*map(float, self.tracks.sizes_m[self._row(track)]))

    def ego_states(self, seat: int) -> EgoStates:
        """Returns the motion of a seat's rear axle over all its steps."""
        if seat not in self._egos:
            first, last = self.first_step(seat), self.last_step(seat)
            self._egos[seat] = at_rear_axle(
                self.stamps_ns[first : last + 1],
                self.states(seat),
                self.dimensions(seat).rear_axle_to_center_m,
            )
        return self._egos[seat]

    def ego_poses(self, seat: int) -> FloatArray:
        """Returns the (n, 3) x, y, yaw of a seat's rear axle over all its steps."""
        return self.ego_states(seat).poses[:, [0, 1, 3]]

    def ego_state(self, step: int, seat: int) -> EgoState | None:
        """Returns the ego state of a seat at a step, or None where the track does not exist."""
        states = self.ego_states(seat)
        row = step - self.first_step(seat)
        if not 0 <= row < len(states.stamps_ns):
            return None
        x, y, z, yaw = states.poses[row].tolist()
        vx, vy = states.velocities_mps[row].tolist()
        yaw_rate = float(states.yaw_rates_radps[row])
        return EgoState(int(states.stamps_ns[row]), x, y, z, yaw, vx, vy, yaw_rate)

    def scene(self, step: int, seat: int, radius_m: float = RADIUS_M) -> Scene:
        """Returns the scene from a seat at a step; the seat itself is not among the boxes.

        Raises:
            LogError: If the seat does not exist at that step.
        """
        ego = self._existing_ego(step, seat)
        boxes, lights = self.objects(step, seat, ego.planar, radius_m)
        return self.scene_around(ego.pose, boxes, lights, radius_m)

    def scene_around(self, ego: Pose, boxes: Boxes, lights: Lights, radius_m: float = RADIUS_M) -> Scene:
        """Returns the scene of an ego anywhere on the map, among given boxes and lights."""
        center_m = np.array([ego.x_m, ego.y_m])
        return Scene(
            ego=ego,
            boxes=boxes,
            polylines=self._polylines.near(center_m, radius_m),
            polygons=self._polygons.near(center_m, radius_m),
            lights=lights,
        )

    def geometry(self, step: int, seat: int, style: Style) -> Geometry:
        """Returns what `style` draws of `scene`; its ground is kept for the next call.

        Raises:
            LogError: If the seat does not exist at that step.
        """
        ego = self._existing_ego(step, seat)
        boxes, lights = self.objects(step, seat, ego.planar)
        return place(self.ground(style), ego.pose, boxes, lights, style)

    def objects(
        self, step: int, seat: int, center_m: FloatArray, radius_m: float = RADIUS_M
    ) -> tuple[Boxes, Lights]:
        """Returns what is around a point at a step, the seat left out.

        Args:
            step: Step of the log.
            seat: Track id of the ego.
            center_m: (>= 2,) x and y, map frame.
            radius_m: Half the side of the square that is looked at.
        """
        center_m = center_m[:2]
        return self._boxes(step, seat, center_m, radius_m), self._lights(step, center_m, radius_m)

    def ground(self, style: Style) -> Ground:
        """Returns the ground of the log's map, kept for the next call with the same style."""
        if self._ground is None or self._ground[0] is not style:
            self._ground = (style, build_ground(self.map.polylines, self.map.polygons, style))
        return self._ground[1]

    @cached_property
    def camera_simulator(self) -> CameraSimulator:
        """Takes pictures on the log's map."""
        return CameraSimulator(self.map.polylines, self.map.polygons)

    def _existing_ego(self, step: int, seat: int) -> EgoState:
        ego = self.ego_state(step, seat)
        if ego is None:
            raise LogError(f"{self.name}: track {seat} does not exist at step {step}")
        return ego

    def route(self, seat: int) -> FloatArray | None:
        """Returns the (n, 3) route of a seat from map topology, or None if it cannot be matched."""
        lane_ids = self.route_lanes(seat)
        return None if lane_ids is None else route_points(self.map.lanes, lane_ids)

    def route_lanes(self, seat: int) -> list[str] | None:
        """Returns the ids of the lanes of a seat's route, or None if it has none."""
        return self._routes.get(seat)

    def commands(self, seat: int) -> npt.NDArray[np.uint8]:
        """Returns the (n,) driving commands of a seat, `rap_planner.route.Command` codes."""
        row = self._row(seat)
        return self._commands[self._offsets[row] : self._offsets[row + 1]]

    def _row(self, track: int) -> int:
        row = self._rows.get(track)
        if row is None:
            raise LogError(f"{self.name}: has no track {track}")
        return row

    def _boxes(self, step: int, seat: int, center_m: FloatArray, radius_m: float) -> Boxes:
        tracks = self.tracks
        present = (tracks.first_steps <= step) & (step <= tracks.last_steps) & (tracks.ids != seat)
        rows = np.flatnonzero(present)
        states = tracks.states[self._offsets[rows] + step - tracks.first_steps[rows]]
        near = np.abs(states[:, :2] - center_m).max(axis=1, initial=0.0) <= radius_m
        rows, states = rows[near], states[near]
        sizes = tracks.sizes_m[rows]
        centers = states[:, :3] + np.array([0.0, 0.0, 0.5]) * sizes[:, 2:]
        return Boxes(
            tracks.ids[rows], tracks.classes[rows], centers, sizes, states[:, 3], states[:, 4:6]
        )

    def _lights(self, step: int, center_m: FloatArray, radius_m: float) -> Lights:
        lights = self.lights
        near = np.abs(lights.centers_m[:, :2] - center_m).max(axis=1, initial=0.0) <= radius_m
        return Lights(
            lights.states[step, near],
            lights.centers_m[near],
            lights.sizes_m[near],
            lights.yaws_rad[near],
        )


def _read(path: Path, name: str) -> pa.Table:
    """Maps a file into memory and checks its columns."""
    file = path / name
    try:
        # The map stays alive as long as an array refers to it.
        table = pa.ipc.open_file(pa.memory_map(str(file), "r")).read_all()
    except FileNotFoundError as error:
        raise LogError(f"{file}: missing; is {path} a log?") from error
    except (OSError, pa.ArrowInvalid) as error:
        raise LogError(f"{file}: cannot be read: {str(error).splitlines()[0]}") from error
    for field in schema.COLUMNS[name]:
        if field.name not in table.column_names:
            raise LogError(f"{file}: has no column '{field.name}'")
        found = table.schema.field(field.name).type
        if found != field.type:
            raise LogError(f"{file}: column '{field.name}': expected {field.type}, got {found}")
    return table


@dataclass(frozen=True, slots=True)
class _Header:
    name: str
    map: str
    first_stamp_ns: int
    step_ns: int
    steps: int

    @property
    def stamps_ns(self) -> npt.NDArray[np.int64]:
        return self.first_stamp_ns + np.arange(self.steps, dtype=np.int64) * self.step_ns


def _header(path: Path, table: pa.Table) -> _Header:
    file = path / schema.TRACKS
    try:
        header = json.loads((table.schema.metadata or {})[schema.METADATA_KEY])
    except (KeyError, ValueError) as error:
        key = schema.METADATA_KEY.decode()
        raise LogError(f"{file}: has no readable '{key}' metadata") from error
    found = header.get("schema")
    if found != schema.SCHEMA:
        raise LogError(f"{file}: schema: expected {schema.SCHEMA}, got {found}")
    kinds = {"name": str, "map": str, "first_stamp_ns": int, "step_ns": int, "steps": int}
    for field, kind in kinds.items():
        if not isinstance(header.get(field), kind):
            message = f"expected {kind.__name__}, got {header.get(field)!r}"
            raise LogError(f"{file}: metadata field '{field}': {message}")
    return _Header(**{field: header[field] for field in kinds})


def _column(table: pa.Table, name: str) -> pa.Array:
    """Returns a column as one array: files have one record batch."""
    return table.column(name).combine_chunks()


def _numbers(table: pa.Table, name: str) -> npt.NDArray[np.float64]:
    """Returns a number column as (n,), or a column of lists of k numbers as (n, k)."""
    column = _column(table, name)
    if pa.types.is_fixed_size_list(column.type):
        return np.asarray(column.flatten()).reshape(len(column), column.type.list_size)
    return np.asarray(column)


def _read_tracks(path: Path, table: pa.Table, steps: int) -> Tracks:
    tracks = Tracks(
        ids=_numbers(table, "track_id").astype(np.int32, copy=False),
        classes=_numbers(table, "class").astype(np.uint8, copy=False),
        sizes_m=_numbers(table, "size_m"),
        first_steps=_numbers(table, "first_step").astype(np.int32, copy=False),
        last_steps=_numbers(table, "last_step").astype(np.int32, copy=False),
        states=_numbers(_read(path, schema.STATES), "state"),
    )
    first, last = tracks.first_steps, tracks.last_steps
    bad = np.flatnonzero((first < 0) | (last < first) | (last >= steps))
    if len(bad):
        message = f"track {tracks.ids[bad[0]]}: steps {first[bad[0]]} to {last[bad[0]]}"
        raise LogError(f"{path / schema.TRACKS}: {message} are not within 0 to {steps - 1}")
    if len(tracks.states) != tracks.offsets[-1]:
        message = f"expected {tracks.offsets[-1]} rows, got {len(tracks.states)}"
        raise LogError(f"{path / schema.STATES}: state: {message}")
    return tracks


def _read_lights(path: Path, steps: int) -> LightTracks:
    table = _read(path, schema.LIGHTS)
    states = _numbers(_read(path, schema.LIGHT_STATES), "state").astype(np.uint8, copy=False)
    if len(states) != steps * len(table):
        message = f"expected {steps} steps of {len(table)} lights, got {len(states)} rows"
        raise LogError(f"{path / schema.LIGHT_STATES}: state: {message}")
    return LightTracks(
        lane_ids=tuple(_column(table, "lane_id").to_pylist()),
        centers_m=_numbers(table, "center_m"),
        sizes_m=_numbers(table, "size_m"),
        yaws_rad=_numbers(table, "yaw_rad"),
        states=states.reshape(steps, len(table)),
    )


def _read_routes(path: Path) -> dict[int, list[str]]:
    table = _read(path, schema.ROUTES)
    tracks, lanes = _column(table, "track_id"), _column(table, "lane_ids")
    return dict(zip(tracks.to_pylist(), lanes.to_pylist(), strict=True))


def _read_map(path: Path, name: str) -> VectorMap:
    return VectorMap(
        name=name,
        polylines=_read_shapes(path, schema.POLYLINES),
        polygons=_read_shapes(path, schema.POLYGONS),
        lanes=_read_lanes(path),
        traffic_lights=_read_map_lights(path),
    )


def _ragged(table: pa.Table, name: str) -> tuple[npt.NDArray[np.int32], FloatArray]:
    """Returns offsets and (m, 3) points of a column of polylines."""
    column = _column(table, name)
    points = np.asarray(column.values.flatten()).reshape(-1, 3)
    return np.asarray(column.offsets), points


def _read_shapes(path: Path, name: str) -> Shapes:
    table = _read(path, name)
    offsets, points = _ragged(table, "points_m")
    return Shapes(np.asarray(_column(table, "kind")), offsets, points)


def _lines(table: pa.Table, name: str) -> list[FloatArray | None]:
    """Returns a column of polylines as views; null becomes None."""
    offsets, points = _ragged(table, name)
    known = np.asarray(_column(table, name).is_valid())
    return [
        points[start:end] if valid else None
        for start, end, valid in zip(offsets[:-1], offsets[1:], known, strict=True)
    ]


def _read_lanes(path: Path) -> dict[str, Lane]:
    table = _read(path, schema.LANES)
    plain = (
        "id",
        "successors",
        "left_neighbor",
        "right_neighbor",
        "in_junction",
        "speed_limit_mps",
    )
    values = {name: _column(table, name).to_pylist() for name in plain}
    lines = {name: _lines(table, name) for name in ("centerline_m", "left_m", "right_m")}
    lanes = {}
    for row, key in enumerate(values["id"]):
        centerline = lines["centerline_m"][row]
        if centerline is None:
            raise LogError(f"{path / schema.LANES}: centerline_m: lane '{key}' has none")
        lanes[key] = Lane(
            id=key,
            centerline_m=centerline,
            left_m=lines["left_m"][row],
            right_m=lines["right_m"][row],
            successors=tuple(values["successors"][row]),
            left_neighbor=values["left_neighbor"][row],
            right_neighbor=values["right_neighbor"][row],
            in_junction=values["in_junction"][row],
            speed_limit_mps=values["speed_limit_mps"][row],
        )
    return lanes


def _read_map_lights(path: Path) -> tuple[TrafficLight, ...]:
    table = _read(path, schema.MAP_LIGHTS)
    centers = _numbers(table, "center_m")
    return tuple(
        TrafficLight(key, centers[row], yaw, tuple(lanes))
        for row, (key, yaw, lanes) in enumerate(
            zip(
                _column(table, "id").to_pylist(),
                _column(table, "yaw_rad").to_pylist(),
                _column(table, "lane_ids").to_pylist(),
                strict=True,
            )
        )
    )


def open_logs(folder: Path) -> list[DriveLog]:
    """Opens every log in a folder, in the order of their names.

    Raises:
        LogError: If there is none, or one cannot be opened.
    """
    paths = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    if not paths:
        raise LogError(f"{folder}: no logs there; make some with `rap-evaluate record`")
    return [DriveLog.open(path) for path in paths]

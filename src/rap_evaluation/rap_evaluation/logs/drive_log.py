"""Reads logs: scenes, states, routes and commands from any vehicle's seat."""

from __future__ import annotations

import copy
import hashlib
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rap_evaluation import camera_sim
from rap_evaluation.camera_sim import CameraSimulator
from rap_evaluation.kept_arrays import content_digest
from rap_evaluation.logs.ego_motion import EgoStates, at_rear_axle
from rap_evaluation.logs.log_reader import LogCamera, LogError, StoredLog, log_digest, read_log
from rap_evaluation.logs.log_schema import TRACKS
from rap_evaluation.logs.recording import (
    SEAT_CLASSES,
    STEP_NS,
    UNSEEN_LIGHT,
    LightTracks,
    Tracks,
    engagement,
)
from rap_evaluation.logs.seat_routes import DrivenRoute
from rap_planner.route import Command
from rap_raster.ego_history import EgoState, extrapolated
from rap_raster.frames import FloatArray, Pose, wrap_angle
from rap_raster.geometry import Geometry, place_seen
from rap_raster.ground import Ground, build_ground
from rap_raster.maps.routing import route_points
from rap_raster.maps.vector_map import ShapeIndex
from rap_raster.scene import Boxes, Lights, ObjectClass, Scene
from rap_raster.styles import Style
from rap_raster.vehicle import VehicleDimensions

__all__ = [
    "RADIUS_M",
    "DriveLog",
    "LogCamera",
    "LogError",
    "StoredLog",
    "log_folders",
    "open_logs",
]

RADIUS_M = 125.0
"""How far around the ego a scene reaches: the rasterizer draws up to 120 m."""

_CELL_M, _CELL_OFFSET = 0.01, np.sqrt(2.0)
"""Places count by the cells they lie in, whose edges are no round numbers, as many places are."""


class DriveLog:
    """A log opened for reading; arrays are views of the mapped files.

    Attributes:
        path: Its folder.
        name: Name of the log.
        license: Terms of the recording, one line.
        provenance: How it was made, for people.
        map: Where it took place; may be without lanes, or empty.
        stamps_ns: (T,) int64, evenly spaced.
        tracks: All road users.
        lights: All traffic lights.
        egos: Ids of the tracks whose own recording this is; the first is the log's ego.
        engaged: (T,) uint8 `Engagement` codes: whether the recording vehicle drove itself.
        cameras: Cameras of the first ego with their images.
        origin: The log that this one was made of by `with_traffic`, or itself.
    """

    def __init__(self, stored: StoredLog) -> None:
        """Indexes what was read; use `open`."""
        self.origin = self
        recording = stored.recording
        self.path = stored.path
        self.name = recording.name
        self.license = recording.license
        self.provenance = recording.provenance
        self.map = recording.map
        self.stamps_ns = recording.stamps_ns
        self.tracks = recording.tracks
        self.lights = recording.lights
        self.egos = recording.egos
        self.engaged = engagement(recording)
        self.cameras = stored.cameras
        self._offsets = self.tracks.offsets
        self._rows = _rows(self.tracks)
        self._polylines = ShapeIndex(self.map.polylines)
        self._polygons = ShapeIndex(self.map.polygons)
        self._ground: tuple[Style, Ground] | None = None
        self._egos: dict[int, EgoStates] = {}
        self._routes = stored.routes
        self._driven_routes: dict[int, DrivenRoute | None] = {}
        self._commands = stored.commands

    @classmethod
    def open(cls, path: Path) -> DriveLog:
        """Opens a log folder.

        Raises:
            LogError: If a file is missing, damaged or of another format.
        """
        return cls(read_log(path))

    def with_traffic(self, tracks: Tracks, lights: LightTracks) -> DriveLog:
        """Returns this log with other road users and lights, on the same map at the same steps.

        Routes and commands are those of the tracks of the same ids; ids that are new have none.
        """
        log = copy.copy(self)
        log.tracks, log.lights = tracks, lights
        log._offsets = tracks.offsets
        log._rows = _rows(tracks)
        log._egos = {}
        return log

    @cached_property
    def dt_s(self) -> float:
        """Time between steps; the usual one where there is only one step."""
        steps_ns = np.diff(self.stamps_ns[:2])
        return float(steps_ns[0] if len(steps_ns) else STEP_NS) * 1e-9

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
        return self.tracks.dimensions(self._row(track))

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

    def existing_ego(self, step: int, seat: int) -> EgoState:
        """Returns the ego state of a seat at a step.

        Raises:
            LogError: If the seat does not exist at that step.
        """
        ego = self.ego_state(step, seat)
        if ego is None:
            raise LogError(f"{self.name}: track {seat} does not exist at step {step}")
        return ego

    def scene(self, step: int, seat: int, radius_m: float = RADIUS_M) -> Scene:
        """Returns the scene from a seat at a step; the seat itself is not among the boxes.

        Raises:
            LogError: If the seat does not exist at that step.
        """
        ego = self.existing_ego(step, seat)
        boxes, lights = self.objects(step, seat, ego.planar, radius_m)
        return self.scene_around(ego.pose, boxes, lights, radius_m)

    def scene_around(
        self, ego: Pose, boxes: Boxes, lights: Lights, radius_m: float = RADIUS_M
    ) -> Scene:
        """Returns the scene of an ego anywhere on the map, among given boxes and lights."""
        center_m = np.array([ego.x_m, ego.y_m])
        return Scene(
            ego=ego,
            boxes=boxes,
            polylines=self._polylines.near(center_m, radius_m),
            polygons=self._polygons.near(center_m, radius_m),
            lights=lights,
        )

    def scene_at(self, stamp_ns: int, seat: int, radius_m: float = RADIUS_M) -> Scene | None:
        """Returns the scene from a seat at any time, such as that of a camera image.

        Between steps, poses are interpolated. What exists at the nearer step only is moved on at
        its velocity. Lights have the state of the nearer step.

        Returns:
            The scene; at the stamp of a step that of `scene`. None where the seat does not exist at
            the nearest step.
        """
        step, share = self._place_in_time(stamp_ns)
        ego = self.pose_at(stamp_ns, seat)
        if ego is None:
            return None
        if share == 0.0:
            return self.scene(step, seat, radius_m)
        center = np.array([ego.x_m, ego.y_m])
        rows, states = self._states_between(step, share)
        boxes = self._boxes_of(rows, states, seat, center, radius_m)
        lights = self._lights(step + round(share), center, radius_m)
        return self.scene_around(ego, boxes, lights, radius_m)

    def pose_at(self, stamp_ns: int, seat: int) -> Pose | None:
        """Returns where a seat was at any time, as in `scene_at`; None where that gives none."""
        return self._ego_between(stamp_ns, *self._place_in_time(stamp_ns), seat)

    def all_objects(self, step: int, seat: int) -> tuple[Boxes, Lights]:
        """Returns all that was there at a step, however far away; the seat is not among it."""
        anywhere = np.zeros(2), np.inf
        return self._boxes(step, seat, *anywhere), self._lights(step, *anywhere)

    def observed(self, step: int, tracks: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
        """Returns which of some tracks were seen at a step, and not interpolated."""
        rows = np.array([self._row(int(track)) for track in tracks], dtype=np.intp)
        states = self._offsets[rows] + step - self.tracks.first_steps[rows]
        observed: npt.NDArray[np.bool_] = self.tracks.observed[states]
        return observed

    @property
    def is_recorded(self) -> bool:
        """Whether steps have absolute stamps: simulated logs start at zero."""
        return bool(self.stamps_ns[0] > 0)

    def geometry(self, step: int, seat: int, style: Style) -> Geometry:
        """Returns what `style` draws of `scene`, but for lights that shine elsewhere.

        Its ground is kept for the next call.

        Raises:
            LogError: If the seat does not exist at that step.
        """
        ego = self.existing_ego(step, seat)
        boxes, lights = self.objects(step, seat, ego.planar)
        return place_seen(self.ground(style), ego.pose, boxes, lights, style)

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
        if self.origin is not self:
            return self.origin.ground(style)
        if self._ground is None or self._ground[0] is not style:
            self._ground = (style, build_ground(self.map.polylines, self.map.polygons, style))
        return self._ground[1]

    @cached_property
    def digest(self) -> str:
        """What tells the log from any other; see `log_digest`."""
        return log_digest(self.path)

    @cached_property
    def traffic_digest(self) -> str:
        """Tells who was where from any other log, whatever processor it was recorded on.

        Processors round the last digits otherwise, so places count to the centimetre.
        """
        tracks = self.tracks
        cells = np.floor(tracks.states[:, :2] / _CELL_M + _CELL_OFFSET).astype(np.int64)
        return content_digest(
            [tracks.ids, tracks.classes, tracks.first_steps, tracks.last_steps, cells]
        )

    @cached_property
    def camera_simulator(self) -> CameraSimulator:
        """Takes pictures on the log's map."""
        if self.origin is not self:
            return self.origin.camera_simulator
        return CameraSimulator(self.map.polylines, self.map.polygons)

    @cached_property
    def pictured_digest(self) -> str:
        """Tells the map and the simulator of `camera_simulator` from all others."""
        if self.origin is not self:
            return self.origin.pictured_digest
        digest = hashlib.sha256(f"{camera_sim.VERSION}".encode())
        for shapes in (self.map.polylines, self.map.polygons):
            for array in (shapes.kinds, shapes.offsets, shapes.points_m):
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def route(self, seat: int) -> FloatArray | None:
        """Returns the (n, 3) route of a seat from map topology, or None if it cannot be matched."""
        lane_ids = self.route_lanes(seat)
        return None if lane_ids is None else route_points(self.map.lanes, lane_ids)

    def driven_route(self, seat: int) -> DrivenRoute | None:
        """Returns the route of a seat as it is seen along its drive, or None if it has none.

        It is that of the recorded drive, whatever traffic was put in its place.
        """
        if self.origin is not self:
            return self.origin.driven_route(seat)
        if seat not in self._driven_routes:
            route_m = self.route(seat)
            poses = self.ego_states(seat).poses
            self._driven_routes[seat] = None if route_m is None else DrivenRoute(route_m, poses)
        return self._driven_routes[seat]

    def route_lanes(self, seat: int) -> list[str] | None:
        """Returns the ids of the lanes of a seat's route, or None if it has none."""
        return self._routes.get(seat)

    def commands(self, seat: int) -> npt.NDArray[np.uint8]:
        """Returns the (n,) driving commands of a seat, `rap_planner.route.Command` codes."""
        first, count = self.first_step(seat), len(self.states(seat))
        if seat not in self.origin._rows:
            return np.full(count, Command.UNKNOWN, dtype=np.uint8)
        row = self.origin._row(seat)
        begin = self.origin._offsets[row] + first - self.origin.first_step(seat)
        return self._commands[begin : begin + count]

    def _row(self, track: int) -> int:
        row = self._rows.get(track)
        if row is None:
            raise LogError(f"{self.name}: has no track {track}")
        return row

    def _place_in_time(self, stamp_ns: int) -> tuple[int, float]:
        """Returns the step at or before a stamp and how far it is on its way to the next."""
        step_ns = round(self.dt_s * 1e9)
        step, rest_ns = divmod(stamp_ns - int(self.stamps_ns[0]), step_ns)
        return step, rest_ns / step_ns

    def _ego_between(self, stamp_ns: int, step: int, share: float, seat: int) -> Pose | None:
        before, after = self.ego_state(step, seat), self.ego_state(step + (share > 0.0), seat)
        if before is not None and after is not None:
            ends = [np.array([[s.x_m, s.y_m, s.z_m, s.yaw_rad]]) for s in (before, after)]
            return Pose(*map(float, _mixed(ends[0], ends[1], share)[0]))
        nearest = before if share <= 0.5 else after
        return None if nearest is None else extrapolated(nearest, stamp_ns).pose

    def _states_between(self, step: int, share: float) -> tuple[npt.NDArray[np.intp], FloatArray]:
        """Returns rows and states of the tracks that exist at the nearer of two steps."""
        rows, states = self._states(step + round(share))
        other_rows, others = self._states(step + 1 - round(share))
        away = share - round(share)
        result = states.copy()
        result[:, :2] += away * self.dt_s * states[:, 4:6]
        _, here, there = np.intersect1d(rows, other_rows, return_indices=True)
        result[here] = _mixed(states[here], others[there], abs(away))
        return rows, result

    def _states(self, step: int) -> tuple[npt.NDArray[np.intp], FloatArray]:
        """Returns rows and (n, 7) states of the tracks that exist at a step."""
        tracks = self.tracks
        rows = np.flatnonzero((tracks.first_steps <= step) & (step <= tracks.last_steps))
        return rows, tracks.states[self._offsets[rows] + step - tracks.first_steps[rows]]

    def _boxes(self, step: int, seat: int, center_m: FloatArray, radius_m: float) -> Boxes:
        return self._boxes_of(*self._states(step), seat, center_m, radius_m)

    def _boxes_of(
        self,
        rows: npt.NDArray[np.intp],
        states: FloatArray,
        seat: int,
        center_m: FloatArray,
        radius_m: float,
    ) -> Boxes:
        """Returns the boxes of tracks in some states, those near a place and not the seat."""
        tracks = self.tracks
        near = np.abs(states[:, :2] - center_m).max(axis=1, initial=0.0) <= radius_m
        near &= tracks.ids[rows] != seat
        rows, states = rows[near], states[near]
        sizes = tracks.sizes_m[rows]
        centers = states[:, :3] + np.array([0.0, 0.0, 0.5]) * sizes[:, 2:]
        return Boxes(
            tracks.ids[rows], tracks.classes[rows], centers, sizes, states[:, 3], states[:, 4:6]
        )

    def _lights(self, step: int, center_m: FloatArray, radius_m: float) -> Lights:
        lights = self.lights
        near = np.abs(lights.centers_m[:, :2] - center_m).max(axis=1, initial=0.0) <= radius_m
        near &= lights.states[step] != UNSEEN_LIGHT
        return Lights(
            lights.states[step, near],
            lights.centers_m[near],
            lights.sizes_m[near],
            lights.yaws_rad[near],
        )


def _rows(tracks: Tracks) -> dict[int, int]:
    return {track: row for row, track in enumerate(tracks.ids.tolist())}


def _mixed(first: FloatArray, last: FloatArray, share: float) -> FloatArray:
    """Interpolates rows whose fourth column is a heading."""
    steps = last - first
    steps[:, 3] = wrap_angle(steps[:, 3])
    result = first + share * steps
    result[:, 3] = wrap_angle(result[:, 3])
    return result


def log_folders(folder: Path) -> list[Path]:
    """Returns the folders of all logs in a folder, in the order of their names.

    Raises:
        LogError: If there is none, or the folder is a log itself.
    """
    if (folder / TRACKS).exists():
        raise LogError(f"{folder}: is a log; give the folder that it is in")
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    paths = [path for path in found if path.is_dir() and not path.name.startswith(".")]
    if not paths:
        raise LogError(f"{folder}: no logs there; make some with `rap-evaluate record`")
    return paths


def open_logs(folder: Path) -> list[DriveLog]:
    """Opens every log in a folder, in the order of their names.

    Raises:
        LogError: If there is none, or one cannot be opened.
    """
    return [DriveLog.open(path) for path in log_folders(folder)]

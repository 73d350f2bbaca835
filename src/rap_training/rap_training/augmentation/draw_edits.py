"""Draws edits of a scene at random, plausible ones only.

Road users keep to paths that somebody drove or that the lane graph has, and to accelerations that
tyres allow; they stay on the road and drive through nobody. Whether the ego can cope with an edit
is not asked here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import shapely
from scipy.spatial import cKDTree

from rap_evaluation.expert.road_areas import route_centerline
from rap_evaluation.logs.drive_log import DriveLog
from rap_evaluation.logs.driven_path import DrivenPath
from rap_evaluation.logs.recording import NO_SOURCE_ID, Tracks
from rap_evaluation.metrics.pdm_scene import DT_S
from rap_evaluation.moments import Moment
from rap_evaluation.planners.observation import LEVEL_M
from rap_evaluation.pseudo_sim.log_scene import Way
from rap_evaluation.traffic.curve_speed import MAX_LATERAL_MPS2
from rap_evaluation.traffic.demand import PEDESTRIAN_KIND, VEHICLE_KINDS, RoadUserKind
from rap_raster.frames import FloatArray, to_local
from rap_raster.maps.lane_geometry import distances_along
from rap_raster.scene import LightState, ObjectClass, PolygonKind
from rap_raster.vehicle import REAR_AXLE_TO_CENTER_SHARE
from rap_training.augmentation.scene_edit import (
    AFTER_STEPS,
    Edit,
    EditKind,
    edited,
    of_lights,
    of_track,
)

LEAD_STEPS = 20
"""An edit acts so long before its moment, 2 s: by then it can be seen."""

ATTEMPTS = 5
"""Draws before a kind is given up at a moment."""

_NEAR_M = 60.0
_AHEAD_M = 10.0  # Who is farther behind than that is not edited.
_BESIDE_M = 2.0  # At each such distance from its path, too.
_FAR_M = 20.0  # At each such distance from the ego, a road user is drawn e times less often.
_ALONG_M, _ACROSS_M = (2.0, 10.0), (0.3, 1.5)
_SPEEDING_UP_MPS2, _BRAKING_MPS2 = (1.0, 3.0), (2.0, 6.0)
_FASTER_MPS = 5.0  # At most, than it was.
_MOVING_MPS = 2.0
_TURNING_MPS2 = 4.0  # Across, of who speeds up.
_PARKED_SHARE, _WALKING_SHARE = 0.15, 0.3  # Of those added; the others drive.
_WALKING_MPS = (0.8, 1.8)
_CROSSING_M = (8.0, 45.0)  # Ahead of the ego.
_WALKERS_M = 5.0  # Where walkers are at the moment, from the ego's line.
_CURB_M = 1.75  # From the middle of a lane, where its edge is not known.
_PARKING_M = 0.3  # Over the lane's edge, or away from it.
_TWIN_M, _TWIN_RAD = 15.0, 0.4  # Between heads of one approach that switch as one.


@dataclass(frozen=True, slots=True)
class Stage:
    """A moment to edit.

    Attributes:
        moment: The moment.
        way: Where its ego goes.
        drive: (51, 11) what the ego would do without an edit.
    """

    moment: Moment
    way: Way
    drive: FloatArray

    @property
    def pose(self) -> FloatArray:
        """(3,) x, y, yaw of the ego now."""
        pose: FloatArray = self.drive[0, :3]
        return pose

    @property
    def first_step(self) -> int:
        """First step at which an edit acts."""
        return max(0, self.moment.step - LEAD_STEPS)

    @property
    def last_step(self) -> int:
        """Last step of an edited log."""
        return min(self.moment.step + AFTER_STEPS, len(self.moment.log.stamps_ns) - 1)


class EditDraws:
    """Draws edits of moments of one log."""

    def __init__(self, log: DriveLog) -> None:
        """Indexes the lanes and the drivable area."""
        self._lanes = log.map.lanes
        points = [lane.centerline_m for lane in self._lanes.values()]
        self._points_m = np.concatenate([*points, np.zeros((0, 3))])
        owners = np.repeat(np.arange(len(points)), [len(line) for line in points])
        self._keys = list(self._lanes)
        self._owners = owners
        self._tree = cKDTree(self._points_m[:, :2])
        self._road = _drivable(log)

    def draw(self, stage: Stage, kind: EditKind, rng: np.random.Generator) -> Edit | None:
        """Draws an edit of a kind, or returns None where the moment has none that is plausible."""
        for _ in range(ATTEMPTS):
            edit = self._drawn(stage, kind, rng)
            if edit is not None and self._is_plausible(stage, edit):
                return edit
        return None

    def _drawn(self, stage: Stage, kind: EditKind, rng: np.random.Generator) -> Edit | None:
        if kind is EditKind.LIGHT:
            return _switched_lights(stage, rng)
        if kind is EditKind.ADD:
            return self._added(stage, rng)
        track = _drawn_track(stage, rng)
        if track is None:
            return None
        if kind is EditKind.REMOVE:
            return of_track(kind, 0.0, track, nobody(stage.moment.log))
        return _moved(stage, kind, track, rng)

    def _added(self, stage: Stage, rng: np.random.Generator) -> Edit | None:
        share = rng.random()
        if share < _WALKING_SHARE:
            kind, states = PEDESTRIAN_KIND, _walking(stage, rng)
        else:
            parked = share < _WALKING_SHARE + _PARKED_SHARE
            kind = VEHICLE_KINDS[0] if parked else _drawn_kind(rng)
            states = self._driving(stage, kind, parked, rng)
        if states is None:
            return None
        motion = _new_track(stage, kind, states, rng)
        speed_mps = float(np.hypot(*states[0, 4:6]))
        return of_track(EditKind.ADD, speed_mps, int(motion.ids[0]), motion)

    def _driving(
        self, stage: Stage, kind: RoadUserKind, parked: bool, rng: np.random.Generator
    ) -> FloatArray | None:
        """Returns the (n, 7) states of somebody who drives along lanes, or is parked at their edge."""
        near = self._tree.query_ball_point(stage.pose[:2], _NEAR_M, return_sorted=True)
        if not near:
            return None
        place = near[int(rng.integers(len(near)))]
        line_m, limits_mps = self._onward(self._keys[self._owners[place]], rng)
        steps = stage.last_step - stage.first_step + 1
        along_m = distances_along(line_m)
        start = int(np.argmin(np.hypot(*(line_m[:, :2] - self._points_m[place, :2]).T)))
        speed_mps = 0.0 if parked else rng.random() * _allowed(line_m, limits_mps, kind)
        places_m = along_m[start] + speed_mps * DT_S * np.arange(steps)
        if places_m[-1] > along_m[-1]:
            return None
        left_m = -self._curb_m(place, rng) if parked else 0.0
        path = DrivenPath(np.insert(line_m, 2, self._heights(line_m), axis=1))
        return _states(path.poses_at(places_m, left_m), np.full(steps, speed_mps))

    def _onward(self, key: str, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Returns the line and limits of a lane and lanes that follow, drawn at forks."""
        lane_ids = [key]
        length_m = 0.0
        while length_m < 2.0 * _NEAR_M:
            onward = [lane for lane in self._lanes[lane_ids[-1]].successors if lane in self._lanes]
            if not onward:
                break
            lane_ids.append(onward[int(rng.integers(len(onward)))])
            length_m += float(distances_along(self._lanes[lane_ids[-1]].centerline_m)[-1])
        return route_centerline(self._lanes, lane_ids)

    def _heights(self, line_m: FloatArray) -> FloatArray:
        _, index = self._tree.query(line_m[:, :2])
        heights: FloatArray = self._points_m[index, 2]
        return heights

    def _curb_m(self, place: int, rng: np.random.Generator) -> float:
        """Returns how far right of the lane's middle a parked car stands."""
        edge_m, point = self._lanes[self._keys[self._owners[place]]].right_m, self._points_m[place]
        half_m = _CURB_M if edge_m is None else np.hypot(*(edge_m[:, :2] - point[:2]).T).min()
        half_width_m = 0.5 * VEHICLE_KINDS[0].width_m[1]
        return max(0.0, float(half_m - half_width_m + rng.uniform(-_PARKING_M, _PARKING_M)))

    def _is_plausible(self, stage: Stage, edit: Edit) -> bool:
        """True if whoever is changed drives through nobody and is on the road as much as before."""
        if not len(edit.motion):
            return True
        boxes = _boxes(edit.motion.states, edit.motion.sizes_m[0])
        if _meets_others(stage, edit, boxes):
            return False
        if edit.motion.classes[0] == ObjectClass.PEDESTRIAN or self._road is None:
            return True
        if self._road.covers(boxes).all():
            return True
        if edit.kind is EditKind.ADD:
            return False
        log = stage.moment.log.tracks.window(stage.moment.step, stage.moment.step)
        row = log.ids.tolist().index(edit.track)
        return not self._road.covers(_boxes(log.states[[row]], log.sizes_m[row])).all()


@dataclass(frozen=True, slots=True)
class _Road:
    """The drivable area of a map."""

    area: shapely.Geometry

    def covers(self, boxes: npt.NDArray[np.object_]) -> npt.NDArray[np.bool_]:
        """Returns which boxes lie within it."""
        return np.asarray(shapely.covers(self.area, boxes))


def nobody(log: DriveLog) -> Tracks:
    """Returns no tracks."""
    return log.tracks.window(-1, -1)


def _drivable(log: DriveLog) -> _Road | None:
    polygons = log.map.polygons
    kinds = (PolygonKind.DRIVABLE, PolygonKind.INTERSECTION)
    rings = [polygons[i][:, :2] for i, kind in enumerate(polygons.kinds) if kind in kinds]
    if not rings:
        return None
    area = shapely.union_all([shapely.make_valid(shapely.Polygon(ring)) for ring in rings])
    shapely.prepare(area)
    return _Road(area)


def _drawn_track(stage: Stage, rng: np.random.Generator) -> int | None:
    """Draws a road user, the likelier the nearer it comes to the ego's drive."""
    moment = stage.moment
    tracks = moment.log.tracks.window(moment.step, moment.step + len(stage.drive) - 1)
    here = tracks.first_steps == moment.step
    starts = tracks.offsets[:-1]
    now = tracks.states[starts]
    ego = moment.ego()
    assert ego is not None  # A moment is a step at which its seat exists.
    local = to_local(stage.pose, now[:, [0, 1, 3]])
    usable = here & (tracks.ids != moment.seat) & (np.abs(now[:, 2] - ego.z_m) < LEVEL_M)
    usable &= (np.hypot(local[:, 0], local[:, 1]) < _NEAR_M) & (local[:, 0] > -_AHEAD_M)
    rows = np.flatnonzero(usable)
    if not len(rows):
        return None
    ends = tracks.offsets[1:]
    weights = np.array(
        [_relevance(tracks.states[starts[row] : ends[row], :2], stage.drive) for row in rows]
    )
    return int(tracks.ids[rng.choice(rows, p=weights / weights.sum())])


def _relevance(places_m: FloatArray, drive: FloatArray) -> float:
    """Returns how much a road user matters: it is on the ego's path, and near at the same time."""
    gaps_m = np.hypot(*(places_m[:, None] - drive[None, :, :2]).transpose(2, 0, 1))
    return float(np.exp(-gaps_m.min() / _BESIDE_M - np.diag(gaps_m).min() / _FAR_M))


def _moved(stage: Stage, kind: EditKind, track: int, rng: np.random.Generator) -> Edit | None:
    """Returns the edit that moves a road user along or across its path, or changes its speed."""
    motion = _motion_of(stage, track)
    path = DrivenPath(motion.states[:, :4])
    if kind in (EditKind.SHIFT_ALONG, EditKind.SHIFT_ACROSS):
        amount = float(rng.uniform(*(_ALONG_M if kind is EditKind.SHIFT_ALONG else _ACROSS_M)))
        amount *= rng.choice((-1.0, 1.0))
        states = shifted(motion.states, path, kind, amount)
    else:
        first = max(0, stage.moment.step - int(rng.integers(5, LEAD_STEPS)) - motion.first_steps[0])
        speeds_mps = np.hypot(*motion.states[:, 4:6].T)
        if first >= len(speeds_mps) or speeds_mps[first] < _MOVING_MPS:
            return None
        faster = kind is EditKind.SPEED_UP
        amount = float(rng.uniform(*(_SPEEDING_UP_MPS2 if faster else _BRAKING_MPS2)))
        states = at_other_speed(
            motion.states, path, int(first), changed(speeds_mps, int(first), amount, faster)
        )
        if np.abs(states[:, 6] * np.hypot(*states[:, 4:6].T)).max() > _TURNING_MPS2:
            return None
    return of_track(kind, amount, track, replace(motion, states=states))


def _motion_of(stage: Stage, track: int) -> Tracks:
    """Returns one track of the moment's log, cut to what an edit reaches."""
    tracks = stage.moment.log.tracks.window(stage.first_step, stage.last_step)
    row = tracks.ids.tolist().index(track)
    run = slice(tracks.offsets[row], tracks.offsets[row + 1])
    rows = slice(row, row + 1)
    return Tracks(
        ids=tracks.ids[rows],
        source_ids=tracks.source_ids[rows],
        classes=tracks.classes[rows],
        sizes_m=tracks.sizes_m[rows],
        rear_axles_m=tracks.rear_axles_m[rows],
        first_steps=tracks.first_steps[rows],
        last_steps=tracks.last_steps[rows],
        states=tracks.states[run],
        observed=tracks.observed[run],
    )


def shifted(states: FloatArray, path: DrivenPath, kind: EditKind, amount_m: float) -> FloatArray:
    """Returns (n, 7) states moved along or across the path; velocities turn with the poses."""
    if kind is EditKind.SHIFT_ACROSS:
        poses = states[:, :4].copy()
        poses[:, 0] -= amount_m * np.sin(states[:, 3])
        poses[:, 1] += amount_m * np.cos(states[:, 3])
    else:
        poses = path.poses_at(path.along_m + amount_m)
    turn = poses[:, 3] - states[:, 3]
    cos, sin = np.cos(turn), np.sin(turn)
    vx, vy = states[:, 4], states[:, 5]
    velocity = np.stack([cos * vx - sin * vy, sin * vx + cos * vy], axis=-1)
    return np.column_stack([poses, velocity, states[:, 6]])


def changed(speeds_mps: FloatArray, first: int, rate_mps2: float, faster: bool) -> FloatArray:
    """Returns (n,) speeds that gain or lose `rate_mps2` from row `first` on."""
    ramp = rate_mps2 * DT_S * np.clip(np.arange(len(speeds_mps)) - first, 0, None)
    if faster:
        other = np.maximum(speeds_mps, speeds_mps[first] + np.minimum(ramp, _FASTER_MPS))
    else:
        other = np.minimum(speeds_mps, np.maximum(speeds_mps[first] - ramp, 0.0))
    return np.where(np.arange(len(speeds_mps)) <= first, speeds_mps, other)


def at_other_speed(
    states: FloatArray, path: DrivenPath, first: int, speeds_mps: FloatArray
) -> FloatArray:
    """Returns (n, 7) states on the same path, from row `first` on at other speeds."""
    places_m = path.along_m[first] + DT_S * np.concatenate([[0.0], np.cumsum(speeds_mps[first:-1])])
    poses = np.concatenate([states[:first, :4], path.poses_at(places_m)])
    result = _states(poses, speeds_mps)
    result[:first] = states[:first]
    return result


def _states(poses: FloatArray, speeds_mps: FloatArray) -> FloatArray:
    """Returns the (n, 7) states of who drives (n, 4) x, y, z, yaw at some speeds."""
    yaw = np.unwrap(poses[:, 3])
    return np.column_stack(
        [poses, speeds_mps * np.cos(yaw), speeds_mps * np.sin(yaw), np.gradient(yaw, DT_S)]
    )


def _drawn_kind(rng: np.random.Generator) -> RoadUserKind:
    shares = [kind.share for kind in VEHICLE_KINDS]
    return VEHICLE_KINDS[int(rng.choice(len(shares), p=shares))]


def _allowed(line_m: FloatArray, limits_mps: FloatArray, kind: RoadUserKind) -> float:
    """Returns the highest speed all along a line."""
    bend = np.abs(np.gradient(np.unwrap(line_m[:, 2]), distances_along(line_m))).max()
    by_bend = np.sqrt(MAX_LATERAL_MPS2 / max(float(bend), 1e-4))
    return float(min(limits_mps.min(), by_bend, kind.max_speed_mps))


def _walking(stage: Stage, rng: np.random.Generator) -> FloatArray | None:
    """Returns the (n, 7) states of a pedestrian who crosses the ego's line ahead of it."""
    way = stage.way
    here_m = way.along_m[np.argmin(np.hypot(*(way.line_m[:, :2] - stage.pose[:2]).T))]
    place = int(np.searchsorted(way.along_m, here_m + rng.uniform(*_CROSSING_M)))
    if place >= len(way.line_m):
        return None
    x, y, heading = way.line_m[place]
    speed_mps, side = rng.uniform(*_WALKING_MPS), rng.choice((-1.0, 1.0))
    steps = np.arange(stage.first_step, stage.last_step + 1) - stage.moment.step
    left_m = rng.uniform(-_WALKERS_M, _WALKERS_M) + side * speed_mps * DT_S * steps
    yaw = np.full(len(steps), heading + side * 0.5 * np.pi)
    ego = stage.moment.ego()
    assert ego is not None  # A moment is a step at which its seat exists.
    poses = np.column_stack(
        [
            x - left_m * np.sin(heading),
            y + left_m * np.cos(heading),
            np.full(len(steps), ego.z_m),
            np.arctan2(np.sin(yaw), np.cos(yaw)),
        ]
    )
    return _states(poses, np.full(len(steps), speed_mps))


def _new_track(
    stage: Stage, kind: RoadUserKind, states: FloatArray, rng: np.random.Generator
) -> Tracks:
    size_m = np.array([[rng.uniform(*r) for r in (kind.length_m, kind.width_m, kind.height_m)]])
    return Tracks(
        ids=np.array([stage.moment.log.tracks.ids.max() + 1], dtype=np.int32),
        source_ids=np.array([NO_SOURCE_ID], dtype=np.int64),
        classes=np.array([kind.object_class], dtype=np.uint8),
        sizes_m=size_m,
        rear_axles_m=REAR_AXLE_TO_CENTER_SHARE * size_m[:, 0],
        first_steps=np.array([stage.first_step], dtype=np.int32),
        last_steps=np.array([stage.first_step + len(states) - 1], dtype=np.int32),
        states=states,
        observed=np.ones(len(states), dtype=np.bool_),
    )


def _switched_lights(stage: Stage, rng: np.random.Generator) -> Edit | None:
    """Returns the edit of the next light on the ego's way, and of all heads of its approach."""
    log, lights = stage.moment.log, stage.moment.log.lights
    head = _next_light(stage)
    if head is None:
        return None
    state = lights.states[stage.moment.step, head]
    if state == LightState.UNKNOWN:
        return None
    other = LightState.RED if state == LightState.GREEN else LightState.GREEN
    apart_m = np.hypot(*(lights.centers_m[:, :2] - lights.centers_m[head, :2]).T)
    turned = np.abs(np.angle(np.exp(1j * (lights.yaws_rad - lights.yaws_rad[head]))))
    alike = (lights.states == lights.states[:, [head]]).all(axis=0)
    heads = np.flatnonzero(alike & (apart_m < _TWIN_M) & (turned < _TWIN_RAD))
    first = max(0, stage.moment.step - int(rng.integers(LEAD_STEPS)))
    return of_lights(heads.astype(np.int32), int(other), first, nobody(log))


def _next_light(stage: Stage) -> int | None:
    """Returns the light of the first connector on the way that the ego has not reached."""
    lights, way = stage.moment.log.lights, stage.way
    lanes = stage.moment.log.map.lanes
    for key in way.lane_ids:
        if key not in lights.lane_ids:
            continue
        ahead_m = to_local(stage.pose, np.append(lanes[key].centerline_m[0, :2], 0.0))[0]
        if 0.0 < ahead_m < _NEAR_M:
            return lights.lane_ids.index(key)
    return None


def _meets_others(stage: Stage, edit: Edit, boxes: npt.NDArray[np.object_]) -> bool:
    """True if the changed road user touches anybody, or the ego before the edit's moment."""
    moment, motion = stage.moment, edit.motion
    first, last = int(motion.first_steps[0]), int(motion.last_steps[0])
    others = edited(moment.log, edit, moment.step).tracks.window(first, last, leave_out=edit.track)
    steps = np.arange(len(others.states)) + np.repeat(
        others.first_steps - others.offsets[:-1], np.diff(others.offsets)
    )
    owners = np.repeat(np.arange(len(others)), np.diff(others.offsets))
    mine = motion.states[steps - first]
    reach_m = 0.5 * np.hypot(*(others.sizes_m[owners, :2] + motion.sizes_m[0, :2]).T)
    close = np.hypot(*(others.states[:, :2] - mine[:, :2]).T) < reach_m
    close &= np.abs(others.states[:, 2] - mine[:, 2]) < LEVEL_M
    close &= (others.ids[owners] != moment.seat) | (steps <= moment.step)
    theirs = _boxes(others.states[close], others.sizes_m[owners[close]])
    return bool(shapely.intersects(theirs, boxes[steps[close] - first]).any())


def _boxes(states: FloatArray, sizes_m: FloatArray) -> npt.NDArray[np.object_]:
    """Returns the outlines of (n, 7) states with (3,) or (n, 3) sizes."""
    forward = np.stack([np.cos(states[:, 3]), np.sin(states[:, 3])], axis=-1)
    left = np.stack([-forward[:, 1], forward[:, 0]], axis=-1)
    half = 0.5 * np.broadcast_to(sizes_m, (len(states), 3))
    corners = [
        states[:, :2] + along * half[:, :1] * forward + across * half[:, 1:2] * left
        for along, across in ((1, 1), (-1, 1), (-1, -1), (1, -1))
    ]
    return np.asarray(shapely.polygons(np.stack(corners, axis=1)))

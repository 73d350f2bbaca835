"""Road users that were not there: they drive along the lanes, are parked, or cross on foot."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.spatial import cKDTree

from rap_evaluation.expert.road_areas import route_centerline
from rap_evaluation.logs.driven_path import DrivenPath
from rap_evaluation.logs.recording import NO_SOURCE_ID, Tracks
from rap_evaluation.metrics.pdm_scene import DT_S
from rap_evaluation.traffic.curve_speed import MAX_LATERAL_MPS2
from rap_evaluation.traffic.demand import PEDESTRIAN_KIND, VEHICLE_KINDS, RoadUserKind
from rap_raster.frames import FloatArray, wrap_angle
from rap_raster.maps.lane_geometry import distances_along, polyline_length
from rap_raster.maps.vector_map import Lane
from rap_raster.vehicle import REAR_AXLE_TO_CENTER_SHARE
from rap_training.augmentation.edits.motion import driving
from rap_training.augmentation.edits.scene_edit import Stage

_WALKING_SHARE, _PARKED_SHARE = 0.5, 0.15
"""Of all; the others drive."""

_WAITING_SHARE = 0.4
"""Of those on foot: they have stopped in the road, so that the ego passes first."""

_ON_PATH_SHARE = 0.5  # Of those who drive or park, in the ego's own lane; the others anywhere near.
_ON_PATH_M = 1.5
NEAR_M = 60.0
"""How far around the ego road users are edited."""

_WALKING_MPS = (0.8, 1.8)
_CROSSING_M = (8.0, 45.0)  # Ahead of the ego.
_BESIDE_M = 5.0  # Where a walker is at the moment, from the ego's line.
_CURB_M = 1.75  # From the middle of a lane, where its edge is not known.
_PARKING_M = 0.3  # Over the lane's edge, or away from it.


class AddedUsers:
    """Draws road users for the lanes of one map."""

    def __init__(self, lanes: Mapping[str, Lane]) -> None:
        """Indexes the centrelines."""
        self._lanes = lanes
        lines = [lane.centerline_m for lane in lanes.values()]
        self._points_m = np.concatenate([*lines, np.zeros((0, 3))])
        self._keys = np.repeat(np.array(list(lanes), dtype=object), [len(line) for line in lines])
        self._tree = cKDTree(self._points_m[:, :2])

    def draw(self, stage: Stage, rng: np.random.Generator) -> Tracks | None:
        """Draws a road user, or None where there is no place for it."""
        share = rng.random()
        if share < _WALKING_SHARE:
            kind, states = PEDESTRIAN_KIND, _crossing(stage, rng)
        elif share < _WALKING_SHARE + _PARKED_SHARE:
            kind = VEHICLE_KINDS[0]
            states = self._on_lanes(stage, kind, rng, parked=True)
        else:
            shares = [vehicle.share for vehicle in VEHICLE_KINDS]
            kind = VEHICLE_KINDS[int(rng.choice(len(shares), p=shares))]
            states = self._on_lanes(stage, kind, rng, parked=False)
        return None if states is None else _track(stage, kind, states, rng)

    def _on_lanes(
        self, stage: Stage, kind: RoadUserKind, rng: np.random.Generator, *, parked: bool
    ) -> FloatArray | None:
        """Returns the (n, 7) states of who drives at constant speed, or stands at the curb."""
        place = self._place(stage, rng)
        if place is None:
            return None
        line_m, limits_mps = self._onward(self._keys[place], rng)
        along_m = distances_along(line_m)
        start_m = along_m[np.argmin(np.hypot(*(line_m[:, :2] - self._points_m[place, :2]).T))]
        steps = np.arange(stage.last_step - stage.first_step + 1)
        speed_mps = 0.0 if parked else rng.random() * _allowed(line_m, limits_mps, kind)
        places_m = start_m + speed_mps * DT_S * steps
        if places_m[-1] > along_m[-1]:
            return None
        _, below = self._tree.query(line_m[:, :2])
        path = DrivenPath(np.insert(line_m, 2, self._points_m[below, 2], axis=1))
        left_m = -self._curb_m(place, rng) if parked else 0.0
        return driving(path.poses_at(places_m, left_m), np.full(len(steps), speed_mps))

    def _place(self, stage: Stage, rng: np.random.Generator) -> int | None:
        """Draws a point of a lane near the ego, or on what it would drive."""
        if rng.random() < _ON_PATH_SHARE:
            ahead = stage.way.line_m[stage.way.near(stage.pose), :2]
            ahead = ahead[np.hypot(*(ahead - stage.pose[:2]).T) < NEAR_M]
            found = self._tree.query_ball_point(ahead, _ON_PATH_M)
            near = np.unique(np.concatenate([[], *found])).astype(np.intp)
        else:
            near = np.sort(self._tree.query_ball_point(stage.pose[:2], NEAR_M)).astype(np.intp)
        return int(rng.choice(near)) if len(near) else None

    def _onward(self, key: str, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Returns line and limits of a lane and those that follow; forks are drawn."""
        lane_ids, length_m = [key], 0.0
        while length_m < 2.0 * NEAR_M:
            onward = [lane for lane in self._lanes[lane_ids[-1]].successors if lane in self._lanes]
            if not onward:
                break
            lane_ids.append(onward[int(rng.integers(len(onward)))])
            length_m += polyline_length(self._lanes[lane_ids[-1]].centerline_m)
        return route_centerline(self._lanes, lane_ids)

    def _curb_m(self, place: int, rng: np.random.Generator) -> float:
        """Returns how far to the right of the lane's middle a parked car stands."""
        edge_m, point_m = self._lanes[self._keys[place]].right_m, self._points_m[place]
        half_m = _CURB_M
        if edge_m is not None:
            half_m = float(np.hypot(*(edge_m[:, :2] - point_m[:2]).T).min())
        half_car_m = 0.5 * VEHICLE_KINDS[0].width_m[1]
        return max(0.0, half_m - half_car_m + float(rng.uniform(-_PARKING_M, _PARKING_M)))


def _allowed(line_m: FloatArray, limits_mps: FloatArray, kind: RoadUserKind) -> float:
    """Returns the speed that is allowed and comfortable all along a line."""
    bend = np.abs(np.gradient(np.unwrap(line_m[:, 2]), distances_along(line_m))).max()
    by_bend_mps = np.sqrt(MAX_LATERAL_MPS2 / max(float(bend), 1e-4))
    return float(min(limits_mps.min(), by_bend_mps, kind.max_speed_mps))


def _crossing(stage: Stage, rng: np.random.Generator) -> FloatArray | None:
    """Returns the (n, 7) states of a pedestrian who crosses the ego's line, or waits beside it."""
    way = stage.way
    here_m = way.along_m[np.argmin(np.hypot(*(way.line_m[:, :2] - stage.pose[:2]).T))]
    place = int(np.searchsorted(way.along_m, here_m + rng.uniform(*_CROSSING_M)))
    if place >= len(way.line_m):
        return None
    x, y, heading = way.line_m[place]
    waits = rng.random() < _WAITING_SHARE
    speed_mps = 0.0 if waits else float(rng.uniform(*_WALKING_MPS))
    side = float(rng.choice((-1.0, 1.0)))
    steps = np.arange(stage.first_step, stage.last_step + 1) - stage.moment.step
    left_m = rng.uniform(-_BESIDE_M, _BESIDE_M) + side * speed_mps * DT_S * steps
    poses = np.empty((len(steps), 4))
    poses[:, 0] = x - left_m * np.sin(heading)
    poses[:, 1] = y + left_m * np.cos(heading)
    poses[:, 2] = stage.moment.ego().z_m
    poses[:, 3] = wrap_angle(heading + side * 0.5 * np.pi)
    return driving(poses, np.full(len(steps), speed_mps))


def _track(
    stage: Stage, kind: RoadUserKind, states: FloatArray, rng: np.random.Generator
) -> Tracks:
    """Returns a track of a new id."""
    sizes_m = np.array([[rng.uniform(*r) for r in (kind.length_m, kind.width_m, kind.height_m)]])
    return Tracks(
        ids=np.array([stage.moment.log.tracks.ids.max() + 1], dtype=np.int32),
        source_ids=np.array([NO_SOURCE_ID], dtype=np.int64),
        classes=np.array([kind.object_class], dtype=np.uint8),
        sizes_m=sizes_m,
        rear_axles_m=REAR_AXLE_TO_CENTER_SHARE * sizes_m[:, 0],
        first_steps=np.array([stage.first_step], dtype=np.int32),
        last_steps=np.array([stage.last_step], dtype=np.int32),
        states=states,
        observed=np.ones(len(states), dtype=np.bool_),
    )

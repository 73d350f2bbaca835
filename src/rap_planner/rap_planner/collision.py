"""Whether the ego's box meets the box of an object, at which time, and whose fault that is.

Objects go on as they move now: they turn on along their circle, and who brakes brakes on until it
stands. That is a guess; a horizon of a few seconds keeps it an acceptable one.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from rap_planner.trajectory import MAX_SPEED_MPS
from rap_raster.frames import FloatArray, wrap_angle
from rap_raster.observations import TrackedObjects
from rap_raster.scene import Boxes
from rap_raster.vehicle import VehicleDimensions

BoolArray = npt.NDArray[np.bool_]

BASELINE_S = 0.4
"""Turns and braking come from headings and speeds this far apart: 0.02 rad of noise are 0.07 rad/s
then, 0.2 m/s are 0.7 m/s2."""

MAX_BASELINE_S = 1.0
"""What was longer ago says nothing about how an object moves now."""

TURNING_MPS = 2.0
"""Slower objects are taken to go straight: the heading of what stands is noise."""

MAX_TURN_RADPS = 0.8
"""Faster turns are errors of the tracker: a car at 8 m/s would have 6 m/s2 across."""

MIN_BRAKING_MPS2, MAX_BRAKING_MPS2 = 0.7, 9.0
"""Less is the noise of speeds, more is no road vehicle's."""

STANDING_M = 0.1
"""An ego that has moved less than this stands, and collides with nobody."""

ALONG_RAD = np.radians(60.0)
"""Who drives ahead in a bend has turned by less than this against the ego."""

COMING_MPS = 0.5
"""Who comes from behind moves faster than this in about the direction of the ego."""

TOWARDS_M = 0.3
"""An ego that moves farther aside than this moves towards who is there."""

DRIFT = 0.1
"""Share of the clearance by which an object may come closer that is too close already, or nearly:
its box is not known more exactly, and an ego that leaves it sideways turns a corner towards it."""

DRIFT_M = 0.1
"""The same where boxes overlap already."""


@dataclass(frozen=True, slots=True)
class Clearance:
    """Room to be left around the ego.

    Attributes:
        ahead_m: Before the front and behind the rear.
        aside_m: To either side.
    """

    ahead_m: float
    aside_m: float


TOUCH = Clearance(1e-3, 1e-3)
"""None: only boxes that meet are too close."""


@dataclass(frozen=True, slots=True)
class Obstacles:
    """N objects and how they go on.

    Attributes:
        stamp_ns: When they were there.
        ids: (N,) track ids.
        centers_m: (N, 2) map frame.
        half_sizes_m: (N, 2) half of length and width.
        yaws_rad: (N,) map frame.
        velocities_mps: (N, 2) map frame.
        turns_radps: (N,) of heading and velocity.
        brakings_mps2: (N,) deceleration, not negative.
    """

    stamp_ns: int
    ids: npt.NDArray[np.int32]
    centers_m: FloatArray
    half_sizes_m: FloatArray
    yaws_rad: FloatArray
    velocities_mps: FloatArray
    turns_radps: FloatArray
    brakings_mps2: FloatArray

    def select(self, keep: BoolArray) -> Obstacles:
        """Returns those chosen by a mask."""
        return Obstacles(
            self.stamp_ns,
            self.ids[keep],
            self.centers_m[keep],
            self.half_sizes_m[keep],
            self.yaws_rad[keep],
            self.velocities_mps[keep],
            self.turns_radps[keep],
            self.brakings_mps2[keep],
        )

    def nearest(self, place_m: FloatArray, count: int) -> Obstacles:
        """Returns at most so many, those nearest to a (2,) place."""
        if len(self.ids) <= count:
            return self
        distances_m = np.linalg.norm(self.centers_m - place_m, axis=1)
        keep = np.zeros(len(self.ids), dtype=np.bool_)
        keep[np.argpartition(distances_m, count)[:count]] = True
        return self.select(keep)

    def leaders(self, ego_m: FloatArray, braking_mps2: float) -> Obstacles:
        """Returns those that drive ahead of (3,) x, y, yaw in about its direction, braking."""
        offsets_m = self.centers_m - ego_m[:2]
        ahead_m = np.cos(ego_m[2]) * offsets_m[:, 0] + np.sin(ego_m[2]) * offsets_m[:, 1]
        ways_rad = np.arctan2(self.velocities_mps[:, 1], self.velocities_mps[:, 0])
        along = np.abs(wrap_angle(ways_rad - ego_m[2])) <= ALONG_RAD
        moves = np.hypot(*self.velocities_mps.T) > 0.0
        chosen = self.select((ahead_m > 0.0) & along & moves)
        return replace(chosen, brakings_mps2=np.maximum(chosen.brakings_mps2, braking_mps2))

    def poses_at(self, times_s: FloatArray) -> FloatArray:
        """Returns (M, N, 3) centres and headings at (M,) seconds after the stamp."""
        driven_s = self._driven_s(times_s)
        turned = driven_s * self.turns_radps  # the circle stays when the speed does not
        # Integral of a turning velocity: t sinc(w t / 2) along the mean direction.
        reach_s = driven_s * np.sinc(0.5 * turned / np.pi)
        cos, sin = np.cos(0.5 * turned), np.sin(0.5 * turned)
        vx, vy = self.velocities_mps.T
        poses = np.empty((*turned.shape, 3))
        poses[..., 0] = self.centers_m[:, 0] + reach_s * (cos * vx - sin * vy)
        poses[..., 1] = self.centers_m[:, 1] + reach_s * (sin * vx + cos * vy)
        poses[..., 2] = self.yaws_rad + turned
        return poses

    def _driven_s(self, times_s: FloatArray) -> FloatArray:
        """Returns (M, N) the times in which the objects get as far without braking."""
        speeds_mps = np.hypot(*self.velocities_mps.T)
        brakes = self.brakings_mps2 > 0.0
        stop_s = np.where(brakes, speeds_mps / np.where(brakes, self.brakings_mps2, 1.0), np.inf)
        moving_s = np.minimum(times_s[:, None], stop_s)
        lost = self.brakings_mps2 / np.maximum(speeds_mps, 1e-9)
        result: FloatArray = moving_s - 0.5 * lost * moving_s**2
        return result


class ObjectMotion:
    """Remembers objects for a moment, to tell how they turn and brake."""

    def __init__(self) -> None:
        """Knows no object."""
        self._recent: deque[TrackedObjects] = deque()

    def obstacles(self, objects: TrackedObjects) -> Obstacles:
        """Takes the newest objects in and returns how they go on.

        Objects of unknown or impossible velocity stand, those that were not seen before go straight
        on.
        """
        recent = self._recent
        if recent and objects.stamp_ns < recent[-1].stamp_ns:
            recent.clear()
        if not recent or objects.stamp_ns > recent[-1].stamp_ns:
            recent.append(objects)
        # The first one stays as long as the second one is too new to replace it.
        while len(recent) > 1 and _seconds(objects, recent[1]) >= BASELINE_S:
            recent.popleft()
        boxes = objects.boxes
        velocities_mps = _velocities(boxes)
        turns_radps, brakings_mps2 = _changes(recent[0], objects)
        return Obstacles(
            stamp_ns=objects.stamp_ns,
            ids=boxes.ids,
            centers_m=boxes.centers_m[:, :2],
            half_sizes_m=0.5 * boxes.sizes_m[:, :2],
            yaws_rad=boxes.yaws_rad,
            velocities_mps=velocities_mps,
            turns_radps=turns_radps,
            brakings_mps2=brakings_mps2,
        )


@dataclass(frozen=True, slots=True)
class Contacts:
    """The first contact of each of K trajectories.

    Attributes:
        found: (K,) whether there is one.
        times_s: (K,) when, on the trajectories' clock; undefined where there is none.
        ids: (K,) with which object; undefined where there is none.
    """

    found: BoolArray
    times_s: FloatArray
    ids: npt.NDArray[np.int32]


def contacts(
    poses_m: FloatArray,
    times_s: FloatArray,
    body: VehicleDimensions,
    obstacles: Obstacles,
    clearance: Clearance = TOUCH,
) -> Contacts:
    """Finds collisions that the ego would cause; who comes too close counts as met.

    Left out are those of an ego that stands, and those with a follower that would also run into an
    ego that stayed where it is, as long as the ego does not turn or roll towards it. Who is too
    close already must not come closer.

    Args:
        poses_m: (K, M, 3) x, y, yaw of the rear axle, map frame; the first ones are those of now.
        times_s: (M,) seconds after the stamp of the obstacles.
        body: Size of the ego.
        obstacles: Whom to meet.
        clearance: What is too close.
    """
    ego = _box_centers(poses_m, body.rear_axle_to_center_m)
    shape = _Shape(np.array([0.5 * body.length_m, 0.5 * body.width_m]), clearance)
    obstacles = obstacles.select(_within_reach(ego, times_s, shape.radius_m, obstacles))
    others = obstacles.poses_at(times_s)
    count = len(poses_m)
    room = shape.room(ego, others, obstacles.half_sizes_m)
    room_now = room[:, :1]
    deeper = room_now - DRIFT_M / clearance.ahead_m
    least = np.where(room_now > 0.0, np.clip(room_now - DRIFT, 0.0, 1.0), deeper)
    hits = room <= least
    moved_m = np.linalg.norm(ego[..., :2] - ego[:, :1, :2], axis=-1)
    hits &= (moved_m > STANDING_M)[..., None]
    hits &= ~_from_behind(ego, others, shape, obstacles)
    when = np.logical_or.reduce(hits, axis=2)
    first = when.argmax(axis=1)
    rows = np.arange(count)
    if not len(obstacles.ids):
        return Contacts(np.zeros(count, bool), np.zeros(count), np.zeros(count, np.int32))
    whom = hits[rows, first].argmax(axis=1)
    return Contacts(
        np.logical_or.reduce(when, axis=1), times_s[first] - times_s[0], obstacles.ids[whom]
    )


def _seconds(later: TrackedObjects, earlier: TrackedObjects) -> float:
    return (later.stamp_ns - earlier.stamp_ns) * 1e-9


def _velocities(boxes: Boxes) -> FloatArray:
    """Returns (N, 2) velocities; 0 where they are unknown or impossible."""
    known = np.hypot(*boxes.velocities_mps.T) <= MAX_SPEED_MPS
    result: FloatArray = np.where(known[:, None], boxes.velocities_mps, 0.0)
    return result


def _changes(before: TrackedObjects, now: TrackedObjects) -> tuple[FloatArray, FloatArray]:
    """Returns (N,) turn rates and (N,) decelerations of the objects of `now`."""
    turns, brakings = np.zeros(len(now.boxes)), np.zeros(len(now.boxes))
    dt_s = _seconds(now, before)
    if not BASELINE_S <= dt_s <= MAX_BASELINE_S:
        return turns, brakings
    _, at_now, at_before = np.intersect1d(now.boxes.ids, before.boxes.ids, return_indices=True)
    turned = wrap_angle(now.boxes.yaws_rad[at_now] - before.boxes.yaws_rad[at_before])
    turns[at_now] = turned / dt_s
    speeds_mps = np.hypot(*_velocities(now.boxes).T)
    turns[(speeds_mps < TURNING_MPS) | (np.abs(turns) > MAX_TURN_RADPS)] = 0.0
    slowed_mps = np.hypot(*_velocities(before.boxes)[at_before].T) - speeds_mps[at_now]
    brakings[at_now] = slowed_mps / dt_s
    brakings[(brakings < MIN_BRAKING_MPS2) | (brakings > MAX_BRAKING_MPS2)] = 0.0
    return turns, brakings


def _box_centers(poses_m: FloatArray, rear_axle_to_center_m: float) -> FloatArray:
    """Moves (..., 3) poses from the rear axle to the centre of the box."""
    centers = poses_m.copy()
    centers[..., 0] += rear_axle_to_center_m * np.cos(poses_m[..., 2])
    centers[..., 1] += rear_axle_to_center_m * np.sin(poses_m[..., 2])
    return centers


def _within_reach(
    ego: FloatArray, times_s: FloatArray, ego_radius_m: float, obstacles: Obstacles
) -> BoolArray:
    """Returns (N,) which obstacles come near the box around all trajectories at some time."""
    low, high = ego[..., :2].min(axis=0), ego[..., :2].max(axis=0)
    others = obstacles.poses_at(times_s)[..., :2]
    outside = np.maximum(low[:, None] - others, 0.0) + np.maximum(others - high[:, None], 0.0)
    reach_m = ego_radius_m + np.hypot(*obstacles.half_sizes_m.T)
    near: BoolArray = (np.linalg.norm(outside, axis=-1) <= reach_m).any(axis=0)
    return near


@dataclass(frozen=True, slots=True)
class _Shape:
    """The ego's box: half of length and width, and the room around it."""

    half_m: FloatArray
    clearance: Clearance

    @property
    def radius_m(self) -> float:
        """Of a circle around the box and its clearance."""
        ahead_m = self.half_m[0] + self.clearance.ahead_m
        return float(np.hypot(ahead_m, self.half_m[1] + self.clearance.aside_m))

    def room(self, ego: FloatArray, others: FloatArray, other_halves_m: FloatArray) -> FloatArray:
        """Returns (K, M, N) how much of the clearance is left between boxes of the same time.

        Two rectangles are apart if and only if one of their four side directions separates them. At
        0 they touch, below it they overlap; from 1 on the clearance is kept; infinite far away.

        Args:
            ego: (K, M, 3) centres and headings.
            others: (M, N, 3) the same.
            other_halves_m: (N, 2) half of length and width.
        """
        delta = others[None, ..., :2] - ego[:, :, None, :2]
        reach_m = self.radius_m + np.hypot(*other_halves_m.T)
        k, m, n = np.nonzero((delta**2).sum(axis=-1) <= reach_m**2)
        yaw = ego[k, m, 2]
        turn = others[m, n, 2] - yaw
        dx, dy = delta[k, m, n].T
        dx, dy = np.cos(yaw) * dx + np.sin(yaw) * dy, np.cos(yaw) * dy - np.sin(yaw) * dx
        cos, sin = np.cos(turn), np.sin(turn)
        along, across = np.abs(cos), np.abs(sin)
        a, b = self.half_m
        c, d = other_halves_m[n].T
        ahead_m, aside_m = self.clearance.ahead_m, self.clearance.aside_m
        result = np.full((*ego.shape[:2], len(other_halves_m)), np.inf)
        result[k, m, n] = np.maximum.reduce(
            [
                (np.abs(dx) - a - along * c - across * d) / ahead_m,
                (np.abs(dy) - b - across * c - along * d) / aside_m,
                (np.abs(cos * dx + sin * dy) - c - along * a - across * b)
                / (along * ahead_m + across * aside_m),
                (np.abs(cos * dy - sin * dx) - d - across * a - along * b)
                / (across * ahead_m + along * aside_m),
            ]
        )
        return result


def _from_behind(
    ego: FloatArray, others: FloatArray, shape: _Shape, obstacles: Obstacles
) -> BoolArray:
    """Returns (K, M, N) who comes from behind, and would also hit an ego that stayed where it is.

    Not once the ego has moved towards it: back, or aside where it comes along beside the ego.
    """
    start = ego[:, :1]
    ahead_m, left_m = _in_frame(start, others[:1, :, :2] - start[..., :2])
    moved_m, moved_left_m = _in_frame(start, ego[..., :2] - start[..., :2])
    along_mps, across_mps = _in_frame(start, obstacles.velocities_mps[None])
    comes = (along_mps > COMING_MPS) & (np.abs(across_mps) <= np.tan(ALONG_RAD) * along_mps)
    stays = np.broadcast_to(start, (*ego.shape[:2], 3))
    too_close = (shape.room(stays, others, obstacles.half_sizes_m) < 1.0).any(1)
    beside = np.abs(left_m) > shape.half_m[1] + obstacles.half_sizes_m[:, 1]
    aside = moved_left_m[..., None] * np.sign(left_m)[:, None] > TOWARDS_M
    towards = (beside[:, None] & aside) | (moved_m < -STANDING_M)[..., None]
    result: BoolArray = ((ahead_m < 0.0) & comes & too_close)[:, None] & ~towards
    return result


def _in_frame(frames: FloatArray, vectors: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Returns (K, n) components ahead and to the left of (K or 1, n, 2) in (K, 1, 3) frames."""
    cos, sin = np.cos(frames[..., 2]), np.sin(frames[..., 2])
    x, y = vectors[..., 0], vectors[..., 1]
    return cos * x + sin * y, cos * y - sin * x

"""Whether the ego's box meets the box of an object, at which time, and whose fault that is.

Objects go on as they move now, at constant speed and turn. That is a guess; a horizon of a few
seconds keeps it an acceptable one.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rap_raster.frames import FloatArray, wrap_angle
from rap_raster.observations import TrackedObjects
from rap_raster.vehicle import VehicleDimensions

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.intp]

TURN_BASELINE_S = 0.4
"""Turn rates come from headings this far apart: 0.02 rad of noise are 0.07 rad/s then."""

MAX_TURN_BASELINE_S = 1.0
"""Older headings say nothing about how an object turns now."""

TURNING_MPS = 2.0
"""Slower objects are taken to go straight: the heading of what stands is noise."""

MAX_TURN_RADPS = 0.8
"""Faster turns are errors of the tracker: a car at 8 m/s would have 6 m/s2 across."""

STANDING_M = 0.1
"""An ego that has moved less than this stands, and collides with nobody."""


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
    """

    stamp_ns: int
    ids: npt.NDArray[np.int32]
    centers_m: FloatArray
    half_sizes_m: FloatArray
    yaws_rad: FloatArray
    velocities_mps: FloatArray
    turns_radps: FloatArray

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
        )

    def poses_at(self, times_s: FloatArray) -> FloatArray:
        """Returns (M, N, 3) centres and headings at (M,) seconds after the stamp."""
        turned = np.multiply.outer(times_s, self.turns_radps)
        # Integral of a turning velocity: t sinc(w t / 2) along the mean direction.
        reach_s = times_s[:, None] * np.sinc(0.5 * turned / np.pi)
        cos, sin = np.cos(0.5 * turned), np.sin(0.5 * turned)
        vx, vy = self.velocities_mps.T
        poses = np.empty((*turned.shape, 3))
        poses[..., 0] = self.centers_m[:, 0] + reach_s * (cos * vx - sin * vy)
        poses[..., 1] = self.centers_m[:, 1] + reach_s * (sin * vx + cos * vy)
        poses[..., 2] = self.yaws_rad + turned
        return poses


class ObjectMotion:
    """Remembers objects for a moment, to tell how they turn."""

    def __init__(self) -> None:
        """Knows no object."""
        self._recent: deque[TrackedObjects] = deque()

    def obstacles(self, objects: TrackedObjects) -> Obstacles:
        """Takes the newest objects in and returns how they go on.

        Objects of unknown velocity stand, those that were not seen before go straight on.
        """
        recent = self._recent
        if recent and objects.stamp_ns < recent[-1].stamp_ns:
            recent.clear()
        if not recent or objects.stamp_ns > recent[-1].stamp_ns:
            recent.append(objects)
        # The first one stays as long as the second one is too new to replace it.
        while len(recent) > 1 and _seconds(objects, recent[1]) >= TURN_BASELINE_S:
            recent.popleft()
        boxes = objects.boxes
        velocities_mps = np.nan_to_num(boxes.velocities_mps)
        return Obstacles(
            stamp_ns=objects.stamp_ns,
            ids=boxes.ids,
            centers_m=boxes.centers_m[:, :2],
            half_sizes_m=0.5 * boxes.sizes_m[:, :2],
            yaws_rad=boxes.yaws_rad,
            velocities_mps=velocities_mps,
            turns_radps=_turn_rates(recent[0], objects, np.hypot(*velocities_mps.T)),
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
    poses_m: FloatArray, times_s: FloatArray, body: VehicleDimensions, obstacles: Obstacles
) -> Contacts:
    """Finds collisions that the ego would cause.

    Left out are contacts that exist already at the first time, those with a follower that would
    also run into an ego that stayed where it is, and those of an ego that stands.

    Args:
        poses_m: (K, M, 3) x, y, yaw of the rear axle, map frame; the first ones are those of now.
        times_s: (M,) seconds after the stamp of the obstacles.
        body: Size of the ego.
        obstacles: Whom to meet.
    """
    half_m = np.array([0.5 * body.length_m, 0.5 * body.width_m])
    ego = _box_centers(poses_m, body.rear_axle_to_center_m)
    near = _within_reach(ego, times_s, float(np.hypot(*half_m)), obstacles)
    obstacles = obstacles.select(near)
    others = obstacles.poses_at(times_s)
    count = len(poses_m)
    hits = _overlaps(ego, others, half_m, obstacles.half_sizes_m)
    moved_m = np.linalg.norm(ego[..., :2] - ego[:, :1, :2], axis=-1)
    hits &= (moved_m > STANDING_M)[..., None]
    excused = _overlaps(ego[:, :1], others[:1], half_m, obstacles.half_sizes_m)[:, 0]
    excused |= _followers(ego, others, half_m, obstacles.half_sizes_m)
    hits &= ~excused[:, None, :]
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


def _turn_rates(before: TrackedObjects, now: TrackedObjects, speeds_mps: FloatArray) -> FloatArray:
    """Returns (N,) turn rates of the objects of `now`."""
    rates = np.zeros(len(now.boxes))
    dt_s = _seconds(now, before)
    if not TURN_BASELINE_S <= dt_s <= MAX_TURN_BASELINE_S:
        return rates
    _, at_now, at_before = np.intersect1d(now.boxes.ids, before.boxes.ids, return_indices=True)
    turned = wrap_angle(now.boxes.yaws_rad[at_now] - before.boxes.yaws_rad[at_before])
    rates[at_now] = turned / dt_s
    rates[(speeds_mps < TURNING_MPS) | (np.abs(rates) > MAX_TURN_RADPS)] = 0.0
    return rates


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


def _overlaps(
    ego: FloatArray, others: FloatArray, half_m: FloatArray, other_halves_m: FloatArray
) -> BoolArray:
    """Returns (K, M, N) whether boxes of the same time overlap.

    Two rectangles are apart if and only if one of their four side directions separates them.
    """
    delta = others[None, ..., :2] - ego[:, :, None, :2]
    reach_m = np.hypot(*half_m) + np.hypot(*other_halves_m.T)
    result: BoolArray = (delta**2).sum(axis=-1) <= reach_m**2
    k, m, n = np.nonzero(result)
    yaw = ego[k, m, 2]
    turn = others[m, n, 2] - yaw
    dx, dy = delta[k, m, n].T
    dx, dy = np.cos(yaw) * dx + np.sin(yaw) * dy, np.cos(yaw) * dy - np.sin(yaw) * dx
    cos, sin = np.cos(turn), np.sin(turn)
    a, b = half_m
    c, d = other_halves_m[n].T
    result[k, m, n] = (
        (np.abs(dx) <= a + np.abs(cos) * c + np.abs(sin) * d)
        & (np.abs(dy) <= b + np.abs(sin) * c + np.abs(cos) * d)
        & (np.abs(cos * dx + sin * dy) <= c + np.abs(cos) * a + np.abs(sin) * b)
        & (np.abs(cos * dy - sin * dx) <= d + np.abs(sin) * a + np.abs(cos) * b)
    )
    return result


def _followers(
    ego: FloatArray, others: FloatArray, half_m: FloatArray, other_halves_m: FloatArray
) -> BoolArray:
    """Returns (K, N) who comes from behind and would also hit an ego that stayed where it is."""
    start = ego[:, :1]
    behind_m = np.cos(start[..., 2]) * (others[:1, :, 0] - start[..., 0]) + np.sin(
        start[..., 2]
    ) * (others[:1, :, 1] - start[..., 1])
    stays = np.broadcast_to(start, (*ego.shape[:2], 3))
    result: BoolArray = (behind_m < 0.0) & _overlaps(stays, others, half_m, other_halves_m).any(1)
    return result

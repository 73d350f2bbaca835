"""What can be drawn: boxes, ground shapes and traffic lights around the ego at one instant.

Everything is a structure of flat arrays, because that is what the kernels, the messages and the
logs want. Codes are the class codes of the rasterizer's `class` channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from rap_raster.frames import FloatArray, Pose


class ObjectClass(IntEnum):
    """Classes of boxes; the value is the code in the class channel."""

    VEHICLE = 1
    TRUCK = 2
    BUS = 3
    MOTORCYCLE = 4
    BICYCLE = 5
    PEDESTRIAN = 6
    CONE = 7
    BARRIER = 8
    GENERIC = 9


class LineKind(IntEnum):
    """Kinds of polylines; the value is the code in the class channel."""

    LANE_BOUNDARY = 10
    LANE_DIVIDER = 11
    LANE_CENTERLINE = 12
    ROAD_BOUNDARY = 13
    STOP_LINE = 14
    ROUTE = 15


class PolygonKind(IntEnum):
    """Kinds of polygons; the value is the code in the class channel."""

    CROSSWALK = 20
    SPEED_BUMP = 21
    INTERSECTION = 22
    DRIVABLE = 23


class LightState(IntEnum):
    """States of traffic lights; the value is the code in the class channel."""

    RED = 30
    YELLOW = 31
    GREEN = 32
    UNKNOWN = 33


BRAKE_LIGHTS = (ObjectClass.VEHICLE, ObjectClass.TRUCK, ObjectClass.BUS)
"""Classes whose brake lights are shown; those of motorcycles are too small for most images."""

BRAKE_LIGHTS_MPS = 1.0
"""Speed below which a vehicle is taken to stand on its brakes."""

BEAM_RAD = np.deg2rad(60.0)
"""From the axis of a traffic light to where its hood hides the lamps."""


@dataclass(frozen=True, slots=True)
class Boxes:
    """N upright boxes in the map frame.

    Attributes:
        ids: (N,) int32, 1..2^31-1, unique.
        classes: (N,) uint8, `ObjectClass` codes.
        centers_m: (N, 3) float64 geometric centres.
        sizes_m: (N, 3) float64 length, width, height.
        yaws_rad: (N,) float64 heading, counter-clockwise from +x.
        velocities_mps: (N, 2) float64; NaN where unknown.
    """

    ids: npt.NDArray[np.int32]
    classes: npt.NDArray[np.uint8]
    centers_m: FloatArray
    sizes_m: FloatArray
    yaws_rad: FloatArray
    velocities_mps: FloatArray

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def brake_lights(self) -> npt.NDArray[np.bool_]:
        """(N,) where brake lights are lit: on vehicles known to stand."""
        lit: npt.NDArray[np.bool_] = np.isin(self.classes, BRAKE_LIGHTS)
        lit &= np.hypot(*self.velocities_mps.T) < BRAKE_LIGHTS_MPS
        return lit

    @classmethod
    def empty(cls) -> Boxes:
        """Returns a set of no boxes."""
        return cls.from_rows([])

    @classmethod
    def from_rows(cls, rows: Sequence[Sequence[float]]) -> Boxes:
        """Builds boxes from rows of id, class, x, y, z, length, width, height, yaw, vx, vy."""
        table = np.asarray(rows, dtype=np.float64).reshape(-1, 11)
        return cls(
            ids=table[:, 0].astype(np.int32),
            classes=table[:, 1].astype(np.uint8),
            centers_m=np.ascontiguousarray(table[:, 2:5]),
            sizes_m=np.ascontiguousarray(table[:, 5:8]),
            yaws_rad=np.ascontiguousarray(table[:, 8]),
            velocities_mps=np.ascontiguousarray(table[:, 9:11]),
        )

    def select(self, keep: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> Boxes:
        """Returns the boxes chosen by a mask or by indices."""
        return Boxes(
            self.ids[keep],
            self.classes[keep],
            self.centers_m[keep],
            self.sizes_m[keep],
            self.yaws_rad[keep],
            self.velocities_mps[keep],
        )


@dataclass(frozen=True, slots=True)
class Shapes:
    """P polylines or polygons in the map frame, as one ragged array.

    Attributes:
        kinds: (P,) uint8, `LineKind` or `PolygonKind` codes.
        offsets: (P + 1,) int32; shape i has the points offsets[i] .. offsets[i + 1].
        points_m: (M, 3) float64. Polygon rings are not closed.
    """

    kinds: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.int32]
    points_m: FloatArray

    def __len__(self) -> int:
        return len(self.kinds)

    def __getitem__(self, index: int) -> FloatArray:
        """Returns the (n, 3) points of one shape, a view."""
        return self.points_m[self.offsets[index] : self.offsets[index + 1]]

    @classmethod
    def from_list(cls, shapes: Sequence[tuple[int, npt.ArrayLike]]) -> Shapes:
        """Builds shapes from (kind, (n, 3) points) pairs."""
        points = [np.asarray(points, dtype=np.float64).reshape(-1, 3) for _, points in shapes]
        counts = np.array([len(p) for p in points], dtype=np.int32)
        return cls(
            kinds=np.array([kind for kind, _ in shapes], dtype=np.uint8),
            offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
            points_m=np.concatenate(points) if points else np.zeros((0, 3)),
        )

    def select(self, indices: npt.NDArray[np.intp]) -> Shapes:
        """Returns the shapes with the given indices, in that order."""
        counts = np.diff(self.offsets)[indices]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        # Row of every point: where its shape begins, plus its place within the shape.
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts)
        rows = np.repeat(self.offsets[:-1][indices], counts) + within
        return Shapes(self.kinds[indices], offsets, self.points_m[rows])


@dataclass(frozen=True, slots=True)
class Lights:
    """L traffic lights in the map frame.

    Attributes:
        states: (L,) uint8, `LightState` codes.
        centers_m: (L, 3) float64 geometric centres.
        sizes_m: (L, 3) float64 length, width, height.
        yaws_rad: (L,) float64.
    """

    states: npt.NDArray[np.uint8]
    centers_m: FloatArray
    sizes_m: FloatArray
    yaws_rad: FloatArray

    def __len__(self) -> int:
        return len(self.states)

    @classmethod
    def empty(cls) -> Lights:
        """Returns a set of no lights."""
        return cls(np.zeros(0, np.uint8), np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0))

    def shining_at(self, ego: Pose) -> Lights:
        """Returns those that shine towards the ego: of others no camera sees the state."""
        sight = np.array([ego.x_m, ego.y_m]) - self.centers_m[:, :2]
        beam = np.stack([np.cos(self.yaws_rad), np.sin(self.yaws_rad)], axis=1)
        return self.select((sight * beam).sum(axis=1) > np.cos(BEAM_RAD) * np.hypot(*sight.T))

    def select(self, keep: npt.NDArray[np.bool_]) -> Lights:
        """Returns the lights chosen by a mask."""
        return Lights(
            self.states[keep], self.centers_m[keep], self.sizes_m[keep], self.yaws_rad[keep]
        )


@dataclass(frozen=True, slots=True)
class Scene:
    """One instant: the ego and everything that can be drawn around it, in the map frame.

    Attributes:
        ego: Pose of the ego frame (rear axle, on the ground).
        boxes: Other road users and objects; the ego is not among them.
        polylines: Lane and road lines; kinds are `LineKind` codes.
        polygons: Ground areas; kinds are `PolygonKind` codes.
        lights: Traffic lights with their states.
    """

    ego: Pose
    boxes: Boxes
    polylines: Shapes
    polygons: Shapes
    lights: Lights

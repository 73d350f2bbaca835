"""What the Rerun files have in common: maps, boxes and vehicles as archetypes of the viewer.

Positions are relative to an origin, because the viewer's 32-bit numbers are too coarse for map
coordinates of kilometres.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rap_bringup.birds_eye import AREAS, BOXES, EGO, LINES, Color
from rap_raster.frames import FloatArray, Pose
from rap_raster.maps.vector_map import VectorMap, shapes_near
from rap_raster.scene import Boxes, LineKind, ObjectClass, PolygonKind, Shapes
from rap_raster.vehicle import VehicleDimensions

LIFT_M = 0.15
"""Paths float a little above the ground, or they would flicker with it."""

MAP_LINE_RADIUS_M = 0.04

Rerun = Any
"""The viewer's module; it is optional and loaded when it is used."""


class ViewerError(ValueError):
    """The viewer's package is not installed."""


def load_viewer(wanted_for: str) -> Rerun:
    """Returns the module `rerun`.

    Args:
        wanted_for: What cannot be done without it, for the error.

    Raises:
        ViewerError: If it is not installed.
    """
    try:
        import rerun  # noqa: PLC0415 - optional: only viewer files need it
    except ImportError as error:
        raise ViewerError(f"{wanted_for} needs rerun-sdk: pip install rerun-sdk") from error
    return rerun


def map_lines(
    rerun: Rerun, vector_map: VectorMap, origin_m: FloatArray, reach_m: float
) -> dict[str, Rerun]:
    """Returns the map around an origin: the name of each kind, and its lines."""
    around = {}
    groups: tuple[tuple[Shapes, type[LineKind | PolygonKind], dict[int, Any]], ...] = (
        (vector_map.polygons, PolygonKind, AREAS),
        (vector_map.polylines, LineKind, {kind: color for kind, (color, _) in LINES.items()}),
    )
    for shapes, kinds, colors in groups:
        near = shapes_near(shapes, origin_m, reach_m)
        for kind, color in colors.items():
            indices = np.flatnonzero(near.kinds == kind)
            closed = kinds is PolygonKind
            strips = [_strip(near[int(index)], origin_m, closed=closed) for index in indices]
            lines = rerun.LineStrips3D(strips, colors=[rgb(color)], radii=[MAP_LINE_RADIUS_M])
            around[kinds(kind).name.lower()] = lines
    return around


def agent_boxes(
    rerun: Rerun, boxes: Boxes, origin_m: FloatArray, color: Color | None = None
) -> Rerun:
    """Returns boxes, solid in the colours of their classes or as outlines in one colour."""
    colors = [rgb(color or BOXES[ObjectClass(int(code))]) for code in boxes.classes]
    return rerun.Boxes3D(
        centers=boxes.centers_m - origin_m,
        sizes=boxes.sizes_m,
        quaternions=_quaternions(boxes.yaws_rad),
        colors=colors,
        fill_mode="solid" if color is None else "majorwireframe",
    )


def vehicle_box(
    rerun: Rerun,
    vehicle: VehicleDimensions,
    pose: Pose,
    origin_m: FloatArray,
) -> Rerun:
    """Returns the box of a vehicle whose ego frame is at `pose`."""
    return rerun.Boxes3D(
        centers=[vehicle.box_center(pose) - origin_m],
        sizes=[[vehicle.length_m, vehicle.width_m, vehicle.height_m]],
        quaternions=_quaternions(np.array([pose.yaw_rad])),
        colors=[EGO],
        fill_mode="solid",
    )


def rgb(color: tuple[int, ...]) -> tuple[int, ...]:
    """Turns blue, green, red around."""
    return color[::-1]


def _quaternions(yaws_rad: npt.NDArray[np.float64]) -> FloatArray:
    """Returns (n, 4) x, y, z, w."""
    zeros = np.zeros_like(yaws_rad)
    return np.column_stack([zeros, zeros, np.sin(0.5 * yaws_rad), np.cos(0.5 * yaws_rad)])


def _strip(points_m: FloatArray, origin_m: FloatArray, *, closed: bool) -> FloatArray:
    ring = np.concatenate([points_m, points_m[:1]]) if closed else points_m
    return np.asarray(ring - origin_m, dtype=np.float64)

"""What is painted on the road: dashes of lines that may be crossed, bars of crosswalks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import cv2
import numpy as np
import shapely

from rap_raster.frames import FloatArray
from rap_raster.ground import Ground, build_ground
from rap_raster.scene import LineKind, PolygonKind, Shapes
from rap_raster.styles import GroundLook, Style, load_style

DASH_M, GAP_M = 3.0, 6.0
"""Length of dashes and of the gaps between them: German guidelines for urban roads (RMS)."""

BAR_M = 0.5
"""Width of the bars of a crosswalk and of the gaps between them (German StVO, sign 293)."""

_UNPAINTED = (int(LineKind.LANE_CENTERLINE), int(LineKind.ROUTE))

_LINE_WIDTHS_M = {int(LineKind.LANE_BOUNDARY): 0.15, int(LineKind.LANE_DIVIDER): 0.15}
_LEAST_PX = 0.7
"""Thinner lines would come and go between the samples of pixels."""


def camera_style() -> Style:
    """Returns the style whose class channel the simulator shades: only what cameras can see."""
    style = load_style("semantic")
    keep = ~np.isin(style.ground.codes, _UNPAINTED)
    look = {field.name: getattr(style.ground, field.name)[keep] for field in fields(GroundLook)}
    look["min_px"] = np.where(look["filled"], 0.0, _LEAST_PX)
    for code, width_m in _LINE_WIDTHS_M.items():
        look["widths_m"][look["codes"] == code] = width_m
    return replace(style, name="camera", ground=GroundLook(**look))


def painted_ground(lines: Shapes, areas: Shapes, style: Style) -> Ground:
    """Builds the ground of a map as a camera sees it.

    Args:
        lines: Polylines, `LineKind` codes.
        areas: Polygons, `PolygonKind` codes.
        style: From `camera_style`.
    """
    return build_ground(
        _replaced(lines, int(LineKind.LANE_DIVIDER), dashes),
        _replaced(areas, int(PolygonKind.CROSSWALK), bars),
        style,
    )


def _replaced(shapes: Shapes, kind: int, parts: Callable[[FloatArray], list[FloatArray]]) -> Shapes:
    """Returns shapes with each of one kind replaced by its parts."""
    chosen = shapes.kinds == kind
    pieces = [(kind, piece) for i in np.flatnonzero(chosen) for piece in parts(shapes[int(i)])]
    rest, made = shapes.select(np.flatnonzero(~chosen)), Shapes.from_list(pieces)
    return Shapes(
        kinds=np.concatenate([rest.kinds, made.kinds]),
        offsets=np.concatenate([rest.offsets, rest.offsets[-1] + made.offsets[1:]]),
        points_m=np.concatenate([rest.points_m, made.points_m]),
    )


def dashes(line_m: FloatArray) -> list[FloatArray]:
    """Cuts a (n, 3) line into its dashes."""
    s_m = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line_m, axis=0), axis=1))])
    pieces = []
    for start in np.arange(0.5 * GAP_M, s_m[-1], DASH_M + GAP_M):
        end = min(start + DASH_M, s_m[-1])
        inside = (s_m > start) & (s_m < end)
        at = np.concatenate([[start], s_m[inside], [end]])
        pieces.append(np.stack([np.interp(at, s_m, axis) for axis in line_m.T], axis=1))
    return pieces


def bars(ring_m: FloatArray) -> list[FloatArray]:
    """Cuts a (n, 3) crosswalk into its bars, which lie across the way that people walk.

    People walk along the longer side of the rectangle around it.
    """
    origin = ring_m.mean(axis=0)
    local = ring_m - origin
    along, across, length_m, width_m = _axes(local)
    count = max(1, int((length_m - BAR_M) / (2.0 * BAR_M)))
    middles = (np.arange(count) - 0.5 * (count - 1)) * 2.0 * BAR_M
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * [0.5 * BAR_M, width_m]
    rings = (middles[:, None, None] + corners[:, :1]) * along + corners[:, 1:] * across
    cut = shapely.intersection(shapely.polygons(rings), shapely.make_valid(_polygon(local)))
    level = np.column_stack([local[:, :2], np.ones(len(local))])
    plane = np.linalg.lstsq(level, local[:, 2], rcond=None)[0]
    return [
        origin + np.column_stack([xy, xy @ plane[:2] + plane[2]])
        for part in shapely.get_parts(cut)
        if part.geom_type == "Polygon" and not part.is_empty
        for xy in [shapely.get_coordinates(part.exterior)[:-1]]
    ]


def _polygon(ring_m: FloatArray) -> shapely.Polygon:
    return shapely.Polygon(ring_m[:, :2])


def _axes(ring_m: FloatArray) -> tuple[FloatArray, FloatArray, float, float]:
    """Returns the directions and lengths of the longer and the shorter side of a ring."""
    _, (width, height), angle_deg = cv2.minAreaRect(ring_m[:, :2].astype(np.float32))
    angle = np.radians(angle_deg)
    first, second = (
        np.array([np.cos(angle), np.sin(angle)]),
        np.array([-np.sin(angle), np.cos(angle)]),
    )
    if width >= height:
        return first, second, width, height
    return second, first, height, width

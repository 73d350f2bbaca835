"""The scene from above: map, agents, proposals and paths around the ego."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from rap_bringup.instants import Instant, Proposals
from rap_bringup.tiles import FONT
from rap_raster.frames import FloatArray, to_local
from rap_raster.maps.vector_map import VectorMap, shapes_near
from rap_raster.scene import Boxes, LineKind, ObjectClass, PolygonKind
from rap_raster.vehicle import PACIFICA, VehicleDimensions

Canvas = npt.NDArray[np.uint8]
Color = tuple[int, int, int]
"""Blue, green, red."""

BACKGROUND: Color = (30, 26, 24)
TEXT: Color = (225, 225, 225)
EGO: Color = (255, 255, 255)
CHOSEN: Color = (120, 255, 90)
DRIVEN: Color = (255, 255, 255)

AREAS: dict[int, Color] = {
    PolygonKind.DRIVABLE: (62, 55, 52),
    PolygonKind.INTERSECTION: (72, 63, 62),
    PolygonKind.CROSSWALK: (110, 98, 80),
    PolygonKind.SPEED_BUMP: (70, 95, 110),
}
LINES: dict[int, tuple[Color, int]] = {
    LineKind.LANE_CENTERLINE: ((88, 96, 74), 1),
    LineKind.LANE_DIVIDER: ((140, 132, 128), 1),
    LineKind.LANE_BOUNDARY: ((190, 170, 150), 1),
    LineKind.ROAD_BOUNDARY: ((90, 90, 200), 2),
    LineKind.STOP_LINE: ((240, 240, 240), 3),
    LineKind.ROUTE: ((120, 190, 60), 2),
}
BOXES: dict[int, Color] = {
    ObjectClass.VEHICLE: (255, 160, 90),
    ObjectClass.TRUCK: (220, 220, 60),
    ObjectClass.BUS: (255, 120, 170),
    ObjectClass.MOTORCYCLE: (180, 100, 255),
    ObjectClass.BICYCLE: (220, 160, 255),
    ObjectClass.PEDESTRIAN: (80, 220, 255),
    ObjectClass.CONE: (40, 130, 255),
    ObjectClass.BARRIER: (100, 110, 220),
    ObjectClass.GENERIC: (180, 180, 180),
}
SUBPIXEL_BITS = 4
SCORE_COLORS = cv2.COLORMAP_INFERNO
DARKEST, BRIGHTEST = 70, 235
"""Part of the colour map that shows on a dark road."""


@dataclass(frozen=True, slots=True)
class View:
    """How ego-frame metres become pixels: the ego drives to the right.

    Attributes:
        width: Pixels.
        height: Pixels.
        behind_m: How far the picture reaches behind the ego.
        ahead_m: How far it reaches ahead.
        aside_m: How far to the ego's left its middle row lies.
    """

    width: int
    height: int
    behind_m: float = 30.0
    ahead_m: float = 75.0
    aside_m: float = 0.0

    @property
    def pixels_per_m(self) -> float:
        """The scale."""
        return self.width / (self.behind_m + self.ahead_m)

    @property
    def reach_m(self) -> float:
        """Distance from the ego to the farthest corner."""
        side_m = 0.5 * self.height / self.pixels_per_m + abs(self.aside_m)
        return float(np.hypot(max(self.ahead_m, self.behind_m), side_m))

    def pixels(self, points_ego: FloatArray) -> npt.NDArray[np.int32]:
        """Returns (..., 2) fixed-point pixels of (..., >= 2) ego-frame metres."""
        x = (points_ego[..., 0] + self.behind_m) * self.pixels_per_m
        y = 0.5 * self.height - (points_ego[..., 1] - self.aside_m) * self.pixels_per_m
        fixed = np.stack([x, y], axis=-1) * (1 << SUBPIXEL_BITS)
        return np.round(fixed).astype(np.int32)


def draw_birds_eye(instant: Instant, view: View) -> Canvas:
    """Draws one instant from above.

    Returns:
        (H, W, 3) uint8, blue green red.
    """
    canvas = np.full((view.height, view.width, 3), BACKGROUND, dtype=np.uint8)
    origin = instant.ego.planar
    if instant.map is not None:
        draw_map(canvas, view, instant.map, origin)
    if instant.objects is not None:
        draw_boxes(canvas, view, instant.objects.boxes, origin)
    _draw_proposals(canvas, view, instant.proposals, origin)
    draw_path(canvas, view, local_points(origin, instant.driven_m), DRIVEN, 2, dashed=True)
    chosen = np.concatenate([np.zeros((1, 2)), local_points(origin, instant.trajectory_m)])
    draw_path(canvas, view, chosen, CHOSEN, 4)
    draw_ego(canvas, view, PACIFICA)
    return canvas


def score_colors(scores: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """Returns (K, 3) colours by rank, the best brightest: scores have no fixed range."""
    ranks = np.argsort(np.argsort(scores))
    shade = DARKEST + (BRIGHTEST - DARKEST) * ranks / max(1, len(scores) - 1)
    return cv2.applyColorMap(shade.astype(np.uint8)[:, None], SCORE_COLORS)[:, 0].astype(np.uint8)


def local_points(origin: FloatArray, points_map: FloatArray) -> FloatArray:
    """Returns (n, 2) ego-frame points of (n, >= 2) map-frame points."""
    padded = np.concatenate([points_map[..., :2], np.zeros((*points_map.shape[:-1], 1))], axis=-1)
    return to_local(origin, padded)[..., :2]


def draw_map(canvas: Canvas, view: View, vector_map: VectorMap, origin: FloatArray) -> None:
    """Draws areas and lines of a map around (3,) x, y, yaw of the ego."""
    areas = shapes_near(vector_map.polygons, origin, view.reach_m)
    for kind, color in AREAS.items():
        for index in np.flatnonzero(areas.kinds == kind):
            ring = view.pixels(local_points(origin, areas[int(index)]))
            cv2.fillPoly(canvas, [ring], color, cv2.LINE_AA, SUBPIXEL_BITS)
    lines = shapes_near(vector_map.polylines, origin, view.reach_m)
    for kind, (color, width) in LINES.items():
        for index in np.flatnonzero(lines.kinds == kind):
            points = local_points(origin, lines[int(index)])
            dashed = kind == LineKind.LANE_DIVIDER
            draw_path(canvas, view, points, color, width, dashed=dashed)


def draw_boxes(canvas: Canvas, view: View, boxes: Boxes, origin: FloatArray) -> None:
    """Draws boxes around (3,) x, y, yaw of the ego, each with a stroke to its front."""
    for index in range(len(boxes)):
        color = BOXES.get(int(boxes.classes[index]), BOXES[ObjectClass.GENERIC])
        pose = np.array([*boxes.centers_m[index, :2], boxes.yaws_rad[index]])
        x, y, yaw = to_local(origin, pose)
        if np.hypot(x, y) > view.reach_m:
            continue
        corners = box_corners((x, y, yaw), boxes.sizes_m[index, :2])
        ring = view.pixels(corners)
        dim = tuple(int(0.45 * channel) for channel in color)
        cv2.fillPoly(canvas, [ring], dim, cv2.LINE_AA, SUBPIXEL_BITS)
        cv2.polylines(canvas, [ring], True, color, 1, cv2.LINE_AA, SUBPIXEL_BITS)
        nose = np.stack([corners[:2].mean(axis=0), corners.mean(axis=0)])
        cv2.polylines(canvas, [view.pixels(nose)], False, color, 1, cv2.LINE_AA, SUBPIXEL_BITS)


def box_corners(pose: tuple[float, float, float], size_m: FloatArray) -> FloatArray:
    """Returns (4, 2) corners of a box, the two at the front first."""
    x, y, yaw = pose
    half = 0.5 * size_m
    local = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]]) * half
    cos, sin = np.cos(yaw), np.sin(yaw)
    result: FloatArray = local @ np.array([[cos, sin], [-sin, cos]]) + [x, y]
    return result


def _draw_proposals(canvas: Canvas, view: View, proposals: Proposals, origin: FloatArray) -> None:
    colors = score_colors(proposals.scores)
    for index in np.argsort(proposals.scores):
        points = np.concatenate([np.zeros((1, 2)), local_points(origin, proposals.poses_m[index])])
        color = tuple(int(channel) for channel in colors[index])
        draw_path(canvas, view, points, color, 1)
        end = view.pixels(points[-1:])[0]
        cv2.circle(canvas, end.tolist(), 2 << SUBPIXEL_BITS, color, -1, cv2.LINE_AA, SUBPIXEL_BITS)


def draw_path(
    canvas: Canvas,
    view: View,
    points_ego: FloatArray,
    color: tuple[int, ...],
    width: int,
    *,
    dashed: bool = False,
) -> None:
    """Draws a line through (n, 2) ego-frame points."""
    if len(points_ego) < 2:
        return
    if not dashed:
        cv2.polylines(
            canvas, [view.pixels(points_ego)], False, color, width, cv2.LINE_AA, SUBPIXEL_BITS
        )
        return
    for dash in _dashes(points_ego):
        cv2.polylines(canvas, [view.pixels(dash)], False, color, width, cv2.LINE_AA, SUBPIXEL_BITS)


def _dashes(points_m: FloatArray, length_m: float = 1.5, gap_m: float = 1.5) -> list[FloatArray]:
    lengths = np.linalg.norm(np.diff(points_m, axis=0), axis=1)
    arc_m = np.concatenate([[0.0], np.cumsum(lengths)])
    starts = np.arange(0.0, arc_m[-1], length_m + gap_m)
    return [
        np.column_stack(
            [np.interp([s, min(s + length_m, arc_m[-1])], arc_m, column) for column in points_m.T]
        )
        for s in starts
    ]


def draw_ego(canvas: Canvas, view: View, vehicle: VehicleDimensions) -> None:
    """Draws the ego at the origin of its frame."""
    size_m = np.array([vehicle.length_m, vehicle.width_m])
    corners = box_corners((vehicle.rear_axle_to_center_m, 0.0, 0.0), size_m)
    cv2.fillPoly(canvas, [view.pixels(corners)], (110, 90, 60), cv2.LINE_AA, SUBPIXEL_BITS)
    cv2.polylines(canvas, [view.pixels(corners)], True, EGO, 2, cv2.LINE_AA, SUBPIXEL_BITS)


def draw_scale_bar(canvas: Canvas, view: View) -> None:
    """Draws a bar of ten metres in the lower left corner."""
    length = round(10 * view.pixels_per_m)
    x, y = 16, canvas.shape[0] - 16
    cv2.line(canvas, (x, y), (x + length, y), TEXT, 2, cv2.LINE_AA)
    cv2.putText(canvas, "10 m", (x + 4, y - 8), FONT, 0.45, TEXT, 1, cv2.LINE_AA)

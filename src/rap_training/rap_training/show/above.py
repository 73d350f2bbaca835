"""A sample from above: where the ego is to drive, what was driven, and what was changed."""

from __future__ import annotations

import cv2
import numpy as np

from rap_bringup.birds_eye import (
    BACKGROUND,
    CHOSEN,
    DRIVEN,
    SUBPIXEL_BITS,
    Canvas,
    Color,
    View,
    box_corners,
    draw_boxes,
    draw_ego,
    draw_map,
    draw_path,
    draw_scale_bar,
    local_points,
)
from rap_raster.frames import FloatArray, to_local
from rap_raster.maps.vector_map import VectorMap
from rap_raster.scene import Boxes, Lights, LightState
from rap_raster.vehicle import VehicleDimensions
from rap_training.augmentation.situation import Situation
from rap_training.show.changes import changes_of
from rap_training.show.choice import Shown
from rap_training.show.views import dots_on, known_history, path_from_now

LABEL: Color = CHOSEN
RECORDED: Color = DRIVEN
HISTORY: Color = (0, 165, 255)
CHANGED: Color = (255, 60, 255)
GONE: Color = (70, 70, 255)
LIGHTS: dict[int, Color] = {
    LightState.RED: (60, 60, 255),
    LightState.YELLOW: (60, 220, 255),
    LightState.GREEN: (90, 220, 60),
    LightState.UNKNOWN: (160, 160, 160),
}

BEHIND_M = 18.0
LEAST_AHEAD_M = 32.0
MARGIN_M = 9.0
"""Around the path, so that one sees what is beside its end."""


def draw_above(shown: Shown, size: tuple[int, int]) -> Canvas:
    """Draws a sample from above, as far as its path goes.

    Returns:
        (H, W, 3) uint8, blue green red, the ego driving to the right.
    """
    situation, origin = shown.situation, shown.situation.ego.planar
    view = view_around(path_from_now(situation), size)
    canvas = np.full((view.height, view.width, 3), BACKGROUND, dtype=np.uint8)
    scene = situation.scene()
    around = VectorMap(situation.moment.log.map.name, scene.polylines, scene.polygons)
    draw_map(canvas, view, around, origin)
    draw_boxes(canvas, view, situation.boxes, origin)
    _draw_lights(canvas, view, situation.lights, origin)
    _outline_recorders(canvas, view, situation)
    _draw_changes(canvas, view, shown)
    draw_ego(canvas, view, situation.vehicle)
    _draw_history(canvas, view, situation)
    _draw_paths(canvas, view, shown)
    draw_scale_bar(canvas, view)
    return canvas


def view_around(path_m: FloatArray, size: tuple[int, int]) -> View:
    """Returns the closest view that shows a path."""
    width, height = size
    right_m, left_m = float(path_m[:, 1].min()), float(path_m[:, 1].max())
    along_m = max(LEAST_AHEAD_M, float(path_m[:, 0].max()) + MARGIN_M) + BEHIND_M
    across_m = left_m - right_m + 2.0 * MARGIN_M
    along_m = max(along_m, across_m * width / height)
    return View(width, height, BEHIND_M, along_m - BEHIND_M, aside_m=0.5 * (left_m + right_m))


def _draw_paths(canvas: Canvas, view: View, shown: Shown) -> None:
    """Draws the label over the recorded drive, which is left out where nothing was changed."""
    if shown.changed:
        # Wider than the label, so that one sees it where both are the same.
        draw_path(canvas, view, shown.recorded_path()[:, :2], RECORDED, 4, dashed=True)
    draw_path(canvas, view, path_from_now(shown.situation)[:, :2], LABEL, 2)
    for place in dots_on(shown.situation):
        _dot(canvas, view, place, 3, LABEL)


def _draw_history(canvas: Canvas, view: View, situation: Situation) -> None:
    poses = known_history(situation)
    draw_path(canvas, view, poses[:, :2], HISTORY, 2)
    for place in poses:
        _dot(canvas, view, place, 3, HISTORY)


def _draw_lights(canvas: Canvas, view: View, lights: Lights, origin: FloatArray) -> None:
    places = local_points(origin, lights.centers_m)
    for place, state in zip(places, lights.states, strict=True):
        _dot(canvas, view, place, 5, LIGHTS[int(state)])


def _outline_recorders(canvas: Canvas, view: View, situation: Situation) -> None:
    recorders = np.isin(situation.boxes.ids, list(situation.moment.log.egos))
    for ring in _outlines(situation.boxes.select(recorders), situation.ego.planar):
        _dashed_outline(canvas, view, ring)


def _draw_changes(canvas: Canvas, view: View, shown: Shown) -> None:
    origin, changes = shown.situation.ego.planar, changes_of(shown)
    for ring in _outlines(changes.before, origin):
        _outline(canvas, view, ring, GONE)
        for diagonal in (ring[[0, 2]], ring[[1, 3]]):
            draw_path(canvas, view, diagonal, GONE, 1)
    for ring in _outlines(changes.after, origin):
        _outline(canvas, view, ring, CHANGED)
    for place in local_points(origin, changes.lights_m):
        center = view.pixels(place).tolist()
        cv2.circle(canvas, center, 9 << SUBPIXEL_BITS, CHANGED, 2, cv2.LINE_AA, SUBPIXEL_BITS)
    if shown.recorded.ego.pose != shown.situation.ego.pose:
        ghost = to_local(origin, shown.recorded.ego.planar)
        _dashed_outline(canvas, view, _ego_outline(ghost, shown.situation.vehicle))


def _outlines(boxes: Boxes, origin: FloatArray) -> list[FloatArray]:
    """Returns the (4, 2) corners of each box, ego frame."""
    poses = to_local(origin, np.column_stack([boxes.centers_m[:, :2], boxes.yaws_rad]))
    return [
        box_corners((x, y, yaw), size)
        for (x, y, yaw), size in zip(poses, boxes.sizes_m[:, :2], strict=True)
    ]


def _ego_outline(pose: FloatArray, vehicle: VehicleDimensions) -> FloatArray:
    x, y, yaw = pose.tolist()
    ahead_m = vehicle.rear_axle_to_center_m
    center = (x + ahead_m * np.cos(yaw), y + ahead_m * np.sin(yaw), yaw)
    return box_corners(center, np.array([vehicle.length_m, vehicle.width_m]))


def _outline(canvas: Canvas, view: View, ring: FloatArray, color: Color) -> None:
    cv2.polylines(canvas, [view.pixels(ring)], True, color, 2, cv2.LINE_AA, SUBPIXEL_BITS)


def _dashed_outline(canvas: Canvas, view: View, ring: FloatArray) -> None:
    draw_path(canvas, view, ring[[0, 1, 2, 3, 0]], RECORDED, 1, dashed=True)


def _dot(canvas: Canvas, view: View, place: FloatArray, radius: int, color: Color) -> None:
    center = view.pixels(place).tolist()
    cv2.circle(canvas, center, radius << SUBPIXEL_BITS, color, -1, cv2.LINE_AA, SUBPIXEL_BITS)

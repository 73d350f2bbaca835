"""A video of a drive: the scene from above and, below it, what the sensors saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from rap_bringup.birds_eye import Canvas, View, draw_birds_eye
from rap_bringup.drives.recorded_drive import RecordedObjects
from rap_bringup.instants import Instant, Proposals
from rap_bringup.tiles import draw_label, scaled
from rap_evaluation.closed_loop.drive import Drive, Glimpse
from rap_evaluation.metrics.pdm_scene import DT_S
from rap_raster.frames import FloatArray
from rap_raster.maps.vector_map import VectorMap, shapes_near
from rap_raster.scene import LineKind

SPEED_UP = 4
"""Videos run faster than life: there is one picture per plan."""

WIDTH, BIRDS_EYE_HEIGHT = 960, 480

_MARGIN_M = 80.0  # Of map around the path: what the bird's-eye view shows.
_ROUTE_AHEAD_M = 60.0


def write_video(path: Path, vector_map: VectorMap, drive: Drive) -> None:
    """Writes an mp4 of a drive, one picture per plan.

    Args:
        path: File to write.
        vector_map: Where it took place.
        drive: With at least one plan.

    Raises:
        OSError: If OpenCV cannot write it.
    """
    glimpses = drive.glimpses
    every_s = (glimpses[-1].ego.stamp_ns - glimpses[0].ego.stamp_ns) * 1e-9
    rate_hz = (len(glimpses) - 1) / every_s if every_s > 0.0 else 1.0 / DT_S
    view = View(WIDTH, BIRDS_EYE_HEIGHT)
    around = _cropped(vector_map, drive)
    pictures = (_picture(view, around, drive, glimpse) for glimpse in glimpses)
    first = next(pictures)
    size = (first.shape[1], first.shape[0])
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), SPEED_UP * rate_hz, size)
    if not writer.isOpened():
        raise OSError(f"{path}: OpenCV cannot write a video there")
    try:
        for picture in chain([first], pictures):
            writer.write(picture)
    finally:
        writer.release()


def _cropped(vector_map: VectorMap, drive: Drive) -> VectorMap:
    """Returns the shapes that come into view; no lanes.

    Centrelines are left out and dividers become thin lines: hundreds of strokes a picture would
    take longer than driving.
    """
    low, high = drive.states[:, :2].min(axis=0), drive.states[:, :2].max(axis=0)
    center, radius_m = (low + high) / 2, float((high - low).max()) / 2 + _MARGIN_M
    lines = shapes_near(vector_map.polylines, center, radius_m)
    lines = lines.select(np.flatnonzero(lines.kinds != LineKind.LANE_CENTERLINE))
    dashed = lines.kinds == LineKind.LANE_DIVIDER
    return VectorMap(
        vector_map.name,
        replace(lines, kinds=np.where(dashed, LineKind.LANE_CENTERLINE, lines.kinds)),
        shapes_near(vector_map.polygons, center, radius_m),
    )


def _picture(view: View, vector_map: VectorMap, drive: Drive, glimpse: Glimpse) -> Canvas:
    canvas = draw_birds_eye(_instant(vector_map, drive, glimpse), view)
    draw_label(canvas, _label(drive, glimpse), 0, WIDTH)
    if not glimpse.jpegs:
        return canvas
    images = {name: _decoded(jpeg) for name, jpeg in glimpse.jpegs.items()}
    return np.concatenate([canvas, _row(images)])


def _decoded(jpeg: bytes) -> npt.NDArray[np.uint8]:
    bgr = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert bgr is not None  # the drive itself has encoded it
    return np.asarray(bgr[..., ::-1], dtype=np.uint8)


def _row(images: Mapping[str, npt.NDArray[np.uint8]]) -> Canvas:
    """Returns (H, W, 3) rgb images side by side, titled."""
    height, width, _ = next(iter(images.values())).shape
    size = (WIDTH // len(images), round(WIDTH / len(images) * height / width))
    row = np.zeros((size[1], WIDTH, 3), dtype=np.uint8)
    for index, (name, image) in enumerate(images.items()):
        left = index * size[0]
        row[:, left : left + size[0]] = scaled(image[..., ::-1], size)
        draw_label(row, name, left, size[0])
    return row


def _instant(vector_map: VectorMap, drive: Drive, glimpse: Glimpse) -> Instant:
    """Returns a glimpse as the bird's-eye view wants it, the route ahead as a dashed line."""
    ego, around = glimpse.ego, glimpse.surroundings
    poses_m = glimpse.plan.poses_m
    return Instant(
        stamp_ns=ego.stamp_ns,
        ego=ego,
        objects=RecordedObjects(ego.stamp_ns, around.boxes, around.lights),
        map=vector_map,
        images={},
        rasters={},
        sources={},
        proposals=Proposals(poses_m[None], np.zeros(1, np.float32), 0, glimpse.plan.dt_s),
        trajectory_m=poses_m[:, :2],
        driven_m=_route_ahead(drive, glimpse),
    )


def _route_ahead(drive: Drive, glimpse: Glimpse) -> FloatArray:
    route = drive.route
    along_m = drive.along_m[round(glimpse.ego.stamp_ns * 1e-9 / DT_S)]
    ahead = (route.along_m >= along_m) & (route.along_m <= along_m + _ROUTE_AHEAD_M)
    return route.line_m[ahead, :2]


def _label(drive: Drive, glimpse: Glimpse) -> str:
    step = round(glimpse.ego.stamp_ns * 1e-9 / DT_S)
    events = drive.events
    hits = sum(collision.step <= step for collision in events.collisions)
    reds = sum(red <= step for red in events.red_light_steps)
    off = step in events.off_road_m
    return (
        f"route {drive.route.index}   {step * DT_S:5.1f} s   {glimpse.ego.vx_mps:4.1f} m/s   "
        f"collisions {hits}   red lights {reds}{'   OFF THE ROAD' if off else ''}"
    )

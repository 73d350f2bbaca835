"""Rasters over the camera images they belong to: the picture that shows whether calibration fits.

Fills are translucent, outlines of boxes are not, so that box, car and the gap between them can be
seen at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from rap_bringup.console import Report, silent
from rap_bringup.overlay_frames import OverlayFrame, OverlayView
from rap_bringup.tiles import Pixels, draw_label, scaled
from rap_perception.images import ImageError, decode_compressed
from rap_raster.rasterizer import Image, build_geometry, render
from rap_raster.scene import LightState, LineKind, ObjectClass, PolygonKind
from rap_raster.styles import Style

SHEET_NAME = "all_cameras.png"
TILE_WIDTH = 640
GAP = 6
BACKGROUND = 24
OUTLINE = (255, 255, 0)
"""Red, green, blue: a colour that neither style nor street uses."""

CHANNELS = ("rgb", "class", "instance")

OPACITIES = {ObjectClass: 0.4, LineKind: 0.85, PolygonKind: 0.35, LightState: 0.6}
"""Cars must show through their boxes; lines are narrow and cover little of the road."""

DRIVABLE_OPACITY = 0.12
"""It covers most of the image and must leave the marks on the road visible."""


def write_overlays(
    frames: Sequence[OverlayFrame], out: Path, style: Style, report: Report = silent
) -> int:
    """Writes one picture per camera and a sheet with all cameras per frame.

    Args:
        frames: What to draw.
        out: Folder; `<camera>.png` and `all_cameras.png` go there, or into one folder per frame.
        style: Raster style.
        report: Moves a progress bar.

    Returns:
        How many camera images were drawn over.

    Raises:
        ValueError: If an image cannot be decoded or has not the size of its calibration.
    """
    total = sum(len(frame.views) for frame in frames)
    done = 0
    for frame in frames:
        folder = out / frame.name
        folder.mkdir(parents=True, exist_ok=True)
        tiles = []
        for view in frame.views:
            picture = draw_overlay(view, style)
            _write_png(folder / f"{view.camera.name}.png", picture)
            tiles.append((view, picture))
            done += 1
            report(done / total, f" {frame.name} {view.camera.name}")
        _write_png(folder / SHEET_NAME, contact_sheet(tiles))
    return done


def draw_overlay(view: OverlayView, style: Style) -> Pixels:
    """Returns the (H, W, 3) rgb camera image with the raster of its scene over it.

    Raises:
        ValueError: If the image cannot be decoded or has not the size of its calibration.
    """
    image = _decoded(view)
    raster = render(build_geometry(view.scene, style), view.camera, CHANNELS)
    return blend(image, raster)


def blend(image: Pixels, raster: dict[str, Image]) -> Pixels:
    """Lays a raster over an image.

    Args:
        image: (H, W, 3) rgb.
        raster: Channels `rgb`, `class` and `instance` of the same size.

    Returns:
        (H, W, 3) rgb: the image where the raster is empty, a mixture where it is not, and
        `OUTLINE` along the silhouettes of boxes.
    """
    share = _opacity_table()[raster["class"]][..., None]
    mixed = np.rint(image + share * (raster["rgb"].astype(np.float32) - image)).astype(np.uint8)
    mixed[outlines(raster["instance"])] = OUTLINE
    return mixed


def outlines(instances: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """Returns the (H, W) pixels on both sides of every border between boxes or box and none."""
    edges = np.zeros(instances.shape, dtype=bool)
    beside = instances[:, 1:] != instances[:, :-1]
    below = instances[1:] != instances[:-1]
    edges[:, 1:] |= beside
    edges[:, :-1] |= beside
    edges[1:] |= below
    edges[:-1] |= below
    return edges


def contact_sheet(tiles: Sequence[tuple[OverlayView, Pixels]]) -> Pixels:
    """Returns all cameras of a frame on one rgb picture.

    Cameras that look ahead are in the upper row, the others in the lower one; in both, what looks
    to the left is on the left.
    """
    ahead = [tile for tile in tiles if tile[0].camera.ego_from_camera[0, 2] >= 0]
    behind = [tile for tile in tiles if tile[0].camera.ego_from_camera[0, 2] < 0]
    rows = [_row(row, max(len(ahead), len(behind))) for row in (ahead, behind) if row]
    gap = np.full((GAP, rows[0].shape[1], 3), BACKGROUND, np.uint8)
    return np.concatenate([part for row in rows for part in (row, gap)][:-1])


def _row(tiles: Sequence[tuple[OverlayView, Pixels]], columns: int) -> Pixels:
    ordered = sorted(tiles, key=lambda tile: -float(tile[0].camera.ego_from_camera[1, 2]))
    heights = [round(TILE_WIDTH * p.shape[0] / p.shape[1]) for _, p in ordered]
    width = columns * (TILE_WIDTH + GAP) - GAP
    row = np.full((max(heights), width, 3), BACKGROUND, np.uint8)
    for index, ((view, picture), height) in enumerate(zip(ordered, heights, strict=True)):
        left = index * (TILE_WIDTH + GAP)
        row[:height, left : left + TILE_WIDTH] = scaled(picture, (TILE_WIDTH, height))
        draw_label(row, view.camera.name, left, TILE_WIDTH)
    return row


def _decoded(view: OverlayView) -> Pixels:
    try:
        image = decode_compressed(np.frombuffer(view.jpeg, np.uint8))
    except ImageError as error:
        raise ImageError(f"{view.where}: {error}") from error
    height, width = image.shape[:2]
    if (width, height) != (view.camera.width, view.camera.height):
        raise ImageError(
            f"{view.where}: image is {width}x{height} pixels, its calibration is for "
            f"{view.camera.width}x{view.camera.height}"
        )
    return image


def _opacity_table() -> npt.NDArray[np.float32]:
    """Returns (256,) how much of a pixel the raster covers, by class code."""
    table = np.zeros(256, np.float32)
    for codes, opacity in OPACITIES.items():
        table[list(codes)] = opacity
    table[PolygonKind.DRIVABLE] = DRIVABLE_OPACITY
    return table


def _write_png(path: Path, rgb: Pixels) -> None:
    written, data = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    if not written:
        raise OSError(f"{path}: cannot be encoded as PNG")
    path.write_bytes(data.tobytes())

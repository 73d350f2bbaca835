"""`overview.png`: one instant of a drive as cameras, rasters and bird's-eye view."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from rap_bringup.answers import ReplayResult
from rap_bringup.birds_eye import (
    BACKGROUND,
    BRIGHTEST,
    CHOSEN,
    DARKEST,
    DRIVEN,
    EGO,
    SCORE_COLORS,
    TEXT,
    Canvas,
    Color,
    View,
    draw_birds_eye,
    draw_scale_bar,
)
from rap_bringup.instants import Instant, Rgb, choose_stamp, read_instant
from rap_bringup.tiles import FONT, draw_label, scaled
from rap_planner.route import Command
from rap_raster.features import FeatureSource
from rap_raster.frames import FloatArray

OVERVIEW_NAME = "overview.png"

WIDTH = 1536
BIRDS_EYE_HEIGHT = 640
PANEL_WIDTH = 400
GAP = 6
MUTED: Color = (150, 150, 150)


def write_overview(result: ReplayResult) -> Path:
    """Draws the instant that is most worth a look and writes it.

    Returns:
        The file.
    """
    instant = read_instant(result, choose_stamp(result))
    path = result.out / OVERVIEW_NAME
    if not cv2.imwrite(str(path), draw_overview(result, instant)):
        raise OSError(f"{path}: cannot be written")
    return path


def draw_overview(result: ReplayResult, instant: Instant) -> Canvas:
    """Returns the picture of one instant, (H, W, 3) blue green red."""
    order = _left_to_right(result, instant)
    rows = []
    if instant.images:
        tiles = [
            (instant.images[result.slots[name]], f"camera {result.slots[name]}")
            if name in result.slots
            else (None, f"{name}: no camera")
            for name in order
        ]
        rows.append(_row(tiles))
    labels = {name: _source_label(name, instant.sources[name]) for name in order}
    rows.append(_row([(instant.rasters[name], labels[name]) for name in order]))
    rows.append(_bottom(result, instant))
    gap = np.full((GAP, WIDTH, 3), BACKGROUND, dtype=np.uint8)
    stacked = [part for row in rows for part in (row, gap)][:-1]
    return np.concatenate(stacked)


def _left_to_right(result: ReplayResult, instant: Instant) -> list[str]:
    """Returns the slot names in the order in which the cameras look, left to right."""
    features = result.answers.features[instant.stamp_ns]
    names = [camera.name for camera in result.bundle.manifest.cameras]
    axes: FloatArray = features.ego_from_camera[:, :3, 2]
    yaws = {name: np.arctan2(axis[1], axis[0]) for name, axis in zip(names, axes, strict=True)}
    return sorted(names, key=lambda name: -yaws[name])


def _source_label(name: str, source: int) -> str:
    used = source == FeatureSource.RASTER
    return f"raster {name}" + (" (features)" if used else " (for comparison)")


def _row(tiles: Sequence[tuple[Rgb | None, str]]) -> Canvas:
    width = (WIDTH - GAP * (len(tiles) - 1)) // len(tiles)
    height = width // 2
    row = np.full((height, WIDTH, 3), BACKGROUND, dtype=np.uint8)
    for index, (image, label) in enumerate(tiles):
        left = index * (width + GAP)
        if image is not None:
            row[:, left : left + width] = _fitted(image, width, height)
        draw_label(row, label, left, width)
    return row


def _fitted(image: Rgb, width: int, height: int) -> Canvas:
    """Scales an image to cover the tile and cuts what is left over, evenly."""
    scale = max(width / image.shape[1], height / image.shape[0])
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    cover = scaled(image[:, :, ::-1], size)
    top, left = (cover.shape[0] - height) // 2, (cover.shape[1] - width) // 2
    return cover[top : top + height, left : left + width]


def _bottom(result: ReplayResult, instant: Instant) -> Canvas:
    view = View(WIDTH - PANEL_WIDTH - GAP, BIRDS_EYE_HEIGHT)
    above = draw_birds_eye(instant, view)
    draw_scale_bar(above, view)
    gap = np.full((BIRDS_EYE_HEIGHT, GAP, 3), BACKGROUND, dtype=np.uint8)
    return np.concatenate([above, gap, _panel(result, instant)], axis=1)


def _panel(result: ReplayResult, instant: Instant) -> Canvas:
    panel = np.full((BIRDS_EYE_HEIGHT, PANEL_WIDTH, 3), BACKGROUND, dtype=np.uint8)
    y = 36
    for text, scale, color in _lines(result, instant):
        cv2.putText(panel, text, (16, y), FONT, scale, color, 1, cv2.LINE_AA)
        y += round(46 * scale) + 4
    _legend(panel, y + 14)
    return panel


def _lines(result: ReplayResult, instant: Instant) -> list[tuple[str, float, Color]]:
    summary = result.summary
    elapsed_s = (instant.stamp_ns - result.bag.start_ns) * 1e-9
    latency_ms = result.answers.latencies_ms.get(instant.stamp_ns)
    sources = sorted({FeatureSource(code).name.lower() for code in instant.sources.values()})
    agents = 0 if instant.objects is None else len(instant.objects.boxes)
    small = 0.5
    return [
        (result.bag.drive, 0.8, TEXT),
        (f"bundle {result.bundle.manifest.name}", small, MUTED),
        ("", 0.2, TEXT),
        (f"at {elapsed_s:.1f} s of {result.bag.duration_s:.1f} s", small, TEXT),
        (f"speed {instant.ego.vx_mps:.1f} m/s, {agents} objects", small, TEXT),
        (
            f"command {Command(instant.proposals.command).name.lower()}"
            f" (from {summary['command_source']})",
            small,
            TEXT,
        ),
        (f"features from {' and '.join(sources)}", small, TEXT),
        ("latency " + ("-" if latency_ms is None else f"{latency_ms:.0f} ms"), small, TEXT),
        ("", 0.2, TEXT),
        (f"whole drive: {summary['trajectories']} of {summary['steps']} steps", small, MUTED),
        (f"error at 3 s: {_metres(summary['ade_3s_m'])}", small, MUTED),
        (f"constant velocity: {_metres(summary['ade_3s_constant_velocity_m'])}", small, MUTED),
    ]


def _metres(value: object) -> str:
    return f"{value:.2f} m" if isinstance(value, float) else "no driven path"


def _legend(panel: Canvas, top: int) -> None:
    bar = np.linspace(DARKEST, BRIGHTEST, PANEL_WIDTH - 32).astype(np.uint8)[None]
    colors = cv2.applyColorMap(np.repeat(bar, 10, axis=0), SCORE_COLORS)
    panel[top : top + 10, 16 : PANEL_WIDTH - 16] = colors
    cv2.putText(panel, "proposals: worst", (16, top + 30), FONT, 0.45, MUTED, 1, cv2.LINE_AA)
    cv2.putText(panel, "best", (PANEL_WIDTH - 52, top + 30), FONT, 0.45, MUTED, 1, cv2.LINE_AA)
    entries = (
        ("chosen trajectory", CHOSEN, 4, ((16, 56),)),
        ("driven path", DRIVEN, 2, ((16, 26), (31, 41), (46, 56))),
        ("ego", EGO, 2, ((16, 56),)),
    )
    for index, (text, color, width, dashes) in enumerate(entries):
        y = top + 62 + 26 * index
        for left, right in dashes:
            cv2.line(panel, (left, y - 5), (right, y - 5), color, width, cv2.LINE_AA)
        cv2.putText(panel, text, (68, y), FONT, 0.5, TEXT, 1, cv2.LINE_AA)

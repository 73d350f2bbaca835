"""`samples.png`: one row per sample, its cameras beside the scene from above.

A changed sample starts with its front camera as it would have been, beside what that camera sees
after the change.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from rap_bringup.birds_eye import BACKGROUND, TEXT, Canvas, Color
from rap_bringup.tiles import FONT, draw_label
from rap_training.augmentation.mixture import name_of
from rap_training.augmentation.situation import SourceKind
from rap_training.show.above import CHANGED, GONE, HISTORY, LABEL, RECORDED, draw_above
from rap_training.show.choice import Shown
from rap_training.show.label import Picture
from rap_training.show.views import Pictured, View
from rap_training.show.words import change_in_words, place_in_words

WIDTH = 1920
TILE = (336, 168)
"""Width and height of a camera's picture."""
GAP = 6
TITLE_HEIGHT = 58
LEGEND_HEIGHT = 44
ROW_GAP = 18
BADGE_WIDTH = 136
MUTED: Color = (175, 175, 175)
BADGES: dict[SourceKind, Color] = {
    SourceKind.EGO: (150, 110, 70),
    SourceKind.RECOVERY: (60, 120, 40),
    SourceKind.CROSS_AGENT: (30, 95, 175),
    SourceKind.EDIT: (130, 50, 130),
}
LEGEND: tuple[tuple[str, Color, bool], ...] = (
    ("label: to drive, a dot each 0.5 s", LABEL, False),
    ("recorded drive, recording vehicle", RECORDED, True),
    ("history", HISTORY, False),
    ("agent or light as changed", CHANGED, False),
    ("agent as recorded, now gone or moved", GONE, False),
)


def draw_sheet(samples: Sequence[Pictured]) -> Canvas:
    """Returns the rows of all samples below a legend, (H, W, 3) blue green red."""
    parts = [_legend()]
    for sample in samples:
        parts += [draw_row(sample), _blank(ROW_GAP, WIDTH)]
    return np.concatenate(parts)


def draw_row(sample: Pictured) -> Canvas:
    """Returns one sample: a title, its pictures and the scene from above."""
    views = list(sample.views)
    columns = []
    if sample.original is not None:
        front = sample.original.camera.name
        views.sort(key=lambda view: view.camera.name != front)
        columns = [_column(sample.original, f"{front}, as recorded")]
    columns += [_column(view, view.camera.name.replace("_", " ")) for view in views]
    height = columns[0].shape[0]
    parts = [part for column in columns for part in (column, _blank(height, GAP))]
    left = sum(part.shape[1] for part in parts)
    parts.append(draw_above(sample.shown, (WIDTH - left, height)))
    return np.concatenate([_title(sample.shown), np.concatenate(parts, axis=1)])


def _column(view: View, name: str) -> Canvas:
    """Returns a camera's raster above its image."""
    tiles = [_tile(view.raster, f"raster {name}"), _tile(view.image, f"camera {name}")]
    return np.concatenate([tiles[0], _blank(GAP, view.camera.width), tiles[1]])


def _tile(picture: Picture, label: str) -> Canvas:
    tile = np.ascontiguousarray(picture[..., ::-1])
    draw_label(tile, label, 0, tile.shape[1])
    return tile


def _title(shown: Shown) -> Canvas:
    """Returns a strip with the source, what was changed, and where it was."""
    title = _blank(TITLE_HEIGHT, WIDTH)
    kind = shown.situation.kind
    title[2:-6, :BADGE_WIDTH] = BADGES[kind]
    _write(title, name_of(kind).replace("_", " "), (12, 34), TEXT)
    _write(title, change_in_words(shown.situation), (BADGE_WIDTH + 16, 22), TEXT)
    _write(title, place_in_words(shown.situation), (BADGE_WIDTH + 16, 46), MUTED)
    return title


def _legend() -> Canvas:
    legend = _blank(LEGEND_HEIGHT, WIDTH)
    left = 12
    for text, color, dashed in LEGEND:
        for start in (0, 20) if dashed else (0,):
            end = start + (12 if dashed else 32)
            cv2.line(legend, (left + start, 19), (left + end, 19), color, 3, cv2.LINE_AA)
        _write(legend, text, (left + 42, 24), TEXT)
        left += 42 + _text_width(text) + 36
    return legend


def _write(canvas: Canvas, text: str, foot: tuple[int, int], color: Color) -> None:
    """Writes from a pixel on the foot line on."""
    cv2.putText(canvas, text, foot, FONT, 0.55, color, 1, cv2.LINE_AA)


def _text_width(text: str) -> int:
    return cv2.getTextSize(text, FONT, 0.55, 1)[0][0]


def _blank(height: int, width: int) -> Canvas:
    return np.full((height, width, 3), BACKGROUND, dtype=np.uint8)

"""`samples.png`: one row per sample, its cameras beside the scene from above.

A changed sample starts with its front camera as it would have been: what is to its right differs by
the change alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from rap_bringup.birds_eye import BACKGROUND, TEXT, Canvas, Color
from rap_bringup.console import Report, silent
from rap_bringup.tiles import FONT, draw_label
from rap_bringup.viewer_shapes import rgb
from rap_raster.styles import Style
from rap_training.augmentation.mixture import name_of
from rap_training.augmentation.situation import SourceKind
from rap_training.show.above import CHANGED, GONE, HISTORY, LABEL, RECORDED, draw_above
from rap_training.show.choice import Shown
from rap_training.show.views import View
from rap_training.show.words import change_in_words, place_in_words

SHEET_NAME = "samples.png"
WIDTH = 1920
TILE = (336, 168)
GAP = 6
TITLE_HEIGHT = 34
LEGEND_HEIGHT = 40
MUTED: Color = (170, 170, 170)
BADGES: dict[SourceKind, Color] = {
    SourceKind.EGO: (150, 110, 70),
    SourceKind.RECOVERY: (60, 120, 40),
    SourceKind.CROSS_AGENT: (40, 100, 170),
    SourceKind.EDIT: (130, 50, 130),
}
BADGE_WIDTH = 132

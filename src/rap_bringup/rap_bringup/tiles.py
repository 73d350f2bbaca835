"""Tiles of the pictures for people: scaling an image, and a title on it."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

FONT = cv2.FONT_HERSHEY_SIMPLEX
LABEL_HEIGHT = 28
LABEL_LEVEL = (225, 225, 225)


def scaled(image: Pixels, size: tuple[int, int]) -> Pixels:
    """Resizes an (H, W, 3) image to width and height, averaging where it shrinks."""
    method = cv2.INTER_AREA if size[0] < image.shape[1] else cv2.INTER_CUBIC
    return cv2.resize(np.ascontiguousarray(image), size, interpolation=method).astype(np.uint8)


def draw_label(canvas: Pixels, text: str, left: int, width: int, top: int = 0) -> None:
    """Writes a title on a darkened strip along the top of a tile."""
    strip = canvas[top : top + LABEL_HEIGHT, left : left + width]
    strip[:] = strip // 3
    cv2.putText(canvas, text, (left + 10, top + 20), FONT, 0.55, LABEL_LEVEL, 1, cv2.LINE_AA)

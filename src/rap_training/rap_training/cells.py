"""What is in each cell of an image: the class channel of its raster, at the scale of features.

Planning alone teaches an encoder slowly what it must look for: a light is a few pixels, and matters
in one sample of many. The raster knows what is where, for itself and for the camera image of the
same scene, so this is learned directly, in training only.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rap_raster.scene import LightState, LineKind, ObjectClass, PolygonKind

CELL_PX = 16
"""Side of a cell."""

GROUPS: tuple[tuple[int, ...], ...] = (
    (ObjectClass.VEHICLE, ObjectClass.TRUCK, ObjectClass.BUS, ObjectClass.MOTORCYCLE),
    (ObjectClass.BICYCLE, ObjectClass.PEDESTRIAN),
    (ObjectClass.CONE, ObjectClass.BARRIER, ObjectClass.GENERIC),
    (LineKind.LANE_BOUNDARY, LineKind.LANE_DIVIDER),
    (LineKind.ROAD_BOUNDARY,),
    (LineKind.STOP_LINE,),
    (PolygonKind.CROSSWALK,),
    (LightState.RED,),
    (LightState.YELLOW,),
    (LightState.GREEN,),
)
"""Classes that are told apart: what one drives by."""

_CODES = 256


def _bits_of_codes() -> npt.NDArray[np.int32]:
    bits = np.zeros(_CODES, dtype=np.int32)
    for group, codes in enumerate(GROUPS):
        bits[list(codes)] = 1 << group
    return bits


_BITS = _bits_of_codes()


def cell_bits(classes: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
    """Returns what is in each cell.

    Args:
        classes: (..., H, W) class channel; a rest below or right of whole cells is left out.

    Returns:
        (..., H / 16, W / 16), bit g set where a pixel is of `GROUPS[g]`.
    """
    *before, height, width = classes.shape
    rows, columns = height // CELL_PX, width // CELL_PX
    whole = _BITS[classes[..., : rows * CELL_PX, : columns * CELL_PX]]
    cells = whole.reshape(*before, rows, CELL_PX, columns, CELL_PX)
    bits: npt.NDArray[np.int32] = np.bitwise_or.reduce(cells, axis=(-3, -1))
    return bits

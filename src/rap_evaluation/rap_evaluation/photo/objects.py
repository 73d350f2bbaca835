"""Objects and the parts they are drawn with: car bodies and cabins, wheels, heads, tree crowns.

Every part lies within the box of its object, so what a camera shows of an object is never outside
of what the rasterizer shows of it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rap_evaluation.photo.scenery import TREE, Scenery
from rap_raster.frames import FloatArray
from rap_raster.scene import Boxes, Lights, ObjectClass

BOX, FRUSTUM, ELLIPSOID = 0, 1, 2
"""Shapes of parts. Boxes are drawn by the rasterizer, the others are traced into its channels."""


class Objects(NamedTuple):
    """M objects and their N parts, map frame.

    Attributes:
        boxes: (M, 8) float64 centre, half size, cosine and sine of the yaw.
        codes: (M,) uint8 class codes, those of `scenery` included.
        looks: (M,) int32, picks colours.
        braking: (M,) uint8, 1 where brake lights are lit.
        parts: (N, 11) float64 like `boxes`, and how far the top of a frustum is drawn in at its
            front, rear and sides, as shares of its half length and width.
        shapes: (N,) uint8, `BOX`, `FRUSTUM` or `ELLIPSOID`.
        owners: (N,) int32, the object of each part.
    """

    boxes: FloatArray
    codes: npt.NDArray[np.uint8]
    looks: npt.NDArray[np.int32]
    braking: npt.NDArray[np.uint8]
    parts: FloatArray
    shapes: npt.NDArray[np.uint8]
    owners: npt.NDArray[np.int32]


_Rows = tuple[tuple[float, ...], ...]
# Shape; least and largest of length, width and height in half sizes; top drawn in at front, rear,
# sides.
_SEDAN: _Rows = (
    (BOX, -1, 1, -1, 1, -1, 0.15),
    (FRUSTUM, -0.80, 0.45, -0.95, 0.95, 0.15, 1, 0.65, 0.55, 0.22),
)
_HATCHBACK: _Rows = (
    (BOX, -1, 1, -1, 1, -1, 0.12),
    (FRUSTUM, -0.97, 0.45, -0.95, 0.95, 0.12, 1, 0.60, 0.28, 0.20),
)
_VAN: _Rows = (
    (BOX, -1, 1, -1, 1, -1, 0.12),
    (FRUSTUM, -0.98, 0.62, -0.97, 0.97, 0.12, 1, 0.40, 0.06, 0.10),
)
_TRUCK: _Rows = (
    (BOX, -1, 0.5, -1, 1, -1, 1),
    (BOX, 0.5, 0.56, -0.8, 0.8, -1, -0.4),
    (BOX, 0.56, 1, -0.97, 0.97, -1, 0.75),
)
_WHOLE: _Rows = ((BOX, -1, 1, -1, 1, -1, 1),)
_PERSON: _Rows = (
    (ELLIPSOID, -0.40, 0.40, -0.55, -0.02, -1, 0.15),
    (ELLIPSOID, -0.40, 0.40, 0.02, 0.55, -1, 0.15),
    (ELLIPSOID, -0.60, 0.60, -0.85, 0.85, -0.15, 0.75),
    (ELLIPSOID, -0.38, 0.38, -0.32, 0.32, 0.70, 1),
)
_RIDER: _Rows = (
    (ELLIPSOID, -1, -0.22, -0.15, 0.15, -1, -0.22),
    (ELLIPSOID, 0.22, 1, -0.15, 0.15, -1, -0.22),
    (BOX, -0.55, 0.55, -0.10, 0.10, -0.60, -0.35),
    (ELLIPSOID, -0.40, 0.20, -0.50, 0.50, -0.70, 0.10),
    (ELLIPSOID, -0.40, 0.35, -0.80, 0.80, -0.15, 0.72),
    (ELLIPSOID, 0.02, 0.36, -0.32, 0.32, 0.66, 1),
)
_CONE: _Rows = ((FRUSTUM, -1, 1, -1, 1, -1, 1, 0.8, 0.8, 0.8),)
_TREE: _Rows = (
    (BOX, -0.08, 0.08, -0.08, 0.08, -1, 0.1),
    (ELLIPSOID, -0.80, 0.70, -0.75, 0.80, -0.25, 0.75),
    (ELLIPSOID, -0.55, 0.95, -0.90, 0.35, -0.12, 0.62),
    (ELLIPSOID, -0.70, 0.55, -0.40, 0.95, 0.05, 1),
)
_COLUMNS = 10
_FORMS: dict[int, tuple[_Rows, ...]] = {
    ObjectClass.VEHICLE: (_SEDAN, _HATCHBACK, _VAN),
    ObjectClass.TRUCK: (_TRUCK,),
    ObjectClass.BICYCLE: (_RIDER,),
    ObjectClass.MOTORCYCLE: (_RIDER,),
    ObjectClass.PEDESTRIAN: (_PERSON,),
    ObjectClass.CONE: (_CONE,),
    TREE: (_TREE,),
}
"""Forms of a class; those not named are boxes."""


def placed_objects(boxes: Boxes, lights: Lights, beside: Scenery) -> Objects:
    """Lists all objects of a picture and cuts them into their parts."""
    codes = np.concatenate([boxes.classes, lights.states, beside.codes])
    looks = np.concatenate([boxes.ids, np.zeros(len(lights), np.int32), beside.looks])
    braking = np.zeros(len(codes), np.uint8)
    braking[: len(boxes)] = boxes.brake_lights
    yaws = np.concatenate([boxes.yaws_rad, lights.yaws_rad, beside.yaws_rad])
    whole = np.column_stack(
        [
            np.concatenate([boxes.centers_m, lights.centers_m, beside.centers_m]),
            0.5 * np.concatenate([boxes.sizes_m, lights.sizes_m, beside.sizes_m]),
            np.cos(yaws),
            np.sin(yaws),
        ]
    )
    owners, rows = _forms(codes, looks)
    parts, shapes = _parts(whole[owners], rows), rows[:, 0].astype(np.uint8)
    return Objects(whole, codes, looks, braking, parts, shapes, owners)


def _forms(
    codes: npt.NDArray[np.uint8], looks: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.int32], FloatArray]:
    """Returns the (N,) object of each part and the (N, 10) rows of their forms."""
    owners, rows = [np.zeros(0, np.intp)], [np.zeros((0, _COLUMNS))]
    for code in np.unique(codes):
        forms = _FORMS.get(int(code), (_WHOLE,))
        for variant, form in enumerate(forms):
            chosen = np.flatnonzero((codes == code) & (looks % len(forms) == variant))
            padded = np.array([(*row, *(0.0,) * (_COLUMNS - len(row))) for row in form])
            owners.append(np.repeat(chosen, len(form)))
            rows.append(np.tile(padded, (len(chosen), 1)))
    return np.concatenate(owners).astype(np.int32), np.concatenate(rows)


def _parts(whole: FloatArray, rows: FloatArray) -> FloatArray:
    """Scales (N, 10) rows of forms to the (N, 8) boxes of their objects."""
    low, high, half = rows[:, 1:7:2], rows[:, 2:7:2], whole[:, 3:6]
    middle = 0.5 * (low + high) * half
    cos, sin = whole[:, 6], whole[:, 7]
    shift = [cos * middle[:, 0] - sin * middle[:, 1], sin * middle[:, 0] + cos * middle[:, 1]]
    centers = whole[:, :3] + np.column_stack([*shift, middle[:, 2]])
    return np.column_stack([centers, 0.5 * (high - low) * half, whole[:, 6:8], rows[:, 7:]])

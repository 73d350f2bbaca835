"""Checks of incoming object arrays: what is malformed is rejected whole, with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from rap_raster.frames import Pose, transform_points, wrap_angle
from rap_raster.observations import TrackedObjects
from rap_raster.scene import Boxes, Lights, LightState, ObjectClass

OBJECT_COLUMNS = {
    "classes": 1,
    "centers": 3,
    "sizes": 3,
    "yaws": 1,
    "velocities": 2,
    "ages_s": 1,
    "existences": 1,
}
LIGHT_COLUMNS = {"light_centers": 3, "light_sizes": 3, "light_yaws": 1}
MAY_BE_NAN = ("velocities",)
LIMITS = {
    "centers": (-1e8, 1e8),
    "sizes": (0.0, 1e3),
    "velocities": (-1e3, 1e3),
    "ages_s": (0.0, np.inf),
    "existences": (0.0, 1.0),
    "light_centers": (-1e8, 1e8),
    "light_sizes": (0.0, 1e3),
}
"""Metres, metres per second, seconds: beyond them a number is damaged data, not a road user."""

Columns = Mapping[str, npt.NDArray[np.generic]]


class ObjectsError(ValueError):
    """An objects message that must not be used; the text names field, index and value."""


def checked_objects(stamp_ns: int, columns: Columns) -> TrackedObjects:
    """Turns the flat arrays of `rap_msgs/TrackedObjects` into objects.

    Args:
        stamp_ns: Stamp of the message.
        columns: Field name to flat array, as in the message.

    Raises:
        ObjectsError: If lengths disagree, values are not finite or out of range, sizes are not
            positive, ids are not unique and positive, or a class or light state is unknown.
    """
    _check_columns(columns, "ids", OBJECT_COLUMNS)
    _check_columns(columns, "light_states", LIGHT_COLUMNS)
    _check_codes(columns, "classes", ObjectClass)
    _check_codes(columns, "light_states", LightState)
    _check_positive(columns, "sizes")
    _check_positive(columns, "light_sizes")
    _check_ids(columns["ids"])
    return TrackedObjects(
        stamp_ns=stamp_ns,
        boxes=_boxes(columns),
        lights=_lights(columns),
        ages_s=columns["ages_s"].astype(np.float32),
        existences=columns["existences"].astype(np.float32),
    )


def placed(objects: TrackedObjects, pose: Pose) -> TrackedObjects:
    """Returns objects of the ego frame in the map frame.

    Velocities are over ground, given along the axes of the ego frame.

    Args:
        objects: Positions, headings and velocities along the axes of the ego frame.
        pose: Of the ego at their stamp.
    """
    boxes, lights, map_from_ego = objects.boxes, objects.lights, pose.map_from_ego()
    return replace(
        objects,
        boxes=replace(
            boxes,
            centers_m=transform_points(map_from_ego, boxes.centers_m),
            yaws_rad=wrap_angle(boxes.yaws_rad + pose.yaw_rad),
            velocities_mps=boxes.velocities_mps @ map_from_ego[:2, :2].T,
        ),
        lights=replace(
            lights,
            centers_m=transform_points(map_from_ego, lights.centers_m),
            yaws_rad=wrap_angle(lights.yaws_rad + pose.yaw_rad),
        ),
    )


def _boxes(columns: Columns) -> Boxes:
    return Boxes(
        ids=columns["ids"].astype(np.int32),
        classes=columns["classes"].astype(np.uint8),
        centers_m=columns["centers"].astype(np.float64).reshape(-1, 3),
        sizes_m=columns["sizes"].astype(np.float64).reshape(-1, 3),
        yaws_rad=columns["yaws"].astype(np.float64),
        velocities_mps=columns["velocities"].astype(np.float64).reshape(-1, 2),
    )


def _lights(columns: Columns) -> Lights:
    return Lights(
        states=columns["light_states"].astype(np.uint8),
        centers_m=columns["light_centers"].astype(np.float64).reshape(-1, 3),
        sizes_m=columns["light_sizes"].astype(np.float64).reshape(-1, 3),
        yaws_rad=columns["light_yaws"].astype(np.float64),
    )


def _check_columns(columns: Columns, key: str, widths: Mapping[str, int]) -> None:
    count = len(columns[key])
    for name, width in widths.items():
        values = columns[name]
        if len(values) != count * width:
            raise ObjectsError(
                f"{name}: {len(values)} values, expected {count * width} ({width} for each of the "
                f"{count} {key})"
            )
        bad = np.flatnonzero(np.isinf(values) if name in MAY_BE_NAN else ~np.isfinite(values))
        if len(bad):
            raise ObjectsError(f"{name}[{bad[0]}]: is {values[bad[0]]}, expected a finite number")
        low, high = LIMITS.get(name, (-np.inf, np.inf))
        numbers = values.astype(np.float64)
        bad = np.flatnonzero((numbers < low) | (numbers > high))
        if len(bad):
            raise ObjectsError(
                f"{name}[{bad[0]}]: is {values[bad[0]]}, expected {low:g} to {high:g}"
            )


def _check_codes(columns: Columns, name: str, codes: type[ObjectClass] | type[LightState]) -> None:
    bad = np.flatnonzero(~np.isin(columns[name], [int(code) for code in codes]))
    if len(bad):
        raise ObjectsError(
            f"{name}[{bad[0]}]: is {columns[name][bad[0]]}, expected one of "
            + ", ".join(f"{code.name.lower()} = {int(code)}" for code in codes)
        )


def _check_positive(columns: Columns, name: str) -> None:
    bad = np.flatnonzero(columns[name].astype(np.float64) <= 0)
    if len(bad):
        raise ObjectsError(f"{name}[{bad[0]}]: is {columns[name][bad[0]]}, expected > 0")


def _check_ids(ids: npt.NDArray[np.generic]) -> None:
    numbers = ids.astype(np.int64)
    bad = np.flatnonzero(numbers < 1)
    if len(bad):
        raise ObjectsError(f"ids[{bad[0]}]: is {numbers[bad[0]]}, expected 1 to 2147483647")
    unique, counts = np.unique(numbers, return_counts=True)
    if len(unique) != len(numbers):
        raise ObjectsError(f"ids: {unique[counts > 1][0]} appears more than once")

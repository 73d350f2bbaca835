"""Checks of incoming object arrays: what is malformed is left out, with the reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from enum import IntEnum

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

MAX_ID = 2**31 - 1
POSITIVE = ("sizes", "light_sizes")
CODES: Mapping[str, type[IntEnum]] = {"classes": ObjectClass, "light_states": LightState}

Columns = Mapping[str, npt.NDArray[np.generic]]


class ObjectsError(ValueError):
    """An objects message that must not be used; the text names field, index and value."""


def checked_objects(stamp_ns: int, columns: Columns) -> tuple[TrackedObjects, str]:
    """Turns the flat arrays of `rap_msgs/TrackedObjects` into objects.

    Objects and lights with a value that is not finite or out of range, a size that is not
    positive, an unknown class or state, or an id that is not positive or was there before are left
    out, so that the others stay known.

    Args:
        stamp_ns: Stamp of the message.
        columns: Field name to flat array, as in the message.

    Returns:
        The objects, and what is wrong with those left out; empty if none is.

    Raises:
        ObjectsError: If lengths disagree, or there are objects and none can be used.
    """
    _check_lengths(columns, "ids", OBJECT_COLUMNS)
    _check_lengths(columns, "light_states", LIGHT_COLUMNS)
    good, problem = _usable(columns, "objects", ("ids", *OBJECT_COLUMNS))
    good_lights, light_problem = _usable(columns, "lights", ("light_states", *LIGHT_COLUMNS))
    if len(good) and not good.any():
        raise ObjectsError(problem)
    objects = TrackedObjects(
        stamp_ns=stamp_ns,
        boxes=_boxes(columns).select(good),
        lights=_lights(columns).select(good_lights),
        ages_s=columns["ages_s"].astype(np.float32)[good],
        existences=columns["existences"].astype(np.float32)[good],
    )
    return objects, "; ".join(filter(None, (problem, light_problem)))


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


def _check_lengths(columns: Columns, key: str, widths: Mapping[str, int]) -> None:
    count = len(columns[key])
    for name, width in widths.items():
        if len(columns[name]) != count * width:
            raise ObjectsError(
                f"{name}: {len(columns[name])} values, expected {count * width} ({width} for each "
                f"of the {count} {key})"
            )


def _usable(columns: Columns, kind: str, names: Sequence[str]) -> tuple[npt.NDArray[np.bool_], str]:
    """Returns (N,) which can be used, and the first value for which one cannot."""
    good, problem = np.ones(len(columns[names[0]]), bool), ""
    for name in names:
        for bad, expected in _faults(name, columns[name]):
            if bad.any():
                first = int(np.argmax(bad))
                text = f"{name}[{first}]: is {columns[name][first]}, expected {expected}"
                problem = problem or text
                good &= ~bad.reshape(len(good), -1).any(axis=1)
    left_out = int((~good).sum())
    if 0 < left_out < len(good):
        problem += f"; left out {left_out} of {len(good)} {kind}"
    return good, problem


def _faults(
    name: str, values: npt.NDArray[np.generic]
) -> Iterator[tuple[npt.NDArray[np.bool_], str]]:
    """Yields which values of a field are bad in some way, and what was expected."""
    numbers = values.astype(np.float64)
    yield np.isinf(numbers) if name in MAY_BE_NAN else ~np.isfinite(numbers), "a finite number"
    if name in LIMITS:
        low, high = LIMITS[name]
        yield (numbers < low) | (numbers > high), f"{low:g} to {high:g}"
    if name in POSITIVE:
        yield numbers <= 0, "> 0"
    if name in CODES:
        codes = ", ".join(f"{code.name.lower()} = {int(code)}" for code in CODES[name])
        yield ~np.isin(numbers, list(CODES[name])), f"one of {codes}"
    if name == "ids":
        yield (numbers < 1) | (numbers > MAX_ID), f"1 to {MAX_ID}"
        repeated = np.ones(len(numbers), bool)
        repeated[np.unique(numbers, return_index=True)[1]] = False
        yield repeated, "no id twice"

"""What is around the ego that was not recorded so: agents gone, new or moved, lights turned."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rap_raster.frames import FloatArray
from rap_raster.scene import Boxes, Lights
from rap_training.show.choice import Shown

NEAR_M = 100.0
"""Farther away agents come and go with the edge of the scene."""

_MOVED_M, _TURNED_RAD, _FASTER_MPS = 0.01, 0.001, 0.05


@dataclass(frozen=True, slots=True)
class Changes:
    """Differences between a situation and its moment as recorded.

    Attributes:
        before: Recorded boxes that are gone or elsewhere.
        after: Boxes that were not recorded so.
        lights_m: (n, 3) places of lights with another state, map frame.
    """

    before: Boxes
    after: Boxes
    lights_m: FloatArray


def changes_of(shown: Shown) -> Changes:
    """Compares a situation with what was recorded."""
    ego_m = shown.situation.ego.planar[:2]
    recorded, boxes = shown.recorded.boxes, shown.situation.boxes
    return Changes(
        before=recorded.select(_differing(recorded, boxes) & _near(recorded, ego_m)),
        after=boxes.select(_differing(boxes, recorded) & _near(boxes, ego_m)),
        lights_m=_turned(shown.situation.lights, shown.recorded.lights),
    )


def _near(boxes: Boxes, ego_m: FloatArray) -> npt.NDArray[np.bool_]:
    away_m = boxes.centers_m[:, :2] - ego_m
    return np.less(np.hypot(away_m[:, 0], away_m[:, 1]), NEAR_M)


def _differing(boxes: Boxes, others: Boxes) -> npt.NDArray[np.bool_]:
    """Returns which boxes have no equal of the same id among the others."""
    rows = {int(number): row for row, number in enumerate(others.ids)}
    return np.array(
        [
            int(number) not in rows or not _alike(boxes, row, others, rows[int(number)])
            for row, number in enumerate(boxes.ids)
        ],
        dtype=bool,
    )


def _alike(boxes: Boxes, row: int, others: Boxes, other: int) -> bool:
    return (
        np.allclose(boxes.centers_m[row], others.centers_m[other], rtol=0, atol=_MOVED_M)
        and bool(abs(boxes.yaws_rad[row] - others.yaws_rad[other]) < _TURNED_RAD)
        and np.allclose(
            boxes.velocities_mps[row],
            others.velocities_mps[other],
            rtol=0,
            atol=_FASTER_MPS,
            equal_nan=True,
        )
    )


def _turned(lights: Lights, recorded: Lights) -> FloatArray:
    states = {tuple(c): s for c, s in zip(recorded.centers_m, recorded.states, strict=True)}
    turned = [
        states.get(tuple(center), state) != state
        for center, state in zip(lights.centers_m, lights.states, strict=True)
    ]
    places: FloatArray = lights.centers_m[np.array(turned, dtype=bool)]
    return places

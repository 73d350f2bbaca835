"""The intelligent driver model, and driving by it along a path among forecast road users.

Source of the model: Treiber, Hennecke, Helbing 2000, "Congested traffic states in empirical
observations and microscopic simulations", equations 2 and 3. Source of its parameters: PDM-Closed
(Dauner et al. 2023, arXiv 2306.07962, section 4).
"""

# ruff: noqa: PLR0917 - kernels take flat arrays, and numba wants them by position.

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from rap_evaluation.metrics.pdm_scene import DT_S, HORIZON_STEPS, STATES

Array = npt.NDArray[Any]

MIN_GAP_M = 1.0
HEADWAY_S = 1.5
MAX_ACCELERATION_MPS2 = 1.5
MAX_DECELERATION_MPS2 = 3.0
EXPONENT = 10

_NO_SPEED_MPS = 1e-3


@njit(cache=True, nogil=True)
def idm_acceleration(
    speed_mps: float, desired_mps: float, gap_m: float, lead_speed_mps: float
) -> float:
    """Returns the acceleration of a driver behind another.

    Args:
        speed_mps: Own speed, not negative.
        desired_mps: Speed on a free road.
        gap_m: From bumper to bumper; infinite on a free road. Below `MIN_GAP_M` it counts as that,
            so that who stands too close stays.
        lead_speed_mps: Of the other.

    Returns:
        m/s^2 within [-`MAX_DECELERATION_MPS2`, `MAX_ACCELERATION_MPS2`].
    """
    braking = 2.0 * math.sqrt(MAX_ACCELERATION_MPS2 * MAX_DECELERATION_MPS2)
    dynamic = speed_mps * HEADWAY_S + speed_mps * (speed_mps - lead_speed_mps) / braking
    wanted_m = MIN_GAP_M + max(0.0, dynamic)
    free = (speed_mps / max(desired_mps, _NO_SPEED_MPS)) ** EXPONENT
    share = 1.0 - free - (wanted_m / max(gap_m, MIN_GAP_M)) ** 2
    return min(max(MAX_ACCELERATION_MPS2 * share, -MAX_DECELERATION_MPS2), MAX_ACCELERATION_MPS2)


@njit(cache=True, nogil=True)
def roll_out(
    start_m: float,
    speed_mps: float,
    front_m: float,
    policies: Array,
    desired_mps: Array,
    stretch: Array,
    extents_m: Array,
    along_mps: Array,
    margins_m: Array,
    stop_m: float,
) -> Array:
    """Drives by policies along paths.

    Args:
        start_m: Station of the rear axle: distance along the centreline.
        speed_mps: Present speed.
        front_m: Front bumper from the rear axle.
        policies: (C, 4): row of the path, row of `desired_mps`, how many steps ahead crossing
            road users are seen, and a deceleration to stop with whatever there is, 0 for none.
        desired_mps: (F, M) desired speed at every metre of the centreline.
        stretch: (P, M) metres of a path per metre of the centreline.
        extents_m: (P, N, T, 2) stations between which a road user covers a path; NaN if it does
            not.
        along_mps: (N, T) speeds of road users along the centreline.
        margins_m: (N,) what to keep clear before each, besides the gap of the model.
        stop_m: Station of the next line that may not be crossed.

    Returns:
        (C, 41) stations of the rear axle every 0.1 s.
    """
    stations = np.empty((len(policies), STATES))
    last = stretch.shape[1] - 1
    for c in range(len(policies)):
        path, row, look = int(policies[c, 0]), int(policies[c, 1]), int(policies[c, 2])
        station, speed = start_m, speed_mps
        stations[c, 0] = station
        for k in range(HORIZON_STEPS):
            place = min(max(int(station + 0.5), 0), last)
            if policies[c, 3] > 0.0:
                acceleration = -policies[c, 3]
            else:
                front = station + front_m
                gap, lead = _lead(
                    extents_m[path], along_mps, margins_m, start_m, station, front, k, look
                )
                acceleration = idm_acceleration(speed, desired_mps[row, place], gap, lead)
                line = idm_acceleration(speed, desired_mps[row, place], stop_m - front, 0.0)
                acceleration = min(acceleration, line)
            station += speed * DT_S / stretch[path, place]
            speed = max(0.0, speed + acceleration * DT_S)
            stations[c, k + 1] = station
    return stations


@njit(cache=True, nogil=True)
def _lead(
    extents: Array,
    along: Array,
    margins: Array,
    start: float,
    station: float,
    front: float,
    k: int,
    look: int,
) -> tuple[float, float]:
    """Returns gap and speed of the nearest road user ahead at a step, or seen to come by then."""
    gap, lead = np.inf, 0.0
    middle = 0.5 * (station + front)
    for n in range(extents.shape[0]):
        if extents[n, 0, 0] < start:
            continue  # It follows: a forecast that knows nothing of the ego drives it through it.
        last = min(k + look, extents.shape[1] - 1)
        for t in range(k, last + 1):
            near = extents[n, t, 0]
            clear = near - front - margins[n]
            if near > (middle if t == k else front) and clear < gap:
                gap, lead = clear, max(0.0, along[n, t])
            if not math.isnan(near):
                break  # Later it is farther ahead, or elsewhere.
    return gap, lead

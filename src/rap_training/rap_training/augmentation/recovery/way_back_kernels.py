"""Compiled search for ways back to a path: a lattice of quintics in the frame of the path.

Across the path the offset is a quintic of the distance driven, so that a standing vehicle does not
slide. Along the path the vehicle either catches up with the recorded drive, by a quintic of the
time, or only takes on its speed and stays ahead or behind. Each way is judged by the poses it ends
up with.

Source of lattice and formulas: Werling et al., "Optimal trajectory generation for dynamic street
scenarios in a Frenet frame", ICRA 2010; the formulas stand in its appendix.
"""

# ruff: noqa: PLR0917 - numba wants arguments by position.

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from rap_training.augmentation.recovery.smooth_path import STEP_M, PathTable

Array = npt.NDArray[Any]

X, Y, YAW, CURVATURE, STRETCH, Z = range(6)
"""Columns of states beside a path; STRETCH is the distance driven per distance along the path."""

STATE_SIZE = 6


class Offset(NamedTuple):
    """Where a vehicle is beside a path.

    Attributes:
        along_m: Distance along the path.
        left_m: Distance from it.
        slope: Derivative of `left_m` by `along_m`.
        bend_1pm: Derivative of `slope` by `along_m`.
    """

    along_m: float
    left_m: float
    slope: float
    bend_1pm: float


class Limits(NamedTuple):
    """What a way may ask for; it stays strictly below. Of braking and the like, magnitudes."""

    acceleration_mps2: float
    braking_mps2: float
    lateral_mps2: float
    total_jerk_mps3: float
    jerk_mps3: float
    yaw_acceleration_radps2: float
    yaw_rate_radps: float
    steering_rad: float
    steering_rate_radps: float
    wheelbase_m: float


class Lattice(NamedTuple):
    """Which ways back are tried, and what makes one worse than another, per second.

    Attributes:
        lengths_m: (L,) over which a vehicle may return to the path.
        durations_s: (D,) in which it may return to the recorded drive, or to its speed.
        lag_cost_1pm2: Of a squared metre ahead of the drive or behind it; one beside it costs 1.
        jerk_cost_mps3: The jerk that is as bad as a metre beside the path.
    """

    lengths_m: Array
    durations_s: Array
    lag_cost_1pm2: float
    jerk_cost_mps3: float


@njit(cache=True, nogil=True)
def path_along(path: PathTable, places: Array) -> Array:
    """Looks up places on a path, by cubic Hermite polynomials.

    Args:
        path: The path.
        places: (n,) distances along it.

    Returns:
        (n, 8) the columns of the path, then cosine and sine of its direction.
    """
    rows = np.empty((len(places), 8))
    for t in range(len(places)):
        at = (places[t] - path.start_m) / STEP_M
        i = min(max(int(at), 0), len(path.rows) - 2)
        a, b, u = path.rows[i], path.rows[i + 1], at - i
        v = 1.0 - u
        for column in range(3, 6):
            rows[t, column] = v * a[column] + u * b[column]
        yaw = a[2] + u * STEP_M * (a[3] + 0.5 * u * (b[3] - a[3]))
        rows[t, 2], rows[t, 6], rows[t, 7] = yaw, math.cos(yaw), math.sin(yaw)
        first, last = v * v * (1.0 + 2.0 * u), u * u * (3.0 - 2.0 * u)
        leave, arrive = STEP_M * u * v * v, -STEP_M * u * u * v
        dx, dy = (
            leave * math.cos(a[2]) + arrive * math.cos(b[2]),
            leave * math.sin(a[2]) + arrive * math.sin(b[2]),
        )
        rows[t, 0] = first * a[0] + last * b[0] + dx
        rows[t, 1] = first * a[1] + last * b[1] + dy
    return rows


@njit(cache=True, nogil=True)
def offset_of(
    path: Array, along_m: float, left_m: float, yaw_rad: float, curvature_1pm: float
) -> Offset:
    """Returns the offset of a vehicle that is turned away from a path and steers beside it.

    Args:
        path: (8,) of `path_along` where the vehicle is.
        along_m: Distance along the path.
        left_m: Distance from it.
        yaw_rad: From the heading of the path to the vehicle's.
        curvature_1pm: Of the vehicle's way, beyond that of the path.
    """
    curvature, rate = path[3], path[4]
    stretch, tan, cos = 1.0 - curvature * left_m, math.tan(yaw_rad), math.cos(yaw_rad)
    slope = stretch * tan
    turn = (curvature + curvature_1pm) * stretch / cos - curvature
    bend = turn * stretch / (cos * cos) - (rate * left_m + curvature * slope) * tan
    return Offset(along_m, left_m, slope, bend)


@njit(cache=True, nogil=True)
def fade(
    value: float, slope: float, bend: float, length: float, distance: float
) -> tuple[float, float, float]:
    """Returns a quintic that starts with a value and its derivatives and ends with zeros.

    Args:
        value: At distance 0.
        slope: First derivative there.
        bend: Second derivative there.
        length: Where it ends; negative if it comes before.
        distance: Where to look; past the end all is 0.

    Returns:
        The value and its first two derivatives.
    """
    u = distance / length
    if u >= 1.0:
        return 0.0, 0.0, 0.0
    b, c = slope * length, 0.5 * bend * length * length
    p3 = -10.0 * value - 6.0 * b - 3.0 * c
    p4 = 15.0 * value + 8.0 * b + 3.0 * c
    p5 = -6.0 * value - 3.0 * b - c
    return (
        value + u * (b + u * (c + u * (p3 + u * (p4 + u * p5)))),
        (b + u * (2.0 * c + u * (3.0 * p3 + u * (4.0 * p4 + u * 5.0 * p5)))) / length,
        (2.0 * c + u * (6.0 * p3 + u * (12.0 * p4 + u * 20.0 * p5))) / (length * length),
    )


@njit(cache=True, nogil=True)
def beside(path: Array, places: Array, offset: Offset, length_m: float) -> Array:
    """Returns the (n, STATE_SIZE) states of a vehicle whose offset from a path fades out.

    Args:
        path: (n, 8) of `path_along` at `places`.
        places: (n,) distances along the path.
        offset: Of the vehicle now.
        length_m: Over which its offset fades out; negative if it faded in before.
    """
    states = np.empty((len(places), STATE_SIZE))
    _lay_beside(path, places, offset, length_m, states)
    return states


@njit(cache=True, nogil=True)
def _lay_beside(
    path: Array, places: Array, offset: Offset, length_m: float, states: Array
) -> float:
    """Fills in the states of `beside`; returns the sum of the squared distances from the path."""
    away = 0.0
    for t in range(len(places)):
        x, y, yaw, curvature, rate, z, cos_path, sin_path = path[t]
        gone_m = places[t] - offset.along_m
        left, slope, bend = fade(offset.left_m, offset.slope, offset.bend_1pm, length_m, gone_m)
        stretch = 1.0 - curvature * left
        driven = math.hypot(stretch, slope)
        turning = (bend * stretch + (rate * left + curvature * slope) * slope) / (driven * driven)
        states[t, X] = x - left * sin_path
        states[t, Y] = y + left * cos_path
        states[t, YAW] = yaw + math.atan2(slope, stretch)
        states[t, CURVATURE] = (turning + curvature) / driven
        states[t, STRETCH] = math.copysign(driven, stretch)
        states[t, Z] = z
        away += left * left
    return away


@njit(cache=True, nogil=True)
def steerable(states: Array, dt_s: float, limits: Limits) -> bool:
    """True if a bicycle of the vehicle's wheelbase can steer along states, either way in time."""
    before = 0.0
    for t in range(len(states)):
        steering = math.atan(limits.wheelbase_m * states[t, CURVATURE])
        if not (states[t, STRETCH] > 0.0 and abs(steering) < limits.steering_rad):
            return False
        if t > 0 and abs(steering - before) >= limits.steering_rate_radps * dt_s:
            return False
        before = steering
    return True


@njit(cache=True, nogil=True)
def squared_jerk(states: Array, dt_s: float, limits: Limits) -> float:
    """Returns the squared jerk of a way, summed up over its steps, or infinity if it is too rough.

    All is taken from differences of the poses themselves: what is judged is what is handed out.
    """
    total, v0, w0, a0, l0 = 0.0, 0.0, 0.0, 0.0, 0.0
    for t in range(len(states) - 1):
        v = math.hypot(states[t + 1, X] - states[t, X], states[t + 1, Y] - states[t, Y]) / dt_s
        w = (states[t + 1, YAW] - states[t, YAW]) / dt_s
        if abs(w) >= limits.yaw_rate_radps or abs(v * w) >= limits.lateral_mps2:
            return math.inf
        a, lateral = (v - v0) / dt_s, 0.5 * (v * w + v0 * w0)
        if t > 0 and (
            a >= limits.acceleration_mps2
            or -a >= limits.braking_mps2
            or abs(w - w0) >= limits.yaw_acceleration_radps2 * dt_s
        ):
            return math.inf
        if t > 1:
            jerk, sideways = (a - a0) / dt_s, (lateral - l0) / dt_s
            growth = (math.hypot(a, lateral) - math.hypot(a0, l0)) / dt_s
            if abs(jerk) >= limits.jerk_mps3 or abs(growth) >= limits.total_jerk_mps3:
                return math.inf
            total += jerk * jerk + sideways * sideways
        v0, w0, a0, l0 = v, w, a, lateral
    return total


@njit(cache=True, nogil=True)
def at_another_speed(
    progress: Array, along_m: float, ratio: float, duration_s: float, dt_s: float
) -> tuple[Array, Array]:
    """Lays out the progress of a vehicle that takes on the speed of the recorded drive.

    Its speed is that of the drive times a factor that fades smoothly from 1 + ratio to 1: where the
    drive stands, it stands.

    Args:
        progress: (n, 3) of the recorded drive, forwards or backwards in time from now.
        along_m: Where the vehicle is now.
        ratio: Of its speed to that of the drive, less 1.
        duration_s: How long the factor fades.
        dt_s: Between rows.

    Returns:
        (n,) distances along the path, and (n,) how many metres of it are passed in a second.
    """
    places, speeds = np.empty(len(progress)), np.empty(len(progress))
    for t in range(len(progress)):
        factor, _, _ = fade(ratio, 0.0, 0.0, duration_s, t * dt_s)
        speeds[t] = (1.0 + factor) * progress[t, 1]
        if t == 0:
            places[t] = along_m
        else:
            factor, _, _ = fade(ratio, 0.0, 0.0, duration_s, (t - 0.5) * dt_s)
            places[t] = places[t - 1] + (1.0 + factor) * (progress[t, 0] - progress[t - 1, 0])
    return places, speeds


@njit(cache=True, nogil=True)
def catching_up(
    progress: Array, along_m: float, ratio: float, duration_s: float, dt_s: float
) -> Array:
    """Returns the (n,) distances of a vehicle that is back with the recorded drive in some time.

    Args: as of `at_another_speed`.
    """
    here_m, speed, acceleration = progress[0]
    places = np.empty(len(progress))
    for t in range(len(progress)):
        lead_m, _, _ = fade(
            along_m - here_m, ratio * speed, ratio * acceleration, duration_s, t * dt_s
        )
        places[t] = progress[t, 0] + lead_m
    return places


@njit(cache=True, nogil=True)
def ways_back(
    path: PathTable,
    progress: Array,
    offset: Offset,
    ratio: float,
    lattice: Lattice,
    limits: Limits,
    dt_s: float,
) -> tuple[Array, Array]:
    """Lays out all ways back of a lattice.

    Args:
        path: Of the recorded drive.
        progress: (n, 3) of that from now on.
        offset: Of the vehicle now.
        ratio: Of its progress per time to that of the drive, less 1.
        lattice: What is tried.
        limits: Ways beyond them are left out.
        dt_s: Between rows.

    Returns:
        (W, n, STATE_SIZE) ways and their (W,) costs, infinite where a way is left out; W is 2 D L:
        for each duration catching up, then not, for each length.
    """
    pairs, count = 2 * len(lattice.durations_s), len(lattice.lengths_m)
    ways = np.empty((pairs * count, len(progress), STATE_SIZE))
    costs = np.full(pairs * count, np.inf)
    for pair in range(pairs):
        duration_s = lattice.durations_s[pair // 2]
        if pair % 2 == 0:
            places = catching_up(progress, offset.along_m, ratio, duration_s, dt_s)
        else:
            places, _ = at_another_speed(progress, offset.along_m, ratio, duration_s, dt_s)
        lag, forward = 0.0, True
        for t in range(len(places)):
            lag += lattice.lag_cost_1pm2 * (places[t] - progress[t, 0]) ** 2
            forward &= t == 0 or places[t] >= places[t - 1]
        if not forward:
            continue
        rows = path_along(path, places)
        for k in range(count):
            states = ways[pair * count + k]
            away = _lay_beside(rows, places, offset, lattice.lengths_m[k], states)
            rough = squared_jerk(states, dt_s, limits) / lattice.jerk_cost_mps3**2
            if rough < math.inf and steerable(states, dt_s, limits):
                costs[pair * count + k] = (away + lag + rough) * dt_s
    return ways, costs
